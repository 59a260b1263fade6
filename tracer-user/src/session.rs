//! A tracing session: one arena, one recorder, any number of native calls.
//!
//! ```text
//!  calling thread                 reader
//!    call ── native code ──► ring ──► drains when told: decode, sink
//!    call ends: drains the rest itself, checks that nothing is missing
//! ```
//! The reader is woken by the faulting thread when a ring is a quarter full, so a short
//! call is drained by the calling thread alone, with no hand-over between threads.
//!
//! Native code may call back, on any of its threads: [`TraceSession::begin_callback`] first applies
//! what it has done so far, and lets interpreter code run that may make calls in turn. Calls that
//! do not come from callbacks are made one after the other.

mod clock;
mod reader;
mod self_test;
mod settle;
mod start;
mod stats;

use std::{
    os::fd::OwnedFd,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use crate::{
    backend::{Backend, BackendError, none::Untraced},
    resume::{
        self, Crash, Engine, Interlude, Snapshot,
        safe::{self, Safe},
    },
    shadow::ShadowView,
    translate::{Translations, Translator},
};

use clock::{Command, OnStuck};
use reader::{Draining, Pulse};
pub use start::SessionError;
pub use stats::CallStats;

/// The arena that a session traces.
#[derive(Clone, Copy)]
pub struct Place {
    /// Where it is.
    pub session: tracer_ebpf::Session,
    /// How many segments are mapped, at least one.
    pub segments: usize,
    /// What is live in it.
    pub shadow: ShadowView,
}

/// How a call ended.
#[derive(Debug)]
pub struct CallEnd {
    /// The crash that ended it, if one did.
    pub crash: Option<Crash>,
    /// What it cost.
    pub stats: CallStats,
    /// Stacks of accesses that looked wrong, and of the crash.
    pub snapshots: Vec<Snapshot>,
    /// Time from entering native code to leaving it.
    pub elapsed: Duration,
}

/// See the module.
pub struct TraceSession {
    engine: &'static Engine,
    backend: Backend,
    draining: Arc<Mutex<Draining>>,
    commands: mpsc::UnboundedSender<Command>,
    /// Held by the call that is not in the middle of another.
    outermost: Mutex<()>,
    threads: Vec<JoinHandle<()>>,
    /// Tells the reader to end.
    stop: Arc<AtomicBool>,
    pulse: Arc<Pulse>,
    on_stuck: OnStuck,
    /// Written to by the handlers; closed after they are told of it no more.
    wake: OwnedFd,
}

impl TraceSession {
    /// The recorder in use.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// What this host keeps the session from seeing, if anything.
    pub fn blind_spot(&self) -> Option<String> {
        if let Some(why) = self.draining().recorder.gone() {
            return Some(why.to_owned());
        }
        let error = self.engine.no_dispatch()?;
        let then = match self.backend {
            Backend::None => return None,
            Backend::Ebpf => "and are reported as unsupported",
            Backend::Inproc | Backend::Ptrace => "which is not noticed; the ebpf recorder does",
        };
        Some(format!(
            "no Syscall User Dispatch here ({error}): system calls of native code on buffers fail \
             with EFAULT, {then}"
        ))
    }

    /// Faults delivered so far in this session, for a progress display.
    pub fn progress(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.pulse.delivered)
    }

    /// Instructions that were single-stepped in this session for want of a displaced copy, and how
    /// often, by address. Under ptrace, which steps everything, none.
    pub fn stepped(&self) -> Vec<(u64, u64)> {
        let counts = self.engine.sites.all().map(|site| {
            let count = site.steps.load(Ordering::Relaxed);
            (site.ip, count)
        });
        let mut counts: Vec<_> = counts.filter(|(_, count)| *count > 0).collect();
        counts.sort_unstable();
        counts
    }

    /// Has code translated that has faulted so often at one place, or none. From the start that is
    /// [`DEFAULT_HOT`](crate::translate::DEFAULT_HOT). Where a recorder stops each access anyway, as
    /// `ptrace` does, nothing is ever translated. No call may be under way.
    pub fn set_hot(&self, hot: Option<u32>) {
        if let Some(translator) = self.engine.translator().filter(|_| self.translates()) {
            translator.set_hot(hot);
        }
    }

    fn translates(&self) -> bool {
        matches!(self.backend, Backend::Ebpf | Backend::Inproc)
    }

    /// Why hot code is not translated on this host, if it is not.
    pub fn no_translation(&self) -> Option<&str> {
        self.engine.no_translator()
    }

    /// What has been translated in this process so far.
    pub fn translations(&self) -> Translations {
        let translator = self.engine.translator();
        translator.map_or_else(Translations::default, Translator::translations)
    }

    /// Libraries were unloaded, or code was changed: what was translated of it is forgotten. Native
    /// code's own unloading is seen without.
    pub fn code_changed() {
        if let Some(engine) = Engine::started() {
            engine.code_changed();
        }
    }

    /// Where a function is translated, to be called there in place of the original; its own address
    /// where it is not. Good for calls of the calling thread, until libraries are unloaded.
    pub fn entry(&self, function: u64) -> u64 {
        let found = self
            .translates()
            .then(|| self.engine.entry_for_call(function));
        found.flatten().unwrap_or(function)
    }

    /// Has a function translated for the calls of it, whose own code need not touch the arena; after
    /// that [`entry`](Self::entry) knows it, where it could be. Not in the middle of a call.
    pub fn translate_for_calls(&self, function: u64) {
        if self.translates() {
            self.engine.translate_for_calls(function);
        }
    }

    /// Has the kernel mark calls of a function, where the recorder can.
    ///
    /// # Errors
    /// Where the recorder should be able to and is not; tracing works without.
    pub fn probe_function(
        &self,
        library: &Path,
        file_offset: u64,
        name: &str,
        id: u64,
    ) -> Result<(), BackendError> {
        self.draining()
            .recorder
            .probe_function(library, file_offset, name, id)
    }

    /// Whether the following calls end where native code is about to make the first access that
    /// the sink wants it stopped for ([`EventSink::stop`](crate::access::EventSink::stop)); what
    /// a system call did is judged when it is over. The call ends with
    /// [`Reason::Stopped`](crate::resume::Reason::Stopped), or, on
    /// another thread than the calling one, with `OtherThread` and no signal; that
    /// thread stays where it is. Each access that looks wrong, or is one of several of its
    /// instruction, waits for the verdict, some ten microseconds.
    ///
    /// # Errors
    /// [`SessionError::CannotStop`] where accesses are recorded by who cannot wait.
    pub fn stop_at_first(&self, on: bool) -> Result<(), SessionError> {
        if on && !matches!(self.backend, Backend::Inproc | Backend::Ebpf) {
            return Err(SessionError::CannotStop(self.backend));
        }
        self.engine.stop.arm(on);
        Ok(())
    }

    /// Runs `f(data)`, which calls native code, and applies to the sink what it does to the
    /// arena; all of it has been applied when the call returns. `segments` is the number of
    /// mapped segments of the arena.
    ///
    /// A process that native code forks is not traced, and ends where it would return from the
    /// call.
    ///
    /// # Errors
    /// [`BackendError`] where the recorder cannot follow this thread; nothing was called then.
    ///
    /// # Safety
    /// `f(data)` must be sound to call, and sound to leave at any point by a jump to the caller:
    /// no frame of `f` itself may own anything that has to be dropped.
    #[allow(unsafe_code, reason = "hands the caller's promise on to the engine")]
    pub unsafe fn call(
        &self,
        f: unsafe extern "C" fn(*mut libc::c_void),
        data: *mut libc::c_void,
        segments: usize,
        timeout: Option<Duration>,
    ) -> Result<CallEnd, SessionError> {
        self.engine
            .prepare_thread()
            .map_err(|source| SessionError::System {
                what: "no alternate signal stack could be set up",
                source,
            })?;
        let _outermost = (!resume::inside()).then(|| {
            self.outermost
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        });
        self.engine.set_segments(segments as u64);
        let before = {
            let mut draining = self.draining();
            draining.recorder.begin_call()?;
            self.mark(&mut draining)?
        };
        let watched = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut watching = None;
        let begun = Instant::now();
        // SAFETY: by the caller's promise.
        let crash = unsafe {
            self.engine.call(f, data, |key| {
                if let Some(deadline) = watched {
                    watching = Some(key);
                    let _ = self.commands.send(Command::Watch(key, deadline));
                }
            })
        };
        let elapsed = begun.elapsed();
        if !self.engine.at_home(Safe::promise()) {
            // Native code forked and the child came back as well. It has neither the arena nor
            // the agent, and its parent makes the report.
            safe::end_process(Safe::promise(), 0);
        }
        if let Some(key) = watching {
            let _ = self.commands.send(Command::Unwatch(key));
        }
        let after = self.settle(before)?;
        Ok(CallEnd {
            crash,
            stats: after.since(&before),
            snapshots: self.engine.stacks.collect(),
            elapsed,
        })
    }

    /// Begins code of the interpreter that native code has called, on whatever thread that is. All
    /// that this thread did to the arena, and other threads as far as it was before, has been
    /// applied when it returns; how native code goes on is up to the interlude. Where nobody but
    /// the interpreter itself called, it changes nothing.
    pub fn begin_callback(&self) -> Interlude {
        let interlude = Interlude::begin(self.engine);
        if !self.engine.at_home(Safe::promise()) {
            // It has a copy of the interpreter, but neither the arena nor the agent.
            eprintln!(
                "ffitrace: a process that native code forked called back into the interpreter; \
                 it has no part in the session and is ended"
            );
            safe::end_process(Safe::promise(), 126);
        }
        if interlude.from_native() {
            self.catch_up();
        }
        interlude
    }

    /// Tells the handlers that the arena has so many segments by now: it grew in the middle of a
    /// call.
    pub fn set_segments(&self, segments: usize) {
        self.engine.set_segments(segments as u64);
    }

    /// Has `tell` called when who takes the accesses has not moved for some seconds while native code
    /// may be waiting for it, with how long that is. Once a time; it goes on by itself if it can.
    pub fn on_stuck(&self, tell: impl FnMut(Duration) + Send + 'static) {
        *self.on_stuck.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(tell);
    }

    /// Accesses that were recorded so far in this session, those of its own test among them; 0 where
    /// that cannot be read.
    pub fn recorded(&self) -> u64 {
        let emitted = self.draining().recorder.emitted();
        emitted.map_or(0, |emitted| emitted.emitted)
    }

    /// The connection to the agent that records for this session, if one does: a copy of its socket,
    /// for a process that outlives this one and is told there what it left
    /// ([`last_words`](crate::agent::last_words)).
    pub fn agent_socket(&self) -> Option<OwnedFd> {
        self.draining().recorder.agent_socket()
    }

    fn draining(&self) -> MutexGuard<'_, Draining> {
        self.draining.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for TraceSession {
    fn drop(&mut self) {
        // The recorder goes first: a supervisor reads what the engine is lent.
        self.draining().recorder = Box::new(Untraced);
        self.engine.release();
        let _ = self.commands.send(Command::Stop);
        self.stop.store(true, Ordering::Release);
        let _ = rustix::io::write(&self.wake, &[0]);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
