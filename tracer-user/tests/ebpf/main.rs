//! The eBPF recorder against a real kernel, with accesses whose every register is known.
//!
//! Needs root. As root, a test that cannot run fails; without, it is reported as ignored.
//!
//! # Safety
//!
//! This binary faults on purpose. The addresses are those of an arena that it mapped itself; its
//! SIGSEGV handler knows them all, and ends the process at any other.
#![allow(unsafe_code)]

mod arena;
mod calls;
mod code;
mod faults;

use libtest_mimic::{Arguments, Failed, Trial};

/// A named test.
type Test = (&'static str, fn() -> Result<(), Failed>);

fn main() {
    let mut arguments = Arguments::from_args();
    // The tests share a signal handler and count their own process's faults.
    arguments.test_threads = Some(1);
    let root = rustix::process::geteuid().is_root();
    if !root && !arguments.list {
        eprintln!("ignored: loading eBPF programs needs root. Run the tests with sudo.");
    }
    let tests: Vec<Test> = [faults::TESTS, calls::TESTS].concat();
    let trials = tests
        .into_iter()
        .map(|(name, test)| {
            Trial::test(name, test)
                .with_kind("root")
                .with_ignored_flag(!root)
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit();
}

/// Fails the test unless the two are equal.
macro_rules! check_eq {
    ($left:expr, $right:expr) => {{
        let (left, right) = (&$left, &$right);
        if left != right {
            return Err(format!(
                "{}:{}: {} is {left:x?}, not {right:x?}",
                file!(),
                line!(),
                stringify!($left)
            )
            .into());
        }
    }};
}
pub(crate) use check_eq;
