//! Values in the interpreter's memory: taken from it as arguments, put into it as results.
//!
//! ```text
//!  allocation ──load(type, offset)──► Value ──► native call ──► Value ──store──► allocation
//!     bytes, what is initialised, pointers          bytes; pointers from native are wildcards
//! ```
//!
//! For an interpreter with a memory of its own, [`Aggregate::from_memory`] does the first half from
//! bytes, a question and a list.

use super::ValueError;
use super::marshal::{decode, encode};
use super::value::{Aggregate, Pointer, Provenance, Value};
use crate::ctype::CType;
use crate::memory::{self, AllocId, ByteProvenance, Memory, MemoryError};

/// Why a value cannot be taken from memory or put into it.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The memory has no such place.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// What is there, or is to be put there, is no value of the type.
    #[error(transparent)]
    Value(#[from] ValueError),
}

impl From<memory::Pointer> for Value {
    fn from(pointer: memory::Pointer) -> Value {
        Value::Pointer(Pointer {
            addr: pointer.addr,
            allocation: match pointer.provenance {
                memory::Provenance::Alloc(id) => Some(id),
                memory::Provenance::None | memory::Provenance::Wildcard => None,
            },
        })
    }
}

impl From<Pointer> for memory::Pointer {
    /// One without an allocation comes from native code, as far as anyone knows.
    fn from(pointer: Pointer) -> memory::Pointer {
        match pointer.allocation {
            Some(id) => memory::Pointer::to(id, pointer.addr),
            None => memory::Pointer::from_native(pointer.addr),
        }
    }
}

impl Value {
    /// Takes the value of type `ty` at `offset` bytes into an allocation. Pointers come with their
    /// allocations.
    ///
    /// # Errors
    /// [`PlaceError::Memory`] where the allocation has no such bytes; [`PlaceError::Value`] for a
    /// scalar that is not initialised, which names the field, or whose bytes are no value of its
    /// type.
    pub fn load(
        ty: &CType,
        memory: &Memory,
        id: AllocId,
        offset: u64,
    ) -> Result<Value, PlaceError> {
        let size = ty.by_value().map_err(ValueError::from)?.size;
        let end = offset.saturating_add(size);
        let bytes = memory.read_bytes(id, offset..end)?;
        let record = memory.get(id).ok_or(MemoryError::Unknown(id))?;
        if let CType::Struct(aggregate) = ty {
            let initialised = |range: std::ops::Range<u64>| {
                let range = offset + range.start..offset + range.end;
                record.first_unreadable(range).is_none()
            };
            let mut pointers: Vec<Provenance> = Vec::new();
            let mut before = None;
            for at in 0..size {
                let ByteProvenance::Pointer { id, index } = record.byte_provenance(offset + at)
                else {
                    before = None;
                    continue;
                };
                // The next byte of the same pointer; else another one begins.
                let goes_on = before == Some((id, index.wrapping_sub(1)));
                before = Some((id, index));
                match pointers.last_mut() {
                    Some(last) if goes_on => last.range.end = at + 1,
                    _ => pointers.push(Provenance {
                        range: at..at + 1,
                        allocation: id,
                    }),
                }
            }
            return Ok(Aggregate::from_memory(aggregate, &bytes, initialised, pointers)?.into());
        }
        // The last six bytes of a long double are padding.
        let used = match ty {
            CType::LongDouble => offset + 10,
            _ => end,
        };
        if record.first_unreadable(offset..used).is_some() {
            return Err(PlaceError::Value(ValueError::Uninitialised {
                path: String::new(),
                expected: ty.kind().to_owned(),
            }));
        }
        let value = decode(ty, &bytes)?;
        Ok(match value {
            Value::Pointer(_) => memory.read_pointer(id, offset)?.into(),
            other => other,
        })
    }

    /// Puts the value, which is one of type `ty`, at `offset` bytes into an allocation. Pointers
    /// in it keep their allocations; those without one may lead to whatever is exposed.
    ///
    /// # Errors
    /// [`PlaceError::Value`] for a value of another type, [`PlaceError::Memory`] where the
    /// allocation has no such bytes. Nothing is written then.
    pub fn store(
        &self,
        ty: &CType,
        memory: &mut Memory,
        id: AllocId,
        offset: u64,
    ) -> Result<(), PlaceError> {
        let size = ty.by_value().map_err(ValueError::from)?.size;
        let mut bytes = vec![0; size as usize];
        encode(ty, self, &mut bytes)?;
        memory.write_bytes(id, offset, &bytes)?;
        let mut at = Vec::new();
        pointers(ty, 0, &mut at);
        for place in at {
            let addr = bytes.get(place as usize..).and_then(|b| b.first_chunk());
            let addr = u64::from_le_bytes(addr.copied().unwrap_or_default());
            let allocation = match self {
                Value::Pointer(pointer) => pointer.allocation,
                Value::Struct(aggregate) => {
                    let whole = place..place + memory::POINTER_SIZE;
                    let mut known = aggregate.provenance().iter();
                    known.find(|p| p.range == whole).map(|p| p.allocation)
                }
                _ => None,
            };
            let pointer = Pointer { addr, allocation };
            memory.write_pointer(id, offset + place, pointer.into())?;
        }
        Ok(())
    }
}

/// Offsets of the pointers in a value of `ty` at `offset`.
fn pointers(ty: &CType, offset: u64, found: &mut Vec<u64>) {
    match ty {
        CType::Pointer(_) | CType::FunctionPointer(_) => found.push(offset),
        CType::Struct(s) => {
            let offsets = s.layout.as_ref().map_or(&[][..], |l| l.offsets.as_slice());
            for (field, at) in s.fields.iter().zip(offsets) {
                pointers(&field.ty.ty, offset + at, found);
            }
        }
        CType::Array(element, len) => {
            let size = element.by_value().map_or(0, |l| l.size);
            let before = found.len();
            for i in 0..*len {
                pointers(element, offset + i * size, found);
                if found.len() == before {
                    // Elements without pointers are all alike.
                    break;
                }
            }
        }
        _ => {}
    }
}
