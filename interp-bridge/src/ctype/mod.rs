//! C types as native functions see them: kinds, sizes, layout.
//!
//! ```text
//!  prototype text ──parse──► CType ──┬─► layout (sizes, offsets)   SysV x86-64
//!                                    ├─► binding (ranges of values)
//!                                    └─► libffi types and return values
//! ```
//!
//! A type that cannot be passed by value (a union, a bit-field, `long double`) is still a good
//! pointee, so a [`CType`] may name it; [`CType::by_value`] says what hinders a use by value.

mod layout;

use std::sync::Arc;

pub use layout::{Layout, LayoutError};

/// An integer type: its width and whether it has a sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntType {
    /// Width in bytes: 1, 2, 4 or 8.
    pub bytes: u8,
    /// Whether values may be negative.
    pub signed: bool,
}

impl IntType {
    /// Smallest and largest value.
    pub fn range(self) -> (i128, i128) {
        let bits = u32::from(self.bytes) * 8;
        if self.signed {
            (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1)
        } else {
            (0, (1i128 << bits) - 1)
        }
    }

    /// Reads a value from the low bytes of `bits`, as the type means it.
    pub fn decode(self, bits: u64) -> i128 {
        let shift = 64 - u32::from(self.bytes) * 8;
        if self.signed {
            i128::from(((bits << shift) as i64) >> shift)
        } else {
            i128::from((bits << shift) >> shift)
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
    /// A pointer to an object, or to `void`.
    Pointer(Arc<Pointee>),
    /// A pointer to a function.
    FunctionPointer,
    /// A complete struct.
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

/// A struct with its fields and layout.
#[derive(Clone, Debug, PartialEq)]
pub struct StructType {
    /// Full name, `struct point`, or `struct` if it has no tag.
    pub name: String,
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
}

impl CType {
    /// A signed or unsigned integer of `bytes` bytes.
    pub const fn int(bytes: u8, signed: bool) -> CType {
        CType::Int(IntType { bytes, signed })
    }

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
}
