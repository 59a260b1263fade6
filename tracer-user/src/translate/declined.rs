//! What is not translated, counted by reason.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why something is left to the way by faults.
#[derive(Debug, Default)]
pub(crate) struct Declined {
    counts: [AtomicU64; TEXTS.len()],
}

const TEXTS: [&str; 12] = [
    "instructions that are run where they are (system calls, gs, far branches)",
    "instructions whose accesses are not known exactly",
    "string instructions",
    "instructions that depend on masks, lanes or other state, or have two operands",
    "operands of more than 64 bytes",
    "operands that cannot be moved to the host view",
    "code that is not mapped from a file, or is writable",
    "code of the interpreter",
    "the code cache is full",
    "the tables are full",
    "threads that have no log",
    "threads that use gs",
];

impl Declined {
    pub(super) const STAYS: usize = 0;
    pub(super) const NOT_EXACT: usize = 1;
    pub(super) const STRING: usize = 2;
    pub(super) const MORE_STATE: usize = 3;
    pub(super) const LONG: usize = 4;
    pub(super) const NOT_MOVED: usize = 5;
    pub(super) const NOT_FILE: usize = 6;
    pub(super) const OURS: usize = 7;
    pub(super) const CACHE_FULL: usize = 8;
    pub(super) const TABLES_FULL: usize = 9;
    pub(crate) const NO_LOG: usize = 10;
    pub(crate) const GS: usize = 11;

    /// Counts one. Async-signal-safe.
    pub(crate) fn add(&self, reason: usize) {
        self.counts[reason].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_if(&self, so: bool, reason: usize) {
        if so {
            self.add(reason);
        }
    }

    /// What was declined, and how often.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let counts = self
            .counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        TEXTS
            .into_iter()
            .zip(counts)
            .filter(|(_, count)| *count > 0)
    }
}
