//! Native code that calls `exit`: the call ends, not the interpreter.
//!
//! `exit` runs the functions registered with `atexit` before it ends the process. Ours asks for
//! the end of the native call that is under way, by the same signal as a timeout, and so never
//! returns to `exit`. `_exit` cannot be caught this way.
//!
//! # Safety
//! The registered function only makes system calls, whatever state native code left things in.
#![allow(unsafe_code)]

use std::{io, sync::atomic::AtomicU32};

use super::{
    engine::Engine,
    guard::Reason,
    safe::{self, Safe},
    signals::END_CALL,
    thread,
};

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
    let inside = thread::state(safe, |state| !state.guard.get().is_null());
    let ours = thread::state(safe, |state| state.ours.get());
    let Some(key) = engine.current_call() else {
        return;
    };
    // A process that native code forked ends as it wants to.
    if ours || !engine.at_home(safe) {
        return;
    }
    if inside {
        unblock_end_call();
    }
    engine.request_end(safe, key, Reason::Exit);
    // On the calling thread the signal has been delivered by now and this is not reached; on
    // another one the calling thread goes on, and this one must not end the process.
    let never = AtomicU32::new(0);
    loop {
        safe::wait_idle(safe, &never, 0);
    }
}

fn unblock_end_call() {
    let mask = 1u64 << (END_CALL - 1);
    // SAFETY: eight bytes are read from `mask`, the kernel's size of a signal set.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            i64::from(libc::SIG_UNBLOCK),
            &raw const mask,
            std::ptr::null_mut::<u64>(),
            8u64,
        )
    };
}
