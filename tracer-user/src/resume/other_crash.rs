//! A crash of a thread other than the calling one.
//!
//! # Safety
//! The state says who may use the cell: who moved it from 0 to 1 writes, and after it is 2
//! threads whose calls end read; the one whose call is outermost puts it back to 0, when no call
//! is left that would look.
#![allow(unsafe_code)]

use std::{
    cell::UnsafeCell,
    sync::atomic::{AtomicU32, Ordering},
};

use super::guard::Crash;

/// The first crash of another thread in a call, kept for the calling thread to report.
pub(super) struct OtherCrash {
    state: AtomicU32,
    crash: UnsafeCell<Option<Crash>>,
}

// SAFETY: the cell is written by who moved `state` from 0 to 1, and read after it is 2.
unsafe impl Sync for OtherCrash {}

impl OtherCrash {
    pub(super) const fn new() -> OtherCrash {
        OtherCrash {
            state: AtomicU32::new(0),
            crash: UnsafeCell::new(None),
        }
    }

    pub(super) fn put(&self, crash: Crash) {
        if self
            .state
            .compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
        {
            // SAFETY: this thread moved the state to 1, so it alone uses the cell.
            unsafe { *self.crash.get() = Some(crash) };
            self.state.store(2, Ordering::Release);
        }
    }

    /// The crash; for the outermost call it is gone afterwards, those in the middle of it only look.
    pub(super) fn take(&self, outermost: bool) -> Option<Crash> {
        if self.state.load(Ordering::Acquire) != 2 {
            return None;
        }
        // SAFETY: in state 2 only the thread whose call ended reads the cell.
        let crash = unsafe { *self.crash.get() };
        if outermost {
            self.state.store(0, Ordering::Release);
        }
        crash
    }
}
