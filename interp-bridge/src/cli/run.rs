//! One plan carried out: buffers allocated, the call made as often as asked, the outcome told.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tracer_user::{backend::Backend, resume::Snapshot, session::CallStats};

use super::{
    engine::{AllocationOutcome, CallOutcome, CallRequest, EngineError, EngineOptions, Need},
    event_log::EventLog,
    heap::HeapWords,
    naming,
    tracing::note,
    watch,
};
use crate::{
    binding::{ArgValue, BufferInit, BufferSpec},
    bridge::{Bridge, BridgeError, CallOptions, StopAt},
    diagnosis::{Context, Diagnoser},
    ffi::NativeCall,
    memory::{AllocId, AllocKind, AllocRequest, Init, Memory},
    native::NativeHeapWatch,
    report::{Stats, model},
};

/// Carries out a request. `heap` watches the native heap, where that was asked for.
pub(super) fn run(
    bridge: &Bridge,
    options: &EngineOptions,
    heap: Option<&NativeHeapWatch>,
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
    let probed =
        bridge
            .session()
            .probe_function(&function.library, function.file_offset, &function.name, 1);
    let events = events.map(|writer| Arc::new(Mutex::new(EventLog::new(writer))));
    if let Some(events) = &events {
        bridge.observe(Some(Box::new(Arc::clone(events))));
    }
    let call_options = CallOptions {
        timeout: options.timeout,
        stop: if options.stop_at_first {
            StopAt::First
        } else {
            StopAt::Never
        },
    };
    let mut run = Run::default();
    if let Some(socket) = bridge.session().agent_socket() {
        watch::hand_over(&socket);
    }
    let buffers: Vec<(&str, u64, u64)> = plan
        .buffers
        .iter()
        .zip(&bases)
        .map(|(buffer, base)| (buffer.name.as_str(), *base, buffer.init.len()))
        .collect();
    let code = watch::code_of(function.address);
    watch::enter_native(&watch::Beginning {
        library: &function.library,
        function: &function.name,
        code: code.as_ref(),
        backend: bridge.backend().name(),
        format: options.format,
        recorded: bridge.session().recorded(),
        buffers: &buffers,
    });
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
    let translations = match options.verbose {
        true => naming::translations(bridge.session()),
        false => Vec::new(),
    };
    let memory = bridge.memory();
    let context = Context {
        function: Some(&function.name),
        address: Some(function.address),
        snapshots: &run.snapshots,
        memory: Some(&memory),
        ..Context::default()
    };
    let mut diagnoser = Diagnoser::new();
    let mut heap = heap.map(HeapWords::new);
    let mut allocations: Vec<AllocationOutcome> = ids
        .iter()
        .filter_map(|id| allocation(&memory, *id, backend))
        .collect();
    if let Some(heap) = &mut heap {
        for block in heap.in_violations(&memory, &ids) {
            let outcome = block.id.and_then(|id| allocation(&memory, id, backend));
            allocations.extend(outcome.map(|outcome| AllocationOutcome {
                made_by: Some(heap.caller(&block.made)),
                freed_by: block.freed.map(|by| heap.caller(&by)),
                ..outcome
            }));
        }
    }
    Ok(CallOutcome {
        backend: backend.name().to_owned(),
        backend_note: note,
        ret: (!run.ended_early).then(|| call.result()),
        allocations,
        native_heap: heap.as_mut().map(HeapWords::summary),
        violations: memory
            .violations()
            .entries()
            .iter()
            .map(|logged| diagnoser.diagnose(logged, &context).into())
            .collect(),
        overreads: memory
            .overreads()
            .entries()
            .iter()
            .filter(|_| options.verbose)
            .map(|logged| diagnoser.diagnose(logged, &context).into())
            .collect(),
        stepped: stepped
            .iter()
            .map(|(ip, count)| naming::stepped(&mut diagnoser, *ip, *count))
            .collect(),
        translations,
        stats: run.stats(),
        events,
    })
}

#[allow(
    unsafe_code,
    reason = "the one place where the command line runs native code"
)]
fn make_call(
    bridge: &Bridge,
    call: &mut NativeCall,
    options: CallOptions,
) -> Result<crate::bridge::CallOutcome, BridgeError> {
    let entry = bridge.session().entry(call.address());
    let data = call.as_ptr_at(entry);
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

fn allocate(bridge: &Bridge, buffers: &[BufferSpec]) -> Result<Vec<AllocId>, EngineError> {
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
                kind: AllocKind::Heap,
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
    bridge: &Bridge,
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
        made_by: None,
        freed_by: None,
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
        let ns = u64::try_from(self.elapsed.as_nanos()).unwrap_or(u64::MAX);
        Stats {
            overreads: self.overreads,
            ..Stats::new(&self.stats, self.calls, ns)
        }
    }
}
