//! libc's qsort, with elements of many sizes: it moves them by words, by bytes and indirectly.

use anyhow::Result;
use ffitrace_tests::call::Backend;
use ffitrace_tests::check;
use ffitrace_tests::fixture::Lib;
use ffitrace_tests::suite::Suite;

use crate::job::{Job, add_test, binding, content, text};

pub(crate) fn add(suite: &mut Suite) {
    for (count, size) in [
        (0, 4),
        (1, 4),
        (2, 1),
        (3, 2),
        (50, 1),
        (100, 4),
        (500, 8),
        (40, 12),
        (30, 40),
        (9, 100),
    ] {
        add_test(
            suite,
            &format!("qsort::{count}_of_{size}"),
            move |backend| sorted(backend, count, size),
        );
    }
}

fn sorted(backend: Backend, count: usize, size: usize) -> Result<()> {
    let items = text(count * size);
    let mut expected: Vec<&[u8]> = items.chunks(size).collect();
    expected.sort_unstable();
    let job = Job::new(Lib::O2, "void sort_bytes(void *p, size_t n, size_t size)")
        .input("p", format!("mut:{}", binding(&items)))
        .input("n", count)
        .input("size", size);
    if count < 2 {
        return untouched(backend, &items, count, size);
    }
    let outcome = job.run(backend)?;
    check!(content(&outcome, "p")? == expected.concat(), "not sorted");
    let p = outcome.allocation("p")?;
    // Large elements are compared by their keys and moved only if they are out of place.
    let whole = [(0, items.len() as u64)];
    check!(size > 32 || p.read == whole, "read {:?}", p.read);
    let changed = (0u64..).zip(items.iter().zip(expected.concat()));
    for (at, _) in changed.filter(|(_, (before, after))| **before != *after) {
        let written = p
            .written
            .iter()
            .any(|range| (range.0..range.1).contains(&at));
        check!(written, "byte {at} changed, but is not in {:?}", p.written);
    }
    check!(p.maybe_written.is_empty(), "{:?}", p.maybe_written);
    Ok(())
}

/// Nothing to compare, nothing to do.
fn untouched(backend: Backend, items: &[u8], count: usize, size: usize) -> Result<()> {
    let prototype = "void sort_bytes(void *p, size_t n, size_t size)";
    let outcome = ffitrace_tests::call::Call::new(Lib::O2.path(), prototype, backend)
        .bind([
            format!("p={}", binding(items)),
            format!("n={count}"),
            format!("size={size}"),
        ])
        .run()?;
    outcome.expect_code(0)?;
    check!(outcome.report.stats.events == 0, "it was touched");
    Ok(())
}
