//! What people and scripts see: text that fits a terminal, no escape codes in a pipe, native output
//! kept apart from the report, the event log, `doctor` and the fallback's one line.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use ffitrace_tests::call::{Backend, Call, no_panic};
use ffitrace_tests::fixture::Lib;
use ffitrace_tests::host::{self, Need};
use ffitrace_tests::process::Finished;
use ffitrace_tests::suite::Suite;
use ffitrace_tests::{binary, check, process};

const MINUTE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let mut suite = Suite::new();
    for backend in Backend::ALL {
        let named = |name: &str| format!("{name}::{}", backend.name());
        suite.add(named("text_of_a_good_call"), backend.needs(), move || {
            good_text(backend)
        });
        suite.add(named("text_of_a_violation"), backend.needs(), move || {
            violation_text(backend)
        });
        suite.add(
            named("native_output_is_apart"),
            backend.needs(),
            move || native_output(backend),
        );
        suite.add(named("event_symbols"), backend.needs(), move || {
            event_symbols(backend)
        });
        suite.add(named("event_threads"), backend.needs(), move || {
            event_threads(backend)
        });
        suite.add(named("repeat_counts_calls"), backend.needs(), move || {
            repeat_counts(backend)
        });
        suite.add(named("long_buffer_is_cut"), backend.needs(), move || {
            long_buffer(backend)
        });
    }
    suite.add("none_calls_without_tracing", [], none_backend);
    suite.add("auto_picks_the_best", [], auto_picks);
    suite.add("auto_is_ebpf_with_bpf", [Need::Bpf], auto_is_ebpf);
    suite.add("narrow_terminal_and_no_color", [], no_color);
    suite.add("doctor_text", [], || doctor(&[]).map(drop));
    suite.add("doctor_json", [], doctor_json);
    suite.run()
}

/// Text a person reads: within 80 columns, and plain in a pipe.
fn fits(finished: &Finished) -> Result<()> {
    no_panic(finished)?;
    for text in [&finished.stdout, &finished.stderr] {
        check!(
            !text.contains('\u{1b}') && !text.contains('\r'),
            "escape codes in a pipe:\n{text}"
        );
        for line in text.lines() {
            // Paths and prototypes are the caller's; they are as long as they are.
            let foreign = line.contains('/') || line.contains(".so");
            let width = line.chars().count();
            check!(foreign || width <= 80, "{width} columns: {line}");
        }
    }
    Ok(())
}

fn text(call: &Call) -> Result<Finished> {
    let finished = process::run(&mut call.command()?, MINUTE)?;
    fits(&finished)?;
    Ok(finished)
}

fn contains(finished: &Finished, words: &[&str]) -> Result<()> {
    for word in words {
        check!(
            finished.stdout.contains(word),
            "{word:?} is not in:\n{}",
            finished.stdout
        );
    }
    Ok(())
}

fn good_text(backend: Backend) -> Result<()> {
    let call = Call::new(
        Lib::O2.path(),
        "void copy_struct(void *dst, const void *src)",
        backend,
    )
    .bind(["dst=uninit:48", "src=u64:1,2,3,4,5"]);
    let finished = text(&call)?;
    check!(finished.code == Some(0), "exit status {:?}", finished.code);
    contains(
        &finished,
        &["copy_struct", "dst", "src", "48", "40", backend.name()],
    )
}

fn violation_text(backend: Backend) -> Result<()> {
    let call = Call::new(
        Lib::O2.path(),
        "void oob_write_after(char *p, size_t n)",
        backend,
    )
    .bind(["p=uninit:10", "n=10"]);
    let finished = text(&call)?;
    check!(finished.code == Some(1), "exit status {:?}", finished.code);
    contains(&finished, &["oob_write_after", "bad.c:", "p", "10"])
}

/// What native code prints must not get between the braces of the report.
fn native_output(backend: Backend) -> Result<()> {
    let call = Call::new(Lib::O2.path(), "int prints(const int *p)", backend).bind(["p=i32:77"]);
    let outcome = call.run()?;
    outcome.expect_code(0)?;
    check!(!outcome.process.stdout.contains("native says"), "on stdout");
    check!(
        outcome.process.stderr.contains("native says 77"),
        "lost: {}",
        outcome.process.stderr
    );
    Ok(())
}

/// Each event names the function that made the access.
fn event_symbols(backend: Backend) -> Result<()> {
    let outcome = Call::new(Lib::O2.path(), "int nested_outer(const int *p)", backend)
        .bind(["p=i32:3,4"])
        .with_events()
        .run()?;
    outcome.expect_code(0)?;
    check!(outcome.events.len() == 2, "{:?}", outcome.events);
    for event in &outcome.events {
        let symbol = event.symbol.as_deref().context("no symbol")?;
        check!(symbol.starts_with("nested_inner+0x"), "{symbol}");
    }
    Ok(())
}

/// Four threads are four thread ids, each with its own accesses in its own order.
fn event_threads(backend: Backend) -> Result<()> {
    let prototype = "int threads_fill(uint32_t *p, unsigned threads, unsigned per)";
    let outcome = Call::new(Lib::O2.path(), prototype, backend)
        .bind(["p=uninit:800", "threads=4", "per=50"])
        .with_events()
        .run()?;
    outcome.expect_code(0)?;
    let ids: BTreeSet<u32> = outcome.events.iter().map(|event| event.tid).collect();
    check!(ids.len() == 4, "{} threads", ids.len());
    for id in ids {
        let offsets: Vec<i64> = outcome
            .events
            .iter()
            .filter(|event| event.tid == id)
            .filter_map(|event| event.offset.as_ref().and_then(|offset| offset.value()))
            .collect();
        let in_order = offsets.windows(2).all(|pair| pair[1] == pair[0] + 4);
        check!(offsets.len() == 50 && in_order, "thread {id}: {offsets:?}");
    }
    Ok(())
}

fn repeat_counts(backend: Backend) -> Result<()> {
    let outcome = Call::new(Lib::O2.path(), "int nested_outer(const int *p)", backend)
        .bind(["p=i32:3,4"])
        .option(["--repeat", "7"])
        .with_events()
        .run()?;
    outcome.expect_code(0)?;
    let stats = &outcome.report.stats;
    check!(
        stats.calls == 7 && stats.reads == 14 && stats.writes == 0,
        "{stats:?}"
    );
    check!(stats.sites >= 1, "{stats:?}");
    Ok(())
}

/// The report shows 4096 bytes at most; [`Call::run`] checks their number.
fn long_buffer(backend: Backend) -> Result<()> {
    let outcome = Call::new(Lib::O2.path(), "uint32_t load4(const void *p)", backend)
        .bind(["p=zero:1000000"])
        .run()?;
    outcome.expect_code(0)?;
    check!(outcome.allocation("p")?.size == 1_000_000, "size");
    check!(
        outcome.process.stdout.len() < 20_000,
        "{} bytes of JSON",
        outcome.process.stdout.len()
    );
    Ok(())
}

/// Without a recorder the call still runs, and nobody claims to have seen anything.
fn none_backend() -> Result<()> {
    let mut call = Call::new(
        Lib::O2.path(),
        "int nested_outer(const int *p)",
        Backend::Inproc,
    )
    .bind(["p=i32:3,4"]);
    call.backend = "none";
    let outcome = call.run()?;
    outcome.expect_code(0)?;
    check!(
        outcome
            .report
            .ret
            .as_ref()
            .is_some_and(|ret| ret.text() == "7"),
        "result"
    );
    check!(
        outcome.report.stats.events == 0,
        "{:?}",
        outcome.report.stats
    );
    check!(outcome.allocation("p")?.read.is_empty(), "claims reads");
    Ok(())
}

fn auto() -> Result<ffitrace_tests::call::Outcome> {
    let mut call = Call::new(
        Lib::O2.path(),
        "int nested_outer(const int *p)",
        Backend::Inproc,
    )
    .bind(["p=i32:3,4"]);
    call.backend = "auto";
    let outcome = call.run()?;
    outcome.expect_code(0)?;
    check!(outcome.allocation("p")?.read == [(0, 8)], "coverage");
    Ok(outcome)
}

fn auto_picks() -> Result<()> {
    let outcome = auto()?;
    let expected = if host::missing(Need::Bpf).is_none() {
        "ebpf"
    } else {
        "inproc"
    };
    check!(
        outcome.report.backend == expected,
        "backend {}, not {expected}",
        outcome.report.backend
    );
    Ok(())
}

fn auto_is_ebpf() -> Result<()> {
    let outcome = auto()?;
    check!(
        outcome.report.backend == "ebpf",
        "backend {}",
        outcome.report.backend
    );
    Ok(())
}

fn no_color() -> Result<()> {
    let call = Call::new(
        Lib::O2.path(),
        "int nested_outer(const int *p)",
        Backend::Inproc,
    )
    .bind(["p=i32:3,4"]);
    for (name, value) in [("NO_COLOR", "1"), ("COLUMNS", "40"), ("TERM", "dumb")] {
        let mut command = call.command()?;
        command.env(name, value);
        let finished = process::run(&mut command, MINUTE)?;
        fits(&finished)?;
        check!(
            finished.code == Some(0),
            "{name}: exit status {:?}",
            finished.code
        );
        contains(&finished, &["nested_outer", "p", "7"])?;
    }
    Ok(())
}

fn doctor(arguments: &[&str]) -> Result<Finished> {
    let mut command = binary::command()?;
    command.arg("doctor").args(arguments);
    let finished = process::run(&mut command, MINUTE)?;
    check!(
        finished.code == Some(0),
        "exit status {:?}: {}",
        finished.code,
        finished.stderr
    );
    for backend in Backend::ALL {
        check!(
            finished.stdout.contains(backend.name()),
            "{} is not named",
            backend.name()
        );
    }
    if arguments.is_empty() {
        fits(&finished)?;
    }
    Ok(finished)
}

fn doctor_json() -> Result<()> {
    let finished = doctor(&["--format", "json"])?;
    let value: serde_json::Value = serde_json::from_str(&finished.stdout)?;
    check!(value.is_object(), "not an object: {value}");
    Ok(())
}
