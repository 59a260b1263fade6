//! Rows about what runs beside the call: threads, locks, signals, other calls.

use anyhow::{Result, anyhow};
use ffitrace_tests::call::{Backend, Call};
use ffitrace_tests::check;
use ffitrace_tests::fixture::Lib;
use ffitrace_tests::suite::Suite;

use crate::expect::{call, good, returned, row, touched};

pub(crate) fn add(suite: &mut Suite) {
    row(suite, "native_threads_lose_nothing", None, threads);
    row(suite, "a_thread_outlives_the_call", None, |backend| {
        let outcome = call(
            Lib::O2,
            "int thread_lives_on(int *p)",
            backend,
            &["p=uninit:4"],
        )
        .option(["--repeat", "2"])
        .run()?;
        outcome.expect_code(0)?;
        returned(&outcome, "1")
    });
    row(suite, "a_lock_in_interpreter_memory", None, |backend| {
        let prototype = "int lock_alone(void *lock, int *p)";
        let outcome = good(
            Lib::O2,
            prototype,
            backend,
            &["lock=uninit:40", "p=uninit:4"],
        )?;
        // EBUSY
        returned(&outcome, "16")?;
        touched(&outcome, "p", &[], &[(0, 4)])
    });
    row(suite, "signals_reach_their_handlers", None, |backend| {
        let outcome = good(
            Lib::O2,
            "int three_signals(int *p)",
            backend,
            &["p=uninit:12"],
        )?;
        returned(&outcome, "111")?;
        touched(&outcome, "p", &[], &[(0, 12)])
    });
    row(suite, "calls_at_the_same_time", None, together);
}

/// Eight threads, half of them on one counter.
fn threads(backend: Backend) -> Result<()> {
    let per: u64 = if backend == Backend::Ptrace {
        200
    } else {
        5000
    };
    let bindings = [
        "sum=u64:0".into(),
        format!("words=uninit:{}", 4 * per * 4),
        "threads=8".into(),
        format!("per={per}"),
    ];
    let bindings: Vec<&str> = bindings.iter().map(String::as_str).collect();
    let prototype =
        "uint64_t add_and_fill(uint64_t *sum, uint32_t *words, unsigned threads, uint64_t per)";
    let outcome = good(Lib::O2, prototype, backend, &bindings)?;
    returned(&outcome, &(4 * per).to_string())?;
    touched(&outcome, "words", &[], &[(0, 16 * per)])?;
    let stats = &outcome.report.stats;
    // The counter is read once more at the end.
    check!(
        stats.writes == 8 * per && stats.reads == 4 * per + 1,
        "{stats:?}"
    );
    let mut threads: Vec<u32> = outcome.events.iter().map(|event| event.tid).collect();
    threads.sort_unstable();
    threads.dedup();
    check!(threads.len() == 9, "{} threads", threads.len());
    Ok(())
}

/// Several processes trace calls at once, and each sees its own accesses only.
fn together(backend: Backend) -> Result<()> {
    let running: Vec<_> = (1..=4u64)
        .map(|n| {
            std::thread::spawn(move || {
                let n = n * 1000;
                let prototype = "uint64_t read_loop(const uint32_t *p, uint64_t len, uint64_t n)";
                let outcome = Call::new(Lib::O2.path(), prototype, backend)
                    .bind(["p=u32:1,1", "len=2", &format!("n={n}")])
                    .run()?;
                outcome.expect_code(0)?;
                check!(
                    outcome.report.stats.reads == n,
                    "{:?}",
                    outcome.report.stats
                );
                returned(&outcome, &n.to_string())
            })
        })
        .collect();
    for one in running {
        one.join().map_err(|_| anyhow!("a call panicked"))??;
    }
    Ok(())
}
