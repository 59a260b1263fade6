//! Native code that makes processes, and threads that outlive the call: the trace is that of the
//! call, and ffitrace ends once.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use ffitrace_tests::call::{Backend, Call, Outcome};
use ffitrace_tests::check;
use ffitrace_tests::fixture::Lib;
use ffitrace_tests::suite::Suite;

const ALL: [Backend; 3] = [Backend::Ebpf, Backend::Inproc, Backend::Ptrace];

fn main() -> ExitCode {
    let mut suite = Suite::new();
    for backend in ALL {
        let need = backend.needs();
        let name = backend.name();
        for (what, how, ret) in [
            ("exits", "how=0", "5"),
            ("aborts", "how=1", "-6"),
            ("crashes", "how=2", "-11"),
            // It ends where it would come back from the call a second time.
            ("returns", "how=3", "0"),
        ] {
            suite.add(format!("forked_child_{what}::{name}"), need, move || {
                forked(backend, how, ret)
            });
        }
        suite.add(format!("vfork::{name}"), need, move || vforked(backend));
        suite.add(
            format!("thread_outlives_the_call::{name}"),
            need,
            move || call(backend, "int proc_outlive(int *p)", &[])?.expect_code(0),
        );
        suite.add(format!("blocks_every_signal::{name}"), need, move || {
            deaf(backend)
        });
        suite.add(format!("stack_can_be_unwound::{name}"), need, move || {
            unwound(backend)
        });
        suite.add(format!("loop_at_the_entry::{name}"), need, move || {
            let prototype = "unsigned long proc_loop(unsigned long n)";
            let outcome = Call::new(Lib::O2.path(), prototype, backend)
                .bind(["n=400000"])
                .run()?;
            outcome.expect_code(0)
        });
    }
    suite.run()
}

fn call(backend: Backend, prototype: &str, more: &[&str]) -> Result<Outcome> {
    Call::new(Lib::O2.path(), prototype, backend)
        .bind(["p=zero:16"])
        .bind(more.iter().copied())
        .option(["--timeout", "30"])
        .within(Duration::from_secs(45))
        .run()
}

fn forked(backend: Backend, how: &str, ret: &str) -> Result<()> {
    let outcome = call(backend, "int proc_fork(int *p, int how)", &[how])?;
    outcome.expect_code(0)?;
    let shown = outcome.report.ret.as_ref().context("no result")?.text();
    check!(shown == ret, "the child ended with {shown}, not {ret}");
    let p = outcome.allocation("p")?;
    check!(p.written == [(0, 8)], "written {:?}", p.written);
    Ok(())
}

/// The accesses of the child, which shares the memory, are traced too.
fn vforked(backend: Backend) -> Result<()> {
    let outcome = call(backend, "int proc_vfork(int *p)", &[])?;
    outcome.expect_code(0)?;
    let p = outcome.allocation("p")?;
    check!(p.written == [(0, 12)], "written {:?}", p.written);
    Ok(())
}

/// An unwinder finds its way through the frames of the very function that is called.
fn unwound(backend: Backend) -> Result<()> {
    let outcome = Call::new(
        Lib::Unwind.path(),
        "int unwind_frames(int *p, int depth)",
        backend,
    )
    .bind(["p=zero:4", "depth=40"])
    .run()?;
    outcome.expect_code(0)?;
    let shown = outcome.report.ret.as_ref().context("no result")?.text();
    let frames: u32 = shown.parse().context("no number of frames")?;
    check!(frames > 41, "the unwinder saw {frames} frames");
    Ok(())
}

fn deaf(backend: Backend) -> Result<()> {
    let outcome = Call::new(Lib::O2.path(), "void proc_deaf(int *p)", backend)
        .bind(["p=zero:8"])
        .option(["--timeout", "1"])
        .within(Duration::from_secs(40))
        .run()?;
    outcome.expect_code(1)?;
    let found = outcome.report.violations.first().context("no violation")?;
    check!(found.kind == "timeout", "kind {}", found.kind);
    Ok(())
}
