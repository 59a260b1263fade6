//! Work on several threads, which native code starts and waits for.
//!
//! The C library's threads rather than Rust's: starting those allocates, and native work owns
//! nothing.
//!
//! # Safety
//! Each thread has a [`Work`] of its own, which outlives it: it is waited for.
#![allow(unsafe_code)]

use std::{ffi::c_void, ptr};

use super::{Work, scalar_loop};

/// Most threads that [`all`] starts.
pub const MOST: usize = 8;

/// Work for each of several threads.
#[repr(C)]
pub struct Crew {
    /// What each does.
    pub works: [Work; MOST],
    /// How many of them there are.
    pub count: usize,
    /// How many were started.
    pub started: usize,
}

extern "C" fn one(work: *mut c_void) -> *mut c_void {
    // SAFETY: `all` gives each thread a `Work` for this loop.
    unsafe { scalar_loop(work) };
    ptr::null_mut()
}

/// Runs [`scalar_loop`] on each thread's own work.
///
/// # Safety
/// `data` is a `Crew` whose first `count` works suit `scalar_loop`.
pub unsafe extern "C" fn all(data: *mut c_void) {
    // SAFETY: by the caller's promise; each work is given to one thread only, and only the
    // threads that were started are waited for, once.
    unsafe {
        let crew = data.cast::<Crew>();
        let works = (&raw mut (*crew).works).cast::<Work>();
        let count = (*crew).count.min(MOST);
        let mut threads: [libc::pthread_t; MOST] = [0; MOST];
        let mut started = 0;
        while started < count {
            let work = works.add(started).cast();
            if libc::pthread_create(&raw mut threads[started], ptr::null(), one, work) != 0 {
                break;
            }
            started += 1;
        }
        for thread in &threads[..started] {
            libc::pthread_join(*thread, ptr::null_mut());
        }
        (*crew).started = started;
    }
}
