//! What the handlers keep for each thread.
//!
//! The cells are const-initialised and need no destructor, so in an executable or a library
//! loaded at start they are plain thread-local memory: reading them in a handler neither
//! allocates nor runs code (rustc's `thread_local!` fast path).

use std::cell::Cell;

use super::{guard::Guard, safe::Safe};

/// A thread's state.
pub(super) struct ThreadState {
    /// The innermost native call of this thread, or null.
    pub(super) guard: Cell<*mut Guard>,
    /// Kernel thread id, 0 until asked for.
    tid: Cell<u32>,
    /// Whether the native view is open for this thread's single step.
    pub(super) stepping: Cell<bool>,
    /// Signal mask to go back to after the step.
    pub(super) mask: Cell<u64>,
    /// Whether the thread belongs to ffitrace itself.
    pub(super) ours: Cell<bool>,
}

thread_local! {
    static STATE: ThreadState = const {
        ThreadState {
            guard: Cell::new(std::ptr::null_mut()),
            tid: Cell::new(0),
            stepping: Cell::new(false),
            mask: Cell::new(0),
            ours: Cell::new(false),
        }
    };
}

/// Runs `body` with this thread's state. Async-signal-safe.
pub(super) fn state<T>(_: Safe, body: impl FnOnce(&ThreadState) -> T) -> T {
    STATE.with(body)
}

/// Kernel id of this thread, asked for once. Async-signal-safe.
pub(super) fn id(safe: Safe) -> u32 {
    state(safe, |state| {
        if state.tid.get() == 0 {
            state.tid.set(super::safe::thread_id(safe));
        }
        state.tid.get()
    })
}

/// Marks this thread as one of ffitrace's own: its crashes are bugs, not findings.
pub(crate) fn mark_ours() {
    state(Safe::promise(), |state| state.ours.set(true));
}
