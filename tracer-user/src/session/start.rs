//! Beginning a session: the engine claimed, the recorder set up, the agent thread started.

use std::{
    io,
    os::fd::AsRawFd,
    sync::{Arc, Mutex, atomic::AtomicBool},
};

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::sync::mpsc;

use super::{
    Place, TraceSession,
    clock::{self, Command, OnStuck},
    reader::{self, Draining, Pulse},
};
use crate::{
    backend::{
        Backend, BackendError, Recorder,
        ebpf::{Ebpf, Kernel},
        inproc::Inproc,
        none::Untraced,
        ptrace::Ptrace,
    },
    pipeline::{Pipeline, SharedSink},
    resume::{Engine, Lent, Recording},
    translate::{self, Translator},
};

/// Why there is no session, or no call in it.
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
    /// The call was to be stopped at its first violation.
    #[error(
        "the {0} recorder cannot stop native code before an access; \
         ebpf and inproc can, or let the call run and look at what it did"
    )]
    CannotStop(Backend),
    /// The recorder that was asked for cannot be used.
    #[error(transparent)]
    Backend(#[from] BackendError),
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
            known: std::ptr::null_mut(),
            drain_fd: wake.as_raw_fd(),
            hot: Some(translate::DEFAULT_HOT),
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
        lent.known = recorder.known();
        engine.lend(&lent);
        let pulse = Arc::new(Pulse::default());
        let pipeline = Pipeline::new(
            session,
            engine.code.range(),
            recorder.string_rule(),
            sink,
            Arc::clone(&pulse.delivered),
        );
        let by_thread = recorder.recording().is_by_thread();
        let pipeline = pipeline.with_logs(engine.translator().filter(|_| by_thread));
        let draining = Arc::new(Mutex::new(Draining {
            recorder,
            pipeline,
            pulse: Arc::clone(&pulse),
        }));
        let (commands, inbox) = mpsc::unbounded_channel();
        let stop = Arc::new(AtomicBool::new(false));
        let on_stuck: OnStuck = Arc::new(Mutex::new(Box::new(|time| {
            tracing::warn!("what takes the accesses has not moved for {time:?}; native code waits");
        })));
        let clock = {
            let (pulse, on_stuck) = (Arc::clone(&pulse), Arc::clone(&on_stuck));
            crate::quiet::spawn("ffitrace-clock", move || {
                clock::run(engine, inbox, &pulse, &on_stuck);
            })
            .map_err(system("the session's clock could not be started"))?
        };
        let reader = {
            let (draining, stop) = (Arc::clone(&draining), Arc::clone(&stop));
            let commands = commands.clone();
            let drained = move || {
                if engine.translator().is_some_and(Translator::is_looking) {
                    let _ = commands.send(Command::Look);
                }
            };
            crate::quiet::spawn("ffitrace-reader", move || {
                reader::run(engine, &draining, &woken, &stop, drained);
            })
            .map_err(system("the reader could not be started"))?
        };
        // From here the session's own drop gives the engine back.
        std::mem::forget(claim);
        let mut session = TraceSession {
            engine,
            backend,
            draining,
            commands,
            outermost: Mutex::new(()),
            threads: vec![clock, reader],
            stop,
            pulse,
            on_stuck,
            wake,
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
}

/// Gives the engine back where the session did not come about.
struct Claim(&'static Engine);

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.release();
    }
}
