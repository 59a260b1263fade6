//! The kernel judges the table of system calls.
//!
//! Each case is a real call whose blocks of memory lie in an arena between inaccessible pages.
//! See [`judge`] for what is checked. One test for each kind of calls, so that a failure names
//! all cases of its kind that are wrong.

mod case;
mod cases;
mod judge;
mod random;
mod refusals;
mod slots;

use judge::Judge;

/// Runs the cases and fails with all that is wrong about any of them.
fn check(cases: &[(&'static str, cases::Make)], at_least: usize) {
    let mut judge = Judge::new();
    for (name, make) in cases {
        judge.check(name, *make);
    }
    println!("{}", judge.summary());
    assert!(judge.wrong.is_empty(), "{}", judge.wrong.join("\n"));
    assert!(cases.len() >= at_least, "{} cases", cases.len());
}

#[test]
fn files() {
    check(cases::files::ALL, 60);
}

#[test]
fn descriptors() {
    check(cases::descriptors::ALL, 60);
}

#[test]
fn network() {
    check(cases::network::ALL, 25);
}

#[test]
fn processes() {
    check(cases::process::ALL, 60);
}
