//! Whose turn it is to run interpreter code.
//!
//! ```text
//!  interpreter ─ has it ─► native call: gives it ──────────────────► takes it back ─ has it ─►
//!                              callback: takes it … gives it
//!                              callback on another thread: waits … takes it … gives it
//! ```
//! An interpreter is one thread of execution, whatever the threads are that it runs on. It has the
//! turn but while it waits for native code; then callbacks have it, one after the other. When the
//! bridge goes, whoever waits is told: nobody gives the turn any more.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// See the module.
pub(crate) struct Turn {
    state: Mutex<Waited>,
    free: Condvar,
}

/// The state, and how many threads wait for another one: seldom any, and to wake nobody takes a
/// system call.
struct Waited {
    state: State,
    waiting: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    Taken,
    /// The bridge is gone.
    Over,
}

impl Turn {
    /// The interpreter's, from the beginning.
    pub(super) fn new() -> Turn {
        Turn {
            state: Mutex::new(Waited {
                state: State::Taken,
                waiting: 0,
            }),
            free: Condvar::new(),
        }
    }

    /// Gives the turn away until the guard goes: native code is called.
    pub(super) fn give(&self) -> Given<'_> {
        self.release();
        Given(self)
    }

    /// Takes the turn until the guard goes, waiting for it: native code has called. `None` where
    /// the bridge goes meanwhile.
    pub(crate) fn take(&self) -> Option<Taken<'_>> {
        self.acquire().then(|| Taken(self))
    }

    /// Nobody has the turn any more.
    pub(super) fn end(&self) {
        self.lock().state = State::Over;
        self.free.notify_all();
    }

    fn acquire(&self) -> bool {
        let mut turn = self.lock();
        while turn.state == State::Taken {
            turn.waiting += 1;
            turn = self.free.wait(turn).unwrap_or_else(PoisonError::into_inner);
            turn.waiting -= 1;
        }
        if turn.state == State::Over {
            return false;
        }
        turn.state = State::Taken;
        true
    }

    fn release(&self) {
        let mut turn = self.lock();
        if turn.state == State::Taken {
            turn.state = State::Free;
        }
        if turn.waiting > 0 {
            self.free.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waited> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The turn is given away while this lives.
pub(super) struct Given<'a>(&'a Turn);

impl Drop for Given<'_> {
    fn drop(&mut self) {
        self.0.acquire();
    }
}

/// The turn is this thread's while this lives.
pub(crate) struct Taken<'a>(&'a Turn);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.release();
    }
}
