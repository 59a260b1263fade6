//! Rows about single accesses: their direction, their size, and that there may be many.

use anyhow::Result;
use ffitrace_tests::call::{Backend, Call};
use ffitrace_tests::check;
use ffitrace_tests::fixture::Lib;
use ffitrace_tests::host::Need;
use ffitrace_tests::report::Range;
use ffitrace_tests::suite::Suite;

use crate::expect::{good, returned, row, touched};

/// A store: library, prototype, how much it writes, and what the processor must have.
type Store = (
    &'static str,
    Lib,
    &'static str,
    &'static [Range],
    Option<Need>,
);

/// Into 64 uninitialised bytes `d`, from 64 bytes `s` where there is a source.
const STORES: [Store; 8] = [
    (
        "movups",
        Lib::O2,
        "void store_movups(void *d)",
        &[(0, 16)],
        None,
    ),
    ("movq", Lib::O2, "void store_movq(void *d)", &[(0, 8)], None),
    (
        "movnti",
        Lib::O2,
        "void movnti8(void *d, uint64_t v)",
        &[(0, 8)],
        None,
    ),
    ("fstp", Lib::O2, "void store_fstp(void *d)", &[(0, 8)], None),
    (
        "struct_copy",
        Lib::O2,
        "void copy_struct(void *d, const void *s)",
        &[(0, 40)],
        None,
    ),
    (
        "vmovups",
        Lib::Simd,
        "void avx_copy32(void *d, const void *s)",
        &[(0, 32)],
        Some(Need::Avx),
    ),
    (
        "vmovdqu64",
        Lib::Simd,
        "void avx512_copy64(void *d, const void *s)",
        &[(0, 64)],
        Some(Need::Avx512),
    ),
    (
        "masked_store",
        Lib::Simd,
        "void avx512_masked_store_bytes(void *d, uint64_t mask)",
        &[(0, 2), (9, 10)],
        Some(Need::Avx512),
    ),
];

pub(crate) fn add(suite: &mut Suite) {
    for (name, lib, prototype, written, need) in STORES {
        row(
            suite,
            &format!("stores_are_writes::{name}"),
            need,
            move |backend| store(backend, lib, prototype, written),
        );
    }
    row(suite, "more_than_21000_accesses", None, many);
    row(suite, "empty_call_256_mib_live", None, empty);
    row(suite, "test_register_memory", None, |backend| {
        let prototype = "int test_register(const void *p, uint32_t v)";
        let outcome = good(Lib::O2, prototype, backend, &["p=u32:5,6", "v=2"])?;
        returned(&outcome, "1")?;
        touched(&outcome, "p", &[(0, 4)], &[])
    });
    row(suite, "two_memory_operands::rep_movsb", None, |backend| {
        let prototype = "void rep_movsb(void *d, const void *s, uint64_t n)";
        copied(backend, prototype, 4096)
    });
    row(suite, "two_memory_operands::memcpy_4096", None, |backend| {
        let prototype = "void fx_memcpy(void *d, const void *s, size_t n)";
        copied(backend, prototype, 4096)
    });
    row(
        suite,
        "two_memory_operands::zlib_compress",
        Some(Need::Zlib),
        compress,
    );
    row(
        suite,
        "inactive_lane_past_the_end",
        Some(Need::Avx512),
        |backend| {
            // Dwords 0 and 2 of a vector of 64 bytes, in buffers of 12.
            let prototype = "void avx512_masked_copy(void *d, const void *s, uint32_t mask)";
            let bindings = ["d=uninit:12", "s=u32:1,2,3", "mask=5"];
            let outcome = good(Lib::Simd, prototype, backend, &bindings)?;
            touched(&outcome, "s", &[(0, 4), (8, 12)], &[])?;
            touched(&outcome, "d", &[], &[(0, 4), (8, 12)])
        },
    );
}

fn store(backend: Backend, lib: Lib, prototype: &str, written: &[Range]) -> Result<()> {
    let mut bindings = vec!["d=uninit:64"];
    if prototype.contains("*s") {
        bindings.push("s=zero:64");
    }
    if prototype.contains(" v)") {
        bindings.push("v=7");
    }
    if prototype.contains(" mask)") {
        bindings.push("mask=0x203");
    }
    let outcome = good(lib, prototype, backend, &bindings)?;
    touched(&outcome, "d", &[], written)?;
    let d = outcome.allocation("d")?;
    check!(d.initialized == written, "initialised {:?}", d.initialized);
    Ok(())
}

fn many(backend: Backend) -> Result<()> {
    let prototype = "uint64_t read_loop(const uint32_t *p, uint64_t len, uint64_t n)";
    let outcome = good(
        Lib::O2,
        prototype,
        backend,
        &["p=u32:1,2", "len=2", "n=24000"],
    )?;
    returned(&outcome, "36000")?;
    check!(
        outcome.report.stats.reads == 24_000,
        "{:?}",
        outcome.report.stats
    );
    Ok(())
}

/// Nothing is done for what is live but not touched: no access, and no page.
fn empty(backend: Backend) -> Result<()> {
    let live = |size: &str| {
        Call::new(Lib::O2.path(), "void touch_nothing(const void *p)", backend)
            .bind([format!("p=zero:{size}")])
            .run()
    };
    let (little, much) = (live("1M")?, live("256M")?);
    for outcome in [&little, &much] {
        outcome.expect_code(0)?;
        check!(
            outcome.report.stats.events == 0,
            "{:?}",
            outcome.report.stats
        );
    }
    let (little, much) = (little.process.max_rss_kib, much.process.max_rss_kib);
    // A bit for each byte says what is initialised; the bytes themselves are not there.
    check!(
        much < little + (64 << 10),
        "{much} KiB resident, {little} with 1 MiB live"
    );
    Ok(())
}

fn copied(backend: Backend, prototype: &str, n: u64) -> Result<()> {
    let bindings = [
        format!("d=uninit:{n}"),
        format!("s=zero:{n}"),
        format!("n={n}"),
    ];
    let bindings: Vec<&str> = bindings.iter().map(String::as_str).collect();
    let outcome = good(Lib::O2, prototype, backend, &bindings)?;
    touched(&outcome, "s", &[(0, n)], &[])?;
    touched(&outcome, "d", &[], &[(0, n)])?;
    check!(
        outcome.allocation("d")?.initialized == [(0, n)],
        "not all initialised"
    );
    Ok(())
}

fn compress(backend: Backend) -> Result<()> {
    let prototype = "int compress(unsigned char *dest, unsigned long *destLen, \
         const unsigned char *source, unsigned long sourceLen)";
    let outcome = Call::new("libz.so.1", prototype, backend)
        .bind([
            "dest=uninit:100",
            "destLen=u64:100",
            "sourceLen=len(source)",
        ])
        .bind([format!("source=bytes:{}", "hello ".repeat(50))])
        .run()?;
    outcome.expect_code(0)?;
    returned(&outcome, "0")?;
    touched(&outcome, "source", &[(0, 300)], &[])?;
    let len = outcome.allocation("destLen")?.bytes[..2].to_owned();
    let len = u64::from_str_radix(&len, 16)?;
    check!(
        outcome.allocation("dest")?.initialized == [(0, len)],
        "not the {len} bytes of the output are initialised"
    );
    Ok(())
}
