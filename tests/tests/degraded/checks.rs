//! What must be said and done on a host that lacks something.

use anyhow::{Context, Result};
use ffitrace_tests::check;
use ffitrace_tests::fixture::Lib;
use ffitrace_tests::process::Finished;
use ffitrace_tests::report::Report;
use serde_json::Value;

use super::hosts::Host;

/// Something that keeps a recorder from working.
pub(crate) struct Lacking {
    pub(crate) host: Host,
    /// The check of `doctor` that finds it, before any other.
    pub(crate) check: &'static str,
    /// Words of what `doctor` says of it.
    pub(crate) detail: &'static str,
    /// Words of what a refused call says of it.
    pub(crate) cause: &'static str,
    /// Words of what mends it, which both say.
    pub(crate) remedy: &'static str,
}

/// Reads 8 bytes of `p` in two accesses, and returns their sum.
const PROTOTYPE: &str = "int nested_outer(const int *p)";

fn call(host: &Host, backend: &str, more: &[&str]) -> Result<Finished> {
    let library = Lib::O2.path().display().to_string();
    let mut arguments = vec!["call", library.as_str(), PROTOTYPE, "p=i32:3,4"];
    arguments.extend(["--backend", backend]);
    arguments.extend(more);
    host.run(&arguments)
}

/// The call under `auto` is traced by `backend`, and the trace is right.
fn traced(host: &Host, backend: &str) -> Result<Finished> {
    let finished = call(host, "auto", &["--format", "json"])?;
    let shown = || format!("{finished:?}");
    let report: Report = serde_json::from_str(&finished.stdout).with_context(shown)?;
    check!(finished.code == Some(0), "{finished:?}");
    check!(report.backend == backend, "recorder {}", report.backend);
    let returned = report.ret.as_ref().map(|ret| ret.text());
    check!(returned.as_deref() == Some("7"), "returned {returned:?}");
    let read: Vec<_> = report.allocations.iter().map(|p| p.read.clone()).collect();
    check!(read == [vec![(0, 8)]], "{:?}", report.allocations);
    let stats = &report.stats;
    let counted = (stats.reads, stats.writes, stats.delivered, stats.rejected);
    check!(
        stats.complete && counted == (2, 0, stats.emitted, 0),
        "{stats:?}"
    );
    Ok(finished)
}

/// A line on stderr, and nothing else there.
fn only_line(finished: &Finished) -> Result<&str> {
    let mut lines = finished.stderr.lines();
    let line = lines.next().context("it does not say why")?;
    check!(
        lines.next().is_none(),
        "the reason takes more than a line: {}",
        finished.stderr
    );
    Ok(line)
}

/// What `doctor` says, which has to exit with this status.
fn doctor(host: &Host, status: i32) -> Result<Value> {
    let finished = host.run(&["doctor", "--format", "json"])?;
    check!(finished.code == Some(status), "{finished:?}");
    serde_json::from_str(&finished.stdout).with_context(|| format!("{finished:?}"))
}

/// The entry of this name in a list of the report.
fn named<'r>(report: &'r Value, list: &str, name: &str) -> Result<&'r Value> {
    let entries = report[list].as_array().context("no list")?;
    let found = entries.iter().find(|entry| entry["name"] == name);
    found.with_context(|| format!("no {name} in {list}: {report}"))
}

/// Checks what doctor says of the check that decides, and returns the remedy.
fn finds(report: &Value, lacking: &Lacking, recorder: &str) -> Result<String> {
    let backend = named(report, "backends", recorder)?;
    check!(
        backend["usable"] == false && backend["check"] == lacking.check,
        "{recorder} is not kept back by {}: {backend}",
        lacking.check
    );
    let check = named(report, "checks", lacking.check)?;
    let text = |field: &str| check[field].as_str().unwrap_or_default();
    check!(
        check["state"] == "missing"
            && text("detail").contains(lacking.detail)
            && text("remedy").contains(lacking.remedy)
            && !text("fallback").is_empty(),
        "{check}"
    );
    check!(backend["remedy"] == check["remedy"], "{backend}, {check}");
    Ok(text("remedy").to_owned())
}

/// `call` is refused for this.
fn refused(lacking: &Lacking, backend: &str, remedy: &str) -> Result<()> {
    let finished = call(&lacking.host, backend, &[])?;
    check!(finished.code == Some(3), "{finished:?}");
    check!(finished.stdout.is_empty(), "stdout: {}", finished.stdout);
    check!(
        finished.stderr.contains(lacking.cause) && finished.stderr.contains(remedy),
        "not {:?} and {remedy:?}: {}",
        lacking.cause,
        finished.stderr
    );
    Ok(())
}

/// The text of `doctor` begins with `first`, fits a terminal, and has what mends it.
fn readable(host: &Host, first: &str) -> Result<()> {
    let text = host.run(&["doctor"])?.stdout;
    check!(text.starts_with(first), "{text}");
    let wide = text.lines().find(|line| line.chars().count() > 80);
    // A path or an option is not cut in two.
    check!(wide.is_none(), "wider than a terminal: {wide:?}");
    for label in ["help: ", "without it: "] {
        check!(text.contains(label), "no {label:?}: {text}");
    }
    Ok(())
}

/// Without the kernel's recorder: `auto` takes the process's own.
pub(crate) fn falls_back(lacking: &Lacking) -> Result<()> {
    let host = &lacking.host;
    let report = doctor(host, 3)?;
    let remedy = finds(&report, lacking, "ebpf")?;
    check!(report["auto"] == "inproc", "{}", report["auto"]);
    check!(
        named(&report, "backends", "inproc")?["usable"] == true,
        "{report}"
    );
    readable(host, "--backend auto takes inproc, ")?;

    refused(lacking, "ebpf", &remedy)?;
    let finished = traced(host, "inproc")?;
    let line = only_line(&finished)?;
    check!(
        line.contains("inproc") && line.contains(lacking.cause) && line.contains(&remedy),
        "{line}"
    );
    let text = call(host, "auto", &[])?;
    check!(
        text.code == Some(0) && text.stdout.contains("inproc"),
        "{text:?}"
    );
    Ok(())
}

/// Without what every recorder needs: all are refused alike, and nothing is pretended.
pub(crate) fn traces_nothing(lacking: &Lacking) -> Result<()> {
    let report = doctor(&lacking.host, 3)?;
    check!(report["auto"].is_null(), "{}", report["auto"]);
    readable(&lacking.host, "Nothing can be traced here: ")?;
    for recorder in ["ebpf", "inproc", "ptrace", "none"] {
        let remedy = finds(&report, lacking, recorder)?;
        // The words that both have: a call says more, such as how much it takes.
        check!(remedy.contains(lacking.remedy), "{remedy}");
        refused(lacking, recorder, lacking.remedy)?;
    }
    refused(lacking, "auto", lacking.remedy)
}

/// Without something that the kernel's recorder does without. `note`: what calls say of it.
pub(crate) fn traces_with_ebpf(
    host: &Host,
    check: &str,
    remedy: &str,
    fallback: &str,
    note: Option<&str>,
) -> Result<()> {
    let report = doctor(host, 0)?;
    check!(report["auto"] == "ebpf", "{}", report["auto"]);
    let found = named(&report, "checks", check)?;
    let text = |field: &str| found[field].as_str().unwrap_or_default();
    check!(
        found["state"] == "warn"
            && text("remedy").contains(remedy)
            && text("fallback").contains(fallback),
        "{found}"
    );
    readable(host, "--backend auto takes ebpf: ")?;
    let finished = traced(host, "ebpf")?;
    match note {
        None => check!(finished.stderr.is_empty(), "{}", finished.stderr),
        Some(note) => {
            let line = only_line(&finished)?;
            check!(line.contains(note), "{line}");
        }
    }
    Ok(())
}

/// Without probes, `--verbose` says why the kernel counts no calls.
pub(crate) fn probes_nothing(host: &Host) -> Result<()> {
    let finished = call(host, "ebpf", &["--verbose"])?;
    check!(finished.code == Some(0), "{finished:?}");
    let told = finished
        .stdout
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    for words in [
        "refused the probe on `nested_outer`",
        "allows perf_event_open",
    ] {
        check!(told.contains(words), "no {words:?}: {told}");
    }
    Ok(())
}
