//! Signals for this thread: a little later, or pending.
//!
//! # Safety
//! The handler does nothing. The timer belongs to the value that is returned.
#![allow(unsafe_code)]

use std::mem;

/// Deletes its timer when dropped.
pub(crate) struct Timer(libc::timer_t);

/// Has this thread interrupted in 20 milliseconds and every 20 after.
pub(crate) fn soon() -> Timer {
    extern "C" fn nothing(_: libc::c_int) {}
    let pause = libc::timespec {
        tv_sec: 0,
        tv_nsec: 20_000_000,
    };
    let times = libc::itimerspec {
        it_interval: pause,
        it_value: pause,
    };
    // SAFETY: zeroes are valid for all three structures; the pointers outlive the calls.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        assert_eq!(
            libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()),
            0
        );
        let mut event: libc::sigevent = mem::zeroed();
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = libc::SIGUSR1;
        event.sigev_notify_thread_id = libc::gettid();
        let mut timer: libc::timer_t = mem::zeroed();
        assert_eq!(
            libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer),
            0
        );
        assert_eq!(
            libc::timer_settime(timer, 0, &times, std::ptr::null_mut()),
            0
        );
        Timer(timer)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: the timer was made by `soon` and is deleted once.
        unsafe { libc::timer_delete(self.0) };
    }
}

/// A pending signal, `SIGUSR2`, for this thread alone. Taken back when dropped.
pub(crate) struct Pending(libc::sigset_t);

impl Pending {
    pub(crate) fn new() -> Pending {
        // SAFETY: zeroes are a valid set, and both sets outlive the calls; the signal is blocked
        // in this thread when it is sent.
        unsafe {
            let mut set: libc::sigset_t = mem::zeroed();
            let mut old: libc::sigset_t = mem::zeroed();
            libc::sigaddset(&mut set, libc::SIGUSR2);
            assert_eq!(libc::pthread_sigmask(libc::SIG_BLOCK, &set, &mut old), 0);
            assert_eq!(libc::pthread_kill(libc::pthread_self(), libc::SIGUSR2), 0);
            Pending(old)
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // SAFETY: as above; the wait takes the signal if it is still there.
        unsafe {
            let mut set: libc::sigset_t = mem::zeroed();
            libc::sigaddset(&mut set, libc::SIGUSR2);
            let now: libc::timespec = mem::zeroed();
            libc::sigtimedwait(&set, std::ptr::null_mut(), &now);
            libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut());
        }
    }
}
