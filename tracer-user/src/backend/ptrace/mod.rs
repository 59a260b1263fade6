//! The ptrace recorder: a supervisor process takes every fault, as Miri's tracer does it.
//!
//! It is here to be compared with, so it is done well: no copies, no decoding and no allocation
//! in the supervisor, four stops an access.
//!
//! ```text
//!  interpreter ── fault ──► stopped      supervisor: registers and bytes ─► ring
//!                           mprotect RW  (injected)
//!                           one step
//!                           mprotect NONE (injected)
//!              ◄─ goes on ──
//! ```
//!
//! # Safety
//! The supervisor is a fork of a process with threads, so until it ends it runs only code that
//! may run in a signal handler (POSIX, `fork`); its functions take [`Safe`].
#![allow(unsafe_code)]

mod held;
mod supervisor;
mod tracee;

use std::{
    io,
    sync::atomic::{AtomicU32, Ordering},
};

use super::{BackendError, Emitted, Recorder, inproc::drain_user_ring};
use crate::{
    decode,
    pipeline::StringRule,
    resume::{
        Engine, Recording,
        safe::{self, Safe},
        signals::LET_GO,
    },
};

/// States of [`SharedWords::supervisor`](crate::resume::SharedWords::supervisor).
mod state {
    pub(super) const STARTING: u32 = 0;
    /// The parent allowed the supervisor to attach.
    pub(super) const GO: u32 = 1;
    pub(super) const ATTACHED: u32 = 2;
    /// The traced thread is about to ask to be let go.
    pub(super) const LET_GO: u32 = 3;
    /// Attaching failed; the error number is added.
    pub(super) const FAILED: u32 = 1000;
}

/// Why there is no supervisor.
#[derive(Debug, thiserror::Error)]
pub enum PtraceError {
    /// No process could be made.
    #[error("no supervisor process could be started: {0}; raise `ulimit -u`, or use inproc")]
    Fork(io::Error),
    /// The kernel refused to let the supervisor attach.
    #[error(
        "the supervisor may not trace this process: {0}; run as root, set \
         kernel.yama.ptrace_scope to 0 or 1, allow ptrace in the container's seccomp profile, \
         or end the debugger that traces ffitrace already"
    )]
    Attach(io::Error),
    /// A call from a thread other than the one that began the session.
    #[error(
        "ptrace mode follows only the thread that began the session; call native code from \
         that thread, or use the inproc or ebpf recorder"
    )]
    OtherThread,
    /// The supervisor process ended.
    #[error("the ptrace supervisor process ended unexpectedly; begin a new session")]
    Gone,
}

/// See the module.
pub(crate) struct Ptrace {
    engine: &'static Engine,
    child: i32,
    thread: u32,
}

impl Ptrace {
    /// Starts a supervisor for this thread and the threads that it will start. The engine must
    /// have been lent what the session uses: the supervisor sees it as it is now.
    ///
    /// # Errors
    /// [`PtraceError`].
    pub(crate) fn start(engine: &'static Engine) -> Result<Ptrace, PtraceError> {
        let safe = Safe::promise();
        let word = &engine.words().supervisor;
        word.store(state::STARTING, Ordering::Release);
        let thread = safe::thread_id(safe);
        let process = safe::process_id(safe);
        // The supervisor may not be the first to decode: that allocates.
        decode::peek(&[], 0);
        // SAFETY: after fork the child runs `supervise` alone, which never returns and keeps to the
        // rules for children of threaded processes.
        let child = unsafe {
            match libc::fork() {
                0 => supervisor::supervise(safe, engine, process, thread),
                child => child,
            }
        };
        if child < 0 {
            return Err(PtraceError::Fork(io::Error::last_os_error()));
        }
        // SAFETY: with Yama's ptrace_scope 1 this allows the child to attach; elsewhere it fails
        // without effect.
        unsafe { libc::prctl(libc::PR_SET_PTRACER, child as libc::c_ulong, 0, 0, 0) };
        word.store(state::GO, Ordering::Release);
        safe::wake(safe, word);
        loop {
            match word.load(Ordering::Acquire) {
                state::ATTACHED => {
                    return Ok(Ptrace {
                        engine,
                        child,
                        thread,
                    });
                }
                failed if failed >= state::FAILED => {
                    reap(child);
                    let error = io::Error::from_raw_os_error((failed - state::FAILED) as i32);
                    return Err(PtraceError::Attach(error));
                }
                now => {
                    if ended(child) {
                        return Err(PtraceError::Gone);
                    }
                    safe::wait(safe, word, now);
                }
            }
        }
    }
}

/// Waits for the end of the supervisor.
fn reap(child: i32) {
    // SAFETY: waits for our own child only.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), libc::__WALL) };
}

/// Whether the supervisor has ended; if so it is reaped.
fn ended(child: i32) -> bool {
    // SAFETY: as in `reap`, without waiting.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), libc::__WALL | libc::WNOHANG) != 0 }
}

impl Recorder for Ptrace {
    fn recording(&self) -> Recording {
        Recording::Supervisor
    }

    fn string_rule(&self) -> StringRule {
        StringRule::Stepped
    }

    fn drain(&mut self, each: &mut dyn FnMut(&[u8])) -> usize {
        drain_user_ring(self.engine, each)
    }

    fn emitted(&self) -> Result<Emitted, BackendError> {
        Ok(Emitted {
            emitted: self.engine.faults(),
            dropped: 0,
            probed: None,
        })
    }

    fn begin_call(&mut self) -> Result<(), BackendError> {
        if safe::thread_id(Safe::promise()) != self.thread {
            return Err(PtraceError::OtherThread.into());
        }
        if ended(self.child) {
            return Err(PtraceError::Gone.into());
        }
        // SAFETY: takes nothing; negative where the kernel does not know.
        let processor = unsafe { libc::sched_getcpu() } + 1;
        self.engine
            .words()
            .processor
            .store(processor.max(0) as u32, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Ptrace {
    fn drop(&mut self) {
        if !ended(self.child) {
            let word = &self.engine.words().supervisor;
            word.store(state::LET_GO, Ordering::Release);
            safe::signal_thread(Safe::promise(), self.thread, LET_GO);
            reap(self.child);
        }
    }
}

/// Waits until `word` is no longer `value`.
fn wait_while(safe: Safe, word: &AtomicU32, value: u32) {
    while word.load(Ordering::Acquire) == value {
        safe::wait(safe, word, value);
    }
}
