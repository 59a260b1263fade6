//! Code pages: where displaced copies live.
//!
//! ```text
//!   memfd ──┬── read-write view: the preparing thread writes copies here
//!           └── read-execute view: threads run them here         (never both in one view)
//!   slot i of 128 bytes ── owners[i] ──► which copy it holds
//! ```
//!
//! # Safety
//! A slot is written once, through the write view, before its address is published; code that
//! runs is never changed. `owners` holds leaked, immutable values, so a signal handler may follow
//! its pointers at any time.
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::AsFd,
    sync::atomic::{AtomicPtr, AtomicU64, Ordering},
};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use crate::mapping::Mapping;

/// Bytes of one slot; the longest displaced copy fits.
pub const SLOT: usize = 128;
/// Slots in all: 32 MiB of address space, committed as used.
const SLOTS: usize = 1 << 18;

/// The region of displaced copies, and what each slot holds.
pub struct CodePages<T: 'static> {
    write: Mapping,
    run: Mapping,
    owners: Mapping,
    next: AtomicU64,
    _owner: std::marker::PhantomData<&'static T>,
}

impl<T: Sync> CodePages<T> {
    /// An empty region.
    ///
    /// # Errors
    /// What `memfd_create(2)` or `mmap(2)` says; `EPERM` or `EACCES` where the host forbids
    /// executable mappings of memory files.
    pub fn new() -> io::Result<CodePages<T>> {
        let flags = MemfdFlags::CLOEXEC;
        let file = memfd_create("ffitrace-code", flags | MemfdFlags::EXEC)
            .or_else(|_| memfd_create("ffitrace-code", flags))?;
        ftruncate(&file, (SLOT * SLOTS) as u64)?;
        let map = |prot| Mapping::file(file.as_fd(), SLOT * SLOTS, prot);
        Ok(CodePages {
            write: map(libc::PROT_READ | libc::PROT_WRITE)?,
            run: map(libc::PROT_READ | libc::PROT_EXEC)?,
            owners: Mapping::shared(SLOTS * size_of::<AtomicPtr<T>>())?,
            next: AtomicU64::new(0),
            _owner: std::marker::PhantomData,
        })
    }

    fn owner_cell(&self, slot: usize) -> &AtomicPtr<T> {
        assert!(slot < SLOTS);
        // SAFETY: the mapping holds SLOTS zeroed pointers, page-aligned, for the life of `self`.
        unsafe { &*self.owners.as_ptr().cast::<AtomicPtr<T>>().add(slot) }
    }

    /// Copies `code` into a fresh slot that belongs to `owner` and returns the address to run
    /// it at; none where the code is longer than a slot or the region is full.
    pub fn add(&self, code: &[u8], owner: &'static T) -> Option<u64> {
        if code.len() > SLOT {
            return None;
        }
        let slot = self.next.fetch_add(1, Ordering::Relaxed) as usize;
        if slot >= SLOTS {
            self.next.store(SLOTS as u64, Ordering::Relaxed);
            return None;
        }
        self.owner_cell(slot)
            .store(std::ptr::from_ref(owner).cast_mut(), Ordering::Release);
        // SAFETY: the slot lies inside the mapping, `code` fits in it, and no other caller got
        // the same slot; nobody runs it before its address is returned.
        unsafe {
            let to = self.write.as_ptr().add(slot * SLOT);
            std::ptr::copy_nonoverlapping(code.as_ptr(), to, code.len());
        }
        Some(self.run.addr() + (slot * SLOT) as u64)
    }

    /// What the copy around `ip` belongs to, and the offset of `ip` in it; none outside of the
    /// region. Async-signal-safe.
    pub fn find(&self, ip: u64) -> Option<(&'static T, usize)> {
        let offset = ip.wrapping_sub(self.run.addr());
        if offset >= (SLOT * SLOTS) as u64 {
            return None;
        }
        let owner = self
            .owner_cell(offset as usize / SLOT)
            .load(Ordering::Acquire);
        // SAFETY: `add` stores only `&'static T`, or the cell is still null.
        unsafe { owner.as_ref() }.map(|owner| (owner, offset as usize % SLOT))
    }

    /// Address range of the region, for readers of records.
    pub fn range(&self) -> std::ops::Range<u64> {
        self.run.addr()..self.run.addr() + self.run.len() as u64
    }
}
