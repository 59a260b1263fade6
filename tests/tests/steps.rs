//! Single-stepped instructions beside other threads: nothing that those do goes unseen.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use ffitrace_tests::call::{Backend, Call};
use ffitrace_tests::check;
use ffitrace_tests::fixture::Lib;
use ffitrace_tests::suite::Suite;

fn main() -> ExitCode {
    let mut suite = Suite::new();
    for backend in Backend::ALL {
        for (name, stepping) in [("one_thread_steps", 0), ("all_threads_step", 4)] {
            suite.add(
                format!("{name}::{}", backend.name()),
                backend.needs(),
                move || beside_threads(backend, stepping),
            );
        }
    }
    suite.run()
}

/// Four threads write, `stepping` of them and the caller put and take words on stacks in a buffer.
fn beside_threads(backend: Backend, stepping: u64) -> Result<()> {
    let (per, steps) = if backend == Backend::Ptrace {
        (500, 100)
    } else {
        (20_000, 1_000)
    };
    let prototype = "unsigned steps_beside_threads(uint32_t *p, char *stacks, unsigned threads, \
                     unsigned per, unsigned stepping, unsigned steps)";
    let outcome = Call::new(Lib::O2.path(), prototype, backend)
        .bind([
            format!("p=uninit:{}", 4 * 4 * per),
            "stacks=uninit:384".into(),
            "threads=4".into(),
            format!("per={per}"),
            format!("stepping={stepping}"),
            format!("steps={steps}"),
        ])
        .within(Duration::from_secs(120))
        .run()?;
    outcome.expect_code(0)?;
    let wrong = outcome.report.ret.as_ref().context("no result")?.text();
    check!(wrong == "0", "{wrong} values were lost on the stack");
    let stats = &outcome.report.stats;
    let puts = (stepping + 1) * steps;
    check!(
        stats.writes == 4 * per + puts && stats.reads == puts && stats.complete,
        "{stats:?}"
    );
    if backend != Backend::Ptrace {
        // Two instructions, in the caller's function and in the threads'.
        let counted = &outcome.report.stepped;
        let sum: u64 = counted.iter().map(|site| site.count).sum();
        check!(sum == stats.steps && sum == 2 * puts, "{counted:?}");
        let known = |text: &str| text.starts_with("enter") || text == "leave";
        check!(
            counted.len() >= 2
                && counted.iter().all(|site| site.symbol.contains("+0x")
                    && site.instruction.as_deref().is_some_and(known)),
            "{counted:?}"
        );
    }
    let p = outcome.allocation("p")?;
    check!(p.written == [(0, 16 * per)], "written {:?}", p.written);
    let stacks = outcome.allocation("stacks")?;
    let expected: Vec<(u64, u64)> = (0..=stepping)
        .map(|index| (64 * index + 56, 64 * index + 64))
        .collect();
    check!(stacks.written == expected, "written {:?}", stacks.written);
    Ok(())
}
