//! What the interpreter itself does with bytes: read, write, copy, move out.
//!
//! It addresses them by allocation and offset. It may write what is read-only for native code;
//! what it does counts neither as read nor as written by native code, and exposes nothing.

use std::ops::Range;

use super::{AllocId, Allocation, Memory, MemoryError, real};
use crate::arena::ArenaError;

impl Memory {
    /// Copies bytes of an allocation, initialised or not.
    ///
    /// # Errors
    ///
    /// [`MemoryError::Freed`], [`MemoryError::Range`] or [`MemoryError::Unknown`];
    /// [`MemoryError::External`] for external memory that is gone.
    pub fn read_bytes(&self, id: AllocId, range: Range<u64>) -> Result<Vec<u8>, MemoryError> {
        let record = self.checked(id, &range)?;
        let mut bytes = vec![0; (range.end - range.start) as usize];
        self.load(record, range.start, &mut bytes)?;
        Ok(bytes)
    }

    /// As [`read_bytes`](Self::read_bytes), into a buffer of the caller's, as many as it has.
    ///
    /// # Errors
    ///
    /// As [`read_bytes`](Self::read_bytes).
    pub fn read_into(&self, id: AllocId, offset: u64, into: &mut [u8]) -> Result<(), MemoryError> {
        let range = offset..offset.saturating_add(into.len() as u64);
        let record = self.checked(id, &range)?;
        self.load(record, offset, into)
    }

    /// Copies bytes of an allocation, all of which must be [readable](Allocation::readable).
    ///
    /// # Errors
    ///
    /// [`MemoryError::Uninit`] with the first bytes that are not; else as
    /// [`read_bytes`](Self::read_bytes).
    pub fn read_init(&self, id: AllocId, range: Range<u64>) -> Result<Vec<u8>, MemoryError> {
        self.check_init(id, range.clone())?;
        self.read_bytes(id, range)
    }

    /// Refuses bytes that an interpreted program may not read.
    ///
    /// # Errors
    ///
    /// As [`read_init`](Self::read_init).
    pub fn check_init(&self, id: AllocId, range: Range<u64>) -> Result<(), MemoryError> {
        let record = self.checked(id, &range)?;
        match record.first_unreadable(range.clone()) {
            None => Ok(()),
            Some(uninit) => Err(MemoryError::Uninit {
                allocation: record.title(),
                asked: range,
                uninit,
            }),
        }
    }

    /// Reads a little-endian number of 1 to 16 bytes. If the bytes are a pointer's, it is the
    /// address: the number has no provenance, and reading it exposes nothing.
    ///
    /// # Errors
    ///
    /// [`MemoryError::ScalarSize`]; else as [`read_init`](Self::read_init).
    pub fn read_scalar(&self, id: AllocId, offset: u64, size: u64) -> Result<u128, MemoryError> {
        if !(1..=16).contains(&size) {
            return Err(MemoryError::ScalarSize(size));
        }
        let bytes = self.read_init(id, offset..offset.saturating_add(size))?;
        let mut all = [0; 16];
        all[..bytes.len()].copy_from_slice(&bytes);
        Ok(u128::from_le_bytes(all))
    }

    /// Writes the low `size` bytes of a number, little-endian.
    ///
    /// # Errors
    ///
    /// [`MemoryError::ScalarSize`]; else as [`write_bytes`](Self::write_bytes).
    pub fn write_scalar(
        &mut self,
        id: AllocId,
        offset: u64,
        value: u128,
        size: u64,
    ) -> Result<(), MemoryError> {
        if !(1..=16).contains(&size) {
            return Err(MemoryError::ScalarSize(size));
        }
        self.write_bytes(id, offset, &value.to_le_bytes()[..size as usize])
    }

    /// Writes bytes for the interpreter, which may write read-only allocations too, and marks
    /// them initialised and without provenance. It does not count as written by native code.
    ///
    /// # Errors
    ///
    /// As [`read_bytes`](Self::read_bytes).
    pub fn write_bytes(
        &mut self,
        id: AllocId,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), MemoryError> {
        let range = offset..offset.saturating_add(bytes.len() as u64);
        self.checked(id, &range)?;
        self.store(id, offset, bytes)?;
        self.change(id, |record| record.make_plain(range))
    }

    /// Marks bytes as uninitialised again, as an interpreter does for what was moved out of.
    /// Their contents stay.
    ///
    /// # Errors
    ///
    /// As [`read_bytes`](Self::read_bytes).
    pub fn deinitialize(&mut self, id: AllocId, range: Range<u64>) -> Result<(), MemoryError> {
        self.checked(id, &range)?;
        self.change(id, |record| record.make_uninit(range))
    }

    /// Copies the bytes `range` of one allocation to `offset` in another, or in the same one
    /// (they may overlap), with all that is known of them: which are initialised, which are
    /// pointers, and to what. As for an interpreter's `memmove`.
    ///
    /// # Errors
    ///
    /// As [`read_bytes`](Self::read_bytes), for either; nothing is copied then.
    pub fn copy(
        &mut self,
        from: AllocId,
        range: Range<u64>,
        to: AllocId,
        offset: u64,
    ) -> Result<(), MemoryError> {
        let target = offset..offset.saturating_add(range.end.saturating_sub(range.start));
        self.checked(to, &target)?;
        let piece = self.checked(from, &range)?.cut(&range);
        let bytes = self.read_bytes(from, range)?;
        self.store(to, offset, &bytes)?;
        self.change(to, |record| record.paste(offset, &piece))
    }

    /// Reads bytes from where they are. The range was checked.
    pub(super) fn load(
        &self,
        record: &Allocation,
        offset: u64,
        into: &mut [u8],
    ) -> Result<(), MemoryError> {
        let addr = record.base() + offset;
        if record.is_external() {
            let done = real::read(addr, into);
            return reached(record, "read", addr, into.len(), done);
        }
        let views = self.arena.views();
        Ok(views.read(addr, into).map_err(ArenaError::from)?)
    }

    /// Writes bytes to where they are. The range was checked.
    pub(super) fn store(
        &mut self,
        id: AllocId,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), MemoryError> {
        let record = self.get(id).ok_or(MemoryError::Unknown(id))?;
        let addr = record.base() + offset;
        if record.is_external() {
            let done = real::write(addr, bytes);
            return reached(record, "written", addr, bytes.len(), done);
        }
        let views = self.arena.views_mut();
        Ok(views.write(addr, bytes).map_err(ArenaError::from)?)
    }

    /// Changes the record of a live allocation.
    pub(super) fn change<T>(
        &mut self,
        id: AllocId,
        change: impl FnOnce(&mut Allocation) -> T,
    ) -> Result<T, MemoryError> {
        let slot = self.live_slot(id)?;
        let record = self.records[slot]
            .as_mut()
            .ok_or(MemoryError::Unknown(id))?;
        let result = change(record);
        if record.is_external() {
            self.external.note_change(slot, id);
        }
        Ok(result)
    }
}

/// Whether all bytes of external memory could be reached.
fn reached(
    record: &Allocation,
    how: &'static str,
    addr: u64,
    len: usize,
    done: usize,
) -> Result<(), MemoryError> {
    if done == len {
        return Ok(());
    }
    Err(MemoryError::External(super::ExternalError::Unreachable {
        allocation: record.title(),
        how,
        addr,
        len: len as u64,
        done: done as u64,
    }))
}
