//! The programs' totals, mapped from their BPF map, so that a call reads them without a system
//! call.
//!
//! ```text
//!  program: lock add [emitted] ──► the map's page ◄── mapped read-only: one load for each total
//! ```
//! A program adds 1 by one locked instruction, and the load here is of the same word, so what is
//! read is a total that there was. A fault of the reading thread itself was counted before that
//! thread went on, in the exception's entry, so its load finds it. One of another thread may be
//! counted and not in the ring yet, or come a moment later: the end of a call waits for what is
//! owed (`Session::settle`).
//!
//! # Safety
//!
//! The page belongs to the owner of the mapping, who lends no reference that outlives it, and is
//! shared with the kernel: it is read as atomics only.
#![allow(unsafe_code)]

use std::os::fd::AsFd as _;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use aya::maps::MapData;
use rustix::mm::{MapFlags, ProtFlags};
use tracer_ebpf::Counters;

/// Size of a page in bytes; the map is shorter.
const PAGE: usize = 4096;

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

/// Owns the mapping of the totals.
#[derive(Debug)]
pub(super) struct CounterPage {
    words: NonNull<Words>,
    /// Programs that are loaded later refer to it by its descriptor.
    _map: MapData,
}

// SAFETY: the page is shared memory of this process and the kernel, and belongs to no thread.
unsafe impl Send for CounterPage {}

impl CounterPage {
    /// Maps the array map `map`, made to be mapped, whose one element is the totals.
    pub(super) fn map(map: MapData) -> std::io::Result<CounterPage> {
        let descriptor = map.fd().as_fd();
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let page = unsafe {
            rustix::mm::mmap(
                ptr::null_mut(),
                PAGE,
                ProtFlags::READ,
                MapFlags::SHARED,
                descriptor,
                0,
            )
        }?;
        let words = NonNull::new(page.cast()).ok_or(std::io::ErrorKind::OutOfMemory)?;
        Ok(CounterPage { words, _map: map })
    }

    /// The totals now.
    pub(super) fn read(&self) -> Counters {
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

impl Drop for CounterPage {
    fn drop(&mut self) {
        // SAFETY: the page that `map` made, which nobody else knows.
        let _ = unsafe { rustix::mm::munmap(self.words.as_ptr().cast(), PAGE) };
    }
}
