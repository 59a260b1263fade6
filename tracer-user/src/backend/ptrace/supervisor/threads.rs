//! The threads that the supervisor follows: which there are, and which of them run.
//!
//! ```text
//!  Yes ── pause_others ──► Paused ── resume_others ──► Yes
//!              └─ stopped with something else ──► Pending ── take_pending ──► dealt with
//! ```

use super::{EVENT_STOP, Supervisor};
use crate::backend::ptrace::tracee::{self, Stop};

/// Threads that can be followed at once.
pub(super) const THREADS: usize = 4096;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Running {
    Yes,
    /// Stopped to let another thread step.
    Paused,
    /// Waits in the kernel for a child that uses its memory, where nothing but a fatal signal
    /// reaches it.
    InVfork,
    /// Stopped with something that is not dealt with yet.
    Pending(Stop),
}

#[derive(Clone, Copy)]
pub(super) struct Thread {
    pub(super) tid: i32,
    running: Running,
}

impl Supervisor<'_> {
    pub(super) fn add(&mut self, tid: i32) {
        if self.find(tid).is_some() {
            return;
        }
        let vacant = self.threads[..self.used].iter().position(Option::is_none);
        let index = vacant.unwrap_or(self.used);
        if let Some(free) = self.threads.get_mut(index) {
            *free = Some(Thread {
                tid,
                running: Running::Yes,
            });
            self.count += 1;
            self.used = self.used.max(index + 1);
        } else {
            self.failed();
        }
    }

    fn find(&mut self, tid: i32) -> Option<&mut Thread> {
        self.threads[..self.used]
            .iter_mut()
            .flatten()
            .find(|thread| thread.tid == tid)
    }

    pub(super) fn set_running(&mut self, tid: i32, running: Running) {
        if let Some(thread) = self.find(tid) {
            thread.running = running;
        }
    }

    pub(super) fn remove(&mut self, tid: i32) {
        for thread in &mut self.threads[..self.used] {
            if thread.is_some_and(|thread| thread.tid == tid) {
                *thread = None;
                self.count -= 1;
            }
        }
    }

    pub(super) fn take_pending(&mut self) -> Option<(i32, Stop)> {
        for thread in self.threads[..self.used].iter_mut().flatten() {
            if let Running::Pending(stop) = thread.running {
                thread.running = Running::Yes;
                return Some((thread.tid, stop));
            }
        }
        None
    }

    /// Stops all other threads, so that none of them runs while a page is open.
    pub(super) fn pause_others(&mut self, except: i32) {
        for index in 0..self.used {
            let Some(Thread {
                tid,
                running: Running::Yes,
            }) = self.threads[index]
            else {
                continue;
            };
            if tid == except {
                continue;
            }
            let stopped = tracee::interrupt(self.safe, tid)
                .ok()
                .and_then(|()| tracee::wait_for(self.safe, tid));
            let running = match stopped {
                None | Some((_, Stop::Ended)) => {
                    self.remove(tid);
                    continue;
                }
                Some((_, Stop::Event(EVENT_STOP, libc::SIGTRAP))) => Running::Paused,
                Some((_, stop)) => Running::Pending(stop),
            };
            self.threads[index] = Some(Thread { tid, running });
        }
    }

    pub(super) fn resume_others(&mut self) {
        for thread in self.threads[..self.used].iter_mut().flatten() {
            if thread.running == Running::Paused {
                thread.running = Running::Yes;
                let _ = tracee::resume(self.safe, thread.tid, 0);
            }
        }
    }
}
