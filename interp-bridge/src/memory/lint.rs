//! The lint on reads of uninitialised bytes by native code.
//!
//! Such a read is a hint at a bug and not one by itself: a copy of a struct reads its padding.
//! So it is no violation unless the interpreter says so.

use super::apply::describe;
use super::violation::Finding;
use super::{Memory, ViolationLog};

/// What becomes of a lint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing is noted.
    #[default]
    Allow,
    /// It is noted in a list of its own.
    Warn,
    /// It is noted, and is a violation.
    Deny,
}

/// The level, and what was found.
#[derive(Debug, Default)]
pub(super) struct UninitReads {
    level: Level,
    found: ViolationLog,
}

impl UninitReads {
    /// Whether such reads are to be looked for.
    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.level != Level::Allow
    }
}

impl Memory {
    /// What becomes of reads of uninitialised bytes by native code from now on. Bytes that an
    /// uncertain write may have initialised do not count.
    pub fn set_uninit_reads(&mut self, level: Level) {
        self.lint.level = level;
    }

    /// The reads of uninitialised bytes that were found since the level is not
    /// [`Level::Allow`], equal ones counted together.
    pub fn uninit_reads(&self) -> &ViolationLog {
        &self.lint.found
    }

    /// The same, to empty it.
    pub fn uninit_reads_mut(&mut self) -> &mut ViolationLog {
        &mut self.lint.found
    }

    /// Takes down a read of uninitialised bytes; returns it if it is a violation.
    pub(super) fn note_uninit_read(&mut self, finding: &Finding) -> Option<Finding> {
        let Memory {
            lint, records, ids, ..
        } = self;
        lint.found
            .record(finding, |finding| describe(finding, ids, records));
        (lint.level == Level::Deny).then_some(*finding)
    }
}
