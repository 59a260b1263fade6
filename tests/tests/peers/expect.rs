//! What the rows have in common.

use anyhow::{Context, Result};
use ffitrace_tests::call::{Backend, Call, Outcome};
use ffitrace_tests::check;
use ffitrace_tests::fixture::Lib;
use ffitrace_tests::host::Need;
use ffitrace_tests::report::{Range, Violation};
use ffitrace_tests::suite::Suite;

/// Adds the test of a row under each recorder.
pub(crate) fn row(
    suite: &mut Suite,
    name: &str,
    need: Option<Need>,
    run: impl Fn(Backend) -> Result<()> + Clone + Send + 'static,
) {
    for backend in Backend::ALL {
        let run = run.clone();
        let needs: Vec<Need> = backend.needs().into_iter().chain(need).collect();
        suite.add(format!("{name}::{}", backend.name()), needs, move || {
            run(backend)
        });
    }
}

/// A call of a fixture with an event log.
pub(crate) fn call(lib: Lib, prototype: &str, backend: Backend, bindings: &[&str]) -> Call {
    Call::new(lib.path(), prototype, backend)
        .bind(bindings.iter().copied())
        .with_events()
}

/// Runs a call that breaks no rule.
pub(crate) fn good(
    lib: Lib,
    prototype: &str,
    backend: Backend,
    bindings: &[&str],
) -> Result<Outcome> {
    let outcome = call(lib, prototype, backend, bindings).run()?;
    outcome.expect_code(0)?;
    check!(outcome.report.stats.complete, "the trace is not complete");
    Ok(outcome)
}

/// Runs a call that breaks one rule once, and hands the violation over.
pub(crate) fn bad(
    lib: Lib,
    prototype: &str,
    backend: Backend,
    bindings: &[&str],
) -> Result<(Outcome, Violation)> {
    let outcome = call(lib, prototype, backend, bindings).run()?;
    outcome.expect_code(1)?;
    check!(outcome.report.stats.complete, "the trace is not complete");
    let [found] = &outcome.report.violations[..] else {
        anyhow::bail!("not one violation: {:#?}", outcome.report.violations);
    };
    let found = found.clone();
    Ok((outcome, found))
}

/// Fails unless exactly these bytes of a buffer were read, and these written and initialised.
pub(crate) fn touched(
    outcome: &Outcome,
    name: &str,
    read: &[Range],
    written: &[Range],
) -> Result<()> {
    let buffer = outcome.allocation(name)?;
    check!(
        buffer.read == read,
        "{name}: read {:?}, not {read:?}",
        buffer.read
    );
    check!(
        buffer.written == written,
        "{name}: written {:?}, not {written:?}",
        buffer.written
    );
    Ok(())
}

/// Fails unless the call returned this.
pub(crate) fn returned(outcome: &Outcome, expected: &str) -> Result<()> {
    let ret = outcome.report.ret.as_ref().context("no result")?.text();
    check!(ret == expected, "returned {ret}, not {expected}");
    Ok(())
}
