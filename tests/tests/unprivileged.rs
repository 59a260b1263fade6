//! The same program as somebody without privileges: `auto` falls back to `inproc` and says in one
//! line why; asking for `ebpf` is refused with what would mend it.
//!
//! As root these tests become `nobody` with `setpriv`; otherwise they run as they are.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use ffitrace_tests::call::{Backend, no_panic};
use ffitrace_tests::fixture::Lib;
use ffitrace_tests::host::{self, Need};
use ffitrace_tests::place::{self, NOBODY};
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
    suite.add("doctor_names_the_remedy", needs, doctor);
    suite.run()
}

/// The program and the fixtures, for nobody.
struct Place(place::Place);

impl Place {
    fn new() -> Result<Place> {
        Ok(Place(place::Place::new(&[Lib::O2])?))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path(name)
    }

    /// `ffitrace` with these arguments, by nobody.
    fn run(&self, arguments: &[&str]) -> Result<Finished> {
        let mut command = self.0.command_as(NOBODY, &self.0.program());
        command.args(arguments);
        let finished = process::run(&mut command, Duration::from_secs(60))?;
        no_panic(&finished)?;
        Ok(finished)
    }

    fn call(
        &self,
        backend: &str,
        prototype: &str,
        bindings: &[&str],
    ) -> Result<(Finished, Report)> {
        let library = self.path(Lib::O2.file_name()).display().to_string();
        let mut arguments = vec!["call", library.as_str(), prototype];
        arguments.extend(bindings);
        arguments.extend(["--backend", backend, "--format", "json"]);
        let finished = self.run(&arguments)?;
        let report = serde_json::from_str(&finished.stdout).with_context(|| {
            format!(
                "status {:?}, stdout {:?}, stderr {}",
                finished.code, finished.stdout, finished.stderr
            )
        })?;
        Ok((finished, report))
    }
}

fn auto_falls_back() -> Result<()> {
    let place = Place::new()?;
    let (finished, report) =
        place.call("auto", "int nested_outer(const int *p)", &["p=i32:3,4"])?;
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
    let library = place.path(Lib::O2.file_name()).display().to_string();
    let prototype = "int nested_outer(const int *p)";
    let finished = place.run(&[
        "call",
        &library,
        prototype,
        "p=i32:3,4",
        "--backend",
        "ebpf",
    ])?;
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
    let (finished, report) = place.call(backend.name(), prototype, &["p=uninit:10", "n=10"])?;
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
    let (finished, report) =
        place.call(backend.name(), "int crash_abort(int *p)", &["p=uninit:8"])?;
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
    let (finished, report) = place.call(
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
    let (finished, report) = place.call(
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
    let finished = place.run(&["doctor"])?;
    check!(
        finished.code == Some(0),
        "exit status {:?}: {}",
        finished.code,
        finished.stderr
    );
    check!(
        finished.stdout.contains("sudo") || finished.stdout.contains("root"),
        "{}",
        finished.stdout
    );
    Ok(())
}
