//! Writing slots of loaded objects, and putting back what was there.
//!
//! # Safety
//! A slot is a word that the loader filled by a relocation, in a writable segment of an object
//! that stays loaded (the bridge never closes libraries). It is written as one aligned word, so a
//! thread that calls through it meanwhile takes the one address or the other, both functions of
//! one signature. Pages that the loader made read-only are writable for the write, and read-only
//! again afterwards; that they were is what the object's program headers say.
#![allow(unsafe_code)]

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

const PAGE: u64 = 4096;

/// Addresses of slots in this process, all of one object.
#[derive(Debug)]
pub(super) struct Writer {
    relro: Range<u64>,
}

impl Writer {
    /// A writer for an object whose `relro` addresses the loader made read-only.
    pub(super) fn new(relro: Option<Range<u64>>) -> Writer {
        let relro = relro.unwrap_or(0..0);
        // As the loader rounds it: a page that is only partly in it stays writable.
        Writer {
            relro: relro.start & !(PAGE - 1)..relro.end & !(PAGE - 1),
        }
    }

    /// What a slot holds, if it can be read as one word.
    ///
    /// # Safety
    /// `slot` must be the address of a slot, see the module.
    pub(super) unsafe fn read(&self, slot: u64) -> Option<u64> {
        if !slot.is_multiple_of(8) {
            return None;
        }
        // SAFETY: an aligned word of a loaded object's data.
        Some(unsafe { &*(slot as *const AtomicU64) }.load(Ordering::Relaxed))
    }

    /// Writes the slots, each with its value.
    ///
    /// # Errors
    /// What `mprotect(2)` says; slots in pages that could be written anyway are written then.
    ///
    /// # Safety
    /// Each must be the address of a slot, see the module, and its value a function of the same
    /// signature as the one it holds.
    pub(super) unsafe fn write(&self, slots: &[(u64, u64)]) -> io::Result<()> {
        let (guarded, plain): (Vec<_>, Vec<_>) = slots
            .iter()
            .copied()
            .partition(|(slot, _)| self.relro.contains(slot));
        // SAFETY: as the caller promises.
        unsafe { store(&plain) };
        if guarded.is_empty() {
            return Ok(());
        }
        self.protect(libc::PROT_READ | libc::PROT_WRITE)?;
        // SAFETY: as the caller promises; the pages are writable now.
        unsafe { store(&guarded) };
        self.protect(libc::PROT_READ)
    }

    fn protect(&self, rights: i32) -> io::Result<()> {
        let len = (self.relro.end - self.relro.start) as usize;
        // SAFETY: pages of a loaded object's data; nobody relies on their being read-only, and
        // they are again when the slots are written.
        let status = unsafe { libc::mprotect(self.relro.start as *mut _, len, rights) };
        if status == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

/// # Safety
/// As [`Writer::write`], and the words must be writable.
unsafe fn store(slots: &[(u64, u64)]) {
    for (slot, value) in slots {
        // SAFETY: an aligned, writable word, as the caller promises.
        unsafe { &*(*slot as *const AtomicU64) }.store(*value, Ordering::Release);
    }
}
