//! Rows about vector instructions that touch some lanes and not others.

use anyhow::Result;
use ffitrace_tests::call::Backend;
use ffitrace_tests::check;
use ffitrace_tests::fixture::Lib;
use ffitrace_tests::host::Need;
use ffitrace_tests::report::Range;
use ffitrace_tests::suite::Suite;

use crate::expect::{bad, good, row, touched};

/// Name, prototype, bytes written, and what the processor must have.
type Masked = (&'static str, &'static str, &'static [Range], Option<Need>);

const STORES: [Masked; 4] = [
    (
        "maskmovdqu",
        "void sse_maskmovdqu(void *p)",
        &[(0, 1), (5, 6)],
        None,
    ),
    (
        "vmaskmovps",
        "void avx_maskstore(void *p)",
        &[(0, 4), (8, 12)],
        Some(Need::Avx),
    ),
    (
        "scatter",
        "void avx512_scatter(void *p)",
        &[(0, 4), (8, 12), (16, 20), (24, 28)],
        Some(Need::Avx512),
    ),
    (
        "compress",
        "void avx512_compress_store(void *p)",
        &[(0, 12)],
        Some(Need::Avx512),
    ),
];

pub(crate) fn add(suite: &mut Suite) {
    for (name, prototype, written, need) in STORES {
        // In a buffer that ends with the last lane that is stored: the others lie past its end.
        let end = written.last().map_or(0, |range| range.1);
        for (what, size) in [
            ("stores_are_writes", 64),
            ("inactive_lane_past_the_end", end),
        ] {
            row(suite, &format!("{what}::{name}"), need, move |backend| {
                store(backend, prototype, size, written)
            });
        }
    }
    row(
        suite,
        "gather_with_a_lane_far_out",
        Some(Need::Avx2),
        gather,
    );
}

fn store(backend: Backend, prototype: &str, size: u64, written: &[Range]) -> Result<()> {
    let outcome = good(
        Lib::Simd,
        prototype,
        backend,
        &[&format!("p=uninit:{size}")],
    )?;
    touched(&outcome, "p", &[], written)?;
    let p = outcome.allocation("p")?;
    check!(p.initialized == written, "initialised {:?}", p.initialized);
    check!(
        p.maybe_written.is_empty(),
        "perhaps written {:?}",
        p.maybe_written
    );
    Ok(())
}

/// Three lanes in the buffer, one 12,000 bytes on.
fn gather(backend: Backend) -> Result<()> {
    let prototype = "int avx2_gather_far(const void *p)";
    let (outcome, found) = bad(Lib::Simd, prototype, backend, &["p=i32:1,2,3,4"])?;
    let offset = found.offset.as_ref().and_then(|offset| offset.value());
    check!(
        found.kind == "out_of_bounds" && offset == Some(12_000) && found.size == Some(4),
        "{found:#?}"
    );
    touched(&outcome, "p", &[(0, 12)], &[])
}
