//! The gate: all code of the interpreter that native code calls goes through it.
//!
//! ```text
//!  native ─► from_native ─► Interlude: dispatch off, accesses so far applied
//!                           turn: one thread at a time
//!                           body ──► Ok(result) ─► interlude ends, native code goes on
//!                                └─► Err(leave), panic ─► everything here is dropped,
//!                                                         then the native call ends
//! ```
//!
//! # Safety
//! The native call is ended by a jump over the frames between it and this function: those of the
//! thunk and of libffi, which own nothing, and this one, which has dropped what it owned before.
#![allow(unsafe_code)]

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Weak},
};

use tracer_user::resume::Interlude;

use super::{LEFT, Leave, Stop};
use crate::{
    bridge::{Bridge, Core},
    memory::InterpreterMemory,
};

/// What interpreter code that native code has called is told.
pub(crate) struct Entered<M: InterpreterMemory + 'static> {
    /// The bridge whose callback it is.
    pub(crate) bridge: Bridge<M>,
    /// Whether native code has started this thread.
    pub(crate) native_thread: bool,
}

/// Runs `body` as code of the interpreter, and hands its result to native code, or ends the native
/// call. Where the interpreter itself has called, and not native code, `body` just runs; if there
/// is no native call to end then, the process is aborted.
///
/// # Safety
/// The caller's frame and those below it, down to native code, may own nothing that has to be
/// dropped.
pub(crate) unsafe fn from_native<R, M: InterpreterMemory>(
    core: &Weak<Core<M>>,
    body: impl FnOnce(&Entered<M>) -> Result<R, Leave>,
) -> R {
    let (interlude, result) = enter(core, body);
    match (interlude, result) {
        (Some(interlude), Ok(value)) => {
            interlude.end();
            value
        }
        (None, Ok(value)) => value,
        (interlude, Err(())) => {
            if let Some(interlude) = interlude {
                // SAFETY: by the caller's promise; this frame owns no more than `Err(())`.
                unsafe { interlude.end_call() };
            }
            no_call_to_end()
        }
    }
}

#[inline(never)] // What it owns is dropped when it returns.
fn enter<R, M: InterpreterMemory>(
    core: &Weak<Core<M>>,
    body: impl FnOnce(&Entered<M>) -> Result<R, Leave>,
) -> (Option<Interlude>, Result<R, ()>) {
    let freed = |interlude| {
        LEFT.with(|left| *left.borrow_mut() = Some(Leave::Freed));
        (interlude, Err(()))
    };
    let weak = core;
    let Some(core) = core.upgrade() else {
        return freed(Interlude::orphan());
    };
    let (bridge, turns) = (Weak::clone(weak), Arc::clone(core.turn()));
    let interlude = core.session().begin_callback();
    let native_thread = interlude.on_native_thread();
    let from_native = interlude.from_native();
    // The interpreter, calling its own function, has the turn already. Who waits does not keep
    // the bridge: it may go, and take what the callback was for with it.
    let (core, turn) = match from_native {
        false => (Some(core), None),
        true => {
            drop(core);
            let turn = turns.take();
            (turn.as_ref().and_then(|_| bridge.upgrade()), turn)
        }
    };
    let Some(core) = core else {
        return freed(Some(interlude.orphaned()));
    };
    let entered = Entered {
        bridge: Bridge::of_core(core),
        native_thread,
    };
    let core = entered.bridge.core();
    if from_native {
        core.native_ran();
    }
    let result = catch_unwind(AssertUnwindSafe(|| body(&entered)));
    let result = match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(leave)) => Err(leave),
        Err(payload) => Err(match payload.downcast::<Stop>() {
            Ok(stop) => Leave::Stopped(stop.0),
            Err(payload) => Leave::Panicked(payload),
        }),
    };
    let result = result.map_err(|leave| {
        if native_thread {
            core.leave_elsewhere(leave);
        } else {
            LEFT.with(|left| *left.borrow_mut() = Some(leave));
        }
    });
    drop(turn);
    (Some(interlude), result)
}

/// The interpreter has called the function pointer by itself: it cannot be left.
fn no_call_to_end() -> ! {
    let why = super::left_here();
    let why = why.map_or_else(|| "a callback failed".to_owned(), |why| why.to_string());
    eprintln!("ffitrace: {why}, and no native call is under way that could be ended");
    std::process::abort()
}
