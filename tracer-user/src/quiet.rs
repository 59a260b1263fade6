//! Threads of our own that no signal of the program reaches.
//!
//! # Safety
//! Only the signal mask of the current thread is changed, and put back.
#![allow(unsafe_code)]

use std::{io, thread};

use crate::resume;

/// Starts a named thread with every signal blocked from its first instruction, so that handlers
/// of the program never run on it. It counts as one of ffitrace's own, which run no native code.
///
/// # Errors
/// What the system says when it cannot start a thread.
pub fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<thread::JoinHandle<T>> {
    // SAFETY: both sets are initialised by sigfillset or by the kernel before they are read.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        let started = thread::Builder::new().name(name.to_owned()).spawn(move || {
            resume::thread::mark_ours();
            body()
        });
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut());
        started
    }
}
