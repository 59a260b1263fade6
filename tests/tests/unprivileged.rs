//! The same program as somebody without privileges: `auto` falls back to `inproc` and says in one
//! line why; asking for `ebpf` is refused with what would mend it.
//!
//! As root these tests become `nobody` with `setpriv`; otherwise they run as they are.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use ffitrace_tests::agent::Agent;
use ffitrace_tests::call::{Backend, no_panic};
use ffitrace_tests::host::{self, Need};
use ffitrace_tests::place::Place;
use ffitrace_tests::process::Finished;
use ffitrace_tests::report::Report;
use ffitrace_tests::suite::Suite;
use ffitrace_tests::{check, process};

fn main() -> ExitCode {
    let mut suite = Suite::new();
    let needs: Vec<Need> = if host::is_root() {
        vec![Need::DropRoot]
    } else {
        Vec::new()
    };
    suite.add("auto_falls_back", needs.clone(), auto_falls_back);
    suite.add("ebpf_is_refused", needs.clone(), ebpf_refused);
    suite.add("violation_inproc", needs.clone(), || {
        violation(Backend::Inproc)
    });
    suite.add("crash_inproc", needs.clone(), || crash(Backend::Inproc));
    suite.add("threads_inproc", needs.clone(), || threads(Backend::Inproc));
    suite.add("coverage_inproc", needs.clone(), || {
        coverage(Backend::Inproc)
    });
    let ptrace: Vec<Need> = needs.iter().copied().chain([Need::Ptrace]).collect();
    suite.add("violation_ptrace", ptrace.clone(), || {
        violation(Backend::Ptrace)
    });
    suite.add("crash_ptrace", ptrace.clone(), || crash(Backend::Ptrace));
    suite.add("threads_ptrace", ptrace.clone(), || {
        threads(Backend::Ptrace)
    });
    suite.add("coverage_ptrace", ptrace, || coverage(Backend::Ptrace));
    suite.add("doctor_names_the_remedy", needs.clone(), doctor);
    suite.add("doctor_finds_the_agent", needs, doctor_agent);
    suite.run()
}

/// `ffitrace` with these arguments, by nobody.
fn run(place: &Place, arguments: &[&str]) -> Result<Finished> {
    let finished = process::run(
        place.unprivileged().args(arguments),
        Duration::from_secs(60),
    )?;
    no_panic(&finished)?;
    Ok(finished)
}

fn call(
    place: &Place,
    backend: &str,
    prototype: &str,
    bindings: &[&str],
) -> Result<(Finished, Report)> {
    let library = place.library();
    let mut arguments = vec!["call", library.as_str(), prototype];
    arguments.extend(bindings);
    arguments.extend(["--backend", backend, "--format", "json"]);
    let finished = run(place, &arguments)?;
    let report = serde_json::from_str(&finished.stdout).with_context(|| {
        format!(
            "status {:?}, stdout {:?}, stderr {}",
            finished.code, finished.stdout, finished.stderr
        )
    })?;
    Ok((finished, report))
}

fn auto_falls_back() -> Result<()> {
    let place = Place::new()?;
    let (finished, report) = call(
        &place,
        "auto",
        "int nested_outer(const int *p)",
        &["p=i32:3,4"],
    )?;
    check!(
        finished.code == Some(0),
        "exit status {:?}: {}",
        finished.code,
        finished.stderr
    );
    check!(report.backend == "inproc", "backend {}", report.backend);
    check!(
        report
            .allocations
            .first()
            .is_some_and(|p| p.read == [(0, 8)]),
        "{:?}",
        report.allocations
    );
    let lines: Vec<&str> = finished
        .stderr
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    check!(
        lines.len() == 1,
        "the reason takes {} lines: {}",
        lines.len(),
        finished.stderr
    );
    check!(
        lines[0].contains("inproc") && (lines[0].contains("sudo") || lines[0].contains("root")),
        "the reason names neither recorder nor remedy: {}",
        lines[0]
    );
    Ok(())
}

fn ebpf_refused() -> Result<()> {
    let place = Place::new()?;
    let library = place.library();
    let prototype = "int nested_outer(const int *p)";
    let finished = run(
        &place,
        &[
            "call",
            &library,
            prototype,
            "p=i32:3,4",
            "--backend",
            "ebpf",
        ],
    )?;
    check!(
        finished.code == Some(3),
        "exit status {:?}: {}",
        finished.code,
        finished.stderr
    );
    check!(finished.stdout.is_empty(), "stdout: {}", finished.stdout);
    check!(
        finished.stderr.contains("sudo") || finished.stderr.contains("root"),
        "{}",
        finished.stderr
    );
    check!(
        finished.stderr.contains("inproc"),
        "no way on is named: {}",
        finished.stderr
    );
    Ok(())
}

fn violation(backend: Backend) -> Result<()> {
    let place = Place::new()?;
    let prototype = "void oob_write_after(char *p, size_t n)";
    let (finished, report) = call(&place, backend.name(), prototype, &["p=uninit:10", "n=10"])?;
    check!(finished.code == Some(1), "exit status {:?}", finished.code);
    let kinds: Vec<&str> = report
        .violations
        .iter()
        .map(|found| found.kind.as_str())
        .collect();
    check!(kinds == ["out_of_bounds"], "{kinds:?}");
    Ok(())
}

fn crash(backend: Backend) -> Result<()> {
    let place = Place::new()?;
    let (finished, report) = call(
        &place,
        backend.name(),
        "int crash_abort(int *p)",
        &["p=uninit:8"],
    )?;
    check!(finished.code == Some(1), "exit status {:?}", finished.code);
    let kinds: Vec<&str> = report
        .violations
        .iter()
        .map(|found| found.kind.as_str())
        .collect();
    check!(kinds == ["native_crash"], "{kinds:?}");
    check!(
        report
            .allocations
            .first()
            .is_some_and(|p| p.written == [(0, 4)]),
        "{:?}",
        report.allocations
    );
    Ok(())
}

fn threads(backend: Backend) -> Result<()> {
    let place = Place::new()?;
    let prototype = "int threads_fill(uint32_t *p, unsigned threads, unsigned per)";
    let (finished, report) = call(
        &place,
        backend.name(),
        prototype,
        &["p=uninit:3200", "threads=4", "per=200"],
    )?;
    check!(
        finished.code == Some(0),
        "exit status {:?}: {}",
        finished.code,
        finished.stderr
    );
    check!(
        report
            .allocations
            .first()
            .is_some_and(|p| p.written == [(0, 3200)]),
        "{:?}",
        report.allocations
    );
    check!(report.stats.writes == 800, "{:?}", report.stats);
    Ok(())
}

fn coverage(backend: Backend) -> Result<()> {
    let place = Place::new()?;
    let prototype = "void fx_memcpy(void *d, const void *s, size_t n)";
    let (finished, report) = call(
        &place,
        backend.name(),
        prototype,
        &["d=uninit:5000", "s=zero:5000", "n=4999"],
    )?;
    check!(
        finished.code == Some(0),
        "exit status {:?}: {}",
        finished.code,
        finished.stderr
    );
    for allocation in &report.allocations {
        let (touched, other) = match allocation.name.as_str() {
            "d" => (&allocation.written, &allocation.read),
            _ => (&allocation.read, &allocation.written),
        };
        check!(
            *touched == [(0, 4999)] && other.is_empty(),
            "{allocation:?}"
        );
    }
    Ok(())
}

fn doctor() -> Result<()> {
    let place = Place::new()?;
    let finished = run(&place, &["doctor"])?;
    check!(
        finished.code == Some(3),
        "exit status {:?}: {}",
        finished.code,
        finished.stderr
    );
    check!(
        finished.stdout.contains("with sudo") && finished.stdout.contains("setcap"),
        "{}",
        finished.stdout
    );
    Ok(())
}

/// The check of the agent, as nobody, with its socket at `path`.
fn agent(place: &Place, path: &Path) -> Result<serde_json::Value> {
    let mut command = place.unprivileged();
    command
        .args(["doctor", "--format", "json"])
        .env("FFITRACE_AGENT", path);
    let finished = process::run(&mut command, Duration::from_secs(60))?;
    no_panic(&finished)?;
    let report: serde_json::Value = serde_json::from_str(&finished.stdout)?;
    let checks = report["checks"].as_array().context("no checks")?;
    let found = checks.iter().find(|check| check["name"] == "agent");
    let found = found.context("no check of the agent")?;
    // With one that serves this process `auto` gets ebpf; without, it does not.
    let expected = if found["state"] == "ok" { 0 } else { 3 };
    check!(
        finished.code == Some(expected),
        "exit status {:?}: {found}",
        finished.code
    );
    Ok(found.clone())
}

/// Says whether there is an agent, and what keeps this process from it.
fn doctor_agent() -> Result<()> {
    let place = Place::new()?;
    let path = place.path("agent.sock");
    let says = |state: &str, detail: &str, remedy: &str| -> Result<()> {
        let found = agent(&place, &path)?;
        let (told, help) = (found["detail"].to_string(), found["remedy"].to_string());
        check!(
            found["state"] == state && told.contains(detail) && help.contains(remedy),
            "not {state}, {detail}, {remedy}: {found}"
        );
        check!(
            told.contains(&path.display().to_string()),
            "it does not say where: {told}"
        );
        Ok(())
    };
    says("warn", "there is no", "ffitrace agent")?;
    if host::is_root() && host::missing(Need::Bpf).is_none() {
        let serving = Agent::at(&path, &[])?;
        says("ok", "serves this process", "null")?;
        serving.stop()?;
        let closed = Agent::at(&path, &["--mode", "600"])?;
        says("warn", "may not connect", "group")?;
        closed.stop()?;
    }
    // What is left by something that was no agent.
    drop(UnixListener::bind(&path)?);
    fs::set_permissions(&path, Permissions::from_mode(0o666))?;
    says("warn", "nobody answers", "start `ffitrace agent` again")
}
