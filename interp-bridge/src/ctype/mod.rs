//! C types as native functions see them: kinds, sizes, layout, ways of passing.
//!
//! ```text
//!  prototype text ──parse──┐        ┌─► layout    sizes, offsets            SysV x86-64
//!                          ├► CType ┼─► classify  registers or memory       psABI 3.2.3
//!  an interpreter's types ─┘        ├─► binding   ranges of values
//!   (construct.rs)                  └─► ffi       libffi types, values, return values
//! ```
//!
//! A type that cannot be passed by value (a struct with bit-fields, one that is not laid out as C
//! does it) is still a good pointee, so a [`CType`] may name it; [`CType::by_value`] says what
//! hinders a use by value.
//!
//! ```
//! use interp_bridge::ctype::{CType, StructType};
//! let point = StructType::new("struct point", [("x", CType::i32()), ("y", CType::i32())]);
//! assert_eq!(CType::from(point).by_value().map(|l| l.size), Ok(8));
//! ```

mod classify;
mod construct;
mod layout;
mod name;

use std::sync::Arc;

use crate::ffi::Signature;

pub use classify::{Class, Passing};
pub use layout::{Layout, LayoutError};

/// An integer type: its width and whether it has a sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntType {
    /// Width in bytes: 1, 2, 4, 8 or 16.
    pub bytes: u8,
    /// Whether values may be negative.
    pub signed: bool,
}

impl IntType {
    /// Smallest and largest value; the largest of `unsigned __int128` is past what `i128` holds,
    /// and given as `i128::MAX`. [`IntType::holds`] is exact for it too.
    pub fn range(self) -> (i128, i128) {
        let bits = u32::from(self.bytes) * 8;
        match (self.signed, bits) {
            (true, 128) => (i128::MIN, i128::MAX),
            (false, 128) => (0, i128::MAX),
            (true, _) => (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1),
            (false, _) => (0, (1i128 << bits) - 1),
        }
    }

    /// Whether the type has the value, which is negative or not below zero.
    pub fn holds(self, value: Result<u128, i128>) -> bool {
        match value {
            Ok(_) if self.bytes == 16 && !self.signed => true,
            Ok(value) => u128::try_from(self.range().1).is_ok_and(|high| value <= high),
            Err(value) => value >= self.range().0,
        }
    }

    /// The range in words: `-128 to 127`.
    pub fn range_text(self) -> String {
        match (self.bytes, self.signed) {
            (16, false) => format!("0 to {}", u128::MAX),
            _ => format!("{} to {}", self.range().0, self.range().1),
        }
    }

    /// Reads a value from the low bytes of `bits`, as the type means it. Those of
    /// `unsigned __int128` past `i128` come out negative: `bits` itself is the value there.
    pub fn decode(self, bits: u128) -> i128 {
        let shift = 128 - u32::from(self.bytes) * 8;
        if self.signed {
            ((bits << shift) as i128) >> shift
        } else {
            ((bits << shift) >> shift) as i128
        }
    }
}

/// A C type, after typedefs are resolved.
#[derive(Clone, Debug, PartialEq)]
pub enum CType {
    /// `void`.
    Void,
    /// `_Bool`.
    Bool,
    /// Plain `char`, signed on x86-64.
    Char,
    /// Any other integer.
    Int(IntType),
    /// An enumeration, an `int` or wider as its constants need.
    Enum(Arc<EnumType>),
    /// `float`.
    Float,
    /// `double`.
    Double,
    /// `long double`: the 80 bits of the x87, in 16 bytes.
    LongDouble,
    /// `float _Complex`.
    ComplexFloat,
    /// `double _Complex`.
    ComplexDouble,
    /// A pointer to an object, or to `void`.
    Pointer(Arc<Pointee>),
    /// A pointer to a function.
    FunctionPointer(FunctionType),
    /// A complete struct or union.
    Struct(Arc<StructType>),
    /// An array, as a struct field or behind a pointer.
    Array(Arc<CType>, u64),
    /// A struct, union or enum whose members were not declared, by its full name (`struct z`).
    Incomplete(String),
    /// A type that can be pointed to but not handled by value: its name, and why.
    Opaque {
        /// The type's name as written, or a description.
        name: String,
        /// Why it cannot be used by value.
        reason: String,
    },
}

/// What a pointer points to.
#[derive(Clone, Debug, PartialEq)]
pub struct Pointee {
    /// The type pointed to.
    pub ty: CType,
    /// Whether the prototype promises not to write through the pointer.
    pub is_const: bool,
    /// The pointee as written.
    pub spelling: String,
    /// What values of the pointer must be, beyond any address.
    pub promise: PointerPromise,
}

/// What an interpreter's language promises of every value of a pointer type, as Rust does of
/// references. C's own pointers promise nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct PointerPromise {
    /// Whether it is never null.
    pub non_null: bool,
    /// Alignment in bytes that every address has; 0 and 1 mean any.
    pub align: u64,
}

/// What a pointer to a function leads to.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct FunctionType {
    /// Its parameters and result, where they were declared.
    pub signature: Option<Arc<Signature>>,
    /// Whether the pointer is never null.
    pub non_null: bool,
}

/// A type with the spelling that its user gave it.
#[derive(Clone, Debug, PartialEq)]
pub struct Spelled {
    /// The resolved type.
    pub ty: CType,
    /// As written, without storage classes: `unsigned long`, `const char *`.
    pub spelling: String,
}

/// A field of a struct.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Name; empty for an anonymous struct member.
    pub name: String,
    /// Type as written.
    pub ty: Spelled,
}

/// A struct or union with its fields and layout.
#[derive(Clone, Debug, PartialEq)]
pub struct StructType {
    /// Full name, `struct point`, or `struct` if it has no tag.
    pub name: String,
    /// Whether all fields lie at the same place.
    pub is_union: bool,
    /// Fields in order.
    pub fields: Vec<Field>,
    /// Size, alignment and field offsets, or what hinders a use by value.
    pub layout: Result<StructLayout, LayoutError>,
}

/// Where a struct's fields lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StructLayout {
    /// Size and alignment in bytes.
    pub whole: Layout,
    /// Offset in bytes of each field.
    pub offsets: Vec<u64>,
}

/// An enumeration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnumType {
    /// Full name, `enum color`, or `enum` if it has no tag.
    pub name: String,
    /// The integer type that holds it.
    pub int: IntType,
    /// Its constants.
    pub constants: Vec<(String, i128)>,
    /// Whether it has no other values. C's enumerations are open: any value of the integer type
    /// will do. A Rust enumeration has its variants only.
    pub closed: bool,
}

impl CType {
    /// The integer type behind an integer, character or enumeration; `None` for all else.
    pub fn as_int(&self) -> Option<IntType> {
        match self {
            CType::Char => Some(IntType {
                bytes: 1,
                signed: true,
            }),
            CType::Int(int) => Some(*int),
            CType::Enum(e) => Some(e.int),
            _ => None,
        }
    }

    /// Size and alignment for a use by value.
    ///
    /// # Errors
    /// The type is incomplete, or of a kind that ffitrace does not pass by value.
    pub fn by_value(&self) -> Result<Layout, LayoutError> {
        layout::of(self)
    }

    /// How a value travels: in which registers, or in memory.
    ///
    /// # Errors
    /// As [`CType::by_value`].
    pub fn passing(&self) -> Result<Passing, LayoutError> {
        classify::of(self)
    }
}
