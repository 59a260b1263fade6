//! Breaches that need more than a table's line.

use anyhow::{Context, Result};
use ffitrace_tests::call::{Backend, Call};
use ffitrace_tests::check;
use ffitrace_tests::fixture::Lib;
use ffitrace_tests::report::hex;

use crate::cases::{OOB, READ_ONLY, WILD};
use crate::{check_site, only};

/// A megabyte past the end: still the arena, so out of bounds, whoever the nearest buffer is.
pub(crate) fn far(backend: Backend) -> Result<()> {
    let prototype = "char oob_far(const char *p, size_t by)";
    let outcome = Call::new(Lib::O2.path(), prototype, backend)
        .bind(["p=zero:16", "by=1048576"])
        .run()?;
    outcome.expect_code(1)?;
    let found = only(&outcome)?;
    check!(
        found.kind == OOB && found.access.as_deref() == Some("read"),
        "{found:#?}"
    );
    let base = outcome.allocation("p")?.base().context("base")?;
    check!(
        found.addr.as_deref().and_then(hex) == Some(base + 0x10_0000),
        "{found:#?}"
    );
    check!(found.size == Some(1), "{found:#?}");
    check_site(found, "oob_far", Some("oob_far"))
}

/// memcpy is told one byte too many: the breach is in libc, the way there in the backtrace.
pub(crate) fn libc_oob(backend: Backend) -> Result<()> {
    let prototype = "void oob_memcpy(char *p, size_t n)";
    let outcome = Call::new(Lib::O2.path(), prototype, backend)
        .bind(["p=uninit:20", "n=20"])
        .run()?;
    outcome.expect_code(1)?;
    let found = outcome.report.violations.first().context("no violation")?;
    check!(
        found.kind == OOB && found.access.as_deref() == Some("write"),
        "{found:#?}"
    );
    let offset = found
        .offset
        .as_ref()
        .and_then(|offset| offset.value())
        .context("no offset")?;
    let end = offset + i64::try_from(found.size.unwrap_or(0))?;
    check!(
        found.allocation.as_deref() == Some("p") && end == 21,
        "ends at {end}, not 21: {found:#?}"
    );
    Ok(())
}

/// What came before a breach is in the report with it.
pub(crate) fn surroundings(backend: Backend) -> Result<()> {
    let prototype = "void good_bad_good(char *p, size_t n)";
    let outcome = Call::new(Lib::O2.path(), prototype, backend)
        .bind(["p=uninit:6", "n=6"])
        .with_events()
        .run()?;
    outcome.expect_code(1)?;
    let p = outcome.allocation("p")?;
    let first = p.written.first() == Some(&(0, 1));
    // Whether native code goes on after a breach is the product's choice; a byte that it was not
    // asked to write is nobody's.
    check!(
        first && p.written.iter().all(|r| *r == (0, 1) || *r == (5, 6)),
        "{:?}",
        p.written
    );
    check!(p.read.is_empty(), "{:?}", p.read);
    Ok(())
}

/// A write to the library's own constants faults outside the arena.
pub(crate) fn own_rodata(backend: Backend) -> Result<()> {
    let outcome = Call::new(Lib::O2.path(), "void write_own_rodata(void)", backend).run()?;
    outcome.expect_code(1)?;
    let found = only(&outcome)?;
    check!(
        [WILD, "native_crash"].contains(&found.kind.as_str()),
        "{found:#?}"
    );
    check_site(found, "write_own_rodata", Some("write_own_rodata"))
}

/// strlen looks past the NUL inside its block: a class of its own, and only when asked for.
pub(crate) fn overread(backend: Backend, strict: bool) -> Result<()> {
    let mut call =
        Call::new(Lib::O2.path(), "size_t fx_strlen(const char *s)", backend).bind(["s=str:hello"]);
    if strict {
        call = call.option(["--strict"]);
    }
    let outcome = call.run()?;
    if !strict {
        check!(
            outcome
                .report
                .ret
                .as_ref()
                .is_some_and(|ret| ret.text() == "5"),
            "wrong result"
        );
        return outcome.expect_code(0);
    }
    outcome.expect_code(1)?;
    let kinds: Vec<&str> = outcome
        .report
        .violations
        .iter()
        .map(|v| v.kind.as_str())
        .collect();
    check!(
        !kinds.is_empty() && kinds.iter().all(|kind| *kind == "overread"),
        "{kinds:?}"
    );
    let found = &outcome.report.violations[0];
    check!(found.access.as_deref() == Some("read"), "{found:#?}");
    check!(found.allocation.as_deref() == Some("s"), "{found:#?}");
    // The function for this processor has a name in the C library's debug file (package libc6-dbg) only.
    check!(
        found
            .symbol
            .as_deref()
            .is_some_and(|symbol| symbol.contains("strlen") || symbol.starts_with("libc.so.6+0x")),
        "{found:#?}"
    );
    Ok(())
}

/// The same write is no breach when the binding says `mut:`.
pub(crate) fn mut_lifts(backend: Backend) -> Result<()> {
    let outcome = Call::new(Lib::O2.path(), "void write_const(const char *p)", backend)
        .bind(["p=mut:str:const"])
        .run()?;
    outcome.expect_code(0)?;
    let p = outcome.allocation("p")?;
    check!(
        p.mutable && p.written == [(0, 1)],
        "mutable {}, written {:?}",
        p.mutable,
        p.written
    );
    check!(p.bytes.starts_with("78"), "bytes {}", p.bytes);
    Ok(())
}

/// Two calls break the same rule twice.
pub(crate) fn two_breaches(backend: Backend) -> Result<()> {
    let outcome = Call::new(Lib::O2.path(), "void write_const(const char *p)", backend)
        .bind(["p=str:const"])
        .option(["--repeat", "2"])
        .run()?;
    outcome.expect_code(1)?;
    check!(
        outcome
            .report
            .violations
            .iter()
            .all(|found| found.kind == READ_ONLY),
        "other kinds"
    );
    check!(!outcome.report.violations.is_empty(), "no violation");
    Ok(())
}

/// Three lanes in bounds, one 12,000 bytes on, which is seen.
pub(crate) fn gather_far(backend: Backend) -> Result<()> {
    let outcome = Call::new(
        Lib::Simd.path(),
        "int avx2_gather_far(const void *p)",
        backend,
    )
    .bind(["p=zero:16"])
    .run()?;
    outcome.expect_code(1)?;
    let found = only(&outcome)?;
    check!(found.kind == OOB && found.size == Some(4), "{found:#?}");
    let base = outcome.allocation("p")?.base().context("base")?;
    check!(
        found.addr.as_deref().and_then(hex) == Some(base + 12_000),
        "{found:#?}"
    );
    Ok(())
}
