//! The variants of glibc's functions for other processors, chosen by its own switch
//! (`GLIBC_TUNABLES`): same results, no violation.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use ffitrace_tests::call::{Backend, Outcome};
use ffitrace_tests::check;
use ffitrace_tests::fixture::Lib;
use ffitrace_tests::host::Need;
use ffitrace_tests::suite::Suite;

use crate::buffers::{TO_THE_PAGE, call, text};
use crate::functions::Unit;

/// Name, what is switched off, and what the processor must have for that to make a difference.
const VARIANTS: [(&str, &str, Need); 3] = [
    ("avx2", "-AVX512VL,-AVX512BW", Need::Avx512),
    ("sse42", "-AVX512VL,-AVX512BW,-AVX2,-BMI2,-AVX", Need::Avx2),
    (
        "sse2",
        "-AVX512VL,-AVX512BW,-AVX2,-BMI2,-AVX,-SSE4_2,-SSE4_1,-SSSE3,-ERMS,-FSRM",
        Need::Avx2,
    ),
];

pub(crate) fn add(suite: &mut Suite) {
    for (name, off, need) in VARIANTS {
        for backend in Backend::ALL {
            for (what, unit) in [("strings", Unit::Chars), ("wide", Unit::Wide)] {
                let needs: Vec<Need> = backend.needs().into_iter().chain([need]).collect();
                let name = format!("variants::{what}_for_{name}::{}", backend.name());
                suite.add(name, needs, move || variant(backend, unit, off));
            }
        }
    }
}

fn variant(backend: Backend, unit: Unit, off: &str) -> Result<()> {
    let lens: &[usize] = match backend {
        Backend::Inproc => &[8192 + 32, TO_THE_PAGE],
        Backend::Ebpf => &[8192 + 32],
        Backend::Ptrace => &[TO_THE_PAGE],
    };
    for &len in lens {
        let [usual, other] = ["", off].map(|off| every(backend, unit, len, off));
        let (usual, other) = (usual?, other?);
        let result = |outcome: &Outcome| outcome.report.ret.as_ref().map(|ret| ret.text());
        check!(result(&usual) == result(&other), "another result");
        let (usual, other) = (places(&usual)?, places(&other)?);
        let new = other.difference(&usual).count();
        check!(
            new > 50,
            "only {new} other instructions: the switch had no effect"
        );
    }
    Ok(())
}

/// All functions of a kind, at a few sizes.
fn every(backend: Backend, unit: Unit, len: usize, off: &str) -> Result<Outcome> {
    const MOST_FUNCTIONS: usize = 40;
    let name = if unit == Unit::Chars {
        "every_string"
    } else {
        "every_wide"
    };
    let sizes = [4, 8, 16, 32, 36, 64, 68, 96, 132, 260, 516, 1028];
    let source = text(len, unit);
    let (call, _file) = call(
        backend,
        Lib::Sweep,
        name,
        true,
        &source,
        &sizes,
        MOST_FUNCTIONS,
    )?;
    let call = call.variable("GLIBC_TUNABLES", &format!("glibc.cpu.hwcaps={off}"));
    let untraced = call.clone().untraced().run()?;
    let traced = call.with_events().run()?;
    traced.expect_code(0)?;
    check!(traced.report.stats.complete, "the trace is not complete");
    let result = |outcome: &Outcome| outcome.report.ret.as_ref().map(|ret| ret.text());
    check!(
        result(&traced) == result(&untraced),
        "another result than untraced"
    );
    Ok(traced)
}

/// Where in libc the accesses were made.
fn places(outcome: &Outcome) -> Result<BTreeSet<String>> {
    let places = outcome.events.iter().map(|event| {
        let symbol = event.symbol.clone();
        symbol.with_context(|| format!("no symbol: {event:?}"))
    });
    places.collect()
}
