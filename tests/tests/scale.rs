//! A million accesses in one call lose nothing and take bounded memory; many live bytes do not make
//! a call dear.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use ffitrace_tests::call::{Backend, Call, Outcome};
use ffitrace_tests::check;
use ffitrace_tests::fixture::Lib;
use ffitrace_tests::suite::{Notes, Suite};

/// Four accesses a page at most: the ring (16 MiB), the arena and the code are in both runs.
const GROWTH_LIMIT_KIB: u64 = 24 << 10;

fn main() -> ExitCode {
    let mut suite = Suite::new();
    // What takes longest begins first, and has the others beside it.
    for backend in Backend::ALL.into_iter().rev() {
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
        let notes = suite.notes();
        suite.add(named("threads_lose_nothing"), backend.needs(), move || {
            threads(backend, &notes)
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
    // Under ptrace a million takes minutes: asked for only.
    let all = std::env::var_os("FFITRACE_ALL_SIZES").is_some();
    let full = match backend {
        Backend::Ptrace if !all => 100_000,
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

/// Eight threads at once, a million accesses: half of the threads add to one counter, the others
/// each fill memory of their own. Not one is lost, and no sum is wrong. `FFITRACE_SCALE_RUNS=100`
/// makes it so many runs in a row.
fn threads(backend: Backend, notes: &Notes) -> Result<()> {
    const THREADS: u64 = 8;
    let runs = match std::env::var("FFITRACE_SCALE_RUNS") {
        Ok(text) => text.parse().context("FFITRACE_SCALE_RUNS")?,
        Err(_) => 1,
    };
    let per = match backend {
        Backend::Ptrace => 1_000,
        _ => 1_000_000 / THREADS,
    };
    let (adders, fillers) = (THREADS / 2, THREADS / 2);
    let prototype =
        "uint64_t add_and_fill(uint64_t *sum, uint32_t *words, unsigned threads, uint64_t per)";
    let size = fillers * per * 4;
    let call = Call::new(Lib::O2.path(), prototype, backend)
        .bind([
            "sum=u64:0".into(),
            format!("words=uninit:{size}"),
            format!("threads={THREADS}"),
            format!("per={per}"),
        ])
        .within(Duration::from_secs(400));
    let mut times = Vec::new();
    for run in 1..=runs {
        let outcome = call.run().with_context(|| format!("run {run}"))?;
        outcome
            .expect_code(0)
            .with_context(|| format!("run {run}"))?;
        let ret = outcome.report.ret.as_ref().context("no result")?.text();
        let stats = &outcome.report.stats;
        // The counter is read once more at the end.
        check!(ret == (adders * per).to_string(), "run {run}: sum {ret}");
        check!(
            stats.reads == adders * per + 1 && stats.writes == THREADS * per && stats.complete,
            "run {run}: {stats:?}"
        );
        let words = outcome.allocation("words")?;
        check!(
            words.written == [(0, size)]
                && words.initialized == [(0, size)]
                && words.read.is_empty(),
            "run {run}: written {:?}, read {:?}",
            words.written,
            words.read
        );
        times.push(outcome.process.elapsed.as_millis());
    }
    times.sort_unstable();
    notes.add(format!(
        "{}: {runs} runs of {} accesses by {THREADS} threads, none lost; {} to {} ms, median {}",
        backend.name(),
        THREADS * per,
        times[0],
        times[times.len() - 1],
        times[times.len() / 2]
    ));
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
