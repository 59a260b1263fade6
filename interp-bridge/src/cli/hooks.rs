//! What stands behind `bench` and `doctor`.

use std::io::{IsTerminal, Write};

use tracer_user::host::{self, Recorder, State};

use super::engine::EngineError;
use crate::bench;
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

/// Looks at this host.
pub fn doctor() -> DoctorReport {
    let host = host::probe();
    let backends: Vec<DoctorBackend> = Recorder::ALL
        .into_iter()
        .map(|recorder| {
            let unusable = host.usable(recorder).err();
            DoctorBackend {
                name: recorder.to_string(),
                usable: unusable.is_none(),
                reason: unusable
                    .as_ref()
                    .map(|unusable| unusable.reason.to_string()),
                remedy: unusable.and_then(|unusable| unusable.remedy),
            }
        })
        .collect();
    let auto = ["ebpf", "inproc"]
        .into_iter()
        .find(|name| {
            backends
                .iter()
                .any(|backend| backend.name == *name && backend.usable)
        })
        .map(str::to_owned);
    let checks = host
        .checks
        .iter()
        .map(|check| DoctorCheck {
            name: check.name.to_string(),
            state: match check.state {
                State::Ok => CheckState::Ok,
                State::Degraded => CheckState::Warn,
                State::Missing => CheckState::Missing,
            },
            detail: check.detail.clone(),
            remedy: check.remedy.clone(),
            affects: check.affects.iter().map(ToString::to_string).collect(),
        })
        .collect();
    DoctorReport {
        schema: 1,
        backends,
        auto,
        checks,
    }
}
