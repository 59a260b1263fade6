//! `ffitrace call`.

use tracer_user::agent::{Access, set_access};

use super::Exit;
use super::args::{CallArguments, Format, Hot, TraceArguments};
use super::engine::{CallRequest, Engine, EngineOptions};
use super::failure::Failure;
use super::output::Output;
use super::progress::Progress;
use crate::binding;
use crate::ffi::{Library, NativeCall};
use crate::prototype::Prototype;
use crate::report::events::EventsWriter;
use crate::report::{json, text};

/// What the arguments that all traced commands have say to the engine.
pub(super) fn engine_options(trace: &TraceArguments) -> EngineOptions {
    EngineOptions {
        backend: trace.backend,
        strict: trace.strict,
        stop_at_first: false,
        timeout: trace.timeout,
        verbose: false,
        format: trace.format,
        native_heap: false,
        hot: match trace.hot {
            Hot::Off => None,
            Hot::After(faults) => Some(faults),
        },
        as_root: trace.as_root,
    }
}

pub(super) fn run(args: &CallArguments, engine: &mut dyn Engine) -> Result<Exit, Failure> {
    if let Some(path) = &args.trace.agent {
        set_access(Access::At(path.clone()));
    }
    // What the user may have got wrong, as far as it shows without running anything.
    let prototype = Prototype::parse(&args.prototype, &args.cdef)?;
    let plan = binding::plan(&prototype, &args.bindings)?;
    if let Some(path) = &args.trace.events {
        EventsWriter::check(path)?;
    }

    engine.open(&EngineOptions {
        stop_at_first: args.stop_at_first,
        verbose: args.verbose,
        native_heap: args.native_heap,
        ..engine_options(&args.trace)
    })?;

    // From here on code of the library runs: its constructors first.
    let mut output = Output::take(args.trace.format);
    let library = Library::load(&args.library)?;
    let function = library.function(&prototype.name)?;
    let call = NativeCall::prepare(&prototype, &function)?;
    let events = args
        .trace
        .events
        .as_deref()
        .map(EventsWriter::create)
        .transpose()?;
    let progress = Progress::start(&function.name, engine.progress());
    let outcome = engine.run(CallRequest {
        function: function.clone(),
        prototype: prototype.clone(),
        plan,
        call,
        repeat: args.repeat,
        events,
    });
    drop(progress);
    let mut outcome = outcome?;

    let abrupt = outcome.left_midway();
    if !abrupt {
        super::exit::flush_c_streams();
    }
    // Its destructors would use memory of the arena with nobody to resume their accesses.
    let keeps_memory = outcome
        .native_heap
        .as_ref()
        .is_some_and(|heap| heap.live > 0);
    let events = outcome.events.take().map(EventsWriter::finish).transpose();
    let report = outcome.into_report(&function, &prototype);
    let written = output.write(|out, theme| match args.trace.format {
        Format::Json => json::write(out, &report),
        Format::Text => text::write(out, &report, theme, args.verbose),
    });
    let mut status = report.exit_status();
    for failure in [written.err(), events.err().map(Failure::from)]
        .into_iter()
        .flatten()
    {
        failure.tell();
        // Broken rules stay the weightier news.
        if status == 0 {
            status = failure.status;
        }
    }
    Ok(Exit {
        status,
        abrupt: abrupt || keeps_memory,
    })
}
