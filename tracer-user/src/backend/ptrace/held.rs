//! Signals that arrive while a thread is being stepped.
//!
//! # Safety
//! See the parent module: one system call with numbers only.
#![allow(unsafe_code)]

use super::tracee::{self, Gone};
use crate::resume::safe::Safe;

/// Signals that may arrive while one instruction is stepped.
const HELD: usize = 8;
/// Signals that arrived while a thread was being stepped; delivered when it goes on.
#[derive(Default)]
pub(super) struct Held {
    signals: [Option<(i32, HeldInfo)>; HELD],
}

struct HeldInfo(libc::siginfo_t);

impl Held {
    pub(super) fn put(&mut self, signal: i32, info: libc::siginfo_t) {
        if let Some(free) = self.signals.iter_mut().find(|held| held.is_none()) {
            *free = Some((signal, HeldInfo(info)));
        }
    }

    /// Lets the thread go on with the first signal that was held back; the others are sent anew.
    pub(super) fn deliver(self, safe: Safe, tid: i32) -> Result<(), Gone> {
        let mut held = self.signals.into_iter().flatten();
        let first = held.next();
        for (signal, _) in held {
            // By the thread alone: it may be one of another process that shares the memory.
            // SAFETY: tkill takes numbers only.
            unsafe { libc::syscall(libc::SYS_tkill, tid, signal) };
        }
        match first {
            None => tracee::resume(safe, tid, 0),
            Some((signal, info)) => {
                tracee::set_signal_info(safe, tid, &info.0)?;
                tracee::resume(safe, tid, signal)
            }
        }
    }
}
