//! What of a thread is no register: `errno` and the signal mask.
//!
//! # Safety
//! The functions read the thread's own state, and run the trampoline of `hardware`, which owns
//! nothing that would have to be dropped.
#![allow(unsafe_code)]

use tracer_user::session::{CallEnd, TraceSession};

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ThreadState {
    errno: i32,
    mask: u64,
}

impl ThreadState {
    fn now() -> ThreadState {
        let mut mask = 0u64;
        let none = std::ptr::null::<u64>();
        // SAFETY: errno is this thread's own; the kernel writes the mask, of 8 bytes.
        unsafe {
            let errno = *libc::__errno_location();
            libc::syscall(
                libc::SYS_rt_sigprocmask,
                libc::SIG_BLOCK,
                none,
                &raw mut mask,
                8u64,
            );
            ThreadState { errno, mask }
        }
    }
}

struct Work<'a> {
    enter: unsafe extern "C" fn(),
    before: &'a mut ThreadState,
    after: &'a mut ThreadState,
}

unsafe extern "C" fn work(data: *mut libc::c_void) {
    // SAFETY: `run_watched` passes its own `Work`, which outlives the call; the trampoline may be
    // called by its promise.
    unsafe {
        let work = &mut *data.cast::<Work<'_>>();
        *libc::__errno_location() = 77;
        *work.before = ThreadState::now();
        (work.enter)();
        *work.after = ThreadState::now();
    }
}

/// Runs `enter` as a native call of `session` and notes the thread's state around it.
pub(crate) fn run_watched(
    session: &mut TraceSession,
    enter: unsafe extern "C" fn(),
    before: &mut ThreadState,
    after: &mut ThreadState,
) -> CallEnd {
    let mut work_data = Work {
        enter,
        before,
        after,
    };
    // SAFETY: `work` has nothing to drop, so the call may be left anywhere.
    let end = unsafe { session.call(work, (&raw mut work_data).cast(), 1, None) };
    end.expect("a call")
}
