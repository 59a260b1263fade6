//! What the handlers keep for each thread.
//!
//! The cells are const-initialised and need no destructor, so in an executable or a library
//! loaded at start they are plain thread-local memory: reading them in a handler neither
//! allocates nor runs code (rustc's `thread_local!` fast path).
//!
//! # Safety
//! A block named by a thread's state is that thread's own, and unmapped only after the state
//! names it no more.
#![allow(unsafe_code)]

use std::cell::Cell;

use super::{block::Block, engine::Engine, guard::Guard, roster::Slot, safe::Safe};
use crate::translate::{Log, Pace};

/// A thread's state.
pub(super) struct ThreadState {
    /// The native call whose code this thread runs, or null: the innermost one.
    pub(super) guard: Cell<*mut Guard>,
    /// The native call around the interpreter code that it called and that runs now, or null.
    pub(super) suspended: Cell<*mut Guard>,
    /// Whether this is interpreter code that native code has called.
    pub(super) outside: Cell<bool>,
    /// The thread's block, or null where it has none: a thread that native code does not run in,
    /// or whose system calls cannot be dispatched.
    pub(super) block: Cell<*mut Block>,
    /// Kernel thread id, 0 until asked for.
    pub(super) tid: Cell<u32>,
    /// Whether the native view is open for this thread's single step.
    pub(super) stepping: Cell<bool>,
    /// Address of the instruction that is stepped, if it is done in parts, or 0.
    pub(super) parts: Cell<u64>,
    /// Whether the copy that this thread is in is stepped to its end, with signals blocked.
    pub(super) finishing: Cell<bool>,
    /// Signal mask to go back to after the step.
    pub(super) mask: Cell<u64>,
    /// Whether the thread belongs to ffitrace itself.
    pub(super) ours: Cell<bool>,
    /// The thread's place in the roster, once it has one.
    pub(super) slot: Cell<Option<&'static Slot>>,
    /// The thread's log, if its code may be translated.
    pub(super) log: Cell<Option<Log<'static>>>,
    /// The site by which it last went into translated code, and the log pointer then.
    pub(super) entered: Cell<(u64, u64)>,
    /// Address of an instruction that its translation was left at, so that it has to be run where it
    /// is; or 0.
    pub(super) put_back: Cell<u64>,
    /// Whether being in translated code pays.
    pub(super) pace: Pace,
}

thread_local! {
    static STATE: ThreadState = const {
        ThreadState {
            guard: Cell::new(std::ptr::null_mut()),
            suspended: Cell::new(std::ptr::null_mut()),
            outside: Cell::new(false),
            block: Cell::new(std::ptr::null_mut()),
            tid: Cell::new(0),
            stepping: Cell::new(false),
            parts: Cell::new(0),
            finishing: Cell::new(false),
            mask: Cell::new(0),
            ours: Cell::new(false),
            slot: Cell::new(None),
            log: Cell::new(None),
            entered: Cell::new((0, 0)),
            put_back: Cell::new(0),
            pace: Pace::new(),
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

/// This thread's block, if it has one. Async-signal-safe.
pub(super) fn block<'a>(safe: Safe) -> Option<&'a Block> {
    let block = state(safe, |state| state.block.get());
    // SAFETY: null, or the thread's block, which stays while the thread's state names it.
    unsafe { block.as_ref() }
}

/// Makes this thread, which native code has just started, the owner of `block`. A guest, which
/// shares the state of the thread that waits for it, keeps that one's place in the roster: whoever
/// wants that thread stopped means the guest. Async-signal-safe.
pub(super) fn adopt(safe: Safe, block: *mut Block, guest: bool) {
    state(safe, |state| {
        if !guest {
            state.slot.set(None);
        }
        state.guard.set(std::ptr::null_mut());
        state.suspended.set(std::ptr::null_mut());
        state.outside.set(false);
        state.block.set(block);
        state.tid.set(0);
        state.stepping.set(false);
        state.finishing.set(false);
        state.ours.set(false);
        state.log.set(None);
        state.entered.set((0, 0));
        state.put_back.set(0);
    });
}

/// Marks this thread as one of ffitrace's own: its crashes are bugs, not findings, and it never
/// has to wait for another thread's step.
pub(crate) fn mark_ours() {
    let safe = Safe::promise();
    state(safe, |state| state.ours.set(true));
    if let Some(engine) = Engine::get() {
        engine.roster.mark_ours(safe);
    }
}
