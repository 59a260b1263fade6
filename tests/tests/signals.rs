//! Native code that uses signals: they do what they do without a recorder, and nothing of what the
//! buffer goes through is lost or seen twice. See `native/signals.c`.

use std::process::ExitCode;

use anyhow::{Context, Result};
use ffitrace_tests::call::{Backend, Call};
use ffitrace_tests::case::{Case, add_cases};
use ffitrace_tests::check;
use ffitrace_tests::fixture::Lib;
use ffitrace_tests::suite::Suite;

/// Increments of the loop that signals interrupt.
const STORM: u64 = 20_000;

fn case(name: &str, kind: &str) -> Case {
    let prototype = format!("{kind} sig_{name}(int *p)");
    Case::new(name, &prototype, ["p=zero:64"])
}

fn cases() -> Vec<Case> {
    let three = [(0, 12)];
    vec![
        case("raise", "int").ret("1").writes("p", &three),
        case("real_time", "int").ret("2").writes("p", &three),
        case("kill", "int").ret("2").writes("p", &[(4, 8)]),
        case("segv_jump", "int").ret("4").writes("p", &three),
        case("altstack", "int").ret("2").writes("p", &three),
        case("segv_skip", "int").ret("1").writes("p", &three),
        case("block_all", "int").ret("1").writes("p", &[(0, 32)]),
        case("suspend", "int").ret("1").writes("p", &[(0, 8)]),
        case("flags", "int").ret("1").writes("p", &[(4, 16)]),
        case("eintr", "long").ret("-4").writes("p", &[(4, 8)]),
        case("restart", "long").ret("3").writes("p", &[(16, 19)]),
        case("wait", "int").ret("1").writes("p", &[(0, 4)]),
        case("cancel", "int").ret("1").writes("p", &[(0, 8)]),
    ]
}

fn main() -> ExitCode {
    let mut suite = Suite::new();
    add_cases(&mut suite, "signals", cases());
    for backend in Backend::ALL {
        let name = backend.name();
        suite.add(format!("storm::{name}"), backend.needs(), move || {
            storm(backend)
        });
        suite.add(
            format!("blocked_fault::{name}"),
            backend.needs(),
            move || blocked_fault(backend),
        );
        suite.add(format!("of_program::{name}"), backend.needs(), move || {
            of_program(backend)
        });
    }
    suite.run()
}

/// A handler that the program installed before it called native code.
fn of_program(backend: Backend) -> Result<()> {
    let preload = Lib::Preload.path();
    let outcome = Call::new(Lib::O2.path(), "int sig_of_program(int *p)", backend)
        .bind(["p=zero:16"])
        .variable("LD_PRELOAD", &preload.display().to_string())
        .run()?;
    outcome.expect_code(0)?;
    let ret = outcome.report.ret.as_ref().context("no result")?.text();
    check!(ret == "31", "calls of the two handlers: {ret}, not 31");
    let p = outcome.allocation("p")?;
    check!(p.written == [(0, 12)], "written {:?}", p.written);
    Ok(())
}

fn storm(backend: Backend) -> Result<()> {
    let outcome = Call::new(Lib::O2.path(), "int sig_storm(int *p, int n)", backend)
        .bind(["p=zero:8", &format!("n={STORM}")])
        .run()?;
    outcome.expect_code(0)?;
    let ret = outcome.report.ret.as_ref().context("no result")?.text();
    check!(ret == "1", "no signals arrived");
    let stats = &outcome.report.stats;
    check!(
        stats.reads == STORM && stats.writes == STORM,
        "{} reads and {} writes, not {STORM} each",
        stats.reads,
        stats.writes
    );
    let bytes = &outcome.allocation("p")?.bytes;
    check!(bytes.starts_with("204e0000"), "the counter is {bytes}");
    Ok(())
}

/// A signal that native code blocks, raised by its own instruction, does not reach its handler.
fn blocked_fault(backend: Backend) -> Result<()> {
    let outcome = Call::new(Lib::O2.path(), "int sig_blocked_fault(int *p)", backend)
        .bind(["p=zero:8"])
        .run()?;
    outcome.expect_code(1)?;
    let found = outcome.report.violations.first().context("no violation")?;
    check!(found.kind == "wild_access", "kind {}", found.kind);
    let p = outcome.allocation("p")?;
    check!(p.written == [(0, 4)], "written {:?}", p.written);
    Ok(())
}
