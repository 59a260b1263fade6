//! The engine behind `ffitrace call`: a bridge for one plan.

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use tracer_user::{
    backend::{Backend, BackendError},
    resume::Snapshot,
    session::{CallStats, SessionError},
};

use super::{
    BackendChoice, Format,
    engine::{
        AllocationOutcome, CallOutcome, CallRequest, Engine, EngineError, EngineOptions, Need,
    },
    event_log::EventLog,
    naming::Naming,
    watch,
};
use crate::{
    bench::BenchError,
    binding::{ArgValue, BufferInit, BufferSpec},
    bridge::{Bridge, BridgeError, CallOptions},
    ffi::NativeCall,
    memory::{AllocId, AllocRequest, Init, Memory},
    report::{Stats, model},
};

/// See the module.
#[derive(Default)]
pub struct Tracing {
    opened: Option<(Bridge, EngineOptions)>,
}

impl From<BridgeError> for EngineError {
    fn from(error: BridgeError) -> EngineError {
        let help = match &error {
            BridgeError::Session(SessionError::Backend(BackendError::Ebpf(_))) => {
                "`--backend inproc` needs no privileges; `ffitrace doctor` looks at this host"
            }
            BridgeError::Session(SessionError::Backend(BackendError::Ptrace(_))) => {
                "`--backend inproc` needs no supervisor; `ffitrace doctor` looks at this host"
            }
            _ => "`ffitrace doctor` says what this host offers",
        };
        environment(error.to_string(), help)
    }
}

impl From<BenchError> for EngineError {
    fn from(error: BenchError) -> EngineError {
        environment(
            error.to_string(),
            "`ffitrace doctor` says what this host offers",
        )
    }
}

fn environment(what: String, help: &str) -> EngineError {
    EngineError {
        need: Need::Environment,
        what,
        help: help.to_owned(),
    }
}

fn not_opened() -> EngineError {
    EngineError {
        need: Need::Environment,
        what: "the engine was not opened".to_owned(),
        help: "open it before the first call".to_owned(),
    }
}

impl Engine for Tracing {
    fn open(&mut self, options: &EngineOptions) -> Result<(), EngineError> {
        let backend = match options.backend {
            BackendChoice::Auto => None,
            BackendChoice::Ebpf => Some(Backend::Ebpf),
            BackendChoice::Inproc => Some(Backend::Inproc),
            BackendChoice::Ptrace => Some(Backend::Ptrace),
            BackendChoice::None => Some(Backend::None),
        };
        let mut bridge = Bridge::new(backend)?;
        bridge.set_strict(options.strict);
        // The text report has the reasons itself; a script's one object is on stdout.
        if options.format == Format::Json
            && let Some(note) = note(&bridge)
        {
            eprintln!("ffitrace: recorder {}: {note}", bridge.backend());
        }
        self.opened = Some((bridge, options.clone()));
        Ok(())
    }

    fn progress(&self) -> Box<dyn Fn() -> u64 + Send> {
        match &self.opened {
            Some((bridge, _)) => {
                let progress = bridge.progress();
                Box::new(move || progress.load(Ordering::Relaxed))
            }
            None => Box::new(|| 0),
        }
    }

    fn run(&mut self, request: CallRequest) -> Result<CallOutcome, EngineError> {
        let (bridge, options) = self.opened.as_mut().ok_or_else(not_opened)?;
        run(bridge, options, request)
    }
}

/// Why the recorder is not a better one, and what it does not see.
fn note(bridge: &Bridge) -> Option<String> {
    let fallback = bridge.fallback().map(str::to_owned);
    match (fallback, bridge.blind_spot()) {
        (Some(fallback), Some(blind)) => Some(format!("{fallback}; {blind}")),
        (fallback, blind) => fallback.or(blind),
    }
}

fn run(
    bridge: &mut Bridge,
    options: &EngineOptions,
    request: CallRequest,
) -> Result<CallOutcome, EngineError> {
    let CallRequest {
        function,
        plan,
        mut call,
        repeat,
        events,
        ..
    } = request;
    let ids = allocate(bridge, &plan.buffers)?;
    let bases = ids
        .iter()
        .map(|id| bridge.address(*id))
        .collect::<Result<Vec<_>, _>>()
        .map_err(BridgeError::from)?;
    store_pointers(bridge, &plan.buffers, &ids, &bases)?;
    for (buffer, id) in plan.buffers.iter().zip(&ids) {
        if buffer.freed {
            bridge.memory().free(*id).map_err(BridgeError::from)?;
        }
    }
    let probed = bridge.session_mut().probe_function(
        &function.library,
        function.file_offset,
        &function.name,
        1,
    );
    let events = events.map(|writer| Arc::new(Mutex::new(EventLog::new(writer))));
    if let Some(events) = &events {
        bridge.observe(Some(Box::new(Arc::clone(events))));
    }
    let call_options = CallOptions {
        timeout: options.timeout,
    };
    let mut run = Run::default();
    let library = function.library.display().to_string();
    watch::enter_native(
        &library,
        &function.name,
        bridge.backend().name(),
        options.format,
    );
    for _ in 0..repeat {
        set_args(&mut call, &plan.args, &bases)?;
        watch::call_begins(options.timeout);
        let outcome = make_call(bridge, &mut call, call_options)?;
        run.add(&outcome.stats, outcome.elapsed, outcome.overreads);
        run.snapshots.extend(outcome.snapshots);
        if !outcome.returned {
            run.ended_early = true;
            break;
        }
    }
    watch::leave_native();
    bridge.observe(None);
    let events = events.and_then(Arc::into_inner).map(|log| {
        log.into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .writer
    });
    let backend = bridge.backend();
    let mut note = note(bridge);
    if let Err(error) = probed
        && options.verbose
    {
        note = Some(match note {
            Some(note) => format!("{note}; {error}"),
            None => error.to_string(),
        });
    }
    let stepped = bridge.session().stepped();
    let memory = bridge.memory();
    let mut naming = Naming::new(&run.snapshots, function.address);
    Ok(CallOutcome {
        backend: backend.name().to_owned(),
        backend_note: note,
        ret: (!run.ended_early).then(|| call.result()),
        allocations: ids
            .iter()
            .filter_map(|id| allocation(&memory, *id, backend))
            .collect(),
        violations: memory
            .violations()
            .entries()
            .iter()
            .map(|logged| naming.violation(logged))
            .collect(),
        overreads: memory
            .overreads()
            .entries()
            .iter()
            .filter(|_| options.verbose)
            .map(|logged| naming.violation(logged))
            .collect(),
        stepped: stepped
            .iter()
            .map(|(ip, count)| naming.stepped(*ip, *count))
            .collect(),
        stats: run.stats(),
        events,
    })
}

#[allow(
    unsafe_code,
    reason = "the one place where the command line runs native code"
)]
fn make_call(
    bridge: &mut Bridge,
    call: &mut NativeCall,
    options: CallOptions,
) -> Result<crate::bridge::CallOutcome, BridgeError> {
    let data = call.as_ptr();
    // SAFETY: what the function is given is what the user bound to its parameters; its effects
    // are contained by the session. The trampoline's frame owns nothing, see `ffi::call`, and
    // `call` is not used until it returns.
    unsafe { bridge.call(NativeCall::trampoline(), data, options) }
}

fn set_args(call: &mut NativeCall, args: &[ArgValue], bases: &[u64]) -> Result<(), EngineError> {
    call.set_args(args, bases).map_err(|error| EngineError {
        need: Need::Usage,
        what: error.to_string(),
        help: error.help(),
    })
}

fn allocate(bridge: &mut Bridge, buffers: &[BufferSpec]) -> Result<Vec<AllocId>, EngineError> {
    let mut memory = bridge.memory();
    let mut ids = Vec::with_capacity(buffers.len());
    for buffer in buffers {
        let init = match &buffer.init {
            BufferInit::Uninit(_) => Init::Uninit,
            BufferInit::Zeroed(_) => Init::Zeroed,
            BufferInit::Bytes(bytes) => Init::Bytes(bytes),
        };
        let id = memory
            .allocate(&AllocRequest {
                name: Some(&buffer.name),
                size: buffer.init.len(),
                align: buffer.align,
                init,
                mutable: buffer.mutable,
            })
            .map_err(|error| EngineError {
                need: Need::Usage,
                what: format!("buffer `{}`: {error}", buffer.name),
                help: "make the buffer smaller, or pass fewer".to_owned(),
            })?;
        ids.push(id);
    }
    Ok(ids)
}

fn store_pointers(
    bridge: &mut Bridge,
    buffers: &[BufferSpec],
    ids: &[AllocId],
    bases: &[u64],
) -> Result<(), BridgeError> {
    let mut memory = bridge.memory();
    for (buffer, id) in buffers.iter().zip(ids) {
        for pointer in &buffer.pointers {
            let target = bases[pointer.buffer].wrapping_add_signed(pointer.offset);
            memory.write_bytes(*id, pointer.at, &target.to_le_bytes())?;
        }
    }
    Ok(())
}

fn allocation(memory: &Memory, id: AllocId, backend: Backend) -> Option<AllocationOutcome> {
    let allocation = memory.get(id)?;
    let shown = allocation.size().min(model::MAX_CONTENT as u64);
    let whole = || std::iter::once(0..allocation.size()).filter(|range| !range.is_empty());
    // Without a trace, native code may have written whatever it was given to write.
    let untraced = backend == Backend::None && allocation.is_mutable();
    Some(AllocationOutcome {
        name: allocation.name().unwrap_or_default().to_owned(),
        base: allocation.base(),
        size: allocation.size(),
        mutable: allocation.is_mutable(),
        freed: !allocation.is_live(),
        read: allocation.read().ranges().collect(),
        written: allocation.written().ranges().collect(),
        maybe_written: if untraced {
            whole().collect()
        } else {
            allocation.maybe_written().ranges().collect()
        },
        initialized: allocation.init().ranges().collect(),
        bytes: memory.read_bytes(id, 0..shown).unwrap_or_default(),
    })
}

/// Totals over repeated calls.
#[derive(Default)]
struct Run {
    stats: CallStats,
    calls: u64,
    elapsed: Duration,
    overreads: u64,
    snapshots: Vec<Snapshot>,
    ended_early: bool,
}

impl Run {
    fn add(&mut self, stats: &CallStats, elapsed: Duration, overreads: u64) {
        self.stats.add(stats);
        self.calls += 1;
        self.elapsed += elapsed;
        self.overreads += overreads;
    }

    fn stats(&self) -> Stats {
        let stats = &self.stats;
        Stats {
            calls: self.calls,
            events: stats.events,
            reads: stats.reads,
            writes: stats.writes,
            faults: stats.faults,
            translated: 0,
            steps: stats.steps,
            syscalls: stats.syscalls,
            emitted: stats.emitted,
            delivered: stats.delivered,
            rejected: stats.rejected,
            dropped: stats.dropped,
            // Untraced, nothing was emitted and so nothing is missing: see `backend`.
            complete: stats.complete(),
            wall_ns: u64::try_from(self.elapsed.as_nanos()).unwrap_or(u64::MAX),
            sites: stats.sites,
            overreads: self.overreads,
        }
    }
}
