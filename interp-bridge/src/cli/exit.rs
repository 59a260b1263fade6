//! Leaving the process.
//!
//! # Safety
//! `fflush(NULL)` and `_exit` have no preconditions. The first is only called when native code
//! has come back by itself, so no lock of the C library is held by code that was abandoned.
#![allow(unsafe_code)]

/// How to end the process, once everything is written.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The exit status.
    pub status: u8,
    /// Whether native code was stopped midway. Destructors of its library would then run on
    /// state that nobody has finished, and wait for locks that nobody will release.
    pub abrupt: bool,
}

impl Exit {
    pub(super) fn status(status: u8) -> Exit {
        Exit {
            status,
            abrupt: false,
        }
    }

    /// Ends the process.
    pub fn leave(self) -> ! {
        if self.abrupt {
            // SAFETY: no precondition; all output of ours is written and flushed.
            unsafe { libc::_exit(self.status.into()) }
        }
        std::process::exit(self.status.into())
    }
}

unsafe extern "C" {
    static stdout: *mut libc::FILE;
    fn ftrylockfile(stream: *mut libc::FILE) -> libc::c_int;
    fn funlockfile(stream: *mut libc::FILE);
    fn fflush_unlocked(stream: *mut libc::FILE) -> libc::c_int;
}

/// Writes out what was printed to C's stdout, where native code may have been stopped midway: unless
/// another thread holds its lock.
pub(super) fn flush_stdout_if_free() {
    // SAFETY: `stdout` is set when the process starts; the lock is taken for the flush, and given
    // back.
    unsafe {
        if ftrylockfile(stdout) == 0 {
            fflush_unlocked(stdout);
            funlockfile(stdout);
        }
    }
}

/// Writes out what native code has printed, so that it stands before the report.
pub(super) fn flush_c_streams() {
    // SAFETY: no precondition beyond the locks that the module's docs speak of.
    unsafe {
        libc::fflush(std::ptr::null_mut());
    }
}
