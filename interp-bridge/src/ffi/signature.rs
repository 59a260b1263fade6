//! What a function takes and returns, known at run time.

use super::{CallError, Value};
use crate::ctype::{CType, IntType};
use crate::prototype::{Prototype, PrototypeError};

/// Parameters and result of a function.
///
/// ```
/// use interp_bridge::{ctype::CType, ffi::Signature};
/// let crc32 = Signature::new([CType::u64(), CType::ptr(), CType::u32()], CType::u64());
/// let same = Signature::parse("unsigned long crc32(unsigned long c, void *buf, unsigned n)", &[]);
/// assert_eq!(crc32.params(), same.unwrap().params());
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Signature {
    params: Vec<CType>,
    /// Parameters' names, as far as known; an empty one is not.
    names: Vec<String>,
    ret: CType,
    /// The number of fixed parameters of a variadic function.
    fixed: Option<usize>,
}

impl Signature {
    /// A function with these parameters and this result.
    pub fn new(params: impl IntoIterator<Item = CType>, ret: CType) -> Signature {
        Signature {
            params: params.into_iter().collect(),
            names: Vec::new(),
            ret,
            fixed: None,
        }
    }

    /// One call of a variadic function: its fixed parameters, and the types of this call's further
    /// arguments, which are promoted as C does it (`float` to `double`, small integers to `int`).
    pub fn variadic(
        fixed: impl IntoIterator<Item = CType>,
        tail: impl IntoIterator<Item = CType>,
        ret: CType,
    ) -> Signature {
        let mut signature = Signature::new(fixed, ret);
        signature.fixed = Some(signature.params.len());
        signature.params.extend(tail.into_iter().map(promoted));
        signature
    }

    /// The signature in a C prototype, after the declarations in `cdefs`. Types after `...,` are
    /// those of one call's variadic arguments: `int printf(const char *fmt, ..., int n)`.
    ///
    /// # Errors
    /// As [`Prototype::parse`].
    pub fn parse(prototype: &str, cdefs: &[String]) -> Result<Signature, PrototypeError> {
        Prototype::parse(prototype, cdefs).map(|p| Signature::from(&p))
    }

    /// With names for the parameters, for errors.
    #[must_use]
    pub fn with_names<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Signature {
        self.names = names.into_iter().map(Into::into).collect();
        self
    }

    /// With other variadic arguments, promoted; `None` if the function is not variadic.
    pub fn with_tail(&self, tail: impl IntoIterator<Item = CType>) -> Option<Signature> {
        let mut signature = self.clone();
        signature.params.truncate(self.fixed?);
        signature.params.extend(tail.into_iter().map(promoted));
        Some(signature)
    }

    /// Types of the parameters, variadic arguments included.
    pub fn params(&self) -> &[CType] {
        &self.params
    }

    /// Type of the result.
    pub fn ret(&self) -> &CType {
        &self.ret
    }

    /// The number of fixed parameters, if the function is variadic.
    pub fn fixed(&self) -> Option<usize> {
        self.fixed
    }

    /// The name of a parameter, counted from 0, where known.
    pub fn name(&self, index: usize) -> Option<&str> {
        let name = self.names.get(index)?;
        (!name.is_empty()).then_some(name)
    }

    /// The signature in C's words, around a declarator: `int (*)(int, char *)` for `(*)`.
    pub fn spelling(&self, declarator: &str) -> String {
        let mut params: Vec<String> = self.params.iter().map(CType::name).collect();
        if let Some(fixed) = self.fixed {
            params.insert(fixed, "...".to_owned());
        }
        if params.is_empty() {
            params.push("void".to_owned());
        }
        let (ret, params) = (self.ret.name(), params.join(", "));
        match ret.ends_with('*') && declarator.is_empty() {
            true => format!("{ret}({params})"),
            false => format!("{ret} {declarator}({params})"),
        }
    }

    /// Whether the argument at `index` is one of the variadic ones.
    pub(super) fn is_variadic_at(&self, index: usize) -> bool {
        self.fixed.is_some_and(|fixed| index >= fixed)
    }

    /// Checks the number of arguments.
    pub(super) fn check_count(&self, given: usize) -> Result<(), CallError> {
        if given == self.params.len() {
            return Ok(());
        }
        Err(CallError::Count {
            signature: self.to_string(),
            given,
            expected: self.params.len(),
        })
    }
}

impl std::fmt::Display for Signature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.spelling(""))
    }
}

impl From<&Prototype> for Signature {
    fn from(prototype: &Prototype) -> Signature {
        Signature {
            // Types of variadic arguments are promoted there already.
            params: prototype.params.iter().map(|p| p.ty.ty.clone()).collect(),
            names: prototype.params.iter().map(|p| p.name.clone()).collect(),
            ret: prototype.ret.ty.clone(),
            fixed: prototype.fixed,
        }
    }
}

/// The type as which a variadic argument of type `ty` travels (C11 6.5.2.2).
pub(crate) fn promoted(ty: CType) -> CType {
    match &ty {
        CType::Float => CType::Double,
        CType::Bool => CType::i32(),
        other => match other.as_int() {
            Some(IntType { bytes: 1 | 2, .. }) => CType::i32(),
            _ => ty,
        },
    }
}

/// A variadic argument's value as it travels.
pub(super) fn promote(value: &Value) -> Option<Value> {
    match value {
        Value::F32(value) => Some(Value::F64(f64::from(*value))),
        Value::Bool(value) => Some(Value::Int(i128::from(*value))),
        _ => None,
    }
}
