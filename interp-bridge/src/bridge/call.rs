//! One native call: what may be said about it, how it is made, and how it ended.
//!
//! ```text
//!  outermost? waits for others ─► string functions known ─► stop, findings: begun
//!    ─► session: native code, the interpreter's turn given away meanwhile
//!    ─► a crash, a stop or a callback's wish put into words ─► CallOutcome
//! ```
//!
//! # Safety
//! [`Bridge::call`] is unsafe because native code is: what it is given must be what it expects.
#![allow(unsafe_code)]

use std::{
    ffi::c_void,
    sync::{PoisonError, atomic::Ordering},
    time::Duration,
};

use tracer_user::{
    backend::Backend,
    resume::{self, Reason, Snapshot},
    session::CallStats,
};

use super::{Bridge, BridgeError, StopAt, crash, strings::StringFunctions};
use crate::{
    callback::{self, Leave},
    memory::{Finding, InterpreterMemory},
};

/// What may be said about one call.
#[derive(Clone, Copy, Debug, Default)]
pub struct CallOptions {
    /// End the call after this time.
    pub timeout: Option<Duration>,
    /// End it at its first violation.
    pub stop: StopAt,
}

/// How a call ended and what it cost. What it did is in the memory, what was wrong in the
/// memory's violation log.
#[derive(Debug)]
pub struct CallOutcome {
    /// Whether native code returned; if not, `left` or the log says why.
    pub returned: bool,
    /// What native code was about to do when it was stopped, with [`StopAt::First`]. The log has
    /// it in words.
    pub stopped: Option<Finding>,
    /// How many violations there were, this one and a crash included.
    pub violations: u64,
    /// The interpreter's call stack, innermost frame first: where there were violations, and it
    /// [gives one](Bridge::set_call_stack_provider).
    pub interpreter_stack: Vec<String>,
    /// Why a callback ended the call, where one did.
    pub left: Option<Leave>,
    /// Counts.
    pub stats: CallStats,
    /// Stacks at accesses that looked wrong, and at a crash.
    pub snapshots: Vec<Snapshot>,
    /// Time in native code.
    pub elapsed: Duration,
    /// Benign over-reads of string functions.
    pub overreads: u64,
}

impl<M: InterpreterMemory + 'static> Bridge<M> {
    /// Runs `f(data)`, which calls native code. When it returns, everything that native code did
    /// to the memory has been applied, and what was wrong is in the log.
    ///
    /// Native code may call back, and callbacks may make calls. Calls that are not in the middle of
    /// others wait for one another. While native code runs, callbacks on threads that native code
    /// started may run too, one at a time.
    ///
    /// # Errors
    /// Where the recorder cannot follow this thread, or stop native code where `options` ask for
    /// that; nothing was called then.
    ///
    /// # Panics
    /// With what a callback panicked with: it ended the native call, and goes on here.
    ///
    /// # Safety
    /// The native function must accept what `f` gives it. `f(data)` must be sound to leave at
    /// any point: no frame of it may own anything that has to be dropped.
    pub unsafe fn call(
        &self,
        f: unsafe extern "C" fn(*mut c_void),
        data: *mut c_void,
        options: CallOptions,
    ) -> Result<CallOutcome, BridgeError> {
        let core = &*self.core;
        if core.holder.is_me() {
            return Err(BridgeError::MemoryHeld);
        }
        let _outermost = (!resume::inside()).then(|| {
            core.outermost
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        });
        if !core.strings_found.load(Ordering::Relaxed) && self.backend() != Backend::None {
            self.lock().strings = StringFunctions::find();
            core.strings_found.store(true, Ordering::Relaxed);
        }
        core.session.stop_at_first(options.stop == StopAt::First)?;
        let (segments, overreads, around) = {
            let mut state = self.lock();
            let around = state.found.begin(options.stop);
            let segments = state.memory.arena().views().segments();
            (segments, state.overreads, around)
        };
        let around_stops = around.stop_at() == StopAt::First;
        let end = {
            let _given = core.turn.give();
            // SAFETY: by the caller's promise.
            unsafe { core.session.call(f, data, segments, options.timeout) }
        };
        core.session.stop_at_first(around_stops)?;
        let (mut left, mut stopped) = (None, None);
        let (end, found, overreads, call_stack) = {
            let mut state = self.lock();
            let state = &mut *state;
            let mut found = state.found.end(around);
            let mut end = end?;
            state.memory.native_ran(self.backend() != Backend::None);
            match &end.crash {
                Some(crash) if crash.reason == Reason::Interpreter => {
                    let elsewhere = || core.left_elsewhere.lock().ok()?.take();
                    let here = callback::left_here();
                    // Where another thread was when it called, nobody has taken down.
                    let snapshots = match here {
                        Some(_) => &mut end.snapshots[..],
                        None => &mut [],
                    };
                    // Only a callback that was freed has no bridge to leave word with.
                    left = here.or_else(elsewhere).or(Some(Leave::Freed));
                    if let Some(kind) = left.as_ref().and_then(Leave::violation) {
                        found.other();
                        let violation = crash::left(crash, kind, left.as_ref(), snapshots);
                        state.memory.violation(violation);
                    }
                }
                Some(crash) if crash::is_stop(crash) && found.stop() => stopped = found.first(),
                Some(crash) => {
                    found.other();
                    let violation =
                        crash::explain(crash, &state.memory, self.backend(), options.timeout);
                    state.memory.violation(violation);
                }
                None => {}
            }
            let call_stack = state.call_stack.clone().filter(|_| found.count() > 0);
            (end, found, state.overreads - overreads, call_stack)
        };
        if let Some(Leave::Panicked(payload)) = left {
            std::panic::resume_unwind(payload);
        }
        Ok(CallOutcome {
            returned: end.crash.is_none(),
            left,
            stopped,
            violations: found.count(),
            interpreter_stack: call_stack.map_or_else(Vec::new, |ask| ask()),
            stats: end.stats,
            snapshots: end.snapshots,
            elapsed: end.elapsed,
            overreads,
        })
    }
}
