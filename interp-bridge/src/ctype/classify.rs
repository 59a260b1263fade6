//! How values travel between functions (psABI 3.2.3): each eight bytes of a value have a class,
//! and classes name registers.
//!
//! ```text
//!  struct { double d; int i; char c; }      eightbyte 0: SSE       → an xmm register
//!           └─8─┘    └────8───────┘         eightbyte 1: INTEGER   → a general register
//! ```
//!
//! A struct of more than sixteen bytes is passed in memory (there are no vector types here, for
//! which alone the psABI makes an exception), and so is a struct with `long double`: that travels
//! in memory as an argument, and on the x87 stack as a result.

use super::{CType, LayoutError, layout};

/// The class of eight bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Travels in a general register.
    Integer,
    /// Travels in the low half of a vector register.
    Sse,
}

/// How a value travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Passing {
    /// One eightbyte, in a register of this class.
    One(Class),
    /// Two eightbytes, in registers of these classes; on the stack if there are not enough.
    Two(Class, Class),
    /// As an argument in memory, as a result on the x87 stack: a lone `long double`.
    X87,
    /// In memory. As a result, in memory that the caller names.
    Memory,
}

/// Classes as they are merged.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    None,
    Integer,
    Sse,
    X87,
    X87Up,
}

pub(super) fn of(ty: &CType) -> Result<Passing, LayoutError> {
    let size = layout::of(ty)?.size;
    if size == 0 {
        return Err(LayoutError::Empty(ty.name()));
    }
    if size > 16 {
        return Ok(Passing::Memory);
    }
    let mut parts = [Part::None; 2];
    let mut memory = false;
    visit(ty, 0, &mut parts, &mut memory)?;
    let class = |part| match part {
        Part::Integer => Some(Class::Integer),
        // Padding alone: compilers take a vector register for it, as for a float.
        Part::Sse | Part::None => Some(Class::Sse),
        Part::X87 | Part::X87Up => None,
    };
    Ok(match (memory, parts, size > 8) {
        (false, [Part::X87, Part::X87Up], true) => Passing::X87,
        (false, [one, _], false) => class(one).map_or(Passing::Memory, Passing::One),
        (false, [low, high], true) => match (class(low), class(high)) {
            (Some(low), Some(high)) => Passing::Two(low, high),
            _ => Passing::Memory,
        },
        (true, ..) => Passing::Memory,
    })
}

/// Merges the classes of `ty`, which lies at `offset`, into `parts`.
fn visit(
    ty: &CType,
    offset: u64,
    parts: &mut [Part; 2],
    memory: &mut bool,
) -> Result<(), LayoutError> {
    let layout = layout::of(ty)?;
    if !offset.is_multiple_of(layout.align) {
        *memory = true;
        return Ok(());
    }
    let mut put = |at: u64, part: Part| {
        if let Some(known) = parts.get_mut((at / 8) as usize) {
            match merge(*known, part) {
                Some(merged) => *known = merged,
                None => *memory = true,
            }
        }
    };
    match ty {
        CType::Bool
        | CType::Char
        | CType::Int(_)
        | CType::Enum(_)
        | CType::Pointer(_)
        | CType::FunctionPointer(_) => {
            put(offset, Part::Integer);
            if layout.size == 16 {
                put(offset + 8, Part::Integer);
            }
        }
        CType::Float | CType::Double => put(offset, Part::Sse),
        CType::ComplexFloat => {
            put(offset, Part::Sse);
            put(offset + 4, Part::Sse);
        }
        CType::ComplexDouble => {
            put(offset, Part::Sse);
            put(offset + 8, Part::Sse);
        }
        CType::LongDouble => {
            put(offset, Part::X87);
            put(offset + 8, Part::X87Up);
        }
        CType::Struct(s) => {
            let layout = s.layout.as_ref().map_err(Clone::clone)?;
            for (field, at) in s.fields.iter().zip(&layout.offsets) {
                visit(&field.ty.ty, offset + at, parts, memory)?;
            }
        }
        CType::Array(element, len) => {
            let size = layout::of(element)?.size;
            // Nothing of more than sixteen bytes comes here, unless its elements have no size.
            for i in 0..*len.min(&16) {
                visit(element, offset + i * size, parts, memory)?;
            }
        }
        // They have no layout, so `layout::of` has answered for them.
        CType::Void | CType::Incomplete(_) | CType::Opaque { .. } => {}
    }
    Ok(())
}

/// The class of bytes that belong to two fields; `None` is memory.
fn merge(one: Part, other: Part) -> Option<Part> {
    match (one, other) {
        (a, b) if a == b => Some(a),
        (Part::None, part) | (part, Part::None) => Some(part),
        (Part::Integer, _) | (_, Part::Integer) => Some(Part::Integer),
        (Part::X87 | Part::X87Up, _) | (_, Part::X87 | Part::X87Up) => None,
        _ => Some(Part::Sse),
    }
}
