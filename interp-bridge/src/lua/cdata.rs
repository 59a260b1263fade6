//! What a cdata of ours is to LuaJIT: one of its own, of a struct type with three words.
//!
//! ```text
//!  Lua:   a cdata ─► metatype of the struct ─► prelude.lua ─► Rust
//!  words: type and kind │ address, or the bits of a number │ provenance, or more bits
//! ```
//! Only real cdata have `type(x) == "cdata"`, can be compared with `nil`, and can be mixed with
//! 64-bit literals. So values travel in a struct of LuaJIT's own FFI, whose fields no script can
//! name. 64-bit integers and complex numbers are LuaJIT's own cdata, as its literals are.
//!
//! # Safety
//! A cdata's payload is read and written through the address that `lua_topointer` gives, which is
//! good while the value is held. Before it, LuaJIT keeps a header whose last word has the type's
//! number (`GCcdata` in `lj_obj.h`); that this is so is tried when a session starts, and a session
//! whose LuaJIT is built otherwise does not start. Only the sizes of types that were told from
//! that number are read.
#![allow(unsafe_code)]

use mlua::Value;

use super::types::TypeId;
use crate::memory::{AllocId, Pointer, Provenance};

/// Bytes between a payload and the number of its type (`GCcdata`, with 64-bit references).
const TYPE_BEFORE: usize = 6;

/// What the words of a cdata stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Kind {
    /// A type; it has no value.
    Type = 0,
    /// A pointer, or a scalar with its bits in the address.
    Value = 1,
    /// An array, struct or union that was made by `ffi.new`; it owns its memory.
    Object = 2,
    /// One that is part of another, or was reached by a pointer.
    Reference = 3,
    /// A function of a library: its number in the session's table is in the last word.
    Function = 4,
}

/// A cdata of ours.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Boxed {
    pub(super) ty: TypeId,
    pub(super) kind: Kind,
    /// An address, or bits of a scalar.
    pub(super) bits: u64,
    /// A pointer's provenance, encoded; a function's number.
    pub(super) extra: u64,
}

/// The words in memory.
#[repr(C)]
#[derive(Clone, Copy)]
struct Words {
    ty: u32,
    kind: u32,
    bits: u64,
    extra: u64,
}

/// A cdata that a script has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cdata {
    Boxed(Boxed),
    /// A 64-bit integer of LuaJIT's.
    Integer(TypeId, u64),
    /// A complex number of LuaJIT's: real and imaginary part.
    Complex(TypeId, f64, f64),
}

/// The types of LuaJIT's that scripts get to see.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    pub(super) boxed: TypeId,
    pub(super) int64: TypeId,
    pub(super) uint64: TypeId,
    pub(super) complex: TypeId,
}

impl Boxed {
    pub(super) fn pointer_to(ty: TypeId, kind: Kind, pointer: Pointer) -> Boxed {
        let extra = match pointer.provenance {
            Provenance::None => 0,
            Provenance::Wildcard => 1,
            Provenance::Alloc(id) => id.number() + 2,
        };
        Boxed {
            ty,
            kind,
            bits: pointer.addr,
            extra,
        }
    }

    /// The address with what it may reach.
    pub(super) fn pointer(&self) -> Pointer {
        let provenance = match (self.kind, self.extra) {
            (Kind::Function, _) | (_, 1) => Provenance::Wildcard,
            (_, 0) => Provenance::None,
            (_, number) => Provenance::Alloc(AllocId::from_number(number - 2)),
        };
        Pointer {
            addr: self.bits,
            provenance,
        }
    }
}

impl Cdata {
    /// Reads a value; `None` if it is no cdata, or none of a type that scripts get to see.
    pub(super) fn read(value: &Value, known: &Known) -> Option<Cdata> {
        let place = payload(value)?;
        // SAFETY: see the module; the sizes are those of the types.
        unsafe {
            let ty = TypeId(u32::from(
                place.sub(TYPE_BEFORE).cast::<u16>().read_unaligned(),
            ));
            if ty == known.boxed {
                return Some(Cdata::Boxed(
                    place.cast::<Words>().read_unaligned().try_into().ok()?,
                ));
            }
            if ty == known.int64 || ty == known.uint64 {
                return Some(Cdata::Integer(ty, place.cast::<u64>().read_unaligned()));
            }
            if ty == known.complex {
                let [re, im] = place.cast::<[f64; 2]>().read_unaligned();
                return Some(Cdata::Complex(ty, re, im));
            }
        }
        None
    }
}

impl TryFrom<Words> for Boxed {
    type Error = ();

    fn try_from(words: Words) -> Result<Boxed, ()> {
        let kind = match words.kind {
            0 => Kind::Type,
            1 => Kind::Value,
            2 => Kind::Object,
            3 => Kind::Reference,
            4 => Kind::Function,
            _ => return Err(()),
        };
        Ok(Boxed {
            ty: TypeId(words.ty),
            kind,
            bits: words.bits,
            extra: words.extra,
        })
    }
}

/// Fills in a cdata that the prelude has just made for this.
pub(super) fn fill(fresh: &Value, boxed: &Boxed, known: &Known) -> bool {
    let words = Words {
        ty: boxed.ty.0,
        kind: boxed.kind as u32,
        bits: boxed.bits,
        extra: boxed.extra,
    };
    set(fresh, known.boxed, words)
}

/// Sets a fresh 64-bit integer of LuaJIT's.
pub(super) fn fill_integer(fresh: &Value, ty: TypeId, bits: u64) -> bool {
    set(fresh, ty, bits)
}

/// Sets a fresh complex number of LuaJIT's.
pub(super) fn fill_complex(fresh: &Value, known: &Known, parts: [f64; 2]) -> bool {
    set(fresh, known.complex, parts)
}

/// Has a fresh ctype of LuaJIT's name another type, so that its own parser can be given it.
pub(super) fn retarget(ctype: &Value, ctype_of: TypeId, ty: TypeId) -> bool {
    set(ctype, ctype_of, ty.0)
}

/// The number of the type of any cdata.
pub(super) fn type_of(value: &Value) -> Option<TypeId> {
    let place = payload(value)?;
    // SAFETY: see the module.
    let ty = unsafe { place.sub(TYPE_BEFORE).cast::<u16>().read_unaligned() };
    Some(TypeId(ty.into()))
}

fn set<T: Copy>(fresh: &Value, ty: TypeId, payload_of_it: T) -> bool {
    let Some(place) = payload(fresh).filter(|_| type_of(fresh) == Some(ty)) else {
        return false;
    };
    // SAFETY: see the module; the value's type has this size, and nobody else has it yet.
    unsafe { place.cast_mut().cast::<T>().write_unaligned(payload_of_it) };
    true
}

/// Where a cdata's payload is.
fn payload(value: &Value) -> Option<*const u8> {
    let Value::Other(_) = value else {
        return None;
    };
    let place = value.to_pointer().cast::<u8>();
    (!place.is_null()).then_some(place)
}
