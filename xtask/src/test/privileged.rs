//! The tests that load eBPF programs: which they are, and what their outcome means.

use std::path::Path;

use anyhow::Result;

use super::OBJECT_VARIABLE;
use super::command::run_watched;
use super::outcome::{State, Summary, TestOutput, Tier};
use crate::apt::is_root;

/// A test program, and which of its tests load eBPF programs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Its name, for `cargo test --test`.
    pub(crate) name: &'static str,
    /// What such tests have in their names.
    pub(crate) filter: &'static str,
    /// What is left out where each instruction is emulated: tests whose names have one of these.
    pub(crate) slow: &'static [&'static str],
}

impl Target {
    const fn new(
        name: &'static str,
        filter: &'static str,
        slow: &'static [&'static str],
    ) -> Target {
        Target { name, filter, slow }
    }

    /// What the test program is told, so that it runs these tests.
    pub(crate) fn arguments(&self) -> impl Iterator<Item = &'static str> {
        Some(self.filter)
            .filter(|filter| !filter.is_empty())
            .into_iter()
    }
}

/// All of them. They run once more with an object rebuilt from source, and on another kernel. Of those
/// that compare recorders, one family: what differs between two objects or two kernels is what the
/// kernel's part records, not how it is decoded.
pub(crate) const TARGETS: &[Target] = &[
    Target::new("ebpf", "", &[]),
    Target::new("parity", "widths", SLOW_WIDTHS),
    Target::new("zlib", "ebpf", SLOW_ZLIB),
    Target::new("violations", "ebpf", SLOW_VIOLATIONS),
    Target::new("crash", "ebpf", SLOW_CRASH),
    Target::new("output", "ebpf", &[]),
    Target::new("scale", "ebpf", &[]),
];

/// Other recorders, and forms of instructions that differ in how they are decoded.
const SLOW_WIDTHS: &[&str] = &[
    "::inproc",
    "::ptrace",
    "::agree",
    "_sx",
    "_zx",
    "_mem",
    "cmov",
    "movbe",
    "rmw_",
    "untouched",
    "cross_load",
    "cross_store",
];

/// Lengths beside those that stay: 7, 70,000 and that of a file.
const SLOW_ZLIB: &[&str] = &["crc32_of_0", "crc32_of_1", "crc32_of_8", "crc32_of_9"];

/// Ends that are nearly those of other tests.
const SLOW_CRASH: &[&str] = &["exit_42", "underscore_exit", "raise_sigfpe", "sigterm"];

/// Rules about memory that the kernel has no part in. What stays differs in the fault: null, wild and
/// non-canonical addresses, the kernel's own, system calls, threads.
const SLOW_VIOLATIONS: &[&str] = &[
    "@o0",
    "@stripped",
    "oob_",
    "_const",
    "_freed",
    "overread",
    "surroundings",
    "own_rodata",
    "mut_lifts",
    "every_breach",
];

/// The tests with the rebuilt object instead of the committed one. The whole workspace stays selected:
/// another selection would mean other features, and building all of it again.
pub(super) fn again(object: &Path, program: Option<&Path>, summary: &mut Summary) -> Result<Tier> {
    let mut all = Vec::new();
    // One filter is all that a test program takes.
    for targets in TARGETS.chunk_by(|one, other| one.filter == other.filter) {
        let mut tests = super::tests_with(program);
        tests.env(OBJECT_VARIABLE, object);
        for target in targets {
            tests.args(["--test", target.name]);
        }
        tests.arg("--").args(targets[0].arguments());
        let output = run_watched(&mut tests)?;
        summary.take_counts(&output);
        all.push(output);
    }
    let all = TestOutput::joined(all);
    Ok(match (tier(&all), all.tier()) {
        (excused, _) if excused.state == State::Skipped => excused,
        (_, failed) if failed.state == State::Failed => failed,
        (privileged, _) => privileged,
    })
}

/// Whether the eBPF tests ran, and if not, whether that is excused.
pub(super) fn tier(output: &TestOutput) -> Tier {
    let ebpf = output.named("ebpf");
    if ebpf.failed > 0 {
        return Tier::failed(format!("{} eBPF tests failed", ebpf.failed));
    }
    if ebpf.ignored == 0 && ebpf.passed > 0 {
        return Tier::passed(format!("{} eBPF tests", ebpf.passed));
    }
    // The test programs ask the kernel themselves, without the code that they test.
    let kernel = output.skips.iter().find(|reason| {
        reason.contains("bpf(BPF_MAP_CREATE) failed") || reason.contains("the kernel has no BTF")
    });
    match kernel {
        Some(reason) => Tier::skipped(reason.clone()),
        None if ebpf.passed > 0 && output.skips.iter().all(|reason| by_processor(reason)) => {
            Tier::passed(format!(
                "{} eBPF tests, {} need another processor",
                ebpf.passed, ebpf.ignored
            ))
        }
        None if !is_root() => Tier::skipped("not root".into()),
        None => Tier::failed(format!(
            "root on a kernel with BPF, but {} eBPF tests ran and {} were skipped",
            ebpf.passed, ebpf.ignored
        )),
    }
}

/// Whether tests were skipped for instructions that this processor does not have.
pub(crate) fn by_processor(reason: &str) -> bool {
    reason.contains("this CPU has no ")
}
