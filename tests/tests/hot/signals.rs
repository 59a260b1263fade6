//! Signals that arrive in hot loops: what their handlers see, and that no access is lost or made
//! twice. See `native/hot_signals.c`.

use anyhow::{Context, Result};
use ffitrace_tests::call::{Backend, Call, Outcome};
use ffitrace_tests::check;
use ffitrace_tests::fixture::Lib;
use ffitrace_tests::suite::{Notes, Suite};

use crate::modes::{self, BACKENDS, Mode};

/// Words that `hot_add` adds to, a read and a write each.
const WORDS: u64 = 1024;
/// Signals in the loop that are enough to judge by.
const HITS: u64 = 10;

pub(crate) fn add(suite: &mut Suite) {
    for backend in BACKENDS {
        for (name, by_thread) in [("timer", 0), ("other_thread", 1)] {
            each_mode(
                suite,
                &format!("registers_{name}"),
                backend,
                move |mode, notes| registers(backend, mode, by_thread, notes),
            );
        }
        each_mode(suite, "jump_out", backend, move |mode, _| {
            let outcome = run(
                backend,
                mode,
                "uint64_t hot_jump_out(uint64_t *p, unsigned times)",
                &["p=zero:8", "times=20"],
            )?;
            counted(&outcome, mode, 20)
        });
        for (name, asynchronous) in [("deferred", "0"), ("asynchronous", "1")] {
            let name = format!("cancel_{name}");
            each_mode(suite, &name, backend, move |mode, _| {
                let kind = format!("asynchronous={asynchronous}");
                let outcome = run(
                    backend,
                    mode,
                    "int hot_cancel(uint64_t *p, int asynchronous, int threads)",
                    &["p=zero:16", &kind, "threads=5"],
                )?;
                counted(&outcome, mode, 5)
            });
        }
    }
}

fn each_mode(
    suite: &mut Suite,
    name: &str,
    backend: Backend,
    check: impl Fn(Mode, &Notes) -> Result<()> + Send + 'static,
) {
    let notes = suite.notes();
    let name = format!("signals::{name}::{}", backend.name());
    suite.add(name, backend.needs(), move || {
        for &mode in modes::modes() {
            check(mode, &notes).with_context(|| format!("{mode:?}"))?;
        }
        Ok(())
    });
}

fn run(backend: Backend, mode: Mode, prototype: &str, bindings: &[&str]) -> Result<Outcome> {
    let outcome = Call::new(Lib::Hot.path(), prototype, backend)
        .bind(bindings.iter().copied())
        .option(mode.options().iter().copied())
        .run()?;
    outcome.expect_code(0)?;
    Ok(outcome)
}

/// The little-endian numbers that a buffer holds.
fn numbers(outcome: &Outcome, name: &str) -> Result<Vec<u64>> {
    let digits = &outcome.allocation(name)?.bytes;
    (0..digits.len() / 16)
        .map(|k| {
            let number = u64::from_str_radix(&digits[k * 16..][..16], 16)?;
            Ok(number.swap_bytes())
        })
        .collect()
}

/// Each addition of 1 is in the trace, once, though the loop was left `left` times.
fn counted(outcome: &Outcome, mode: Mode, left: u64) -> Result<()> {
    let got = outcome.report.ret.as_ref().context("no result")?.text();
    check!(got == left.to_string(), "returned {got}, not {left}");
    let sum: u64 = numbers(outcome, "p")?.iter().sum();
    let stats = &outcome.report.stats;
    // Without translation a signal that waited comes when the access has been taken down and its copy
    // is about to run. A handler that does not return leaves the copy there.
    let unmade = if mode == Mode::Off { left } else { 0 };
    check!(
        stats.reads == stats.writes && (sum..=sum + unmade).contains(&stats.reads),
        "{} reads and {} writes, but {sum} additions",
        stats.reads,
        stats.writes
    );
    Ok(())
}

/// At each signal the registers are those of the instruction at which the handler finds the program.
fn registers(backend: Backend, mode: Mode, by_thread: u32, notes: &Notes) -> Result<()> {
    // Without translation a pass costs thousands of faults, and few signals fall between them.
    let passes: u64 = if mode == Mode::Off { 30 } else { 200_000 };
    let outcome = run(
        backend,
        mode,
        "int hot_invariant(uint32_t *p, int64_t *out, int by_thread, unsigned passes)",
        &[
            "p=zero:4096",
            "out=zero:80",
            &format!("by_thread={by_thread}"),
            &format!("passes={passes}"),
        ],
    )?;
    let told = numbers(&outcome, "out")?;
    let [wrong, done, reads, signals, hits, outside, ..] = told[..] else {
        anyhow::bail!("told {told:?}");
    };
    let at = told[6..]
        .iter()
        .map(|&number| number.cast_signed())
        .collect::<Vec<_>>();
    check!(
        wrong == 0,
        "rule {wrong} of on_signal is broken: rip, r12, rcx, rax = {at:?}"
    );
    let stats = &outcome.report.stats;
    check!(
        stats.reads == done * WORDS + reads && stats.writes == done * WORDS + 10,
        "{done} passes of {WORDS} and {reads} reads of the handler, but {stats:?}"
    );
    let p = &outcome.allocation("p")?.bytes;
    let each = format!("{:08x}", u32::try_from(done)?.swap_bytes());
    check!(
        p.as_bytes().chunks(8).all(|word| word == each.as_bytes()),
        "not every word is {done}: {p}"
    );
    if mode != Mode::Off {
        check!(hits >= HITS, "{hits} of {signals} signals came in the loop");
        // A copy of one instruction is where a thread may be found without translation: also for a
        // while after it was taken out, as where it was not given a processor when it was looked at.
        check!(
            outside * 10 <= signals,
            "{outside} of {signals} handlers found the program in no file's code"
        );
    }
    notes.add(format!(
        "signals, {}, {mode:?}, {}: {done} passes, {signals} signals, {hits} in the loop, {outside} in \
         no file's code",
        backend.name(),
        if by_thread == 0 { "timer" } else { "thread" },
    ));
    Ok(())
}
