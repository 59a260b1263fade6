//! Values that go into native code and come out of it.
//!
//! ```text
//!  interpreter ──► Value ──encode──► bytes ──libffi──► registers, stack
//!                    ▲                                      │
//!                    └──────decode, checked by type─────────┘
//! ```
//!
//! A value knows nothing of its C type but for structs; a [`Signature`](super::Signature) says what
//! is expected, and [`marshal`](super::marshal) checks one against the other.

use std::ops::Range;
use std::sync::Arc;

use super::LongDouble;
use crate::ctype::StructType;
use crate::memory::AllocId;

/// A value of a C type. Signed types have their values as [`Value::Int`], unsigned ones as
/// [`Value::Uint`]; where a value is given, either will do if the number fits.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// What a function returns that returns nothing.
    Void,
    /// `_Bool`.
    Bool(bool),
    /// An integer, a character or a constant of an enumeration.
    Int(i128),
    /// One that cannot be negative.
    Uint(u128),
    /// `float`.
    F32(f32),
    /// `double`.
    F64(f64),
    /// `long double`.
    LongDouble(LongDouble),
    /// `float _Complex`: real and imaginary part.
    ComplexF32(f32, f32),
    /// `double _Complex`: real and imaginary part.
    ComplexF64(f64, f64),
    /// A pointer, to data or to a function.
    Pointer(Pointer),
    /// A struct or union.
    Struct(Aggregate),
}

/// A pointer with what the interpreter knows about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pointer {
    /// Address, as native code sees it.
    pub addr: u64,
    /// The allocation that it may be used for, where the interpreter knows it. Passing the pointer
    /// to native code exposes that allocation and no other. `None` for null, for native memory,
    /// and for pointers that native code made.
    pub allocation: Option<AllocId>,
}

/// Bytes that are a pointer, or a part of one, to an allocation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Provenance {
    /// Where in the value, in bytes.
    pub range: Range<u64>,
    /// The allocation.
    pub allocation: AllocId,
}

/// A struct or union by value: its bytes as in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    pub(super) ty: Arc<StructType>,
    pub(super) bytes: Vec<u8>,
    pub(super) provenance: Vec<Provenance>,
}

impl Value {
    /// The null pointer.
    pub const fn null() -> Value {
        Value::pointer(0)
    }

    /// A pointer without provenance.
    pub const fn pointer(addr: u64) -> Value {
        let allocation = None;
        Value::Pointer(Pointer { addr, allocation })
    }

    /// A pointer that may be used for `allocation`.
    pub const fn pointer_to(addr: u64, allocation: AllocId) -> Value {
        let allocation = Some(allocation);
        Value::Pointer(Pointer { addr, allocation })
    }

    /// The allocations that native code learns of by getting this value: those of the pointer, or
    /// of the pointers in the struct. One may come more than once.
    pub fn exposed(&self) -> impl Iterator<Item = AllocId> {
        let (one, many) = match self {
            Value::Pointer(pointer) => (pointer.allocation, &[][..]),
            Value::Struct(aggregate) => (None, aggregate.provenance.as_slice()),
            _ => (None, &[][..]),
        };
        one.into_iter().chain(many.iter().map(|p| p.allocation))
    }

    /// The number, if it is an integer that `i128` holds.
    pub fn as_int(&self) -> Option<i128> {
        match self {
            Value::Int(value) => Some(*value),
            Value::Uint(value) => i128::try_from(*value).ok(),
            _ => None,
        }
    }

    /// The address, if it is a pointer.
    pub fn as_address(&self) -> Option<u64> {
        match self {
            Value::Pointer(pointer) => Some(pointer.addr),
            _ => None,
        }
    }

    /// The double, if it is a floating-point number that `f64` holds.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::F32(value) => Some(f64::from(*value)),
            Value::F64(value) => Some(*value),
            _ => None,
        }
    }

    /// The value in words, for messages: `the integer 300`, `a pointer`.
    pub fn describe(&self) -> String {
        match self {
            Value::Void => "nothing".to_owned(),
            Value::Bool(value) => format!("the truth value {value}"),
            Value::Int(value) => format!("the integer {value}"),
            Value::Uint(value) => format!("the integer {value}"),
            Value::F32(value) => format!("the float {value}"),
            Value::F64(value) => format!("the double {value}"),
            Value::LongDouble(_) => "a long double".to_owned(),
            Value::ComplexF32(..) | Value::ComplexF64(..) => "a complex number".to_owned(),
            Value::Pointer(pointer) if pointer.addr == 0 => "a null pointer".to_owned(),
            Value::Pointer(_) => "a pointer".to_owned(),
            Value::Struct(aggregate) => format!("a `{}`", aggregate.ty.name),
        }
    }
}

macro_rules! from {
    ($($ty:ty => $value:ident as $into:ty;)*) => {$(
        impl From<$ty> for Value {
            fn from(value: $ty) -> Value {
                Value::$value(value as $into)
            }
        }
    )*};
}

from! {
    i8 => Int as i128;
    i16 => Int as i128;
    i32 => Int as i128;
    i64 => Int as i128;
    isize => Int as i128;
    i128 => Int as i128;
    u8 => Uint as u128;
    u16 => Uint as u128;
    u32 => Uint as u128;
    u64 => Uint as u128;
    usize => Uint as u128;
    u128 => Uint as u128;
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Bool(value)
    }
}

impl From<f32> for Value {
    fn from(value: f32) -> Value {
        Value::F32(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Value {
        Value::F64(value)
    }
}

impl From<LongDouble> for Value {
    fn from(value: LongDouble) -> Value {
        Value::LongDouble(value)
    }
}

impl<T> From<*const T> for Value {
    fn from(value: *const T) -> Value {
        Value::pointer(value.addr() as u64)
    }
}

impl<T> From<*mut T> for Value {
    fn from(value: *mut T) -> Value {
        Value::pointer(value.addr() as u64)
    }
}

impl From<Pointer> for Value {
    fn from(value: Pointer) -> Value {
        Value::Pointer(value)
    }
}

impl From<Aggregate> for Value {
    fn from(value: Aggregate) -> Value {
        Value::Struct(value)
    }
}
