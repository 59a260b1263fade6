//! What counts as an over-read, and what does not.

use anyhow::{Context, Result};
use ffitrace_tests::call::{Backend, Call, Outcome};
use ffitrace_tests::check;
use ffitrace_tests::fixture::{Lib, marked_line};
use ffitrace_tests::suite::Suite;

/// musl's libc as its package installs it.
const MUSL: &str = "/lib/x86_64-linux-musl/libc.so";

pub(crate) fn add(suite: &mut Suite) {
    for backend in Backend::ALL {
        let mut test = |name: &str, run: fn(Backend) -> Result<()>| {
            suite.add(
                format!("overread::{name}::{}", backend.name()),
                backend.needs(),
                move || run(backend),
            );
        };
        test("of_glibc", |backend| counted(backend, "libc.so.6", 1));
        // Two words: three bytes to the boundary, six bytes and the NUL.
        test("of_musl", |backend| counted(backend, MUSL, 1));
        test("of_a_copy_in_a_library", of_a_copy);
        test("by_callers_in_libc", by_callers);
        test("does_not_reach_the_neighbour", neighbours);
        test("string_without_nul", without_nul);
        test("compared_bytes_too_many", too_many);
        test("user_code_by_words", |backend| {
            user_code(
                backend,
                "length_by_words",
                "size_t length_by_words(const char *s)",
                8,
            )
        });
        test("user_code_by_vector", |backend| {
            user_code(
                backend,
                "first_vector",
                "int first_vector(const char *s)",
                16,
            )
        });
    }
}

fn returned(outcome: &Outcome, expected: &str) -> Result<()> {
    let ret = outcome.report.ret.as_ref().context("no result")?.text();
    check!(ret == expected, "returned {ret}, not {expected}");
    Ok(())
}

fn kinds(outcome: &Outcome) -> Vec<&str> {
    let violations = outcome.report.violations.iter();
    violations.map(|found| found.kind.as_str()).collect()
}

/// Counted by default, listed if asked for, a violation if that is asked for.
fn counted(backend: Backend, library: &str, least: u64) -> Result<()> {
    let call = Call::new(library, "size_t strlen(const char *s)", backend).bind(["s=str:hello"]);
    let outcome = call.run()?;
    outcome.expect_code(0)?;
    returned(&outcome, "5")?;
    check!(outcome.report.stats.overreads >= least, "not counted");
    check!(
        outcome.report.overreads.is_empty(),
        "listed without --verbose"
    );
    check!(
        outcome.allocation("s")?.read == [(0, 6)],
        "not all of it read"
    );

    let outcome = call.clone().option(["--verbose"]).run()?;
    outcome.expect_code(0)?;
    let listed: u64 = outcome.report.overreads.len() as u64;
    check!(listed >= least, "{listed} listed");
    for found in &outcome.report.overreads {
        check!(
            found.kind == "overread" && found.allocation.as_deref() == Some("s"),
            "{found:?}"
        );
        let symbol = found.symbol.as_deref().unwrap_or_default();
        check!(
            symbol.contains("strlen") || symbol.contains("libc.so.6"),
            "{symbol}"
        );
    }

    let outcome = call.option(["--strict"]).run()?;
    outcome.expect_code(1)?;
    returned(&outcome, "5")?;
    check!(
        kinds(&outcome).iter().all(|kind| *kind == "overread"),
        "{:?}",
        kinds(&outcome)
    );
    Ok(())
}

/// musl's functions, linked into the library: known by their local symbols.
fn of_a_copy(backend: Backend) -> Result<()> {
    let prototype = "uint64_t sweep_strlen(char *src, char *dst, unsigned char *mark, size_t len, \
         const uint32_t *sizes, size_t count)";
    let outcome = Call::new(Lib::SweepMusl.built()?, prototype, backend)
        .bind([
            "src=str:seven b",
            "dst=zero:8",
            "mark=uninit:2",
            "len=len(src)",
            "sizes=u32:7,8",
            "count=2",
        ])
        .option(["--verbose"])
        .run()?;
    outcome.expect_code(0)?;
    // The string of six characters begins on an odd address: a word at its end is cut.
    returned(&outcome, &(6 * 31 + 7).to_string())?;
    Ok(())
}

/// Functions of libc that are none of these themselves, but call them.
fn by_callers(backend: Backend) -> Result<()> {
    let print = "int print_string(char *d, size_t n, const char *s)";
    let part = "int print_part(char *d, size_t n, const char *s, int most)";
    let cases: [(&str, &[&str], &str); 9] = [
        (print, &["d=uninit:20", "n=20", "s=str:hello"], "7"),
        (
            part,
            &["d=uninit:20", "n=20", "s=bytes:hello", "most=5"],
            "7",
        ),
        (part, &["d=uninit:20", "n=20", "s=str:hello", "most=9"], "7"),
        (
            "int scan_string(const char *s)",
            &["s=str:37 words"],
            "2042",
        ),
        (
            "long parse_long(const char *s)",
            &["s=str:-12345"],
            "-12345",
        ),
        (
            "double parse_double(const char *s)",
            &["s=str:1.25e2"],
            "125",
        ),
        ("int count_words(char *s)", &["s=str:one  two three"], "3"),
        ("size_t duplicate(const char *s)", &["s=str:hello"], "5"),
        (
            "int compare(const char *a, const char *b)",
            &["a=str:same", "b=str:same"],
            "0",
        ),
    ];
    for (prototype, bindings, expected) in cases {
        let outcome = Call::new(Lib::O2.path(), prototype, backend)
            .bind(bindings.iter().copied())
            .run()?;
        outcome.expect_code(0).context(prototype)?;
        returned(&outcome, expected).context(prototype)?;
        check!(
            outcome.report.stats.complete,
            "{prototype}: the trace is not complete"
        );
        for allocation in &outcome.report.allocations {
            let whole = [(0, allocation.size)];
            check!(
                allocation.name == "d" || allocation.read == whole,
                "{prototype}: {} of {:?}",
                allocation.name,
                allocation.read
            );
        }
    }
    let outcome = Call::new(Lib::O2.path(), print, backend)
        .bind(["d=uninit:20", "n=20", "s=str:hello"])
        .run()?;
    let d = outcome.allocation("d")?;
    check!(d.initialized == [(0, 8)], "{:?}", d.initialized);
    Ok(())
}

/// Small buffers side by side: what is looked at beyond one is not read of the next one.
fn neighbours(backend: Backend) -> Result<()> {
    let prototype = "int compare_among(const char *below, const char *a, const char *between, \
         const char *b, const char *above)";
    let outcome = Call::new(Lib::O2.path(), prototype, backend)
        .bind(["below=str:untouched", "a=str:same", "between=str:untouched"])
        .bind(["b=str:same", "above=str:untouched"])
        .run()?;
    outcome.expect_code(0)?;
    for name in ["below", "between", "above"] {
        let read = &outcome.allocation(name)?.read;
        check!(read.is_empty(), "{name}: {read:?}");
    }
    Ok(())
}

/// The search for a NUL that is not there leaves the allocation and does not come back.
fn without_nul(backend: Backend) -> Result<()> {
    for library in ["libc.so.6", MUSL] {
        for len in [1usize, 5, 64, 1000, 5000] {
            let text = "x".repeat(len);
            let outcome = Call::new(library, "size_t strlen(const char *s)", backend)
                .bind([format!("s=bytes:{text}")])
                .run()?;
            outcome
                .expect_code(1)
                .with_context(|| format!("{library}, {len} bytes"))?;
            let kinds = kinds(&outcome);
            check!(
                kinds.contains(&"out_of_bounds"),
                "{library}, {len} bytes: {kinds:?}"
            );
        }
    }
    Ok(())
}

/// memcmp is told of one byte too many: no over-read.
fn too_many(backend: Backend) -> Result<()> {
    for len in [3, 40, 200] {
        let outcome = Call::new(
            Lib::O2.path(),
            "int compare_bytes(const void *a, const void *b, size_t n)",
            backend,
        )
        .bind([
            format!("a=zero:{len}"),
            format!("b=zero:{}", len + 1),
            "n=len(b)".into(),
        ])
        .run()?;
        outcome
            .expect_code(1)
            .with_context(|| format!("{len} bytes"))?;
        check!(
            kinds(&outcome).iter().all(|kind| *kind == "out_of_bounds"),
            "{:?}",
            kinds(&outcome)
        );
    }
    Ok(())
}

/// User code that reads as string functions do, on a boundary and within the page.
fn user_code(backend: Backend, function: &str, prototype: &str, size: u64) -> Result<()> {
    let outcome = Call::new(Lib::O2.path(), prototype, backend)
        .bind(["s=str:hello"])
        .run()?;
    outcome.expect_code(1)?;
    let found = &outcome.report.violations[0];
    check!(
        found.kind == "out_of_bounds" && found.size == Some(size),
        "{found:#?}"
    );
    let line = marked_line(function)?;
    let source = found.source.as_deref().context("no source line")?;
    check!(
        source == line || source.ends_with(&format!("/{line}")),
        "{source}, not {line}"
    );
    check!(
        outcome.report.stats.overreads == 0,
        "counted as an over-read"
    );
    Ok(())
}
