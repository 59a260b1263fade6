//! One run of `ffitrace call`, and what holds for every such run.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::binary;
use crate::check;
use crate::host::Need;
use crate::process::{self, Finished};
use crate::report::{Event, Report, hex};
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

/// Everything one run showed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The process.
    pub process: Finished,
    /// Parsed standard output.
    pub report: Report,
    /// Parsed event log, in the order of the file; empty if not asked for.
    pub events: Vec<Event>,
}

impl Call {
    /// A call with no bindings and no options.
    pub fn new(library: impl Into<OsString>, prototype: &str, backend: Backend) -> Call {
        Call {
            library: library.into(),
            prototype: prototype.into(),
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
        let mut command = Command::new(binary::ffitrace()?);
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
        let dir = tempfile::tempdir()?;
        let log: Option<PathBuf> = self.events.then(|| dir.path().join("events.jsonl"));
        let mut command = self.command()?;
        command.args(["--format", "json"]);
        if let Some(log) = &log {
            command.arg("--events").arg(log);
        }
        let finished = process::run(&mut command, self.limit)?;
        let shown = format!(
            "command: {command:?}\nstatus: {:?}, signal: {:?}\nstdout: {}\nstderr: {}",
            finished.code,
            finished.signal,
            shorten(&finished.stdout),
            shorten(&finished.stderr)
        );
        self.understand(finished, log.as_deref())
            .with_context(|| shown)
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

impl Outcome {
    /// The allocation called `name`.
    pub fn allocation(&self, name: &str) -> Result<&crate::report::Allocation> {
        match self
            .report
            .allocations
            .iter()
            .find(|allocation| allocation.name == name)
        {
            Some(found) => Ok(found),
            None => bail!("the report has no allocation {name:?}"),
        }
    }

    /// Fails unless the run ended with this exit status.
    pub fn expect_code(&self, code: i32) -> Result<()> {
        check!(
            self.process.code == Some(code),
            "exit status {:?}, not {code}; violations: {:#?}",
            self.process.code,
            self.report.violations
        );
        Ok(())
    }

    /// Whether something was refused by name.
    pub fn has_unsupported(&self) -> bool {
        self.report
            .violations
            .iter()
            .any(|violation| violation.kind == "unsupported")
    }

    fn check_promises(&self, call: &Call) -> Result<()> {
        let report = &self.report;
        check!(report.schema == 1, "schema {}", report.schema);
        if call.backend != "auto" {
            check!(report.backend == call.backend, "backend {}", report.backend);
        }
        self.check_stats()?;
        for allocation in &report.allocations {
            for (what, ranges) in [
                ("read", &allocation.read),
                ("written", &allocation.written),
                ("maybe_written", &allocation.maybe_written),
                ("initialized", &allocation.initialized),
            ] {
                let sorted = ranges.windows(2).all(|pair| pair[0].1 < pair[1].0);
                let inside = ranges
                    .iter()
                    .all(|range| range.0 < range.1 && range.1 <= allocation.size);
                check!(
                    sorted && inside,
                    "{what} of {} is not sorted, merged and inside: {ranges:?}",
                    allocation.name
                );
            }
            let shown = if allocation.freed {
                0
            } else {
                allocation.size.min(4096) * 2
            };
            check!(
                allocation.bytes.len() as u64 == shown
                    && allocation
                        .bytes
                        .bytes()
                        .all(|byte| byte.is_ascii_hexdigit()),
                "bytes of {} are {} digits, not {shown}",
                allocation.name,
                allocation.bytes.len()
            );
            check!(
                allocation.base().is_some_and(|base| base != 0),
                "base {}",
                allocation.base
            );
        }
        for violation in &report.violations {
            check!(
                !violation.message.trim().is_empty(),
                "violation without a message"
            );
            if let Some(ip) = &violation.ip {
                check!(hex(ip).is_some(), "ip {ip}");
            }
        }
        let expected: &[i32] = match (report.violations.is_empty(), report.stats.complete) {
            (false, true) => &[1],
            (false, false) => &[1, 4],
            (true, true) => &[0],
            (true, false) => &[4],
        };
        check!(
            self.process
                .code
                .is_some_and(|code| expected.contains(&code)),
            "exit status {:?}, but {} violations and complete={} mean {expected:?}",
            self.process.code,
            report.violations.len(),
            report.stats.complete
        );
        if call.events {
            self.check_events()?;
        }
        Ok(())
    }

    fn check_stats(&self) -> Result<()> {
        let stats = &self.report.stats;
        check!(
            stats.emitted == stats.delivered + stats.rejected + stats.dropped,
            "emitted {} is not delivered {} + rejected {} + dropped {}",
            stats.emitted,
            stats.delivered,
            stats.rejected,
            stats.dropped
        );
        check!(stats.dropped == 0, "{} records were lost", stats.dropped);
        check!(
            stats.events == stats.reads + stats.writes,
            "{} events are not {} reads and {} writes",
            stats.events,
            stats.reads,
            stats.writes
        );
        check!(
            stats.rejected == 0 || self.has_unsupported(),
            "rejected, but nothing says what"
        );
        Ok(())
    }

    fn check_events(&self) -> Result<()> {
        let stats = &self.report.stats;
        let reads = self
            .events
            .iter()
            .filter(|event| event.kind == "read")
            .count() as u64;
        let writes = self
            .events
            .iter()
            .filter(|event| event.kind == "write")
            .count() as u64;
        check!(
            reads == stats.reads
                && writes == stats.writes
                && reads + writes == self.events.len() as u64,
            "the log has {reads} reads and {writes} writes in {} lines, the statistics {} and {}",
            self.events.len(),
            stats.reads,
            stats.writes
        );
        let mut last: BTreeMap<u32, u64> = BTreeMap::new();
        let mut all = BTreeSet::new();
        let bases: BTreeMap<&str, u64> = self
            .report
            .allocations
            .iter()
            .filter_map(|allocation| Some((allocation.name.as_str(), allocation.base()?)))
            .collect();
        for event in &self.events {
            check!(all.insert(event.seq), "sequence number {} twice", event.seq);
            if let Some(before) = last.insert(event.tid, event.seq) {
                check!(
                    before < event.seq,
                    "thread {}: {} after {before}",
                    event.tid,
                    event.seq
                );
            }
            check!(event.size > 0, "empty event {event:?}");
            let addr = hex(&event.addr).with_context(|| format!("addr of {event:?}"))?;
            check!(hex(&event.ip).is_some(), "ip of {event:?}");
            check!(
                ["fault", "translated", "syscall", "callback"].contains(&event.source.as_str()),
                "source of {event:?}"
            );
            if let (Some(name), Some(offset)) = (&event.allocation, &event.offset) {
                let offset = offset.value().context("offset")?;
                let base = *bases
                    .get(name.as_str())
                    .with_context(|| format!("{event:?}"))?;
                // A repeated call may use fresh buffers; the report shows the last ones.
                check!(
                    stats.calls > 1 || base.wrapping_add_signed(offset) == addr,
                    "base + offset is not addr in {event:?}"
                );
            }
        }
        Ok(())
    }
}
