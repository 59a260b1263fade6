//! The supervisor process.
//!
//! # Safety
//! See the parent module: everything here may run in a child of a threaded process. Nothing
//! allocates; the thread list has a fixed size.
#![allow(unsafe_code)]

mod access;
mod record;
mod threads;

use std::sync::atomic::Ordering;

use super::{
    state,
    tracee::{self, Gone, Stop},
    wait_while,
};
use crate::resume::{
    Engine,
    safe::{self, Safe},
    signals::LET_GO,
};

use threads::{Running, THREADS, Thread};
/// `PTRACE_EVENT_*` of ptrace.h.
const EVENT_VFORK: i32 = 2;
const EVENT_CLONE: i32 = 3;
const EVENT_EXEC: i32 = 4;
const EVENT_VFORK_DONE: i32 = 5;
const EVENT_STOP: i32 = 128;
/// `si_code` of a SIGSEGV by protection.
const SEGV_ACCERR: i32 = 2;

struct Supervisor<'a> {
    safe: Safe,
    engine: &'a Engine,
    process: i32,
    threads: [Option<Thread>; THREADS],
    /// Entries of `threads` from here on were never used.
    used: usize,
    count: usize,
    stub: u64,
    /// Processor that this process keeps to, as in `SharedWords::processor`.
    processor: u32,
}

/// Traces `thread` of `process` until it ends or asks to be let go. Never returns.
pub(super) fn supervise(safe: Safe, engine: &Engine, process: i32, thread: u32) -> ! {
    let word = &engine.words().supervisor;
    // SAFETY: the supervisor must not outlive its parent, and no handler of the parent's may run
    // in it: all signals that can be blocked are.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
        let all = u64::MAX;
        let none = std::ptr::null_mut::<u64>();
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const all,
            none,
            8,
        );
    }
    wait_while(safe, word, state::STARTING);
    let seized = tracee::seize(safe, thread as i32);
    // SAFETY: the location is this thread's own.
    let errno = unsafe { *libc::__errno_location() } as u32;
    word.store(
        if seized.is_ok() {
            state::ATTACHED
        } else {
            state::FAILED + errno
        },
        Ordering::Release,
    );
    safe::wake(safe, word);
    if seized.is_ok() {
        let mut supervisor = Supervisor {
            safe,
            engine,
            process,
            threads: [None; THREADS],
            used: 0,
            count: 0,
            stub: engine.syscall_stub(),
            processor: 0,
        };
        supervisor.add(thread as i32);
        supervisor.run();
    }
    // SAFETY: ends this process without running anything of the parent's.
    unsafe { libc::_exit(0) }
}

impl Supervisor<'_> {
    fn run(&mut self) {
        while let Some((tid, stop)) = tracee::wait_for(self.safe, -1) {
            if !self.dispatch(tid, stop) {
                return;
            }
            while let Some((tid, stop)) = self.take_pending() {
                if !self.dispatch(tid, stop) {
                    return;
                }
            }
            if self.count == 0 {
                return;
            }
        }
    }

    fn failed(&self) {
        self.engine
            .words()
            .supervisor_failed
            .fetch_add(1, Ordering::Relaxed);
    }

    /// Deals with one stop. False when the session is over.
    fn dispatch(&mut self, tid: i32, stop: Stop) -> bool {
        let safe = self.safe;
        let done = match stop {
            Stop::Ended => {
                self.remove(tid);
                Ok(())
            }
            // Native code may use the signal too.
            Stop::Signal(LET_GO) if self.asked_to_let_go() => {
                self.let_go(tid);
                return false;
            }
            Stop::Signal(libc::SIGSEGV) => self.segv(tid),
            Stop::Signal(signal) => tracee::resume(safe, tid, signal),
            Stop::Event(event @ (EVENT_CLONE | EVENT_VFORK), _) => {
                if let Ok(new) = tracee::event_message(safe, tid) {
                    self.add(new as i32);
                }
                if event == EVENT_VFORK {
                    self.set_running(tid, Running::InVfork);
                }
                tracee::resume(safe, tid, 0)
            }
            Stop::Event(EVENT_VFORK_DONE, _) => {
                self.set_running(tid, Running::Yes);
                tracee::resume(safe, tid, 0)
            }
            // Another program, with a memory of its own.
            Stop::Event(EVENT_EXEC, _) => {
                self.remove(tid);
                tracee::detach(safe, tid)
            }
            Stop::Event(
                EVENT_STOP,
                libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU,
            ) => tracee::listen(safe, tid),
            Stop::Event(..) => {
                self.add(tid);
                tracee::resume(safe, tid, 0)
            }
        };
        if done.is_err() {
            self.remove(tid);
        }
        true
    }

    fn asked_to_let_go(&self) -> bool {
        self.engine.words().supervisor.load(Ordering::Acquire) == state::LET_GO
    }

    /// Detaches from all threads; `tid` is the one that asked.
    fn let_go(&mut self, tid: i32) {
        self.pause_others(tid);
        for index in 0..self.used {
            if let Some(thread) = self.threads[index] {
                let _ = tracee::detach(self.safe, thread.tid);
            }
        }
    }

    fn segv(&mut self, tid: i32) -> Result<(), Gone> {
        let info = tracee::signal_info(self.safe, tid)?;
        // SAFETY: the kernel fills the address of a SIGSEGV with a positive code.
        let addr = unsafe { info.si_addr() } as u64;
        if info.si_code == SEGV_ACCERR && self.engine.session().is_native(addr) {
            let regs = tracee::registers(self.safe, tid)?;
            if regs.rip != addr {
                return self.access(tid, addr, regs);
            }
        }
        tracee::resume(self.safe, tid, libc::SIGSEGV)
    }

    /// Keeps to the processor of the traced thread: the two take turns, and waking another
    /// processor costs far more than a switch on one.
    fn follow(&mut self) {
        let processor = self.engine.words().processor.load(Ordering::Relaxed);
        if processor == self.processor {
            return;
        }
        self.processor = processor;
        let mut set = [0u64; 16];
        match processor.checked_sub(1).map(|cpu| cpu as usize) {
            Some(cpu) if cpu < 64 * set.len() => set[cpu / 64] = 1 << (cpu % 64),
            _ => set = [u64::MAX; 16],
        }
        // SAFETY: the kernel reads the set, of this process only. A refusal changes nothing.
        unsafe {
            libc::syscall(
                libc::SYS_sched_setaffinity,
                0u64,
                size_of_val(&set),
                set.as_ptr(),
            )
        };
    }
}
