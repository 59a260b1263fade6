//! Each rule that native code can break, and the fields with which its breach is reported.
//!
//! Use after free cannot be provoked from here: the command line frees its buffers after the last
//! call. It is tested where allocations can be freed, at the memory's own tests.

use std::process::ExitCode;

use anyhow::{Context, Result};
use ffitrace_tests::call::{Backend, Call, Outcome};
use ffitrace_tests::check;
use ffitrace_tests::fixture::marked_line;
use ffitrace_tests::host::Need;
use ffitrace_tests::report::{Violation, hex};
use ffitrace_tests::suite::Suite;

mod cases;
mod special;

use cases::{Bad, Place, cases};

fn main() -> ExitCode {
    let mut suite = Suite::new();
    for case in cases() {
        for backend in Backend::ALL {
            let name = format!("{}@{:?}::{}", case.name, case.lib, backend.name()).to_lowercase();
            suite.add(name, backend.needs(), move || check_bad(case, backend));
        }
    }
    for backend in Backend::ALL {
        let named = |name: &str| format!("{name}::{}", backend.name());
        suite.add(named("far_out_of_bounds"), backend.needs(), move || {
            special::far(backend)
        });
        suite.add(
            named("libc_writes_past_the_end"),
            backend.needs(),
            move || special::libc_oob(backend),
        );
        suite.add(
            named("surroundings_of_a_violation"),
            backend.needs(),
            move || special::surroundings(backend),
        );
        suite.add(named("own_rodata"), backend.needs(), move || {
            special::own_rodata(backend)
        });
        suite.add(named("overread_is_benign"), backend.needs(), move || {
            special::overread(backend, false)
        });
        suite.add(named("overread_when_strict"), backend.needs(), move || {
            special::overread(backend, true)
        });
        suite.add(named("mut_lifts_read_only"), backend.needs(), move || {
            special::mut_lifts(backend)
        });
        suite.add(named("every_breach_counts"), backend.needs(), move || {
            special::two_breaches(backend)
        });
        let needs: Vec<Need> = backend.needs().into_iter().chain([Need::Avx2]).collect();
        suite.add(named("gather_lane_far_out"), needs, move || {
            special::gather_far(backend)
        });
    }
    suite.run()
}

fn check_bad(case: Bad, backend: Backend) -> Result<()> {
    let outcome = Call::new(case.lib.path(), case.prototype, backend)
        .bind(case.bindings.iter().copied())
        .with_events()
        .run()?;
    outcome.expect_code(1)?;
    let found = only(&outcome)?;
    check!(
        found.kind == case.kind,
        "kind {}, not {}: {found:#?}",
        found.kind,
        case.kind
    );
    check!(
        found.access.as_deref() == Some(case.access),
        "access {:?}: {found:#?}",
        found.access
    );
    check!(found.certain == Some(true), "certain {:?}", found.certain);
    check_place(case, &outcome, found)?;
    check_site(found, case.function, case.mark)
}

/// The one violation of a run.
fn only(outcome: &Outcome) -> Result<&Violation> {
    let violations = &outcome.report.violations;
    check!(
        violations.len() == 1,
        "{} violations, not one: {violations:#?}",
        violations.len()
    );
    Ok(&violations[0])
}

fn check_place(case: Bad, outcome: &Outcome, found: &Violation) -> Result<()> {
    let addr = found.addr.as_deref().and_then(hex);
    let offset = found.offset.as_ref().and_then(|offset| offset.value());
    match case.place {
        Place::Buffer(name, expected) => {
            check!(
                found.size == Some(case.size),
                "size {:?}, not {}",
                found.size,
                case.size
            );
            check!(
                found.allocation.as_deref() == Some(name),
                "allocation {:?}",
                found.allocation
            );
            check!(
                offset == Some(expected),
                "offset {offset:?}, not {expected}"
            );
            let base = outcome.allocation(name)?.base().context("base")?;
            let expected = base.wrapping_add_signed(expected);
            check!(
                addr == Some(expected),
                "addr {:?}, not {expected:#x}",
                found.addr
            );
        }
        Place::Address(expected) => {
            check!(
                found.size == Some(case.size),
                "size {:?}, not {}",
                found.size,
                case.size
            );
            check!(
                addr == Some(expected),
                "addr {:?}, not {expected:#x}",
                found.addr
            );
            check!(
                found.allocation.is_none(),
                "allocation {:?}",
                found.allocation
            );
        }
        Place::NotCanonical(expected) => {
            check!(
                addr.is_none() || addr == Some(expected),
                "addr {:?}: neither {expected:#x} nor left out",
                found.addr
            );
            check!(
                found.allocation.is_none(),
                "allocation {:?}",
                found.allocation
            );
        }
    }
    Ok(())
}

/// The instruction is named by function, and by source line where one is known.
fn check_site(found: &Violation, function: &str, mark: Option<&str>) -> Result<()> {
    check!(
        found.ip.as_deref().and_then(hex).is_some_and(|ip| ip != 0),
        "ip {:?}",
        found.ip
    );
    let symbol = found.symbol.as_deref().context("no symbol")?;
    let name = symbol.split('+').next().unwrap_or_default();
    check!(name == function, "symbol {symbol}, not {function}+0x…");
    if let Some(mark) = mark {
        let line = marked_line(mark)?;
        let source = found.source.as_deref().context("no source line")?;
        check!(
            source == line || source.ends_with(&format!("/{line}")),
            "source {source}, not {line}"
        );
    }
    Ok(())
}
