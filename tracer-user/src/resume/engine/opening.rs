//! Opening the native view for one instruction.
//!
//! ```text
//!  open:  own the step ─► halt the other threads of native code ─► view readable and writable
//!  close: view closed again ─► let the others go on
//! ```
//! At most one thread has it open. A thread that is in a handler touches the view no more, so it
//! is not halted; it waits before it leaves.
//!
//! # Safety
//! Only the protection of the native views of mapped segments is changed, which no Rust code
//! reads or writes through.
#![allow(unsafe_code)]

use std::sync::atomic::Ordering;

use super::Engine;
use crate::resume::{
    safe::{self, Safe},
    thread,
};

impl Engine {
    /// A thread enters a handler, in which it touches the native view no more.
    /// Async-signal-safe.
    pub(in crate::resume) fn enter_handler(&self, safe: Safe) {
        self.roster.enter(safe, &self.step_owner);
    }

    /// A thread is about to leave a handler; it waits for the end of another thread's step.
    /// Async-signal-safe.
    pub(in crate::resume) fn leave_handler(&self, safe: Safe) {
        self.roster.leave(safe, &self.step_owner);
    }

    /// Opens the native view to this thread's next instruction, with all others stopped.
    /// Async-signal-safe.
    pub(in crate::resume) fn open(&self, safe: Safe) {
        let me = thread::id(safe);
        while let Err(owner) =
            self.step_owner
                .compare_exchange(0, me, Ordering::SeqCst, Ordering::Relaxed)
        {
            safe::wait(safe, &self.step_owner, owner);
        }
        self.steps.fetch_add(1, Ordering::Relaxed);
        // A guest is in another process than the threads that it would have to halt.
        let guest = thread::block(safe).is_some_and(|block| block.guest.get());
        if guest || !self.roster.halt_others(safe) {
            self.blind_steps.fetch_add(1, Ordering::Relaxed);
        }
        self.protect_native(safe, libc::PROT_READ | libc::PROT_WRITE);
    }

    /// Closes the native view again. Async-signal-safe.
    pub(in crate::resume) fn close(&self, safe: Safe) {
        self.protect_native(safe, libc::PROT_NONE);
        self.step_owner.store(0, Ordering::SeqCst);
        safe::wake(safe, &self.step_owner);
    }

    fn protect_native(&self, safe: Safe, prot: i32) {
        for (addr, len) in self.native_ranges() {
            // SAFETY: the range is native view of a mapped segment: only native code uses it.
            unsafe { safe::protect(safe, addr, len, prot) };
        }
    }
}
