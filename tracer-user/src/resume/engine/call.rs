//! Native calls: begun on one thread, and ended from any.
//!
//! ```text
//!  call ─► guard ─► f(data) ─┬─ returns
//!            ▲               └─ crashes, or is asked to end ─► back to the guard, with a Crash
//!            └── CallKey names it ◄── request_end, from another thread
//! ```
//!
//! # Safety
//! Guards are read on the thread whose calls they are, while those are under way.
#![allow(unsafe_code)]

use std::{io, sync::atomic::Ordering};

use super::{Engine, Recording};
use crate::resume::{
    guard::{self, Crash, Guard, Reason},
    hot,
    safe::Safe,
    signals, thread,
};

/// Names a native call that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallKey {
    guard: usize,
    tid: u32,
}

impl Engine {
    /// Gives the calling thread a signal stack. Needed once before it calls native code.
    ///
    /// # Errors
    /// What `mmap(2)` or `sigaltstack(2)` says.
    pub(crate) fn prepare_thread(&self) -> io::Result<()> {
        guard::prepare_thread()
    }

    /// Why system calls of native code on the calling thread, which is prepared, cannot be
    /// dispatched, if they cannot.
    pub(crate) fn no_dispatch(&self) -> Option<io::Error> {
        guard::no_dispatch()
    }

    /// Runs `f(data)`; where native code crashes, or [`Engine::request_end`] is called, the call
    /// ends and the crash is returned. `started` is told the call's key. A crash of another thread
    /// of native code since the last call is returned at once, and `f` is not called.
    ///
    /// # Safety
    /// `f(data)` must be sound to call and to leave at any point: no frame of it may own
    /// anything that has to be dropped.
    pub(crate) unsafe fn call(
        &self,
        f: unsafe extern "C" fn(*mut libc::c_void),
        data: *mut libc::c_void,
        started: impl FnOnce(CallKey),
    ) -> Option<Crash> {
        let safe = Safe::promise();
        let tid = thread::id(safe);
        if self.current_guard.load(Ordering::Acquire).is_null()
            && let Some(crash) = self.other_crash.take(true)
        {
            return Some(crash);
        }
        if let Some(engine) = Engine::get() {
            hot::attach(safe, engine);
        }
        let mut own = std::ptr::null_mut();
        // SAFETY: the caller's promise is the one that `call_guarded` asks for.
        let result = unsafe {
            let traced = self.recording() != Recording::Off;
            // A timeout is asked again; one that is there already was for a call that is over.
            let ended = |guard| {
                let asked = self.ends.asked(guard);
                asked.is_some_and(|reason| reason != Reason::Timeout)
            };
            let started = |guard| {
                own = guard;
                if self.current_guard.load(Ordering::Relaxed).is_null() {
                    self.current_thread.store(tid, Ordering::Relaxed);
                    self.current_guard.store(guard, Ordering::Release);
                }
                started(CallKey {
                    guard: guard as usize,
                    tid,
                });
            };
            guard::call_guarded(f, data, traced, started, ended)
        };
        hot::left(safe);
        // Others are calls in the middle of this one, on this thread or another.
        let null = std::ptr::null_mut();
        let outermost = self
            .current_guard
            .compare_exchange(own, null, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok();
        self.ends.forget(own);
        match result {
            Some(Crash {
                reason: Reason::OtherThread,
                ..
            }) => self.other_crash.take(outermost).or(result),
            _ => result,
        }
    }

    /// The outermost native call that is under way. Async-signal-safe.
    pub(in crate::resume) fn current_call(&self) -> Option<CallKey> {
        let guard = self.current_guard.load(Ordering::Acquire);
        let tid = self.current_thread.load(Ordering::Relaxed);
        (!guard.is_null()).then_some(CallKey {
            guard: guard as usize,
            tid,
        })
    }

    /// Ends the call `key` from another thread, if it is still under way; and before it those
    /// that are under way in the middle of it, on its thread. Async-signal-safe.
    pub(crate) fn request_end(&self, safe: Safe, key: CallKey, reason: Reason) {
        self.ends.ask(key.guard as *mut Guard, reason);
        signals::send_end_call(safe, key.tid);
    }

    /// Why the call that `guard` began, this thread's innermost, has to end: it was asked to, or
    /// one around it was, whose own turn comes when this one is over. Async-signal-safe.
    pub(in crate::resume) fn end_asked_of(&self, guard: *mut Guard) -> Option<Reason> {
        if let Some(reason) = self.ends.take(guard) {
            return Some(reason);
        }
        let mut around = guard;
        while !around.is_null() {
            // SAFETY: guards of this thread's own calls, which are all under way.
            around = unsafe { (*around).outer() };
            let asked = self.ends.asked(around);
            if !around.is_null() && asked.is_some() {
                return asked;
            }
        }
        None
    }
}
