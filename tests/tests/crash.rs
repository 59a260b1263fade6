//! Native code that crashes, hangs or leaves: ffitrace survives to report it, completely.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use ffitrace_tests::call::{Backend, Call, Outcome};
use ffitrace_tests::check;
use ffitrace_tests::fixture::{Lib, marked_line};
use ffitrace_tests::process;
use ffitrace_tests::suite::Suite;

/// One call that does not come back.
#[derive(Clone, Copy)]
struct Crash {
    name: &'static str,
    prototype: &'static str,
    bindings: &'static [&'static str],
    /// Kinds of which the first violation must be one.
    kinds: &'static [&'static str],
    /// Word that the message must contain, such as the signal's name.
    says: Option<&'static str>,
    /// Function whose name or line must appear in symbol, source or backtrace.
    names: Option<&'static str>,
    /// Whether the write of four bytes before the crash must be in the report.
    wrote: bool,
}

const CRASH: &[&str] = &["native_crash"];
const EITHER: &[&str] = &["native_crash", "wild_access"];

const fn crash(name: &'static str, prototype: &'static str, says: &'static str) -> Crash {
    Crash {
        name,
        prototype,
        bindings: &["p=uninit:8"],
        kinds: CRASH,
        says: Some(says),
        names: None,
        wrote: true,
    }
}

fn cases() -> Vec<Crash> {
    vec![
        crash("abort", "int crash_abort(int *p)", "SIGABRT"),
        Crash {
            bindings: &["p=uninit:8", "by=0"],
            names: Some("crash_divide"),
            ..crash(
                "divide_by_zero",
                "int crash_divide(int *p, int by)",
                "SIGFPE",
            )
        },
        crash("raise_sigfpe", "void crash_sigfpe(int *p)", "SIGFPE"),
        Crash {
            names: Some("crash_ud2"),
            ..crash("ud2", "void crash_ud2(int *p)", "SIGILL")
        },
        crash("int3", "void crash_int3(int *p)", "SIGTRAP"),
        Crash {
            // A refusal of the processor, no access at all.
            kinds: CRASH,
            names: Some("crash_hlt"),
            ..crash(
                "privileged_instruction",
                "void crash_hlt(int *p)",
                "SIGSEGV",
            )
        },
        Crash {
            bindings: &["p=uninit:8", "sig=7"],
            ..crash(
                "sigbus_from_kill",
                "void crash_kill(int *p, int sig)",
                "SIGBUS",
            )
        },
        Crash {
            // Cannot be caught: the process is gone, and what was traced with it.
            wrote: false,
            bindings: &["p=uninit:8", "sig=9"],
            ..crash("sigkill", "void crash_kill(int *p, int sig)", "SIGKILL")
        },
        Crash {
            wrote: false,
            bindings: &["p=uninit:8", "sig=15"],
            ..crash("sigterm", "void crash_kill(int *p, int sig)", "SIGTERM")
        },
        Crash {
            bindings: &["p=uninit:8", "code=0"],
            says: Some("exit"),
            ..crash("exit_0", "void calls_exit(int *p, int code)", "")
        },
        Crash {
            bindings: &["p=uninit:8", "code=42"],
            says: Some("exit"),
            ..crash("exit_42", "void calls_exit(int *p, int code)", "")
        },
        Crash {
            bindings: &["p=uninit:8", "code=0"],
            says: Some("exit"),
            ..crash(
                "underscore_exit",
                "void calls_quick_exit(int *p, int code)",
                "",
            )
        },
        Crash {
            kinds: EITHER,
            says: None,
            ..crash("jump_to_null", "int jumps_to_null(int *p)", "")
        },
        Crash {
            kinds: EITHER,
            says: None,
            ..crash("smashed_return_address", "void smashes_stack(int *p)", "")
        },
        // Memory of the arena, so not wild; no page fault either: the processor's own refusal.
        Crash {
            bindings: &["p=uninit:64"],
            names: Some("misaligned_movaps"),
            says: None,
            wrote: false,
            ..crash("misaligned_movaps", "void misaligned_movaps(void *p)", "")
        },
        Crash {
            bindings: &["p=uninit:8", "n=0"],
            kinds: EITHER,
            says: None,
            names: Some("overflow_stack"),
            ..crash("stack_overflow", "int overflow_stack(int *p, int n)", "")
        },
        Crash {
            kinds: EITHER,
            says: None,
            names: Some("crash_there"),
            ..crash("thread", "int thread_crashes(int *p)", "")
        },
        // Executing a buffer: data, whatever its bytes mean as code.
        Crash {
            kinds: &[
                "native_crash",
                "wild_access",
                "out_of_bounds",
                "unsupported",
            ],
            says: None,
            wrote: false,
            bindings: &["p=zero:8"],
            ..crash("jump_to_buffer", "int jumps_to_buffer(int *p)", "")
        },
    ]
}

fn main() -> ExitCode {
    let mut suite = Suite::new();
    for case in cases() {
        for backend in Backend::ALL {
            let name = format!("{}::{}", case.name, backend.name());
            suite.add(name, backend.needs(), move || check_crash(case, backend));
        }
    }
    for backend in Backend::ALL {
        let named = |name: &str| format!("{name}::{}", backend.name());
        suite.add(named("timeout_busy"), backend.needs(), move || {
            timeout(backend, "void loops_forever(int *p)")
        });
        suite.add(named("timeout_on_buffer"), backend.needs(), move || {
            timeout(backend, "void loops_on_buffer(int *p)")
        });
        suite.add(named("timeout_asleep"), backend.needs(), move || {
            timeout(backend, "void sleeps_forever(int *p)")
        });
        suite.add(named("timeout_not_reached"), backend.needs(), move || {
            in_time(backend)
        });
        suite.add(
            named("keeps_own_segv_handler"),
            backend.needs(),
            move || exact(backend, "int own_segv_handler_kept(int *p)", "1"),
        );
        suite.add(named("blocks_all_signals"), backend.needs(), move || {
            exact(backend, "int blocked_signals(int *p)", "7")
        });
    }
    suite.run()
}

fn check_crash(case: Crash, backend: Backend) -> Result<()> {
    let outcome = Call::new(Lib::O2.path(), case.prototype, backend)
        .bind(case.bindings.iter().copied())
        .with_events()
        .run()?;
    outcome.expect_code(1)?;
    let found = outcome.report.violations.first().context("no violation")?;
    check!(
        case.kinds.contains(&found.kind.as_str()),
        "{} is none of {:?}: {found:#?}",
        found.kind,
        case.kinds
    );
    check!(
        outcome.report.ret.is_none(),
        "a result, though it never returned: {:?}",
        outcome.report.ret
    );
    if let Some(word) = case.says {
        check!(
            found.message.contains(word),
            "the message does not say {word:?}: {:?}",
            found.message
        );
    }
    if let Some(function) = case.names {
        let mut places = vec![found.symbol.clone().unwrap_or_default()];
        places.extend(found.backtrace.iter().cloned());
        check!(
            places.iter().any(|place| place.contains(function)),
            "{function} is not named: {found:#?}"
        );
    }
    if case.name == "ud2" {
        let line = marked_line("crash_ud2")?;
        check!(
            found.source.as_deref().is_some_and(|s| s.ends_with(&line)),
            "source {:?}",
            found.source
        );
    }
    if case.wrote {
        wrote_first(&outcome)?;
    }
    Ok(())
}

/// What native code did before it died is in the report.
fn wrote_first(outcome: &Outcome) -> Result<()> {
    let p = outcome.allocation("p")?;
    check!(
        p.written == [(0, 4)],
        "the write before the crash: {:?}",
        p.written
    );
    Ok(())
}

fn timeout(backend: Backend, prototype: &str) -> Result<()> {
    let outcome = Call::new(Lib::O2.path(), prototype, backend)
        .bind(["p=zero:8"])
        .option(["--timeout", "1"])
        .run()?;
    outcome.expect_code(1)?;
    let found = outcome.report.violations.first().context("no violation")?;
    check!(found.kind == "timeout", "kind {}", found.kind);
    let elapsed = outcome.process.elapsed;
    check!(
        elapsed >= Duration::from_secs(1),
        "gave up after {elapsed:?}"
    );
    check!(
        elapsed < process::patience(Duration::from_secs(20))?,
        "gave up only after {elapsed:?}"
    );
    wrote_first(&outcome)
}

fn in_time(backend: Backend) -> Result<()> {
    let outcome = Call::new(Lib::O2.path(), "int nested_outer(const int *p)", backend)
        .bind(["p=i32:3,4"])
        .option(["--timeout", "300"])
        .run()?;
    outcome.expect_code(0)?;
    check!(
        outcome.process.elapsed < process::patience(Duration::from_secs(15))?,
        "waited for the time limit"
    );
    Ok(())
}

/// Native code that gets in the way of signals is traced exactly all the same.
fn exact(backend: Backend, prototype: &str, ret: &str) -> Result<()> {
    let outcome = Call::new(Lib::O2.path(), prototype, backend)
        .bind(["p=uninit:8"])
        .with_events()
        .run()?;
    outcome.expect_code(0)?;
    let shown = outcome.report.ret.as_ref().context("no result")?.text();
    check!(shown == ret, "returned {shown}, not {ret}");
    let expected: &[(u64, u64)] = if ret == "7" { &[(0, 4)] } else { &[(0, 8)] };
    let p = outcome.allocation("p")?;
    check!(
        p.written == expected,
        "written {:?}, not {expected:?}",
        p.written
    );
    Ok(())
}
