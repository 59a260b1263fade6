//! A thousand million accesses in one call, in bounded memory.

use std::time::Duration;

use anyhow::Result;
use ffitrace_tests::call::{Backend, Call};
use ffitrace_tests::check;
use ffitrace_tests::fixture::Lib;
use ffitrace_tests::suite::{Notes, Suite};

/// Largest resident set, in KiB.
const LIMIT_KIB: u64 = 256 << 10;

pub(crate) fn add(suite: &mut Suite) {
    let notes = suite.notes();
    suite.add("scale::thousand_million::inproc", None, move || {
        many(&notes)
    });
}

fn many(notes: &Notes) -> Result<()> {
    // Reading the log takes an unoptimised build many times as long.
    let turns: u64 = if cfg!(debug_assertions) {
        25_000_000
    } else {
        500_000_000
    };
    let prototype = "uint64_t hot_many(uint64_t *p, uint64_t turns)";
    let outcome = Call::new(Lib::Hot.path(), prototype, Backend::Inproc)
        .bind(["p=zero:64", &format!("turns={turns}")])
        .within(Duration::from_secs(300))
        .run()?;
    outcome.expect_code(0)?;
    let stats = &outcome.report.stats;
    check!(
        stats.reads == turns && stats.writes == turns && stats.complete,
        "{stats:?}"
    );
    let each = format!("{:016x}", (turns / 8).swap_bytes());
    let p = outcome.allocation("p")?;
    check!(p.bytes == each.repeat(8), "holds {}", p.bytes);
    let rss = outcome.process.max_rss_kib;
    check!(rss < LIMIT_KIB, "{rss} KiB");
    notes.add(format!(
        "{} accesses: {} ms, {rss} KiB, {} translated",
        2 * turns,
        outcome.process.elapsed.as_millis(),
        stats.translated
    ));
    Ok(())
}
