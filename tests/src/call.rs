//! One run of `ffitrace call`.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::binary;
use crate::check;
use crate::host::Need;
pub use crate::outcome::Outcome;
use crate::process::{Finished, Running};
use crate::report::{Event, Report};
use crate::without_dispatch;

/// A recorder that traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Backend {
    /// The kernel's.
    Ebpf,
    /// The process's own handler.
    Inproc,
    /// A supervisor process.
    Ptrace,
}

impl Backend {
    /// All of them.
    pub const ALL: [Backend; 3] = [Backend::Ebpf, Backend::Inproc, Backend::Ptrace];

    /// As in `--backend`.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Ebpf => "ebpf",
            Backend::Inproc => "inproc",
            Backend::Ptrace => "ptrace",
        }
    }

    /// What the host must offer for it.
    pub fn needs(self) -> Option<Need> {
        match self {
            Backend::Ebpf => Some(Need::Bpf),
            Backend::Inproc => None,
            Backend::Ptrace => Some(Need::Ptrace),
        }
    }
}

/// Arguments of one run.
#[derive(Clone, Debug)]
pub struct Call {
    /// Path or loader name.
    pub library: OsString,
    /// C prototype.
    pub prototype: String,
    /// What runs the program as somebody else, the program included; the program itself if empty.
    pub launcher: Vec<OsString>,
    /// Bindings.
    pub bindings: Vec<String>,
    /// Other options, as given.
    pub options: Vec<String>,
    /// `--backend`.
    pub backend: &'static str,
    /// Environment variables, beside those of the test.
    pub environment: Vec<(String, String)>,
    /// Whether to ask for the event log too.
    pub events: bool,
    /// Whether the host has Syscall User Dispatch.
    pub dispatch: bool,
    /// The harness gives up after this time.
    pub limit: Duration,
}

impl Call {
    /// A call with no bindings and no options.
    pub fn new(library: impl Into<OsString>, prototype: &str, backend: Backend) -> Call {
        Call {
            library: library.into(),
            prototype: prototype.into(),
            launcher: Vec::new(),
            bindings: Vec::new(),
            options: Vec::new(),
            backend: backend.name(),
            environment: Vec::new(),
            events: false,
            dispatch: true,
            limit: Duration::from_secs(60),
        }
    }

    /// Adds bindings.
    pub fn bind<S: Into<String>>(mut self, bindings: impl IntoIterator<Item = S>) -> Call {
        self.bindings.extend(bindings.into_iter().map(Into::into));
        self
    }

    /// Adds options.
    pub fn option<S: Into<String>>(mut self, options: impl IntoIterator<Item = S>) -> Call {
        self.options.extend(options.into_iter().map(Into::into));
        self
    }

    /// Runs it by this command line, which ends with the program.
    pub fn launched_by(mut self, words: Vec<OsString>) -> Call {
        self.launcher = words;
        self
    }

    /// Lets the program choose the recorder.
    pub fn auto(mut self) -> Call {
        self.backend = "auto";
        self
    }

    /// Makes the call without tracing it, for comparison.
    pub fn untraced(mut self) -> Call {
        self.backend = "none";
        self
    }

    /// Sets an environment variable for the run.
    pub fn variable(mut self, name: &str, value: &str) -> Call {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Asks for the event log.
    pub fn with_events(mut self) -> Call {
        self.events = true;
        self
    }

    /// Runs it as on a host without Syscall User Dispatch.
    pub fn without_dispatch(mut self) -> Call {
        self.dispatch = false;
        self
    }

    /// Gives the run more time than a minute.
    pub fn within(mut self, limit: Duration) -> Call {
        self.limit = limit;
        self
    }

    /// The command line, without `--format` and `--events`.
    pub fn command(&self) -> Result<Command> {
        let mut command = match self.launcher.split_first() {
            None => binary::command()?,
            Some((first, others)) => {
                let mut command = Command::new(first);
                command
                    .args(others)
                    .current_dir("/")
                    .env_remove("SUDO_UID")
                    .env_remove("SUDO_GID");
                command
            }
        };
        command
            .arg("call")
            .arg(&self.library)
            .arg(&self.prototype)
            .args(&self.bindings);
        command
            .args(["--backend", self.backend])
            .args(&self.options)
            .envs(self.environment.iter().cloned());
        if !self.dispatch {
            without_dispatch::deny(&mut command);
        }
        Ok(command)
    }

    /// Runs it with `--format json` and checks what every run promises.
    ///
    /// # Errors
    /// Fails if there is no report or a promise is broken.
    pub fn run(&self) -> Result<Outcome> {
        self.start()?.outcome()
    }

    /// Starts it, as [`run`](Call::run) does.
    ///
    /// # Errors
    /// Fails if it cannot be started.
    pub fn start(&self) -> Result<Started> {
        let dir = tempfile::tempdir()?;
        if !self.launcher.is_empty() {
            // Somebody else writes the log.
            fs::set_permissions(dir.path(), Permissions::from_mode(0o777))?;
        }
        let log: Option<PathBuf> = self.events.then(|| dir.path().join("events.jsonl"));
        let mut command = self.command()?;
        command.args(["--format", "json"]);
        if let Some(log) = &log {
            command.arg("--events").arg(log);
        }
        Ok(Started {
            running: Running::start(&mut command)?,
            shown: format!("{command:?}"),
            call: self.clone(),
            log,
            _dir: dir,
        })
    }

    fn understand(&self, process: Finished, log: Option<&std::path::Path>) -> Result<Outcome> {
        check!(process.signal.is_none(), "ffitrace itself was killed");
        no_panic(&process)?;
        let report: Report =
            serde_json::from_str(&process.stdout).context("stdout is not one JSON report")?;
        let events = match log {
            None => Vec::new(),
            Some(path) => {
                let text = fs::read_to_string(path).context("no event log was written")?;
                parse_events(&text)?
            }
        };
        let outcome = Outcome {
            process,
            report,
            events,
        };
        outcome.check_promises(self)?;
        Ok(outcome)
    }
}

/// A run under way.
#[derive(Debug)]
pub struct Started {
    /// The process.
    pub running: Running,
    shown: String,
    call: Call,
    log: Option<PathBuf>,
    _dir: tempfile::TempDir,
}

impl Started {
    /// Waits for its end, and checks what every run promises.
    ///
    /// # Errors
    /// Fails if there is no report or a promise is broken.
    pub fn outcome(self) -> Result<Outcome> {
        let finished = self.running.wait(self.call.limit)?;
        let shown = format!(
            "command: {}\nstatus: {:?}, signal: {:?}\nstdout: {}\nstderr: {}",
            self.shown,
            finished.code,
            finished.signal,
            shorten(&finished.stdout),
            shorten(&finished.stderr)
        );
        self.call
            .understand(finished, self.log.as_deref())
            .with_context(|| shown)
    }

    /// Waits for its end, whatever it shows, as long as that is no panic.
    ///
    /// # Errors
    /// Fails if it does not end, or panics.
    pub fn finish(self) -> Result<Finished> {
        let finished = self.running.wait(self.call.limit)?;
        no_panic(&finished)
            .with_context(|| format!("{}\nstderr: {}", self.shown, finished.stderr))?;
        Ok(finished)
    }
}

/// Fails if the program panicked or printed its own backtrace.
pub fn no_panic(process: &Finished) -> Result<()> {
    for sign in [
        "panicked at",
        "RUST_BACKTRACE",
        "stack backtrace:",
        "core::panicking",
    ] {
        check!(!process.stderr.contains(sign), "{sign:?} on stderr");
    }
    Ok(())
}

fn shorten(text: &str) -> String {
    if text.chars().count() <= 6000 {
        return text.into();
    }
    let head: String = text.chars().take(6000).collect();
    format!("{head} … ({} bytes)", text.len())
}

fn parse_events(text: &str) -> Result<Vec<Event>> {
    text.lines()
        .enumerate()
        .map(|(index, line)| {
            serde_json::from_str(line).with_context(|| format!("event line {}: {line}", index + 1))
        })
        .collect()
}
