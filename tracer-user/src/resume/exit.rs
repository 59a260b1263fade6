//! Native code that ends a thread or the process: the call ends, not the interpreter.
//!
//! ```text
//!  exit()          our function of `atexit` ─┐
//!  _exit(), exit_group dispatched            ├─► the native call that is under way ends
//!  exit (thread)   dispatched, in that call ─┘
//!                  dispatched, another thread ─► the thread ends, and gives back its block
//! ```
//! `exit` runs the functions registered with `atexit` before it ends the process. Ours asks for
//! the end of the native call, by the same signal as a timeout, and so never returns to `exit`.
//! A process that native code forked ends as it wants to.
//!
//! # Safety
//! The registered function only makes system calls, whatever state native code left things in.
#![allow(unsafe_code)]

use std::{io, sync::atomic::AtomicU32};

use super::{
    dispatch::Dispatched,
    ending,
    engine::Engine,
    frame::{Frame, RDI},
    gate,
    guard::Reason,
    hot,
    safe::{self, Safe},
    signal_calls::bit,
    signals::END_CALL,
    thread as own,
};
use crate::{access::AccessKind, syscall::Touch};

/// Registers the function.
///
/// # Errors
/// `ENOMEM` where `atexit` has no room.
pub(super) fn install() -> io::Result<()> {
    // SAFETY: `at_exit` may be called at any exit of the process.
    match unsafe { libc::atexit(at_exit) } {
        0 => Ok(()),
        _ => Err(io::Error::from_raw_os_error(libc::ENOMEM)),
    }
}

extern "C" fn at_exit() {
    let safe = Safe::promise();
    let Some(engine) = Engine::get() else { return };
    let (inside, ours) = own::state(safe, |state| {
        // The interpreter may end the process, also where native code has called it.
        let interpreters = state.ours.get() || state.outside.get();
        (!state.guard.get().is_null(), interpreters)
    });
    let Some(key) = engine.current_call() else {
        return;
    };
    if ours || is_guest(safe) || !engine.at_home(safe) {
        return;
    }
    if inside {
        safe::set_mask(safe, safe::mask(safe) & !bit(END_CALL));
    }
    engine.request_end(safe, key, Reason::Exit);
    // On the calling thread the signal has been delivered by now and this is not reached; on
    // another one the calling thread goes on, and this one must not end the process.
    park(safe);
}

fn is_guest(safe: Safe) -> bool {
    own::block(safe).is_some_and(|block| block.guest.get())
}

/// Stays here until the process ends.
pub(super) fn park(safe: Safe) -> ! {
    let never = AtomicU32::new(0);
    loop {
        safe::wait_idle(safe, &never, 0);
    }
}

/// `exit_group`.
pub(super) fn process(dispatched: &Dispatched<'_>, frame: &mut Frame<'_>) {
    let (safe, engine) = (dispatched.safe, dispatched.engine);
    if !dispatched.block.guest.get() && engine.at_home(safe) {
        if ending::end_own_call(safe, engine, frame, Reason::Exit) {
            return;
        }
        if let Some(key) = engine.current_call() {
            engine.request_end(safe, key, Reason::Exit);
            park(safe);
        }
    }
    safe::end_process(safe, frame.register(RDI) as i32)
}

/// `exit`, of the thread.
pub(super) fn thread(dispatched: &Dispatched<'_>, frame: &mut Frame<'_>) {
    let (safe, engine, block) = (dispatched.safe, dispatched.engine, dispatched.block);
    let status = frame.register(RDI);
    if !block.guest.get()
        && engine.at_home(safe)
        && ending::end_own_call(safe, engine, frame, Reason::Exit)
    {
        return;
    }
    let word = block.clear_tid.get();
    if dispatched.arena.is_native(word) {
        // The kernel clears it when the thread ends.
        dispatched.reporter.touch(Touch {
            addr: word,
            len: 4,
            kind: AccessKind::Write,
            certain: true,
        });
    }
    let (base, len) = if block.lasts() {
        // Unmapped by the maker, who waits for this thread's end, or by nobody.
        (0, 0)
    } else {
        block.mapping
    };
    hot::detach(safe);
    // SAFETY: the thread has come to its end, with all signals blocked, and nobody else uses its
    // block. Of length 0, munmap does nothing.
    unsafe { gate::exit(safe, base, len, status) }
}
