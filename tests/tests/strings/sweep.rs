//! Each function at many sizes: of every single call exactly the bytes that its definition names.
//!
//! The trace is cut at the marks that the fixture leaves before and after each call; what lies
//! between is compared with the definition. `FFITRACE_ALL_SIZES=1` runs each function at each size
//! from 0 to 8,192, which takes minutes in an optimised build; otherwise a function of glibc takes
//! all sizes up to 100 and every 257th beyond, each function others.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use ffitrace_tests::call::{Backend, Outcome};
use ffitrace_tests::check;
use ffitrace_tests::fixture::Lib;
use ffitrace_tests::report::{Event, Range};
use ffitrace_tests::suite::Suite;

use crate::buffers::{MOST, Sizes, TO_THE_PAGE, call_one, text};
use crate::functions::{Does, Function, functions};

/// Sizes that one run of the program takes.
const AT_A_TIME: usize = 512;

pub(crate) fn add(suite: &mut Suite) {
    let all = std::env::var_os("FFITRACE_ALL_SIZES").is_some();
    for (lib, libc) in [(Lib::Sweep, "glibc"), (Lib::SweepMusl, "musl")] {
        for (index, function) in functions().into_iter().enumerate() {
            if lib == Lib::SweepMusl && !function.in_musl {
                continue;
            }
            for backend in Backend::ALL {
                // Enough that glibc's are stepped one by one.
                if (backend, lib) == (Backend::Ptrace, Lib::SweepMusl) {
                    continue;
                }
                let sizes = match (backend, lib) {
                    (Backend::Ptrace, _) => Sizes::Few,
                    _ if all => Sizes::All,
                    // Many of musl's functions go byte by byte.
                    (_, Lib::SweepMusl) => Sizes::Few,
                    _ => Sizes::Spread(index),
                };
                let name = format!("{libc}::{}::{}", function.name, backend.name());
                suite.add(name, backend.needs(), move || {
                    run(backend, lib, &function, sizes, MOST + 64 + index % 16 * 4)
                });
            }
            if lib == Lib::SweepMusl {
                continue;
            }
            // What looks out for pages is what searches by vectors.
            let backend = Backend::Inproc;
            let name = format!("{libc}::{}_to_the_page::{}", function.name, backend.name());
            suite.add(name, backend.needs(), move || {
                run(backend, lib, &function, Sizes::Few, TO_THE_PAGE)
            });
        }
    }
}

fn run(backend: Backend, lib: Lib, function: &Function, sizes: Sizes, len: usize) -> Result<()> {
    let sizes = sizes.list(function.unit);
    // A function that goes byte by byte makes millions of accesses, all of which are kept until
    // they have been compared.
    sizes
        .chunks(AT_A_TIME)
        .try_for_each(|sizes| run_sizes(backend, lib, function, sizes, len))
}

fn run_sizes(
    backend: Backend,
    lib: Lib,
    function: &Function,
    sizes: &[usize],
    len: usize,
) -> Result<()> {
    let source = text(len, function.unit);
    let (call, _file) = call_one(backend, lib, function, &source, sizes)?;
    let call = call.within(Duration::from_secs(600));
    let untraced = call.clone().untraced().run()?;
    let traced = call.with_events().run()?;
    traced.expect_code(0)?;
    check!(traced.report.stats.complete, "the trace is not complete");
    let result = |outcome: &Outcome| outcome.report.ret.as_ref().map(|ret| ret.text());
    check!(
        result(&traced) == result(&untraced),
        "another result than untraced"
    );
    if len == TO_THE_PAGE {
        let base = traced.allocation("src")?.base().context("base")?;
        check!(
            (base + len as u64).is_multiple_of(4096),
            "{base:#x} + {len} ends no page"
        );
    }
    let mut events = traced.events.iter();
    for (index, &n) in sizes.iter().enumerate() {
        let during = between_marks(&mut events, index)?;
        check_one(function, &during, len, n).with_context(|| format!("{n} bytes"))?;
    }
    let written = traced.allocation("mark")?.written.len();
    check!(written <= 1, "there are gaps in the marks");
    Ok(())
}

/// The events between the write of mark `index` and the read of it.
fn between_marks<'a>(
    events: &mut impl Iterator<Item = &'a Event>,
    index: usize,
) -> Result<Vec<&'a Event>> {
    let is_mark = |event: &Event, kind: &str| {
        let offset = event.offset.as_ref().and_then(|offset| offset.value());
        event.allocation.as_deref() == Some("mark")
            && event.kind == kind
            && offset == i64::try_from(index).ok()
    };
    events
        .find(|event| is_mark(event, "write"))
        .context("no mark before the call")?;
    let mut during = Vec::new();
    for event in events {
        if is_mark(event, "read") {
            return Ok(during);
        }
        during.push(event);
    }
    bail!("no mark after the call")
}

fn check_one(function: &Function, during: &[&Event], len: usize, n: usize) -> Result<()> {
    let (reads, writes) = (function.reads, function.writes);
    for (buffer, kind, does) in [
        ("src", "read", reads.0),
        ("dst", "read", reads.1),
        ("src", "write", writes.0),
        ("dst", "write", writes.1),
    ] {
        let touched = touched(during, buffer, kind, len)?;
        let (end, n) = (len as u64, n as u64);
        // A string of wide characters has no byte between the last one and the end.
        let last = vec![(end - n, end)];
        let fits = match does {
            Does::Not => touched.is_empty(),
            _ if n == 0 => touched.is_empty() || kind == "read",
            Does::Exactly => touched == last,
            Does::Shifted => touched == [(end - n - 9, end - 9)],
            // Blocks of at most 64 bytes, on their boundaries, four at a time.
            Does::AtLeast => {
                touched.len() == 1
                    && (end - n).saturating_sub(256) <= touched[0].0
                    && touched[0].0 <= end - n
                    && touched[0].1 == end
            }
            Does::Perhaps => touched
                .iter()
                .all(|range| (end - n).saturating_sub(256) <= range.0),
        };
        check!(fits, "{buffer}: {kind} {touched:?}, {does:?} {last:?}");
    }
    let others = during
        .iter()
        .filter(|event| !matches!(event.allocation.as_deref(), Some("src" | "dst")))
        .count();
    check!(others == 0, "{others} accesses to other memory");
    Ok(())
}

/// The bytes of a buffer that events of a kind touched: what over-reads touch beyond its end is
/// not of it.
fn touched(during: &[&Event], buffer: &str, kind: &str, len: usize) -> Result<Vec<Range>> {
    let mut ranges = Vec::new();
    for event in during {
        if event.allocation.as_deref() == Some(buffer) && event.kind == kind {
            check!(event.certain, "{event:?}");
            let offset = event.offset.as_ref().and_then(|offset| offset.value());
            let start = offset.context("offset")?;
            let end = start + i64::try_from(event.size)?;
            check!(kind == "read" || end <= len as i64, "{event:?}");
            let range = (start.max(0) as u64, end.clamp(0, len as i64) as u64);
            if range.0 < range.1 {
                ranges.push(range);
            }
        }
    }
    ranges.sort_unstable();
    let mut merged: Vec<Range> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.0 <= last.1 => last.1 = last.1.max(range.1),
            _ => merged.push(range),
        }
    }
    Ok(merged)
}
