//! What stands behind `bench` and `doctor`.

use std::io::{IsTerminal, Write};

use tracer_user::backend::Backend;
use tracer_user::host::{self, Recorder, State};

use super::engine::EngineError;
use crate::bench;
use crate::bridge::Bridge;
use crate::report::{
    bench::BenchReport,
    doctor::{CheckState, DoctorBackend, DoctorCheck, DoctorReport},
};

/// Runs the benches, saying on a terminal's stderr what is being measured.
///
/// # Errors
/// What keeps even the `inproc` recorder from working, or accesses that were lost.
pub fn bench(options: &bench::Options) -> Result<BenchReport, EngineError> {
    let mut stderr = std::io::stderr();
    let terminal = stderr.is_terminal();
    let mut tell = |what: &str| {
        if terminal {
            // Nobody is told if the terminal has gone.
            let _ = write!(stderr, "\r\x1b[K{what}").and_then(|()| stderr.flush());
        }
    };
    let done = bench::run(options, &mut |what| tell(&format!("measuring {what}")));
    tell("");
    Ok(done?)
}

/// Looks at this host, and has each recorder that seems usable show it.
pub fn doctor() -> DoctorReport {
    let host = host::probe();
    let mut checks: Vec<DoctorCheck> = host.checks.iter().map(check).collect();
    let mut backends = Vec::new();
    for recorder in Recorder::ALL {
        let mut backend = DoctorBackend {
            name: recorder.to_string(),
            usable: true,
            check: None,
            reason: None,
            remedy: None,
        };
        if let Err(unusable) = host.usable(recorder) {
            backend.usable = false;
            backend.check = Some(unusable.check.to_owned());
            backend.reason = Some(unusable.reason);
            backend.remedy = unusable.remedy;
        } else if let Some(tried) = self_test(recorder) {
            if tried.state == CheckState::Missing {
                backend.usable = false;
                backend.check = Some(tried.name.clone());
                backend.reason = Some(tried.detail.clone());
                backend.remedy = tried.remedy.clone();
            }
            checks.push(tried);
        }
        backends.push(backend);
    }
    DoctorReport::new(backends, checks)
}

fn check(check: &host::Check) -> DoctorCheck {
    DoctorCheck {
        name: check.name.to_owned(),
        state: match check.state {
            State::Ok => CheckState::Ok,
            State::Degraded => CheckState::Warn,
            State::Missing => CheckState::Missing,
            State::Untried => CheckState::Untried,
        },
        detail: check.detail.clone(),
        remedy: check.remedy.clone(),
        fallback: check.fallback.clone(),
        affects: check.affects.iter().map(ToString::to_string).collect(),
    }
}

/// Begins a session, as `call` does, which makes test accesses before it trusts its recorder.
/// Nothing to try where nothing is traced.
fn self_test(recorder: Recorder) -> Option<DoctorCheck> {
    let backend = match recorder {
        Recorder::Ebpf => Backend::Ebpf,
        Recorder::Inproc => Backend::Inproc,
        Recorder::Ptrace => Backend::Ptrace,
        Recorder::None => return None,
    };
    let mut check = DoctorCheck {
        name: format!("self_test_{recorder}"),
        state: CheckState::Ok,
        detail: "a test read and a test write were recorded".to_owned(),
        remedy: None,
        fallback: None,
        affects: vec![recorder.to_string()],
    };
    if let Err(error) = Bridge::new(Some(backend)) {
        let EngineError { what, help, .. } = error.into();
        check.state = CheckState::Missing;
        check.detail = what;
        check.remedy = Some(help);
        check.fallback = Some("another --backend".to_owned());
    }
    Some(check)
}
