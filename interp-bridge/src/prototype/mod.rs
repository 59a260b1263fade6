//! Function prototypes in C, as people paste them from a header.
//!
//! ```text
//!  PRELUDE (size_t, uint8_t, FILE …)  ┐
//!  --cdef 'struct point { int x, y; }'├─ lang-c (GNU C11) ─► declarations ─► Prototype
//!  'int f(struct point p)'            ┘
//! ```
//!
//! There is no preprocessor. What cannot be called exactly (bit-fields by value, packed structs) is
//! refused by name. Beyond C, `...,` in the list of parameters is followed by the types of one
//! call's variadic arguments, with names: `int printf(const char *fmt, ..., int n, double x)`.

mod attributes;
mod constant;
mod declarator;
mod error;
mod lower;
mod prelude;
mod source;
mod specifier;
mod words;

#[cfg(test)]
mod tests;

use crate::ctype::Spelled;

pub use error::{Complaint, PrototypeError};

/// A function to call: its name and types.
#[derive(Clone, Debug, PartialEq)]
pub struct Prototype {
    /// The function's name.
    pub name: String,
    /// What it returns.
    pub ret: Spelled,
    /// Its parameters in order.
    pub params: Vec<Param>,
    /// Of a variadic function, how many parameters come before the `...`.
    pub fixed: Option<usize>,
    /// Every enumeration constant in scope, for use in values.
    pub constants: Vec<(String, i128)>,
}

/// A parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// Its name, by which it is bound.
    pub name: String,
    /// Its type; arrays and functions have become pointers.
    pub ty: Spelled,
}

impl Param {
    /// Whether it is a pointer whose pointee is `const`.
    pub fn pointee_const(&self) -> bool {
        matches!(&self.ty.ty, crate::ctype::CType::Pointer(p) if p.is_const)
    }
}

impl Prototype {
    /// Parses `prototype` after the declarations in `cdefs`.
    ///
    /// # Errors
    /// [`PrototypeError`] for what is not C, not one function, or not callable by this version.
    pub fn parse(prototype: &str, cdefs: &[String]) -> Result<Prototype, PrototypeError> {
        let source = source::Source::new(prototype, cdefs)?;
        let unit = source.parse()?;
        lower::lower(&source, &unit)
    }
}
