//! Reading and writing the memory that cdata stand for.
//!
//! ```text
//!  pointer ─► allocation of the abstract memory ─► live? inside? initialised? ─► bytes
//!         └─► memory of native code's own       ─► mapped? ───────────────────► bytes
//! ```
//! A pointer that native code made, or that was made from a number, may lead to whatever native
//! code knows of; so it may lead out of the arena, to memory that nobody keeps account of.
//!
//! # Safety
//! Memory of native code is written where the script says so, as by LuaJIT. That nothing in Rust
//! refers to it is the script's promise, as it is C's: the command line says so.
#![allow(unsafe_code)]

use super::{
    failure::{Done, fail},
    session::Session,
};
use crate::memory::{AllocId, Memory, POINTER_SIZE, Pointer, Provenance};

/// Most bytes that are read at once where the end is not known.
const CHUNK: u64 = 4096;
const PAGE: u64 = 4096;

/// Where bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// In an allocation, at an offset.
    Known(AllocId, u64),
    /// In memory that native code has for itself, at an address.
    Native(u64),
}

/// Finds `size` bytes.
pub(super) fn reach(memory: &Memory, at: Pointer, size: u64, what: &str) -> Done<Reached> {
    let doing = |error: super::LuaFailure| error.during(&format!("{what} of {}", bytes(size)));
    let id = match at.provenance {
        Provenance::Alloc(_) => memory.resolve(at, size),
        Provenance::None | Provenance::Wildcard => {
            if !in_arena(memory, at.addr) && memory.containing(at.addr).is_none() {
                return Ok(Reached::Native(at.addr));
            }
            memory.resolve(Pointer::from_native(at.addr), size)
        }
    };
    match id {
        Ok((id, offset)) => Ok(Reached::Known(id, offset)),
        Err(error) => Err(doing(error.into())),
    }
}

/// Whether an address is one of the arena's, in either view.
pub(super) fn in_arena(memory: &Memory, addr: u64) -> bool {
    let session = memory.arena().session();
    addr.wrapping_sub(session.arena_base) < session.arena_len
        || memory.arena().to_native(addr).is_some()
}

/// `1 byte`, `8 bytes`.
pub(super) fn bytes(count: u64) -> String {
    crate::report::units::count(count, "byte")
}

impl Session {
    /// Reads bytes, all of which must have a value.
    pub(super) fn read(&self, at: Pointer, into: &mut [u8]) -> Done<()> {
        self.read_as(at, into, true)
    }

    /// Reads bytes, with or without values.
    pub(super) fn read_any(&self, at: Pointer, into: &mut [u8]) -> Done<()> {
        self.read_as(at, into, false)
    }

    fn read_as(&self, at: Pointer, into: &mut [u8], initialised: bool) -> Done<()> {
        let size = into.len() as u64;
        let memory = self.bridge.memory();
        match reach(&memory, at, size, "read")? {
            Reached::Known(id, offset) => {
                if initialised {
                    memory.check_init(id, offset..offset + size)?;
                }
                Ok(memory.read_into(id, offset, into)?)
            }
            Reached::Native(addr) => {
                let done = memory.read_native(addr, into);
                native(done as u64, size, addr, "read")
            }
        }
    }

    /// Writes bytes.
    pub(super) fn write(&self, at: Pointer, bytes: &[u8]) -> Done<()> {
        let size = bytes.len() as u64;
        let mut memory = self.bridge.memory();
        match reach(&memory, at, size, "write")? {
            Reached::Known(id, offset) => Ok(memory.write_bytes(id, offset, bytes)?),
            Reached::Native(addr) => {
                // SAFETY: see the module.
                let done = unsafe { memory.write_native(addr, bytes) };
                native(done as u64, size, addr, "write")
            }
        }
    }

    /// Reads a pointer.
    pub(super) fn read_pointer(&self, at: Pointer) -> Done<Pointer> {
        {
            let memory = self.bridge.memory();
            if let Reached::Known(id, offset) = reach(&memory, at, POINTER_SIZE, "read")? {
                return Ok(memory.read_pointer(id, offset)?);
            }
        }
        let mut bytes = [0; POINTER_SIZE as usize];
        self.read(at, &mut bytes)?;
        Ok(Pointer::from_native(u64::from_le_bytes(bytes)))
    }

    /// Writes a pointer. Where native code keeps its own memory, it knows the address from then on.
    pub(super) fn write_pointer(&self, at: Pointer, pointer: Pointer) -> Done<()> {
        {
            let mut memory = self.bridge.memory();
            match reach(&memory, at, POINTER_SIZE, "write")? {
                Reached::Known(id, offset) => {
                    return Ok(memory.write_pointer(id, offset, pointer)?);
                }
                Reached::Native(_) => memory.expose_pointer(pointer),
            }
        }
        self.write(at, &pointer.addr.to_le_bytes())
    }

    /// Copies bytes with all that is known of them. The places may overlap.
    pub(super) fn copy(&self, from: Pointer, to: Pointer, size: u64) -> Done<()> {
        if size == 0 {
            return Ok(());
        }
        {
            let mut memory = self.bridge.memory();
            let source = reach(&memory, from, size, "read")?;
            let target = reach(&memory, to, size, "write")?;
            if let (Reached::Known(source, at), Reached::Known(target, offset)) = (source, target) {
                return Ok(memory.copy(source, at..at + size, target, offset)?);
            }
        }
        let mut bytes = vec![0; size as usize];
        self.read_any(from, &mut bytes)?;
        self.write(to, &bytes)
    }

    /// Reads up to the first zero byte, which must be there.
    pub(super) fn read_text(&self, at: Pointer) -> Done<Vec<u8>> {
        self.text(at, None)
    }

    /// Reads up to the first zero byte, or all of `limit` bytes.
    pub(super) fn read_text_within(&self, at: Pointer, limit: u64) -> Done<Vec<u8>> {
        self.text(at, Some(limit))
    }

    fn text(&self, at: Pointer, limit: Option<u64>) -> Done<Vec<u8>> {
        let (mut text, mut next) = (Vec::new(), at);
        let mut left = limit.unwrap_or(u64::MAX);
        while left > 0 {
            let room = self.readable_from(next)?.min(left).min(CHUNK);
            let mut chunk = vec![0; room as usize];
            self.read_any(next, &mut chunk)?;
            let end = chunk.iter().position(|byte| *byte == 0);
            let used = end.map_or(room, |end| end as u64 + 1);
            self.read(next, &mut chunk[..used as usize])?;
            if let Some(end) = end {
                text.extend_from_slice(&chunk[..end]);
                return Ok(text);
            }
            text.extend_from_slice(&chunk);
            (next, left) = (next.offset(room as i64), left - room);
        }
        Ok(text)
    }

    /// How many bytes may be read from here on, at least one: up to the end of the allocation, or
    /// of the page, since the next may not be there.
    fn readable_from(&self, at: Pointer) -> Done<u64> {
        let memory = self.bridge.memory();
        match reach(&memory, at, 1, "read") {
            Ok(Reached::Known(id, offset)) => {
                let size = memory.get(id).map_or(0, |record| record.size());
                Ok(size - offset)
            }
            Ok(Reached::Native(addr)) => Ok(PAGE - addr % PAGE),
            Err(error) => Err(error.during("a string without a zero byte at its end")),
        }
    }
}

/// Whether all bytes of native memory could be reached.
fn native(done: u64, size: u64, addr: u64, what: &str) -> Done<()> {
    if done == size {
        return Ok(());
    }
    let words = match addr {
        0..4096 => "a null pointer, or one with a small offset added",
        _ => "no memory is mapped there that can be used so",
    };
    fail(format!("{what} of {} at {addr:#x}: {words}", bytes(size)))
}
