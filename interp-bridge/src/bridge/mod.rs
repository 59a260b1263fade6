//! The bridge: an interpreter's memory, a recorder, and native calls between them.
//!
//! ```text
//!  Bridge::memory ── allocate, read, write, free ──► Memory (abstract, in the arena)
//!  Bridge::call ──► TraceSession ── native code ──► events ──► Memory::apply ──► violations
//!                                      └─► callback ─► the interpreter ─► Bridge::call …
//! ```
//! A bridge is used by reference: a callback has the same one that the call was made with.
//!
//! # Safety
//! The shadow view handed to the session lives in `Memory`, which the bridge keeps until after the
//! session ended (the fields of `Core` are dropped in order).
#![allow(unsafe_code)]

mod call;
mod crash;
mod found;
mod invoke;
mod shared;
mod state;
mod strings;
mod turn;

use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64},
};

use tracer_user::{
    access::AccessEvent,
    backend::Backend,
    pipeline::SharedSink,
    session::{Place, SessionError, TraceSession},
};

use crate::{
    arena::View,
    ffi::CallError,
    memory::{AllocId, InterpreterMemory, Memory, MemoryError},
};
pub use call::{CallOptions, CallOutcome};
pub use crash::signal_name;
use found::Found;
pub use found::{CallStackProvider, StopAt};
pub use invoke::Invoked;
pub(crate) use shared::Core;
pub(crate) use state::Holder;
pub use state::MemoryGuard;
use state::State;
use strings::StringFunctions;
use turn::Turn;

/// Why there is no bridge, or why it could not make a call.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// The interpreter's memory could not be set up.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The recorder could not be set up, or cannot follow this thread.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The calling thread holds the memory that native code's accesses have to be applied to.
    #[error(
        "native code cannot be called while this thread holds `Bridge::memory()`; drop the guard \
         before the call"
    )]
    MemoryHeld,
    /// The values do not suit the signature.
    #[error(transparent)]
    Call(Box<CallError>),
}

impl From<CallError> for BridgeError {
    fn from(error: CallError) -> BridgeError {
        BridgeError::Call(Box::new(error))
    }
}

/// Sees every event of a call before it is applied.
pub trait Observer<M: InterpreterMemory = Memory>: Send {
    /// One access; `memory` is as it was before it.
    fn event(&mut self, event: &AccessEvent, memory: &M);
}

/// See the module.
pub struct Bridge<M: InterpreterMemory + 'static = Memory> {
    core: Arc<Core<M>>,
}

impl Bridge {
    /// A bridge with an empty memory and this recorder, or the best one that the host allows.
    ///
    /// # Errors
    /// What the host lacks, with what would mend it.
    pub fn new(backend: Option<Backend>) -> Result<Bridge, BridgeError> {
        Bridge::over(Memory::new()?, backend)
    }

    /// The address by which native code knows an allocation.
    ///
    /// # Errors
    /// Where there is no such allocation.
    pub fn address(&self, id: AllocId) -> Result<u64, MemoryError> {
        self.lock().memory.address_in(id, self.view())
    }
}

impl<M: InterpreterMemory + 'static> Bridge<M> {
    /// A bridge over an interpreter's own memory.
    ///
    /// # Errors
    /// What the host lacks, with what would mend it.
    pub fn over(mut memory: M, backend: Option<Backend>) -> Result<Bridge<M>, BridgeError> {
        memory
            .arena_mut()
            .ensure_segment()
            .map_err(MemoryError::from)?;
        let place = Place {
            session: memory.arena().session(),
            segments: memory.arena().views().segments(),
            // SAFETY: the session ends before the memory goes, see the field order of `Core`:
            // the state's other holders are the session's own.
            shadow: unsafe { memory.shadow().view() },
        };
        let state = Arc::new(Mutex::new(State {
            memory,
            observer: None,
            strings: StringFunctions::default(),
            strict: false,
            overreads: 0,
            found: Found::default(),
            call_stack: None,
            epoch: 0,
        }));
        let sink: SharedSink = state.clone();
        let (session, fallback) = match backend {
            Some(backend) => (TraceSession::start(backend, place, sink)?, None),
            None => TraceSession::start_best(place, sink)?,
        };
        Ok(Bridge {
            core: Arc::new(Core {
                session,
                state,
                turn: Arc::new(Turn::new()),
                holder: Holder::default(),
                outermost: Mutex::new(()),
                left_elsewhere: Mutex::new(None),
                strings_found: AtomicBool::new(false),
                fallback,
            }),
        })
    }

    /// The view of the arena whose addresses native code gets: the host view where nothing is
    /// traced.
    pub fn view(&self) -> View {
        if self.backend() == Backend::None {
            View::Host
        } else {
            View::Native
        }
    }

    /// What callbacks find the bridge by.
    pub(crate) fn core(&self) -> &Arc<Core<M>> {
        &self.core
    }

    /// The bridge that a callback belongs to.
    pub(crate) fn of_core(core: Arc<Core<M>>) -> Bridge<M> {
        Bridge { core }
    }

    /// The recorder in use.
    pub fn backend(&self) -> Backend {
        self.core.session.backend()
    }

    /// Why the recorder is not `ebpf`, where the choice was left to the bridge.
    pub fn fallback(&self) -> Option<&str> {
        self.core.fallback.as_deref()
    }

    /// What this host keeps the recorder from seeing, if anything. Asked on the thread that the
    /// session began on.
    pub fn blind_spot(&self) -> Option<String> {
        self.core.session.blind_spot()
    }

    /// Whether over-reads of string functions count as violations.
    pub fn set_strict(&self, strict: bool) {
        self.lock().strict = strict;
    }

    /// Has code translated that has faulted so often at one place
    /// ([`DEFAULT_HOT`](tracer_user::translate::DEFAULT_HOT) times, if this is never called), or none:
    /// what native code does is told alike, some hundred times faster where it does much. Not while
    /// a call is under way.
    pub fn set_hot(&self, hot: Option<u32>) {
        self.core.session.set_hot(hot);
    }

    /// Has `provider` asked for the interpreter's call stack at the end of each call that was
    /// found to do something wrong, on the thread that made the call; it may use the bridge.
    pub fn set_call_stack_provider(&self, provider: Option<CallStackProvider>) {
        self.lock().call_stack = provider;
    }

    /// Sends every event of the following calls to `observer` too; returns the one before.
    pub fn observe(&self, observer: Option<Box<dyn Observer<M>>>) -> Option<Box<dyn Observer<M>>> {
        std::mem::replace(&mut self.lock().observer, observer)
    }

    /// The interpreter's memory. Do not hold it while native code runs: what that does is applied
    /// to it meanwhile.
    ///
    /// # Panics
    /// Where this thread holds it already.
    pub fn memory(&self) -> MemoryGuard<'_, M> {
        MemoryGuard::new(|| self.lock(), &self.core.holder)
    }

    /// Faults delivered so far, for a progress display.
    pub fn progress(&self) -> Arc<AtomicU64> {
        self.core.session.progress()
    }

    /// The tracing session, for its finer controls and what it counted.
    pub fn session(&self) -> &TraceSession {
        &self.core.session
    }

    fn lock(&self) -> MutexGuard<'_, State<M>> {
        self.core.lock()
    }
}
