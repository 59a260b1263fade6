//! `ffitrace run`: a Lua session.
//!
//! ```text
//!  file ─► compiled ─► bridge ─► LuaSession ─► script ─► finalizers ─► report ─► exit status
//! ```

use std::{
    cell::RefCell,
    collections::HashMap,
    io::{self, Read},
    path::Path,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tracer_user::{
    agent::{Access, set_access},
    modules::Mapping,
};

use super::{
    Exit, Format,
    args::{RunArguments, StopArguments, TraceArguments},
    call::engine_options,
    engine::EngineOptions,
    event_log::EventLog,
    failure::Failure,
    long_calls::LongCalls,
    output::Output,
    tracing, watch,
};
use crate::{
    bridge::Bridge,
    lua::{LuaSession, ScriptError, SessionOptions, StartError, Summary, Surroundings},
    report::{
        Stats, Theme,
        events::EventsWriter,
        json,
        model::SCHEMA,
        session::{CalledFunction, SessionError, SessionReport, SessionViolation, write_text},
    },
};

impl From<StartError> for Failure {
    fn from(error: StartError) -> Failure {
        Failure::environment(error.to_string(), "")
    }
}

/// What is said about a session beside what its script does.
pub(super) struct Frame {
    name: String,
    backend: String,
    note: Option<String>,
    format: Format,
    output: RefCell<Output>,
    log: Option<Arc<Mutex<EventLog>>>,
}

pub(super) fn run(args: &RunArguments) -> Result<Exit, Failure> {
    let trace = &args.trace;
    let (name, text) = read(&args.session)?;
    if let Some(path) = &trace.events {
        EventsWriter::check(path)?;
    }
    let (lua, frame) = open(trace, &args.stops, &name, args.session.parent())?;
    let frame = Rc::new(frame);
    let chunk = lua.compile(&text, &chunk_name(&name)).map_err(|error| {
        let help = "the session is a file with a script in Lua; see docs/lua.md";
        Failure::usage(error.message, help)
    })?;
    lua.set_arguments(&name, &args.arguments)?;
    let exits = frame.clone();
    lua.on_exit(move |summary, status| exits.leave(summary, status))?;
    let done = lua.run(&chunk, &args.arguments);
    let summary = lua.finish();
    Ok(frame.report(summary, done.err()))
}

/// A session with its bridge, as the arguments want it.
pub(super) fn open(
    trace: &TraceArguments,
    stops: &StopArguments,
    name: &str,
    folder: Option<&Path>,
) -> Result<(LuaSession, Frame), Failure> {
    if let Some(path) = &trace.agent {
        set_access(Access::At(path.clone()));
    }
    let bridge = tracing::open(&EngineOptions {
        stop_at_first: stops.stop_at_first,
        ..engine_options(trace)
    })?;
    let note = tracing::note(&bridge);
    let log = trace
        .events
        .as_deref()
        .map(EventsWriter::create)
        .transpose()?;
    let log = log.map(|writer| Arc::new(Mutex::new(EventLog::new(writer))));
    let around = Around::new(&bridge, trace);
    let frame = Frame {
        name: name.to_owned(),
        backend: bridge.backend().name().to_owned(),
        note,
        format: trace.format,
        output: RefCell::new(Output::take(trace.format)),
        log: log.clone(),
    };
    let options = SessionOptions {
        keep_going: stops.keep_going,
        timeout: trace.timeout,
        stop_at_first: stops.stop_at_first,
        folder: folder.map(|folder| match folder.as_os_str().is_empty() {
            true => Path::new(".").to_owned(),
            false => folder.to_owned(),
        }),
    };
    let lua = LuaSession::new(bridge, options)?;
    lua.set_surroundings(Box::new(around));
    if let Some(log) = log {
        lua.observe(Box::new(log));
    }
    Ok((lua, frame))
}

fn read(path: &Path) -> Result<(String, Vec<u8>), Failure> {
    if path == Path::new("-") {
        let mut text = Vec::new();
        return match io::stdin().read_to_end(&mut text) {
            Ok(_) => Ok(("stdin".to_owned(), text)),
            Err(error) => Err(Failure::usage(format!("cannot read stdin: {error}"), "")),
        };
    }
    let name = path.display().to_string();
    match std::fs::read(path) {
        Ok(text) => Ok((name, text)),
        Err(error) => Err(Failure::unreadable(&name, &error)),
    }
}

/// LuaJIT's name for a chunk of a file.
fn chunk_name(name: &str) -> String {
    match name {
        "stdin" => "=stdin".to_owned(),
        name => format!("@{name}"),
    }
}

impl Frame {
    /// Writes the report and ends the process, with the status that the script gives, or a worse
    /// one.
    pub(super) fn leave(&self, summary: &Summary, status: i32) {
        let exit = self.report(summary.clone(), None);
        let status = match exit.status {
            0 => status as u8,
            found => found,
        };
        Exit { status, ..exit }.leave()
    }

    /// Writes the report, and says how the process is to end.
    pub(super) fn report(&self, summary: Summary, error: Option<ScriptError>) -> Exit {
        match summary.abrupt {
            true => super::exit::flush_stdout_if_free(),
            false => super::exit::flush_c_streams(),
        }
        let abrupt = summary.abrupt;
        let cannot_load = error.as_ref().is_some_and(|error| error.is_load_failure);
        let report = self.report_of(summary, error);
        let mut status = match report.exit_status() {
            1 if cannot_load && report.unexpected == 0 => 3,
            status => status,
        };
        let written = match self.format {
            Format::Json => {
                let mut output = self.output.borrow_mut();
                output.write(|out, _| json::write(out, &report))
            }
            Format::Text => {
                let theme = Theme::of(&io::stderr());
                // There is nobody to tell if that fails.
                let _ = write_text(&mut io::stderr().lock(), &report, theme);
                Ok(())
            }
        };
        let events = self.log.as_ref().map(|log| {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            log.writer.flush().map_err(Failure::from)
        });
        for failure in [written.err(), events.and_then(Result::err)]
            .into_iter()
            .flatten()
        {
            failure.tell();
            if status == 0 {
                status = failure.status;
            }
        }
        Exit { status, abrupt }
    }

    /// The report at the end of a repl, which has told what was wrong when it happened.
    pub(super) fn report_what_is_new(&self, mut summary: Summary) -> Exit {
        if self.format == Format::Text {
            summary.findings.clear();
        }
        let exit = self.report(summary, None);
        // Who typed it has seen it.
        let status = if exit.status == 1 { 0 } else { exit.status };
        Exit { status, ..exit }
    }

    fn report_of(&self, summary: Summary, error: Option<ScriptError>) -> SessionReport {
        let violations = summary
            .findings
            .into_iter()
            .map(|finding| SessionViolation {
                diagnosis: finding.diagnosis,
                bytes: finding.bytes,
                expected: finding.expected,
            });
        let functions = summary.functions.into_iter();
        SessionReport {
            schema: SCHEMA,
            session: self.name.clone(),
            backend: self.backend.clone(),
            backend_note: self.note.clone(),
            error: error.map(|error| SessionError {
                message: error.message,
                stack: error.stack,
            }),
            violations: violations.collect(),
            unexpected: summary.unexpected,
            incomplete: summary.incomplete,
            libraries: summary
                .libraries
                .iter()
                .map(|path| path.display().to_string())
                .collect(),
            functions: functions
                .map(|(name, library, calls)| CalledFunction {
                    name,
                    library: library.display().to_string(),
                    calls,
                })
                .collect(),
            stats: Stats {
                overreads: summary.overreads,
                ..Stats::new(&summary.stats, summary.calls, summary.ns)
            },
        }
    }
}

/// Tells the process that watches this one where native code runs.
struct Around {
    backend: &'static str,
    format: Format,
    timeout: Option<Duration>,
    recorded: u64,
    /// The function that was told last, and how many calls are under way.
    told: RefCell<(u64, u32)>,
    code: RefCell<HashMap<u64, Option<Mapping>>>,
    long: LongCalls,
}

impl Around {
    fn new(bridge: &Bridge, trace: &TraceArguments) -> Around {
        if let Some(socket) = bridge.session().agent_socket() {
            watch::hand_over(&socket);
        }
        Around {
            backend: bridge.backend().name(),
            format: trace.format,
            timeout: trace.timeout,
            recorded: bridge.session().recorded(),
            told: RefCell::default(),
            code: RefCell::default(),
            long: LongCalls::watch(bridge.progress()),
        }
    }
}

impl Surroundings for Around {
    fn begins(&self, name: &str, library: &Path, address: u64) {
        let mut told = self.told.borrow_mut();
        told.1 += 1;
        let is_other = told.0 != address;
        self.long.begins(is_other.then_some(name));
        if !is_other {
            watch::enter_native_again();
        } else {
            told.0 = address;
            let mut known = self.code.borrow_mut();
            let code = known
                .entry(address)
                .or_insert_with(|| watch::code_of(address));
            watch::enter_native(&watch::Beginning {
                library,
                function: name,
                code: code.as_ref(),
                backend: self.backend,
                format: self.format,
                recorded: self.recorded,
                buffers: &[],
            });
        }
        watch::call_begins(self.timeout);
    }

    fn interrupted(&self) {
        self.long.interrupted();
    }

    fn ends(&self) {
        self.long.ends();
        let mut told = self.told.borrow_mut();
        told.1 -= 1;
        // In the middle of another call, it is that one that goes on.
        match told.1 {
            0 => watch::leave_native(),
            _ => told.0 = 0,
        }
    }
}
