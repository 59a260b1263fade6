//! A million accesses in one call lose nothing and take bounded memory; many live bytes do not make
//! a call dear.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use ffitrace_tests::call::{Backend, Call, Outcome};
use ffitrace_tests::check;
use ffitrace_tests::fixture::Lib;
use ffitrace_tests::suite::{Notes, Suite};

/// Four accesses a page at most: the ring (16 MiB), the arena and the code are in both runs.
const GROWTH_LIMIT_KIB: u64 = 24 << 10;

fn main() -> ExitCode {
    let mut suite = Suite::new();
    for backend in Backend::ALL {
        let named = |name: &str| format!("{name}::{}", backend.name());
        for (name, kind) in [
            ("million_reads", Kind::Reads),
            ("million_writes", Kind::Writes),
        ] {
            let notes = suite.notes();
            suite.add(named(name), backend.needs(), move || {
                million(backend, kind, &notes)
            });
        }
        suite.add(named("threads_lose_nothing"), backend.needs(), move || {
            threads(backend)
        });
        suite.add(named("large_arena"), backend.needs(), move || {
            large_arena(backend)
        });
    }
    suite.run()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Reads,
    Writes,
}

/// `n` accesses of 4 bytes, over and over the same 400.
fn accesses(backend: Backend, kind: Kind, n: u64) -> Result<Outcome> {
    let (prototype, p) = match kind {
        Kind::Reads => (
            "uint64_t read_loop(const uint32_t *p, uint64_t len, uint64_t n)",
            "p=zero:400",
        ),
        Kind::Writes => (
            "void write_loop(uint32_t *p, uint64_t len, uint64_t n)",
            "p=uninit:400",
        ),
    };
    let outcome = Call::new(Lib::O2.path(), prototype, backend)
        .bind([p, "len=100", &format!("n={n}")])
        .within(Duration::from_secs(400))
        .run()?;
    outcome.expect_code(0)?;
    let stats = &outcome.report.stats;
    let (reads, writes) = if kind == Kind::Reads { (n, 0) } else { (0, n) };
    check!(stats.reads == reads && stats.writes == writes, "{stats:?}");
    check!(
        stats.dropped == 0 && stats.rejected == 0 && stats.complete,
        "{stats:?}"
    );
    let p = outcome.allocation("p")?;
    let covered = if kind == Kind::Reads {
        &p.read
    } else {
        &p.written
    };
    check!(*covered == [(0, 400)], "covered {covered:?}");
    Ok(outcome)
}

fn million(backend: Backend, kind: Kind, notes: &Notes) -> Result<()> {
    // Under ptrace a million takes minutes in an unoptimised build: once is enough.
    let full = match (backend, kind) {
        (Backend::Ptrace, Kind::Writes) => 100_000,
        _ => 1_000_000,
    };
    let few = accesses(backend, kind, 10_000)?;
    let many = accesses(backend, kind, full)?;
    let (before, after) = (few.process.max_rss_kib, many.process.max_rss_kib);
    notes.add(format!(
        "{}: {} ms for {full} accesses, {before} KiB at 10,000, {after} KiB at {full}",
        backend.name(),
        many.process.elapsed.as_millis()
    ));
    // A record kept for each access would be 176 MiB at least.
    check!(
        after < before + GROWTH_LIMIT_KIB,
        "memory grows with the accesses: {before} KiB at 10,000, {after} KiB at {full}"
    );
    Ok(())
}

/// Eight threads at once, each at its own rate: their records meet in one ring.
fn threads(backend: Backend) -> Result<()> {
    let per = if backend == Backend::Ptrace {
        1_000
    } else {
        20_000
    };
    let prototype = "int threads_fill(uint32_t *p, unsigned threads, unsigned per)";
    let size = 8 * per * 4;
    let outcome = Call::new(Lib::O2.path(), prototype, backend)
        .bind([
            format!("p=uninit:{size}"),
            "threads=8".into(),
            format!("per={per}"),
        ])
        .within(Duration::from_secs(400))
        .run()?;
    outcome.expect_code(0)?;
    let stats = &outcome.report.stats;
    check!(stats.writes == 8 * per && stats.reads == 0, "{stats:?}");
    let p = outcome.allocation("p")?;
    check!(
        p.written == [(0, size)] && p.initialized == [(0, size)],
        "written {:?}",
        p.written
    );
    Ok(())
}

/// 256 MiB of live memory: the call works at both its ends. What it costs is the bench's question.
fn large_arena(backend: Backend) -> Result<()> {
    let size: u64 = 256 << 20;
    let prototype = "unsigned stride_sum(const uint8_t *p, size_t n, size_t step)";
    let outcome = Call::new(Lib::O2.path(), prototype, backend)
        .bind([
            format!("p=zero:{size}"),
            "n=len(p)".into(),
            format!("step={}", size - 1),
        ])
        .run()?;
    outcome.expect_code(0)?;
    let p = outcome.allocation("p")?;
    check!(p.read == [(0, 1), (size - 1, size)], "read {:?}", p.read);
    Ok(())
}
