//! Running native code and handing out what it did.
//!
//! # Safety
//! What is run may be left anywhere by a jump to [`Native::run`]: it is a `Copy` closure, of which
//! the caller promises that its frames own nothing, and a function here that calls it through a
//! pointer.
#![allow(unsafe_code)]

use std::{
    ffi::c_void,
    marker::PhantomData,
    sync::{MutexGuard, PoisonError},
};

use tracer_user::{backend::Backend, resume};

use super::{DoorError, IsolatedAlloc, MemEvents};
use crate::{
    bridge::{BridgeError, CallOptions, CallOutcome},
    memory::ViolationKind,
};

/// Runs code that calls native functions.
pub struct Supervisor;

/// Why a native call did not return. What it did until then is in the events.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// It crashed, or ran too long.
    #[error("{kind}: {message}")]
    Badly {
        /// In which way.
        kind: ViolationKind,
        /// In words.
        message: String,
    },
    /// It was stopped before an access that is not inside a live allocation
    /// ([`StopAt::First`](crate::bridge::StopAt)).
    #[error("stopped before an access outside of all live allocations")]
    Stopped,
    /// It was not made.
    #[error(transparent)]
    NotCalled(BridgeError),
}

/// The right to run native code, inside [`Supervisor::do_ffi`].
pub struct Native<'a> {
    alloc: &'a IsolatedAlloc,
    /// Calls whose account does not balance.
    lost: std::cell::Cell<u64>,
    /// The thread that began.
    _here: PhantomData<*const ()>,
}

impl Supervisor {
    /// Whether accesses are traced.
    pub fn is_enabled(alloc: &IsolatedAlloc) -> bool {
        alloc.backend() != Backend::None
    }

    /// Runs `f`, ordinary code that runs native code by the [`Native`] it is given, once or often,
    /// and returns its result with the accesses to `alloc`'s memory, in order; without a recorder,
    /// `None`. Two threads do not run native code on one allocator at once. In a callback and in
    /// `f` it may be used again, and hands out all accesses so far.
    ///
    /// # Errors
    /// [`DoorError::Incomplete`] where native code did something that cannot be told exactly.
    pub fn do_ffi<T>(
        alloc: &IsolatedAlloc,
        f: impl FnOnce(&Native<'_>) -> T,
    ) -> Result<(T, Option<MemEvents>), DoorError> {
        let nested = resume::inside() || alloc.holder.is_me();
        let _one = (!nested).then(|| Outermost::begin(alloc));
        let native = Native {
            alloc,
            lost: std::cell::Cell::new(0),
            _here: PhantomData,
        };
        let result = f(&native);
        let events = Supervisor::take_events(alloc);
        let refused = std::mem::take(&mut alloc.bridge.memory().refused);
        if let [first, others @ ..] = &refused[..] {
            let more = match others.len() {
                0 => String::new(),
                count => format!(" (and {count} more)"),
            };
            return Err(DoorError::Incomplete(format!("{first}{more}")));
        }
        if native.lost.get() > 0 {
            let what = format!("{} accesses have no event", native.lost.get());
            return Err(DoorError::Incomplete(what));
        }
        Ok((result, events))
    }

    /// What native code did that has not been handed out yet.
    pub(super) fn take_events(alloc: &IsolatedAlloc) -> Option<MemEvents> {
        let events = std::mem::take(&mut alloc.bridge.memory().events);
        Supervisor::is_enabled(alloc).then_some(events)
    }
}

/// Held while no other thread may run native code on an allocator.
struct Outermost<'a> {
    alloc: &'a IsolatedAlloc,
    _one: MutexGuard<'a, ()>,
}

impl Outermost<'_> {
    fn begin(alloc: &IsolatedAlloc) -> Outermost<'_> {
        let one = alloc.one.lock().unwrap_or_else(PoisonError::into_inner);
        alloc.holder.set(true);
        Outermost { alloc, _one: one }
    }
}

impl Drop for Outermost<'_> {
    fn drop(&mut self) {
        self.alloc.holder.set(false);
    }
}

impl Native<'_> {
    /// Runs `f`, which calls native code, and comes back however that ends.
    ///
    /// # Errors
    /// [`Ended`] where `f` did not come to its end. What it would have written to variables that
    /// it has references to may be missing.
    ///
    /// # Safety
    /// The native function must accept what `f` gives it. `f` must be sound to leave at any point
    /// at which native code runs: neither its body nor what it calls on the way may own anything
    /// then that has to be dropped or unlocked. If `f` panics, the process is aborted.
    pub unsafe fn run<F: FnOnce() + Copy>(&self, f: F) -> Result<(), Ended> {
        // SAFETY: by the caller's promise.
        unsafe { self.run_with(CallOptions::default(), f) }
    }

    /// As [`run`](Self::run), with a limit of time, or to be stopped before the first access that
    /// is not inside a live allocation.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    ///
    /// # Safety
    /// As [`run`](Self::run).
    pub unsafe fn run_with<F: FnOnce() + Copy>(
        &self,
        options: CallOptions,
        f: F,
    ) -> Result<(), Ended> {
        unsafe extern "C" fn go<F: FnOnce() + Copy>(f: *mut c_void) {
            // SAFETY: `run_with` hands over a pointer to its `F`, which is `Copy`.
            unsafe { (*f.cast::<F>())() }
        }
        let bridge = &self.alloc.bridge;
        let mut f = f;
        // SAFETY: `go` owns a copy of `f`, which needs no drop; the rest is the caller's promise.
        let outcome = unsafe { bridge.call(go::<F>, (&raw mut f).cast(), options) };
        let CallOutcome {
            returned,
            stopped,
            stats,
            ..
        } = outcome.map_err(Ended::NotCalled)?;
        if self.alloc.backend() != Backend::None && !stats.complete() {
            let missing = stats.emitted.saturating_sub(stats.delivered);
            self.lost.set(self.lost.get() + missing.max(1));
        }
        if returned {
            return Ok(());
        }
        match bridge.memory().ended.take() {
            _ if stopped.is_some() => Err(Ended::Stopped),
            Some(violation) => Err(Ended::Badly {
                kind: violation.kind,
                message: violation.message,
            }),
            None => Err(Ended::Badly {
                kind: ViolationKind::NativeCrash,
                message: "native code was left".to_owned(),
            }),
        }
    }
}
