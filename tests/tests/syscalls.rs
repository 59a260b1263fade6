//! System calls on buffer memory: they do what they do without a recorder, and every byte that
//! the kernel reads or writes is told. See `native/syscalls.c`.

use std::process::ExitCode;

use anyhow::{Context, Result};
use ffitrace_tests::call::{Backend, Call};
use ffitrace_tests::case::{Case, add_cases};
use ffitrace_tests::check;
use ffitrace_tests::fixture::Lib;
use ffitrace_tests::suite::Suite;

fn case(name: &str, binding: &str) -> Case {
    let prototype = format!("long call_{name}(char *p)");
    Case::new(name, &prototype, [binding])
}

fn small(name: &str, binding: &str) -> Case {
    let prototype = format!("int call_{name}(char *p)");
    Case::new(name, &prototype, [binding])
}

/// Calls on one thread: the same events under every recorder.
fn exact() -> Vec<Case> {
    vec![
        case("readv", "p=uninit:32")
            .ret("7")
            .writes("p", &[(0, 4), (8, 11)])
            .initializes("p", &[(0, 4), (8, 11)]),
        case("writev", "p=uninit:32")
            .ret("5")
            .writes("p", &[(0, 32)])
            .reads("p", &[(0, 32)]),
        case("recv", "p=zero:64")
            .ret("5")
            .reads("p", &[(0, 5)])
            .writes("p", &[(16, 21)])
            .events("r p 0 5; w p 16 5"),
        case("bad_fd", "p=zero:8").ret("9"),
        case("fread", "p=uninit:128")
            .ret("100")
            .writes("p", &[(0, 100)]),
        case("path", "p=str:/dev/null")
            .ret("1")
            .reads("p", &[(0, 10)])
            .events("r p 0 10"),
        case("stat", "p=uninit:256")
            .ret("0")
            .writes("p", &[(0, 144)])
            .events("w p 0 144"),
        case("uname", "p=uninit:512")
            .ret("0")
            .writes("p", &[(0, 390)])
            .events("w p 0 390"),
        case("getcwd", "p=uninit:64")
            .ret("5")
            .writes("p", &[(0, 5)])
            .events("w p 0 5"),
        case("clock", "p=uninit:16")
            .ret("0")
            .writes("p", &[(0, 16)])
            .events("w p 0 8; w p 8 8"),
        case("clock_kernel", "p=uninit:16")
            .ret("0")
            .writes("p", &[(0, 16)])
            .events("w p 0 16"),
        case("poll", "p=uninit:8")
            .ret("1")
            .reads("p", &[(0, 6)])
            .writes("p", &[(0, 8)]),
        small("spawn", "p=str:/bin/sh")
            .ret("9")
            .reads("p", &[(0, 8)]),
        small("vfork_exec", "p=str:/bin/sh")
            .ret("11")
            .reads("p", &[(0, 8)]),
        small("fork_exec", "p=str:/bin/sh")
            .ret("13")
            .reads("p", &[(0, 8)])
            .any_order(),
        small("system", "p=str:exit 5")
            .ret("5")
            .reads("p", &[(0, 7)]),
        small("popen", "p=str:echo hi")
            .ret("1")
            .reads("p", &[(0, 8)]),
    ]
}

/// Threads: the same bytes under every recorder, and nothing lost.
fn threads() -> Vec<Case> {
    vec![
        Case::new("thread", "int call_thread(int *p)", ["p=zero:8"])
            .ret("7")
            .writes("p", &[(0, 4)])
            .reads("p", &[(0, 4)]),
        Case::new("detached", "int call_detached(int *p)", ["p=zero:8"])
            .ret("100")
            .writes("p", &[(0, 4)])
            .reads("p", &[(0, 4)])
            .any_order(),
    ]
}

fn main() -> ExitCode {
    let mut suite = Suite::new();
    add_cases(&mut suite, "syscalls", exact());
    add_cases(&mut suite, "threads", threads());
    for backend in Backend::ALL {
        for (name, errno, written) in [
            ("mprotect", "14", &[][..]),
            ("munmap", "14", &[(0, 2)]),
            ("clone_vm", "22", &[(0, 1)]),
        ] {
            suite.add(
                format!("refused::{name}::{}", backend.name()),
                backend.needs(),
                move || refused(backend, name, errno, written),
            );
        }
    }
    for backend in Backend::ALL {
        for (name, shared) in [
            ("private_futexes", "shared=0"),
            ("shared_futexes", "shared=1"),
        ] {
            let name = format!("threads::{name}::{}", backend.name());
            suite.add(name, backend.needs(), move || futexes(backend, shared));
        }
        let name = format!("without_dispatch::{}", backend.name());
        suite.add(name, backend.needs(), move || without_dispatch(backend));
    }
    suite.run()
}

/// Threads that wait for each other in the buffer. Which words they touch depends on who comes
/// first, so only what comes of it is the same each time.
fn futexes(backend: Backend, shared: &str) -> Result<()> {
    let outcome = Call::new(
        Lib::O2.path(),
        "int call_futexes(void *p, int shared)",
        backend,
    )
    .bind(["p=zero:256", shared])
    .run()?;
    outcome.expect_code(0)?;
    let ret = outcome.report.ret.as_ref().context("no result")?.text();
    check!(ret == "400", "{ret} turns, not 400");
    let p = outcome.allocation("p")?;
    let turns = (120, 124);
    let has = |ranges: &[(u64, u64)]| ranges.contains(&turns);
    check!(
        has(&p.read) && has(&p.written),
        "the counter: read {:?}, written {:?}",
        p.read,
        p.written
    );
    Ok(())
}

/// On a host without Syscall User Dispatch the call fails, and the report says why: the kernel's
/// part names the call, the other recorders say that they cannot.
fn without_dispatch(backend: Backend) -> Result<()> {
    let outcome = Call::new(Lib::O2.path(), "long sys_read(void *p, size_t n)", backend)
        .bind(["p=uninit:64", "n=64"])
        .without_dispatch()
        .run()?;
    let ret = outcome.report.ret.as_ref().context("no result")?.text();
    check!(ret == "-14", "returned {ret}, not -EFAULT");
    check!(
        outcome.process.stderr.contains("Syscall User Dispatch"),
        "not said on stderr: {}",
        outcome.process.stderr
    );
    if backend != Backend::Ebpf {
        return outcome.expect_code(0);
    }
    outcome.expect_code(1)?;
    let found = outcome.report.violations.first().context("no violation")?;
    check!(
        found.kind == "unsupported" && found.message.contains("system call read"),
        "{found:#?}"
    );
    Ok(())
}

/// What cannot be done is named and not done, and the call goes on.
fn refused(backend: Backend, name: &str, errno: &str, written: &[(u64, u64)]) -> Result<()> {
    let prototype = format!("long call_{name}(char *p)");
    let outcome = Call::new(Lib::O2.path(), &prototype, backend)
        .bind(["p=zero:4096"])
        .run()?;
    outcome.expect_code(1)?;
    let ret = outcome.report.ret.as_ref().context("no result")?.text();
    check!(ret == errno, "errno {ret}, not {errno}");
    let found = outcome.report.violations.first().context("no violation")?;
    let call = name.split('_').next().unwrap_or(name);
    check!(
        found.kind == "unsupported" && found.message.contains(&format!("system call {call} ")),
        "{found:#?}"
    );
    let p = outcome.allocation("p")?;
    check!(p.written == written, "written {:?}", p.written);
    Ok(())
}
