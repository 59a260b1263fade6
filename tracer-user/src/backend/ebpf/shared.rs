//! What a session shares with the programs beside its ring, mapped from its array map.
//!
//! ```text
//!  page 0:  totals          ◄── program: lock add      mapped read-only: one load for each
//!  behind:  listed sites    ──► program: one load      mapped writable, for the handlers
//! ```
//! A program adds 1 by one locked instruction, and the load here is of the same word, so what is
//! read is a total that there was. A fault of the reading thread itself was counted before that
//! thread went on, in the exception's entry, so its load finds it. One of another thread may be
//! counted and not in the ring yet, or come a moment later: the end of a call waits for what is
//! owed (`Session::settle`).
//!
//! # Safety
//!
//! The memory is shared with the kernel, and with handlers: it is read and written as atomics only.
#![allow(unsafe_code)]

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::mm::ProtFlags;
use tracer_ebpf::{Counters, KNOWN_SITES, PAGE_BYTES as PAGE, Shared};

use super::pages::Pages;

/// [`Counters`] as the kernel changes them meanwhile, field by field.
#[repr(C)]
struct Words {
    emitted: AtomicU64,
    dropped: AtomicU64,
    calls_entered: AtomicU64,
    calls_returned: AtomicU64,
    other_emitted: AtomicU64,
    other_dropped: AtomicU64,
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<Words>() == size_of::<Counters>());
    assert!(offset_of!(Words, dropped) == offset_of!(Counters, dropped));
    assert!(offset_of!(Words, calls_entered) == offset_of!(Counters, calls_entered));
    assert!(offset_of!(Words, calls_returned) == offset_of!(Counters, calls_returned));
    assert!(offset_of!(Words, other_emitted) == offset_of!(Counters, other_emitted));
    assert!(offset_of!(Words, other_dropped) == offset_of!(Counters, other_dropped));
};

/// Length of the list of sites in bytes: whole pages.
const LIST: usize = size_of::<Shared>() - PAGE;

/// Owns the mapping.
#[derive(Debug)]
pub(crate) struct SharedPages {
    totals: Pages,
    known: Pages,
}

impl SharedPages {
    /// Maps the array map `map`, made to be mapped, whose one element is a [`Shared`].
    ///
    /// # Errors
    /// What `mmap(2)` says.
    pub(crate) fn map(map: BorrowedFd<'_>) -> std::io::Result<SharedPages> {
        Ok(SharedPages {
            totals: Pages::map(map, 0, PAGE, ProtFlags::READ)?,
            known: Pages::map(map, PAGE, LIST, ProtFlags::READ | ProtFlags::WRITE)?,
        })
    }

    /// The list of sites, which stays mapped for good. Only atomic words of it may be looked at.
    pub(crate) fn known(&self) -> *mut [u64; KNOWN_SITES] {
        self.known.lend().cast()
    }

    /// The totals now.
    pub(crate) fn counters(&self) -> Counters {
        // SAFETY: the page is mapped as long as `self` lives, page-aligned, and at least as long
        // as the words, which are atomics.
        let words = unsafe { &*self.totals.address().cast::<Words>() };
        // A program counts what it drops after it counted it as emitted, and each load is made
        // before the next (acquire): so nothing is dropped here that is not emitted, and what is
        // emitted in between is owed.
        let dropped = words.dropped.load(Ordering::Acquire);
        let other_dropped = words.other_dropped.load(Ordering::Acquire);
        let calls_returned = words.calls_returned.load(Ordering::Acquire);
        Counters {
            emitted: words.emitted.load(Ordering::Acquire),
            dropped,
            calls_entered: words.calls_entered.load(Ordering::Acquire),
            calls_returned,
            other_emitted: words.other_emitted.load(Ordering::Acquire),
            other_dropped,
        }
    }
}
