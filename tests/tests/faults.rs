//! What a host does to a trace in the middle: rings that are small, a reader of events who does not read, a
//! disk that is full, a processor that others have. Nothing is lost in silence, and nothing hangs.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use ffitrace_tests::agent::Agent;
use ffitrace_tests::call::{Backend, Call, no_panic};
use ffitrace_tests::host::Need;
use ffitrace_tests::process::Finished;
use ffitrace_tests::report::Report;
use ffitrace_tests::suite::Suite;
use ffitrace_tests::{check, process};

fn main() -> ExitCode {
    let mut suite = Suite::new();
    for backend in [Backend::Ebpf, Backend::Inproc] {
        let needs = || [Need::Zlib].into_iter().chain(backend.needs());
        let named = |name: &str| format!("{name}::{}", backend.name());
        suite.add(named("slow_reader_of_events"), needs(), move || {
            slow(backend)
        });
        suite.add(named("no_reader_of_events"), needs(), move || {
            never(backend)
        });
        suite.add(named("full_disk"), needs(), move || full_disk(backend));
        suite.add(named("starved_processor"), needs(), move || {
            starved(backend)
        });
        suite.add(named("closed_descriptors"), needs(), move || {
            closed(backend)
        });
    }
    suite.add("small_ring::ebpf", [Need::Bpf, Need::Zlib], small_ring);
    suite.run()
}

/// More faults than any ring holds.
const BYTES: u64 = 1_200_000;

fn checksum(backend: Backend, bytes: u64) -> Call {
    Call::new(
        "libz.so.1",
        "unsigned long crc32(unsigned long crc, const unsigned char *buf, unsigned int len)",
        backend,
    )
    .bind([
        "crc=0".into(),
        format!("buf=zero:{bytes}"),
        "len=len(buf)".into(),
    ])
    .option(["--hot", "off"])
}

/// Reads all of a FIFO after a while, in a process of its own, which ends with its writer.
fn reader(fifo: &Path, after: Duration) -> Result<Child> {
    let made = Command::new("mkfifo").arg(fifo).status()?;
    check!(made.success(), "mkfifo");
    let script = format!(
        "exec 3<\"$1\"; sleep {}; cat <&3 >\"$1.out\"",
        after.as_secs()
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &script, "reader"]).arg(fifo);
    Ok(shell.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?)
}

fn run(call: &Call, more: &[&str], events: &Path, limit: Duration) -> Result<Finished> {
    let mut command = call.command()?;
    command
        .args(["--format", "json"])
        .args(more)
        .arg("--events")
        .arg(events);
    let finished = process::run(&mut command, limit)?;
    no_panic(&finished)?;
    Ok(finished)
}

/// Has `command`, which runs what follows its own arguments, run `inner`.
fn start_by(command: &mut Command, inner: &Command) {
    command.arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
}

fn report(finished: &Finished) -> Result<Report> {
    serde_json::from_str(&finished.stdout).with_context(|| finished.stderr.clone())
}

/// Native code waits, which is told, and goes on: all events arrive.
fn slow(backend: Backend) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let fifo = dir.path().join("events");
    let mut reader = reader(&fifo, Duration::from_secs(9))?;
    let finished = run(
        &checksum(backend, BYTES),
        &[],
        &fifo,
        Duration::from_secs(120),
    )?;
    reader.wait()?;
    check!(
        finished.code == Some(0),
        "{:?}: {}",
        finished.code,
        finished.stderr
    );
    check!(
        finished.stderr.contains("has not moved for 5 s"),
        "{}",
        finished.stderr
    );
    let report = report(&finished)?;
    check!(report.stats.complete, "incomplete: {:?}", report.stats);
    let lines = fs::read(fifo.with_extension("out"))?
        .iter()
        .filter(|byte| **byte == b'\n')
        .count();
    check!(
        lines as u64 == report.stats.events,
        "{lines} of {} events",
        report.stats.events
    );
    Ok(())
}

/// Nobody ever reads: the call ends when its time is up, and what stood in the way is named.
fn never(backend: Backend) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let fifo = dir.path().join("events");
    let mut reader = reader(&fifo, Duration::from_secs(600))?;
    let finished = run(
        &checksum(backend, BYTES),
        &["--timeout", "3"],
        &fifo,
        Duration::from_secs(60),
    );
    reader.kill()?;
    reader.wait()?;
    let finished = finished?;
    check!(
        finished.code == Some(1),
        "{:?}: {}",
        finished.code,
        finished.stderr
    );
    let report = report(&finished)?;
    let message = &report.violations.first().context("no violation")?.message;
    check!(
        report.violations[0].kind == "timeout",
        "{}",
        report.violations[0].kind
    );
    check!(message.contains("who takes the accesses"), "{message}");
    Ok(())
}

/// The smallest ring that an agent gives: native code waits for room, again and again.
fn small_ring() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let limits = dir.path().join("limits.toml");
    fs::write(&limits, "ring_bytes = 2097152\n")?;
    let limits = limits.display().to_string();
    let agent = Agent::start(&["--limits", &limits])?;
    let socket = agent.socket().display().to_string();
    let call = checksum(Backend::Ebpf, BYTES).option(["--agent", &socket]);
    let outcome = call.run()?;
    let stats = &outcome.report.stats;
    check!(stats.complete && stats.dropped == 0, "{stats:?}");
    let read = outcome
        .report
        .allocations
        .first()
        .map(|buffer| buffer.read.clone());
    check!(read == Some(vec![(0, BYTES)]), "{read:?}");
    agent.stop()
}

fn full_disk(backend: Backend) -> Result<()> {
    let finished = run(
        &checksum(backend, 200_000),
        &[],
        Path::new("/dev/full"),
        Duration::from_secs(60),
    )?;
    check!(
        finished.code == Some(4),
        "{:?}: {}",
        finished.code,
        finished.stderr
    );
    check!(
        finished.stderr.contains("No space left"),
        "{}",
        finished.stderr
    );
    // What native code did is told all the same.
    let report = report(&finished)?;
    let read = report.allocations.first().map(|buffer| buffer.read.clone());
    check!(read == Some(vec![(0, 200_000)]), "{read:?}");
    Ok(())
}

/// One processor, which somebody else has: everything takes its time, and is as it would be.
fn starved(backend: Backend) -> Result<()> {
    let mut hog = Command::new("taskset")
        .args(["1", "sh", "-c", "while :; do :; done"])
        .stdin(Stdio::null())
        .spawn()
        .context("taskset (package util-linux)")?;
    let call = checksum(backend, 300_000);
    let mut command = Command::new("taskset");
    let inner = call.command()?;
    command.args(["1", "nice", "-n", "19"]);
    start_by(&mut command, &inner);
    command.args(["--format", "json"]);
    let finished = process::run(&mut command, Duration::from_secs(300));
    hog.kill()?;
    hog.wait()?;
    let finished = finished?;
    check!(
        finished.code == Some(0),
        "{:?}: {}",
        finished.code,
        finished.stderr
    );
    let report = report(&finished)?;
    check!(
        report.stats.complete && report.stats.dropped == 0,
        "{:?}",
        report.stats
    );
    check!(
        report.stats.emitted == report.stats.delivered,
        "{:?}",
        report.stats
    );
    Ok(())
}

/// Started without standard streams, as services may be.
fn closed(backend: Backend) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let out = dir.path().join("out");
    let inner = checksum(backend, 1000).command()?;
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "out=$1; shift; exec \"$@\" --format json 0<&- 2>&- >\"$out\"",
        "sh",
    ]);
    command.arg(&out);
    start_by(&mut command, &inner);
    let finished = process::run(&mut command, Duration::from_secs(60))?;
    check!(finished.code == Some(0), "{:?}", finished.code);
    let mut text = String::new();
    fs::File::open(&out)?.read_to_string(&mut text)?;
    let report: Report = serde_json::from_str(&text)?;
    check!(report.stats.complete, "{:?}", report.stats);
    Ok(())
}
