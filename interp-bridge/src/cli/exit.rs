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

/// Writes out what native code has printed, so that it stands before the report.
pub(super) fn flush_c_streams() {
    // SAFETY: no precondition beyond the locks that the module's docs speak of.
    unsafe {
        libc::fflush(std::ptr::null_mut());
    }
}
