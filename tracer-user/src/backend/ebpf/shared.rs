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
//! A handler that cannot be told may still write to the list when the recorder goes. So once it was
//! lent, its pages are never unmapped: anonymous ones take their place, which nobody reads.
#![allow(unsafe_code)]

use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags};
use tracer_ebpf::{Counters, KNOWN_SITES, PAGE_BYTES as PAGE, Shared};

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
    words: NonNull<Words>,
    known: *mut [u64; KNOWN_SITES],
    /// Whether somebody else has the list.
    lent: AtomicBool,
}

// SAFETY: shared memory of this process and the kernel, which belongs to no thread.
unsafe impl Send for SharedPages {}

impl SharedPages {
    /// Maps the array map `map`, made to be mapped, whose one element is a [`Shared`].
    ///
    /// # Errors
    /// What `mmap(2)` says.
    pub(crate) fn map(map: BorrowedFd<'_>) -> std::io::Result<SharedPages> {
        let map = |length, rights, offset: usize| {
            // SAFETY: a new mapping, at an address that the kernel chooses.
            unsafe {
                rustix::mm::mmap(
                    ptr::null_mut(),
                    length,
                    rights,
                    MapFlags::SHARED,
                    map,
                    offset as u64,
                )
            }
        };
        let known = map(LIST, ProtFlags::READ | ProtFlags::WRITE, PAGE)?;
        let words = map(PAGE, ProtFlags::READ, 0).inspect_err(|_| {
            // SAFETY: the mapping just made.
            let _ = unsafe { rustix::mm::munmap(known, LIST) };
        })?;
        let words = NonNull::new(words.cast()).ok_or(std::io::ErrorKind::OutOfMemory)?;
        Ok(SharedPages {
            words,
            known: known.cast(),
            lent: AtomicBool::new(false),
        })
    }

    /// The list of sites, which stays mapped for good. Only atomic words of it may be looked at.
    pub(crate) fn known(&self) -> *mut [u64; KNOWN_SITES] {
        self.lent.store(true, Ordering::Relaxed);
        self.known
    }

    /// The totals now.
    pub(crate) fn counters(&self) -> Counters {
        // SAFETY: the page is mapped as long as `self` lives, page-aligned, and at least as long
        // as the words, which are atomics.
        let words = unsafe { self.words.as_ref() };
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

impl Drop for SharedPages {
    fn drop(&mut self) {
        let flags = MapFlags::PRIVATE | MapFlags::FIXED;
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the pages that `map` made. If they were lent they are replaced in one step; should
        // that fail the old ones stay, which is as good.
        let _ = unsafe {
            if *self.lent.get_mut() {
                rustix::mm::mmap_anonymous(self.known.cast(), LIST, rights, flags).map(drop)
            } else {
                rustix::mm::munmap(self.known.cast(), LIST)
            }
        };
        // SAFETY: the page that `map` made, which nobody else knows.
        let _ = unsafe { rustix::mm::munmap(self.words.as_ptr().cast(), PAGE) };
    }
}
