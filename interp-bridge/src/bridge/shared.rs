//! What a bridge shares with its callbacks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool};

use tracer_user::{backend::Backend, session::TraceSession};

use super::{
    state::{Holder, State},
    turn::Turn,
};
use crate::{
    callback::Leave,
    memory::{InterpreterMemory, Memory},
};

/// See the module.
pub(crate) struct Core<M: InterpreterMemory + 'static = Memory> {
    // First, so that it ends before the memory goes.
    pub(super) session: TraceSession,
    pub(super) state: Arc<Mutex<State<M>>>,
    pub(super) turn: Arc<Turn>,
    /// Who holds the memory for the interpreter.
    pub(super) holder: Holder,
    /// Held by the call that is not in the middle of another, and has the turn back before it ends.
    pub(super) outermost: Mutex<()>,
    /// Why a callback on a thread that native code started ended the outermost call.
    pub(super) left_elsewhere: Mutex<Option<Leave>>,
    /// Whether the string functions of this process are known.
    pub(super) strings_found: AtomicBool,
    pub(super) fallback: Option<String>,
}

impl<M: InterpreterMemory + 'static> Drop for Core<M> {
    fn drop(&mut self) {
        self.turn.end();
    }
}

impl<M: InterpreterMemory + 'static> Core<M> {
    /// What the thread that delivers events and the interpreter share.
    pub(super) fn lock(&self) -> MutexGuard<'_, State<M>> {
        // Plain data: what a panicking holder left is what was applied so far.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.epoch += 1;
        state
    }

    /// Runs `body` with the memory.
    pub(crate) fn with_memory<R>(&self, body: impl FnOnce(&mut M) -> R) -> R {
        body(&mut self.lock().memory)
    }

    /// Counts violations that are about no access as the call's that is under way.
    pub(crate) fn found_others(&self, count: u64) {
        if count > 0 {
            let mut state = self.lock();
            (0..count).for_each(|_| state.found.other());
        }
    }

    /// The tracing session.
    pub(crate) fn session(&self) -> &TraceSession {
        &self.session
    }

    /// Native code has called back, and what it did so far has been applied.
    pub(crate) fn native_ran(&self) {
        let traced = self.session.backend() != Backend::None;
        self.lock().memory.native_ran(traced);
    }

    /// Whose turn it is to run interpreter code.
    pub(crate) fn turn(&self) -> &Arc<Turn> {
        &self.turn
    }

    /// Leaves word for the outermost call of why a callback on another thread ended it.
    pub(crate) fn leave_elsewhere(&self, leave: Leave) {
        *self
            .left_elsewhere
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(leave);
    }
}
