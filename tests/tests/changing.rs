//! Code that changes while it runs: told as it is, whether a system call announces it or, where code is
//! not translated, nothing does.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use ffitrace_tests::call::{Backend, Call};
use ffitrace_tests::check;
use ffitrace_tests::fixture::Lib;
use ffitrace_tests::outcome::Outcome;
use ffitrace_tests::stream::streams;
use ffitrace_tests::suite::Suite;

/// Reads in each of three rounds.
const READS: u64 = 50;

fn main() -> ExitCode {
    let mut suite = Suite::new();
    for backend in Backend::ALL {
        for hot in ["off", "default"] {
            suite.add(
                format!("by_mprotect_hot_{hot}::{}", backend.name()),
                backend.needs(),
                move || exact(&run("changed_by_mprotect", backend, hot)?),
            );
        }
        // A supervisor may find the new instruction where the old one has faulted, and refuses that.
        if backend != Backend::Ptrace {
            suite.add(
                format!("under_a_thread::{}", backend.name()),
                backend.needs(),
                move || under_a_thread(backend),
            );
        }
        suite.add(
            format!("behind_everybodys_back::{}", backend.name()),
            backend.needs(),
            move || exact(&run("changed_by_proc", backend, "off")?),
        );
    }
    suite.run()
}

fn run(function: &str, backend: Backend, hot: &str) -> Result<Outcome> {
    let prototype =
        format!("unsigned {function}(const unsigned *p, const unsigned *q, unsigned n)");
    let mut call = Call::new(Lib::O2.path(), &prototype, backend)
        .bind(["p=hex:01000000", "q=hex:00010000"])
        .bind([format!("n={READS}")]);
    if hot != "default" {
        call = call.option(["--hot", hot]);
    }
    call.with_events().run()
}

/// Two rounds read the first buffer, the one between them the second.
fn exact(outcome: &Outcome) -> Result<()> {
    outcome.expect_code(0)?;
    result(outcome)?;
    let stats = &outcome.report.stats;
    check!(stats.complete && stats.reads == 3 * READS, "{stats:?}");
    let steps = streams(&outcome.events).concat();
    let seen = steps.iter().map(|step| step.allocation == "q");
    let made = (0..3 * READS).map(|read| (READS..2 * READS).contains(&read));
    check!(seen.eq(made), "the reads are not where they were made");
    Ok(())
}

/// A thread whose loop is changed while it runs leaves it, also where the loop was translated.
fn under_a_thread(backend: Backend) -> Result<()> {
    let prototype = "unsigned changed_under_a_thread(const unsigned *p, const unsigned *q, \
                     unsigned microseconds)";
    let outcome = Call::new(Lib::O2.path(), prototype, backend)
        .bind(["p=hex:01000000", "q=hex:00010000", "microseconds=50000"])
        .within(Duration::from_secs(60))
        .run()?;
    outcome.expect_code(0)?;
    let found = outcome.report.ret.as_ref().context("no result")?.text();
    check!(found == "256" && outcome.report.stats.complete, "{found}");
    let untouched = outcome
        .report
        .allocations
        .iter()
        .any(|one| one.read.is_empty());
    check!(!untouched, "{:?}", outcome.report.allocations);
    Ok(())
}

/// Whatever is told of it, native code does the same.
fn result(outcome: &Outcome) -> Result<()> {
    let sum = outcome.report.ret.as_ref().context("no result")?.text();
    check!(sum == (2 * READS + 256 * READS).to_string(), "{sum}");
    Ok(())
}
