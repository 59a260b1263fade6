//! The bridge: an interpreter's memory, a recorder, and native calls between them.
//!
//! ```text
//!  Bridge::memory ── allocate, read, write, free ──► Memory (abstract, in the arena)
//!  Bridge::call ──► TraceSession ── native code ──► events ──► Memory::apply ──► violations
//! ```
//!
//! # Safety
//! `call` is unsafe because native code is: what it is given must be what it expects. The shadow
//! view handed to the session lives in `Memory`, which the bridge keeps until after the session
//! ended (fields are dropped in order).
#![allow(unsafe_code)]

mod crash;
mod strings;

use std::{
    ffi::c_void,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use tracer_user::{
    access::{AccessEvent, AccessKind, EventSink, Refused},
    backend::Backend,
    pipeline::SharedSink,
    resume::Snapshot,
    session::{CallStats, Place, SessionError, TraceSession},
};

use crate::{
    arena::View,
    memory::{AllocId, Finding, Memory, MemoryError, ViolationKind},
};
pub use crash::signal_name;
use strings::StringFunctions;

/// Why there is no bridge, or why it could not make a call.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// The interpreter's memory could not be set up.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The recorder could not be set up, or cannot follow this thread.
    #[error(transparent)]
    Session(#[from] SessionError),
}

/// Sees every event of a call before it is applied.
pub trait Observer: Send {
    /// One access; `memory` is as it was before it.
    fn event(&mut self, event: &AccessEvent, memory: &Memory);
}

/// What may be said about one call.
#[derive(Clone, Copy, Debug, Default)]
pub struct CallOptions {
    /// End the call after this time.
    pub timeout: Option<Duration>,
}

/// How a call ended and what it cost. What it did is in the memory, what was wrong in the
/// memory's violation log.
#[derive(Debug)]
pub struct CallOutcome {
    /// Whether native code returned; if not, the log says why.
    pub returned: bool,
    /// Counts.
    pub stats: CallStats,
    /// Stacks at accesses that looked wrong, and at a crash.
    pub snapshots: Vec<Snapshot>,
    /// Time in native code.
    pub elapsed: Duration,
    /// Benign over-reads of string functions.
    pub overreads: u64,
}

/// See the module.
pub struct Bridge {
    session: TraceSession,
    state: Arc<Mutex<State>>,
    fallback: Option<String>,
}

struct State {
    memory: Memory,
    observer: Option<Box<dyn Observer>>,
    strings: StringFunctions,
    strict: bool,
    overreads: u64,
}

impl Bridge {
    /// A bridge with an empty memory and this recorder, or the best one that the host allows.
    ///
    /// # Errors
    /// What the host lacks, with what would mend it.
    pub fn new(backend: Option<Backend>) -> Result<Bridge, BridgeError> {
        let mut memory = Memory::new()?;
        memory.ensure_segment()?;
        let place = Place {
            session: memory.arena().session(),
            segments: memory.arena().views().segments(),
            // SAFETY: the session ends before the memory goes, see the field order of `Bridge`:
            // the state's other holders are the session's own.
            shadow: unsafe { memory.shadow().view() },
        };
        let state = Arc::new(Mutex::new(State {
            memory,
            observer: None,
            strings: StringFunctions::default(),
            strict: false,
            overreads: 0,
        }));
        let sink: SharedSink = state.clone();
        let (session, fallback) = match backend {
            Some(backend) => (TraceSession::start(backend, place, sink)?, None),
            None => TraceSession::start_best(place, sink)?,
        };
        Ok(Bridge {
            session,
            state,
            fallback,
        })
    }

    /// The recorder in use.
    pub fn backend(&self) -> Backend {
        self.session.backend()
    }

    /// Why the recorder is not `ebpf`, where the choice was left to the bridge.
    pub fn fallback(&self) -> Option<&str> {
        self.fallback.as_deref()
    }

    /// What this host keeps the recorder from seeing, if anything. Asked on the thread that the
    /// session began on.
    pub fn blind_spot(&self) -> Option<String> {
        self.session.blind_spot()
    }

    /// Whether over-reads of string functions count as violations.
    pub fn set_strict(&mut self, strict: bool) {
        self.lock().strict = strict;
    }

    /// Sends every event of the following calls to `observer` too; returns the one before.
    pub fn observe(&mut self, observer: Option<Box<dyn Observer>>) -> Option<Box<dyn Observer>> {
        std::mem::replace(&mut self.lock().observer, observer)
    }

    /// The interpreter's memory. Do not hold it while native code runs.
    pub fn memory(&self) -> MemoryGuard<'_> {
        MemoryGuard(self.lock())
    }

    /// The address by which native code knows an allocation.
    ///
    /// # Errors
    /// Where there is no such allocation.
    pub fn address(&self, id: AllocId) -> Result<u64, MemoryError> {
        let view = if self.backend() == Backend::None {
            View::Host
        } else {
            View::Native
        };
        self.lock().memory.address_in(id, view)
    }

    /// Faults delivered so far, for a progress display.
    pub fn progress(&self) -> Arc<AtomicU64> {
        self.session.progress()
    }

    /// The tracing session, for what it counted.
    pub fn session(&self) -> &TraceSession {
        &self.session
    }

    /// The tracing session, for its finer controls.
    pub fn session_mut(&mut self) -> &mut TraceSession {
        &mut self.session
    }

    /// Runs `f(data)`, which calls native code. When it returns, everything that native code did
    /// to the memory has been applied, and what was wrong is in the log.
    ///
    /// # Errors
    /// Where the recorder cannot follow this thread; nothing was called then.
    ///
    /// # Safety
    /// The native function must accept what `f` gives it. `f(data)` must be sound to leave at
    /// any point: no frame of it may own anything that has to be dropped.
    pub unsafe fn call(
        &mut self,
        f: unsafe extern "C" fn(*mut c_void),
        data: *mut c_void,
        options: CallOptions,
    ) -> Result<CallOutcome, BridgeError> {
        let (segments, overreads) = {
            let mut state = self.lock();
            if !state.strings.found() && self.backend() != Backend::None {
                state.strings = StringFunctions::find();
            }
            (state.memory.arena().views().segments(), state.overreads)
        };
        // SAFETY: by the caller's promise.
        let end = unsafe { self.session.call(f, data, segments, options.timeout) }?;
        let mut state = self.lock();
        if let Some(crash) = &end.crash {
            let violation = crash::explain(crash, &state.memory, self.backend(), options.timeout);
            state.memory.violations_mut().push(violation);
        }
        let overreads = state.overreads - overreads;
        drop(state);
        Ok(CallOutcome {
            returned: end.crash.is_none(),
            stats: end.stats,
            snapshots: end.snapshots,
            elapsed: end.elapsed,
            overreads,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Plain data: what a panicking holder left is what was applied so far.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The memory, borrowed between calls.
pub struct MemoryGuard<'a>(MutexGuard<'a, State>);

impl std::ops::Deref for MemoryGuard<'_> {
    type Target = Memory;

    fn deref(&self) -> &Memory {
        &self.0.memory
    }
}

impl std::ops::DerefMut for MemoryGuard<'_> {
    fn deref_mut(&mut self) -> &mut Memory {
        &mut self.0.memory
    }
}

impl State {
    /// Whether what looks wrong is what string functions do on purpose.
    fn is_overread(&mut self, finding: &Finding) -> bool {
        let access = &finding.event.access;
        let read = access.addr..access.addr.saturating_add(access.len);
        // Beside a freed allocation, the red zone is that one's.
        let beside = matches!(
            finding.kind,
            ViolationKind::OutOfBounds | ViolationKind::UseAfterFree
        );
        if !beside || access.kind != AccessKind::Read {
            return false;
        }
        let Some(object) = self.memory.neighbour(&read) else {
            return false;
        };
        let look = self.strings.look(finding.event.ip);
        look.is_some_and(|look| strings::is_overread(look, &read, &object))
    }
}

impl EventSink for State {
    fn event(&mut self, event: &AccessEvent) {
        if let Some(observer) = &mut self.observer {
            observer.event(event, &self.memory);
        }
        let Some(mut finding) = self.memory.apply(event) else {
            return;
        };
        if self.is_overread(&finding) {
            self.overreads += 1;
            finding.kind = ViolationKind::Overread;
            if !self.strict {
                self.memory.note_overread(&finding);
                return;
            }
        }
        self.memory.report(&finding);
    }

    fn refused(&mut self, refused: &Refused) {
        self.memory.refuse(refused);
    }
}
