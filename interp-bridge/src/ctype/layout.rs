//! Sizes, alignments and field offsets of the System V ABI for x86-64 (psABI 3.1.2): every
//! scalar is aligned to its size (a complex number to that of its parts), a struct or union to its
//! strictest field, and its size is a multiple of its alignment.

use super::{CType, Field, StructLayout};

/// Size and alignment in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Size.
    pub size: u64,
    /// Alignment, a power of two.
    pub align: u64,
}

impl Layout {
    const fn scalar(size: u64) -> Layout {
        Layout { size, align: size }
    }

    /// Of members that end at `end`, padded to their alignment.
    fn padded(end: u64, align: u64) -> Result<Layout, LayoutError> {
        let size = end.checked_next_multiple_of(align);
        let size = size.filter(|size| *size <= i64::MAX as u64);
        let size = size.ok_or(LayoutError::Overflow)?;
        Ok(Layout { size, align })
    }
}

/// Why a type cannot be used by value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// The members are not known.
    #[error("`{0}` is named, but its members are not declared")]
    Incomplete(String),
    /// `void` as a value.
    #[error("`void` has no size")]
    Void,
    /// A type that ffitrace does not pass by value.
    #[error("`{name}` cannot be used by value: {reason}")]
    Opaque {
        /// The type.
        name: String,
        /// What is missing.
        reason: String,
    },
    /// A size past what an address space holds.
    #[error("the type's size overflows")]
    Overflow,
    /// A struct without a byte, which C does not have and compilers pass differently.
    #[error("`{0}` has no bytes, and compilers do not agree on how to pass it")]
    Empty(String),
    /// A layout that is not C's: packed, over-aligned, or with fields in another order.
    #[error("`{name}` is not laid out as C does it: {what}")]
    NotC {
        /// The type.
        name: String,
        /// The first difference.
        what: String,
    },
}

pub(super) fn of(ty: &CType) -> Result<Layout, LayoutError> {
    Ok(match ty {
        CType::Void => return Err(LayoutError::Void),
        CType::Bool | CType::Char => Layout::scalar(1),
        CType::Int(int) => Layout::scalar(u64::from(int.bytes)),
        CType::Enum(e) => Layout::scalar(u64::from(e.int.bytes)),
        CType::Float => Layout::scalar(4),
        CType::Double | CType::Pointer(_) | CType::FunctionPointer(_) => Layout::scalar(8),
        CType::LongDouble => Layout::scalar(16),
        CType::ComplexFloat => Layout { size: 8, align: 4 },
        CType::ComplexDouble => Layout { size: 16, align: 8 },
        CType::Struct(s) => s.layout.as_ref().map_err(Clone::clone)?.whole,
        CType::Array(_, 0) => {
            let (name, reason) = (ty.name(), "it has no elements".to_owned());
            return Err(LayoutError::Opaque { name, reason });
        }
        CType::Array(element, len) => {
            let element = of(element)?;
            let size = element
                .size
                .checked_mul(*len)
                .filter(|s| *s <= i64::MAX as u64);
            Layout {
                size: size.ok_or(LayoutError::Overflow)?,
                align: element.align,
            }
        }
        CType::Incomplete(name) => return Err(LayoutError::Incomplete(name.clone())),
        CType::Opaque { name, reason } => {
            return Err(LayoutError::Opaque {
                name: name.clone(),
                reason: reason.clone(),
            });
        }
    })
}

impl StructLayout {
    /// Lays out the fields of a union: all at offset 0.
    ///
    /// # Errors
    /// A field has no layout of its own.
    pub fn of_union(fields: &[Field]) -> Result<StructLayout, LayoutError> {
        let (mut end, mut align) = (0u64, 1u64);
        for field in fields {
            let layout = of(&field.ty.ty)?;
            (end, align) = (end.max(layout.size), align.max(layout.align));
        }
        Ok(StructLayout {
            whole: Layout::padded(end, align)?,
            offsets: vec![0; fields.len()],
        })
    }

    /// Lays out `fields` in order.
    ///
    /// # Errors
    /// A field has no layout of its own.
    pub fn of(fields: &[Field]) -> Result<StructLayout, LayoutError> {
        let (mut end, mut align) = (0u64, 1u64);
        let mut offsets = Vec::with_capacity(fields.len());
        for field in fields {
            let layout = of(&field.ty.ty)?;
            align = align.max(layout.align);
            let offset = end.checked_next_multiple_of(layout.align);
            let offset = offset.ok_or(LayoutError::Overflow)?;
            offsets.push(offset);
            end = offset
                .checked_add(layout.size)
                .ok_or(LayoutError::Overflow)?;
        }
        Ok(StructLayout {
            whole: Layout::padded(end, align)?,
            offsets,
        })
    }
}
