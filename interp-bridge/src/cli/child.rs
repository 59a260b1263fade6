//! A forked child that its parent stands for: signals go on to it, and the parent ends as it did.
//!
//! # Safety
//! A process is forked before any thread exists, so the child may do anything. The handler stores
//! a number and makes one system call, which is async-signal-safe. Sets of signals are filled by
//! the C library before they are used.
#![allow(unsafe_code)]

use std::{
    io,
    mem::MaybeUninit,
    sync::atomic::{AtomicI32, Ordering},
};

use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getppid, set_parent_process_death_signal, waitpid,
};

/// What is passed on: what a terminal, a shell or a user sends.
const PASSED_ON: [i32; 6] = [
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
];

static CHILD: AtomicI32 = AtomicI32::new(0);
/// The last signal that was passed on.
static PASSED: AtomicI32 = AtomicI32::new(0);

/// On which side of a fork this is.
pub(super) enum Side {
    Child,
    /// With the child's id.
    Parent(Pid),
}

/// Goes on in two processes. Where that cannot be had there is still one.
///
/// The caller has no threads.
pub(super) fn fork() -> io::Result<Side> {
    // SAFETY: there are no other threads, so the child is a full copy of this process.
    match unsafe { libc::fork() } {
        0 => Ok(Side::Child),
        child => Pid::from_raw(child)
            .filter(|_| child > 0)
            .map(Side::Parent)
            .ok_or_else(io::Error::last_os_error),
    }
}

/// Has this process killed when the thread ends that forked it, whatever ends it. A change of ids
/// takes that back.
///
/// # Errors
/// It cannot be had, or the parent has ended before.
pub(super) fn end_with(parent: Pid) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    match getppid() {
        Some(found) if found == parent => Ok(()),
        _ => Err(io::Error::other("its parent was killed")),
    }
}

/// Holds back all that is passed on, and the news of a child's end, until it is dropped: so that
/// nothing is lost between a fork and [`pass_signals_on`].
pub(super) struct HeldBack(libc::sigset_t);

impl HeldBack {
    pub(super) fn begin() -> HeldBack {
        let mut held = MaybeUninit::uninit();
        let mut before = MaybeUninit::uninit();
        // SAFETY: both sets live here, and each is filled before it is read: `pthread_sigmask`
        // fails only for an unknown `how`.
        unsafe {
            libc::sigemptyset(held.as_mut_ptr());
            for signal in PASSED_ON.into_iter().chain([libc::SIGCHLD]) {
                libc::sigaddset(held.as_mut_ptr(), signal);
            }
            libc::pthread_sigmask(libc::SIG_BLOCK, held.as_ptr(), before.as_mut_ptr());
            HeldBack(before.assume_init())
        }
    }
}

impl Drop for HeldBack {
    fn drop(&mut self) {
        // SAFETY: a set that the kernel has filled; nothing is asked for in return.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut())
        };
    }
}

extern "C" fn pass_on(signal: i32) {
    PASSED.store(signal, Ordering::Relaxed);
    // SAFETY: takes numbers only.
    unsafe { libc::kill(CHILD.load(Ordering::Relaxed), signal) };
}

/// From now on hands signals of this process on to the child.
pub(super) fn pass_signals_on(child: Pid) {
    CHILD.store(child.as_raw_nonzero().get(), Ordering::Relaxed);
    for signal in PASSED_ON {
        // SAFETY: `pass_on` is async-signal-safe.
        unsafe { libc::signal(signal, pass_on as *const () as usize) };
    }
}

/// Has `handler`, which must be async-signal-safe, called when a child has ended, and not when one
/// is stopped.
pub(super) fn when_a_child_ends(handler: extern "C" fn(i32)) {
    // SAFETY: zeroes are a valid action, and the set in it is filled before it is used. All
    // handlers that this module is given are async-signal-safe.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_NOCLDSTOP | libc::SA_RESTART;
        libc::sigemptyset(&raw mut action.sa_mask);
        libc::sigaction(libc::SIGCHLD, &raw const action, std::ptr::null_mut());
    }
}

/// The last signal that was passed on; 0 for none.
pub(super) fn passed_on() -> i32 {
    PASSED.load(Ordering::Relaxed)
}

/// Waits for the child's end. `None` if it has been waited for already.
pub(super) fn wait_for(child: Pid) -> Option<WaitStatus> {
    loop {
        match waitpid(Some(child), WaitOptions::empty()) {
            Ok(ended) => return ended.map(|(_, status)| status),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

/// Ends this process by a signal, as the child was ended.
pub(super) fn end_by(signal: i32) -> ! {
    // SAFETY: takes numbers only.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
    std::process::exit(128 + signal)
}
