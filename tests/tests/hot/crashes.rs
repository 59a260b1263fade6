//! What goes wrong after many turns is reported as if nothing had been translated. See
//! `native/hot_crash.c`.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use ffitrace_tests::call::{Backend, Call, Outcome};
use ffitrace_tests::check;
use ffitrace_tests::fixture::{Lib, marked_line};
use ffitrace_tests::report::Violation;
use ffitrace_tests::stream::difference;
use ffitrace_tests::suite::{Suite, explain};

use crate::modes::{self, BACKENDS, Did, Mode};

/// A call that breaks a rule in its last turn.
struct Crash {
    name: &'static str,
    prototype: &'static str,
    bindings: &'static [&'static str],
    kind: &'static str,
    offset: Option<i64>,
    mark: &'static str,
    /// The report without translation, from whoever asks first.
    reference: OnceLock<Result<Outcome, String>>,
}

fn crash(
    name: &'static str,
    prototype: &'static str,
    bindings: &'static [&'static str],
    (kind, offset, mark): (&'static str, Option<i64>, &'static str),
) -> Arc<Crash> {
    Arc::new(Crash {
        name,
        prototype,
        bindings,
        kind,
        offset,
        mark,
        reference: OnceLock::new(),
    })
}

const OUTSIDE: &str = "unsigned hot_outside(uint32_t *p, unsigned n, long offset)";
const READ: &str = "unsigned hot_outside_read(const uint32_t *p, unsigned n, long offset)";
const ELSEWHERE: &str = "unsigned hot_elsewhere(uint32_t *p, uint32_t *q, unsigned n)";

fn crashes() -> Vec<Arc<Crash>> {
    vec![
        crash(
            "past_the_end",
            OUTSIDE,
            &["p=zero:32", "n=300", "offset=32"],
            ("out_of_bounds", Some(32), "hot_touch"),
        ),
        crash(
            "before_the_start",
            OUTSIDE,
            &["p=zero:32", "n=300", "offset=-4"],
            ("out_of_bounds", Some(-4), "hot_touch"),
        ),
        crash(
            "across_the_end",
            READ,
            &["p=zero:32", "n=300", "offset=30"],
            ("out_of_bounds", Some(30), "hot_peek"),
        ),
        crash(
            "null",
            ELSEWHERE,
            &["p=zero:32", "q=null", "n=300"],
            ("wild_access", None, "hot_touch"),
        ),
        crash(
            "freed",
            ELSEWHERE,
            &["p=zero:32", "q=freed:zero:64", "n=300"],
            ("use_after_free", Some(0), "hot_touch"),
        ),
        crash(
            "read_only",
            "unsigned hot_constant(uint32_t *p, const uint32_t *q, unsigned n)",
            &["p=zero:32", "q=zero:8", "n=300"],
            ("write_to_read_only", Some(0), "hot_touch"),
        ),
        crash(
            "divide_by_zero",
            "unsigned hot_divide(uint32_t *p, unsigned n)",
            &["p=zero:32", "n=300"],
            ("native_crash", None, "hot_divide"),
        ),
        crash(
            "undefined",
            "unsigned hot_undefined(uint32_t *p, unsigned n)",
            &["p=zero:32", "n=300"],
            ("native_crash", None, "hot_undefined"),
        ),
    ]
}

pub(crate) fn add(suite: &mut Suite) {
    for one in crashes() {
        for backend in BACKENDS {
            let one = Arc::clone(&one);
            let name = format!("crash::{}::{}", one.name, backend.name());
            suite.add(name, backend.needs(), move || {
                for &mode in modes::modes() {
                    one.check(backend, mode)
                        .with_context(|| format!("{mode:?}, against inproc --hot off"))?;
                }
                Ok(())
            });
        }
    }
    for backend in BACKENDS {
        let name = format!("crash::timeout::{}", backend.name());
        suite.add(name, backend.needs(), move || {
            for &mode in modes::modes() {
                timeout(backend, mode).with_context(|| format!("{mode:?}"))?;
            }
            Ok(())
        });
    }
}

impl Crash {
    fn run(&self, backend: Backend, mode: Mode) -> Result<Outcome> {
        let outcome = Call::new(Lib::Hot.path(), self.prototype, backend)
            .bind(self.bindings.iter().copied())
            .option(mode.options().iter().copied())
            .with_events()
            .run()?;
        outcome.expect_code(1)?;
        Ok(outcome)
    }

    fn check(&self, backend: Backend, mode: Mode) -> Result<()> {
        let reference = self.reference.get_or_init(|| {
            self.run(Backend::Inproc, Mode::Off)
                .map_err(|error| explain(&error))
        });
        let reference = reference.as_ref().map_err(|text| anyhow!(text.clone()))?;
        let outcome = self.run(backend, mode)?;
        let found = outcome.report.violations.first().context("no violation")?;
        check!(found.kind == self.kind, "{found:#?}");
        let offset = found.offset.as_ref().and_then(|offset| offset.value());
        check!(offset == self.offset, "{found:#?}");
        let line = marked_line(self.mark)?;
        check!(
            found
                .source
                .as_deref()
                .is_some_and(|at| at.ends_with(&line)),
            "not at {line}: {found:#?}"
        );
        let told: Vec<String> = outcome.report.violations.iter().map(plain).collect();
        let wanted: Vec<String> = reference.report.violations.iter().map(plain).collect();
        check!(told == wanted, "{told:#?}, not {wanted:#?}");
        if let Some(found) = difference(&Did::of(reference).streams, &Did::of(&outcome).streams) {
            return Err(anyhow!(found.text));
        }
        Ok(())
    }
}

/// A violation without absolute addresses of the run.
fn plain(found: &Violation) -> String {
    let Violation {
        kind,
        access,
        certain,
        size,
        allocation,
        offset,
        symbol,
        source,
        backtrace,
        ..
    } = found;
    let offset = offset.as_ref().and_then(|offset| offset.value());
    // What is below native code is the program's own.
    let frames: Vec<&String> = backtrace
        .iter()
        .take_while(|frame| frame.contains("hot_"))
        .collect();
    format!(
        "{kind} {access:?} {certain:?} {size:?} {allocation:?} {offset:?} {symbol:?} {source:?} \
         {frames:?}"
    )
}

/// An endless loop ends when its time is up, wherever it is then.
fn timeout(backend: Backend, mode: Mode) -> Result<()> {
    let outcome = Call::new(Lib::Hot.path(), "void hot_endless(uint32_t *p)", backend)
        .bind(["p=zero:32"])
        .option(mode.options().iter().copied())
        .option(["--timeout", "1"])
        .run()?;
    outcome.expect_code(1)?;
    let found = outcome.report.violations.first().context("no violation")?;
    check!(found.kind == "timeout", "{found:#?}");
    let elapsed = outcome.process.elapsed;
    check!(
        elapsed >= Duration::from_secs(1) && elapsed < Duration::from_secs(20),
        "took {elapsed:?}"
    );
    let (stats, p) = (&outcome.report.stats, outcome.allocation("p")?);
    check!(
        p.read == [(0, 32)] && p.written == [(0, 32)] && stats.complete,
        "{p:?} {stats:?}"
    );
    // The last addition may have been under way.
    check!(stats.reads.abs_diff(stats.writes) <= 1, "{stats:?}");
    Ok(())
}
