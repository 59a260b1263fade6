//! The engine behind `ffitrace call`: a bridge for one plan.

use std::sync::atomic::Ordering;

use tracer_user::{
    backend::{Backend, BackendError},
    privileges,
    session::SessionError,
};

use super::{
    BackendChoice, Format,
    engine::{CallOutcome, CallRequest, Engine, EngineError, EngineOptions, Need},
    heap,
    run::run,
};
use crate::{
    bench::BenchError,
    bridge::{Bridge, BridgeError},
    native::NativeHeapWatch,
};

/// See the module.
#[derive(Default)]
pub struct Tracing {
    /// Until the process ends: destructors of the library still give memory back.
    heap: Option<NativeHeapWatch>,
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
            BridgeError::Session(SessionError::CannotStop(_)) => {
                "leave `--stop-at-first` out, or use another `--backend`"
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
        let bridge = open(options)?;
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
        if options.native_heap && self.heap.is_none() {
            self.heap = Some(heap::begin(bridge, &request.function)?);
        }
        run(bridge, options, self.heap.as_ref(), request)
    }
}

/// A bridge with the recorder that was asked for, for native code without more rights than it is to
/// have.
pub(super) fn open(options: &EngineOptions) -> Result<Bridge, EngineError> {
    let backend = match options.backend {
        BackendChoice::Auto => None,
        BackendChoice::Ebpf => Some(Backend::Ebpf),
        BackendChoice::Inproc => Some(Backend::Inproc),
        BackendChoice::Ptrace => Some(Backend::Ptrace),
        BackendChoice::None => Some(Backend::None),
    };
    let bridge = Bridge::new(backend)?;
    bridge.set_strict(options.strict);
    bridge.set_hot(options.hot);
    // Given up long before, and seen to once more: next comes the library.
    if privileges::privileged() && !options.as_root {
        return Err(environment(
            "the library would be loaded with privileges".to_owned(),
            "start ffitrace as an ordinary user, or with `--as-root`",
        ));
    }
    bridge.session().on_stuck(|time| {
        super::watch::stuck();
        eprintln!(
            "ffitrace: who takes the accesses (the file of --events, if there is one) has not \
             moved for {} s; native code waits for it and goes on when it does",
            time.as_secs()
        );
    });
    // Asked for here, before anything is done, whether the recorder can at all.
    let asked = bridge.session().stop_at_first(options.stop_at_first);
    asked.map_err(BridgeError::from)?;
    Ok(bridge)
}

/// Why the recorder is not a better one, and what it does not see.
pub(super) fn note(bridge: &Bridge) -> Option<String> {
    let fallback = bridge.fallback().map(one_line);
    match (fallback, bridge.blind_spot()) {
        (Some(fallback), Some(blind)) => Some(format!("{fallback}; {blind}")),
        (fallback, blind) => fallback.or(blind),
    }
}

/// A reason may carry lines of the verifier's log.
fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" | ")
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn a_reason_is_one_line() {
        assert_eq!(one_line("no ebpf: get it"), "no ebpf: get it");
        assert_eq!(
            one_line("rejected:\n  3: (07) r1 += 8\n\nR1 invalid\n"),
            "rejected: | 3: (07) r1 += 8 | R1 invalid"
        );
    }
}
