//! Rows about system calls on interpreter memory.

use anyhow::Result;
use ffitrace_tests::call::Backend;
use ffitrace_tests::check;
use ffitrace_tests::fixture::Lib;
use ffitrace_tests::suite::Suite;

use crate::expect::{good, returned, row, touched};

pub(crate) fn add(suite: &mut Suite) {
    row(suite, "system_calls::read", None, |backend| {
        call(
            backend,
            "long sys_read(void *p, size_t n)",
            &["p=uninit:80", "n=64"],
            "64",
            64,
        )
    });
    // Five bytes come of the sixty-four asked for: five were written.
    row(suite, "system_calls::read_short", None, |backend| {
        call(
            backend,
            "long sys_read_short(void *p, size_t n)",
            &["p=uninit:64", "n=64"],
            "5",
            5,
        )
    });
    row(suite, "system_calls::write", None, |backend| {
        let prototype = "long sys_write(const void *p, size_t n)";
        let outcome = good(Lib::O2, prototype, backend, &["p=bytes:hello", "n=4"])?;
        returned(&outcome, "4")?;
        touched(&outcome, "p", &[(0, 4)], &[])
    });
    row(suite, "a_lock_in_interpreter_memory_contended", None, lock);
}

fn call(
    backend: Backend,
    prototype: &str,
    bindings: &[&str],
    ret: &str,
    written: u64,
) -> Result<()> {
    let outcome = good(Lib::O2, prototype, backend, bindings)?;
    returned(&outcome, ret)?;
    touched(&outcome, "p", &[], &[(0, written)])?;
    let p = outcome.allocation("p")?;
    check!(p.initialized == [(0, written)], "{:?}", p.initialized);
    check!(
        outcome.events.iter().any(|event| event.source == "syscall"),
        "no event of a system call"
    );
    Ok(())
}

/// The kernel, too, looks at the lock: threads sleep on it.
fn lock(backend: Backend) -> Result<()> {
    let (threads, per) = match backend {
        Backend::Ptrace => (3, 50),
        _ => (8, 500),
    };
    let prototype =
        "uint64_t lock_contended(void *lock, uint64_t *sum, unsigned threads, unsigned per)";
    let bindings = [
        "lock=uninit:40".into(),
        "sum=uninit:8".into(),
        format!("threads={threads}"),
        format!("per={per}"),
    ];
    let bindings: Vec<&str> = bindings.iter().map(String::as_str).collect();
    let outcome = good(Lib::O2, prototype, backend, &bindings)?;
    returned(&outcome, &(threads * per).to_string())?;
    touched(&outcome, "sum", &[(0, 8)], &[(0, 8)])
}
