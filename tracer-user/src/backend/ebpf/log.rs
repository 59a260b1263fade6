//! Log lines of the eBPF programs, for diagnosis. Off unless `FFITRACE_BPF_LOG` names a level.
//!
//! The level is a constant to the verifier, which removes the logging code where it is off: it
//! then costs nothing at a fault.

use aya_log::{EbpfLogger, Level};

/// Environment variable with the level: `error`, `warn`, `info`, `debug` or `trace`.
const VARIABLE: &str = "FFITRACE_BPF_LOG";

/// The level asked for; `None` is off, as is a word that is no level.
pub(super) fn level() -> Option<Level> {
    match std::env::var(VARIABLE).ok()?.as_str() {
        "error" => Some(Level::Error),
        "warn" => Some(Level::Warn),
        "info" => Some(Level::Info),
        "debug" => Some(Level::Debug),
        "trace" => Some(Level::Trace),
        _ => None,
    }
}

/// Reads the programs' log lines and passes them on to `tracing`.
pub(super) type Logger = EbpfLogger<ToTracing>;

/// A `log` sink that passes lines to `tracing`, where ffitrace's own go.
pub(super) struct ToTracing;

impl log::Log for ToTracing {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let (target, line) = (record.target(), record.args());
        match record.level() {
            log::Level::Error => tracing::error!(source = target, "{line}"),
            log::Level::Warn => tracing::warn!(source = target, "{line}"),
            log::Level::Info => tracing::info!(source = target, "{line}"),
            log::Level::Debug => tracing::debug!(source = target, "{line}"),
            log::Level::Trace => tracing::trace!(source = target, "{line}"),
        }
    }

    fn flush(&self) {}
}
