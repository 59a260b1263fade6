//! A tracing session: one arena, one recorder, any number of native calls.
//!
//! ```text
//!  calling thread                 agent thread
//!    call ── native code ──► ring ──► drains when told: decode, sink
//!    call ends: drains the rest itself, checks that nothing is missing
//! ```
//! The agent thread is woken by the faulting thread when a ring is a quarter full, so a short
//! call is drained by the calling thread alone, with no hand-over between threads.

mod agent;
mod self_test;
mod stats;

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::sync::mpsc;

use crate::{
    access::{AccessKind, Refused},
    backend::{
        Backend, BackendError, Recorder,
        ebpf::{Ebpf, Kernel},
        inproc::Inproc,
        none::Untraced,
        ptrace::Ptrace,
    },
    pipeline::{Pipeline, SharedSink},
    resume::{
        Crash, Engine, Lent, Recording, Snapshot,
        safe::{self, Safe},
    },
    shadow::ShadowView,
};

use agent::{Command, Draining};
pub use stats::CallStats;
use stats::Mark;

/// How long the end of a call waits for records of other threads that are still on their way.
const SETTLE: Duration = Duration::from_millis(200);

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

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Something that every recorder needs could not be had.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Signal handlers belong to the process, and another session has them.
    #[error("this process has a tracing session already; end that one first")]
    Busy,
    /// The recorder that was asked for cannot be used.
    #[error(transparent)]
    Backend(#[from] BackendError),
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
    agent: Option<JoinHandle<()>>,
    progress: Arc<AtomicU64>,
    /// Written to by the handlers; closed after they are told of it no more.
    _wake: OwnedFd,
}

impl TraceSession {
    /// Begins a session with exactly this recorder. Test accesses show that it works before it
    /// is trusted.
    ///
    /// # Errors
    /// [`SessionError`], with what would mend it.
    pub fn start(
        backend: Backend,
        place: Place,
        sink: SharedSink,
    ) -> Result<TraceSession, SessionError> {
        let system = |what| move |source| SessionError::System { what, source };
        let engine = Engine::start().map_err(system("the resume engine could not be set up"))?;
        if !engine.claim() {
            return Err(SessionError::Busy);
        }
        let claim = Claim(engine);
        engine
            .prepare_thread()
            .map_err(system("no alternate signal stack could be set up"))?;
        let (woken, wake) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
            .map_err(|error| system("no pipe could be made")(error.into()))?;
        let session = place.session;
        let mut lent = Lent {
            session,
            recording: Recording::Off,
            kernel_ring: None,
            shadow: Some(place.shadow),
            guests: std::ptr::null_mut(),
            drain_fd: wake.as_raw_fd(),
        };
        engine.set_segments(place.segments as u64);
        let recorder: Box<dyn Recorder> = match backend {
            Backend::Ebpf => Box::new(Kernel::new(
                Ebpf::open(session).map_err(BackendError::from)?,
                engine,
            )),
            Backend::Inproc => Box::new(Inproc::new(engine)),
            Backend::None => Box::new(Untraced),
            Backend::Ptrace => {
                // The supervisor inherits what the handlers are lent.
                lent.recording = Recording::Supervisor;
                engine.lend(&lent);
                Box::new(Ptrace::start(engine).map_err(BackendError::from)?)
            }
        };
        lent.recording = recorder.recording();
        lent.kernel_ring = recorder.kernel_ring();
        lent.guests = recorder.guests();
        engine.lend(&lent);
        let progress = Arc::new(AtomicU64::new(0));
        let pipeline = Pipeline::new(
            session,
            engine.code.range(),
            recorder.string_rule(),
            sink,
            Arc::clone(&progress),
        );
        let draining = Arc::new(Mutex::new(Draining { recorder, pipeline }));
        let (commands, inbox) = mpsc::unbounded_channel();
        let agent = {
            let draining = Arc::clone(&draining);
            crate::quiet::spawn("ffitrace-agent", move || {
                agent::run(engine, &draining, woken, inbox);
            })
            .map_err(system("the agent thread could not be started"))?
        };
        // From here the session's own drop gives the engine back.
        std::mem::forget(claim);
        let mut session = TraceSession {
            engine,
            backend,
            draining,
            commands,
            agent: Some(agent),
            progress,
            _wake: wake,
        };
        session.self_test()?;
        Ok(session)
    }

    /// Begins a session with the best recorder that this host allows; with it comes the reason
    /// why it is not `ebpf`, where it is not.
    ///
    /// # Errors
    /// [`SessionError`], where not even `inproc` can be had.
    pub fn start_best(
        place: Place,
        sink: SharedSink,
    ) -> Result<(TraceSession, Option<String>), SessionError> {
        match TraceSession::start(Backend::Ebpf, place, Arc::clone(&sink)) {
            Ok(session) => Ok((session, None)),
            Err(SessionError::Backend(reason)) => {
                let session = TraceSession::start(Backend::Inproc, place, sink)?;
                Ok((session, Some(reason.to_string())))
            }
            Err(other) => Err(other),
        }
    }

    /// The recorder in use.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// What this host keeps the session from seeing, if anything.
    pub fn blind_spot(&self) -> Option<String> {
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
        Arc::clone(&self.progress)
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

    /// Has the kernel mark calls of a function, where the recorder can.
    ///
    /// # Errors
    /// Where the recorder should be able to and is not; tracing works without.
    pub fn probe_function(
        &mut self,
        library: &Path,
        file_offset: u64,
        name: &str,
        id: u64,
    ) -> Result<(), BackendError> {
        self.draining()
            .recorder
            .probe_function(library, file_offset, name, id)
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
        &mut self,
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
        self.engine.set_segments(segments as u64);
        let before = {
            let mut draining = self.draining();
            draining.recorder.begin_call()?;
            self.mark(&mut draining)?
        };
        let watched = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let commands = &self.commands;
        let begun = Instant::now();
        // SAFETY: by the caller's promise.
        let crash = unsafe {
            self.engine.call(f, data, |key| {
                if let Some(deadline) = watched {
                    let _ = commands.send(Command::Watch(key, deadline));
                }
            })
        };
        let elapsed = begun.elapsed();
        if !self.engine.at_home(Safe::promise()) {
            // Native code forked and the child came back as well. It has neither the arena nor
            // the agent, and its parent makes the report.
            safe::end_process(Safe::promise(), 0);
        }
        if watched.is_some() {
            let _ = commands.send(Command::Unwatch);
        }
        let after = self.settle(before)?;
        Ok(CallEnd {
            crash,
            stats: after.since(&before),
            snapshots: self.engine.stacks.collect(),
            elapsed,
        })
    }

    fn draining(&self) -> MutexGuard<'_, Draining> {
        self.draining.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mark(&self, draining: &mut Draining) -> Result<Mark, BackendError> {
        // Before the kernel's count, which may only be larger then.
        let handled = self.engine.handled.load(Ordering::Acquire);
        draining.drain(self.engine);
        Ok(Mark {
            handled,
            emitted: draining.recorder.emitted()?,
            totals: draining.pipeline.totals(),
            steps: self.engine.steps.load(Ordering::Relaxed),
            blind: self.engine.blind_steps.load(Ordering::Relaxed),
            uncopied: self.engine.uncopied.load(Ordering::Relaxed),
            foreign: self.engine.foreign.load(Ordering::Relaxed),
            failed: self
                .engine
                .words()
                .supervisor_failed
                .load(Ordering::Relaxed),
        })
    }

    /// Drains until every fault that was counted has arrived, and refuses by name what the
    /// recorder knows that it could not see.
    fn settle(&self, before: Mark) -> Result<Mark, BackendError> {
        let deadline = Instant::now() + SETTLE;
        let mut draining = self.draining();
        let after = loop {
            let now = self.mark(&mut draining)?;
            let stats = now.since(&before);
            let accounted = stats.delivered + stats.rejected + stats.dropped;
            if accounted >= stats.emitted || Instant::now() > deadline {
                break now;
            }
            drop(draining);
            std::thread::yield_now();
            draining = self.draining();
        };
        draining.pipeline.finish();
        let mut unseen = |count: u64, what: String| {
            if count > 0 {
                draining.pipeline.refuse_other(&Refused {
                    tid: 0,
                    ip: 0,
                    addr: 0,
                    kind: AccessKind::Read,
                    what,
                });
            }
            u64::from(count > 0)
        };
        let blind = after.blind - before.blind;
        let uncopied = after.uncopied - before.uncopied;
        let failed = after.failed - before.failed;
        let elsewhere =
            after.foreign - before.foreign + after.unrecorded().saturating_sub(before.unrecorded());
        // The trap flag marks the engine's own steps; without one it is somebody else's.
        let stepped = after.totals.stepping - before.totals.stepping;
        let foreign = if after.steps == before.steps {
            stepped
        } else {
            0
        };
        let extra = unseen(
            uncopied,
            format!(
                "{uncopied} string instructions or pushes of flags were stepped one by one, \
                 because the area for copies of instructions is full; what is told of them may \
                 be wrong; begin a new process"
            ),
        ) + unseen(
            blind,
            format!(
                "{blind} instructions were single-stepped with the arena open while a thread \
                 that blocks all signals ran; accesses of it may be missing"
            ),
        ) + unseen(
            elsewhere,
            format!(
                "{elsewhere} accesses were resumed and not recorded: those of a child process that \
                 shares this one's memory (vfork) and is not known to the kernel's part; the inproc \
                 recorder sees them"
            ),
        ) + unseen(
            failed,
            format!("the supervisor could not follow {failed} accesses"),
        ) + unseen(
            foreign,
            format!("{foreign} accesses were made under a debugger's single step and not recorded"),
        );
        // Threads that outlive the call go on between a drain and the look at the counter; at
        // some moment soon nothing is on its way.
        let deadline = Instant::now() + SETTLE;
        loop {
            let mut end = self.mark(&mut draining)?;
            end.emitted.emitted += extra;
            if end.since(&before).balanced() || Instant::now() > deadline {
                return Ok(end);
            }
            drop(draining);
            std::thread::yield_now();
            draining = self.draining();
        }
    }
}

/// Gives the engine back where the session did not come about.
struct Claim(&'static Engine);

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl Drop for TraceSession {
    fn drop(&mut self) {
        // The recorder goes first: a supervisor reads what the engine is lent.
        self.draining().recorder = Box::new(Untraced);
        self.engine.release();
        let _ = self.commands.send(Command::Stop);
        if let Some(agent) = self.agent.take() {
            let _ = agent.join();
        }
    }
}
