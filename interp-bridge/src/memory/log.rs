//! What was found wrong, counted instead of repeated.
//!
//! A loop over a wrong bound breaks the same rule a million times. So findings of one kind, from
//! one instruction, about one allocation are one entry with a count; and there is a limit of
//! entries, beyond which findings are only counted.

use std::collections::HashMap;

use tracer_user::access::Refused;

use super::AllocId;
use super::violation::{Finding, Violation, ViolationKind};

/// How many entries a log has at most, unless it is made with another limit.
pub const MAX_ENTRIES: usize = 1000;

/// Equal findings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// The first of them.
    pub violation: Violation,
    /// How many there were, at least 1.
    pub count: u64,
    /// Offset of the last of them, if they have one.
    pub last_offset: Option<i64>,
    /// Position in the trace of the last of them.
    pub last_seq: Option<u64>,
}

type Key = (ViolationKind, u64, Option<AllocId>);

/// Violations in the order in which they first happened.
#[derive(Debug)]
pub struct ViolationLog {
    entries: Vec<Logged>,
    index: HashMap<Key, usize>,
    /// The entry that was counted last: loops repeat themselves.
    last: Option<(Key, usize)>,
    limit: usize,
    total: u64,
    unlisted: u64,
}

impl Default for ViolationLog {
    fn default() -> ViolationLog {
        ViolationLog::with_limit(MAX_ENTRIES)
    }
}

impl ViolationLog {
    /// An empty log of at most `limit` entries.
    pub fn with_limit(limit: usize) -> ViolationLog {
        ViolationLog {
            entries: Vec::new(),
            index: HashMap::new(),
            last: None,
            limit,
            total: 0,
            unlisted: 0,
        }
    }

    /// The entries.
    pub fn entries(&self) -> &[Logged] {
        &self.entries
    }

    /// How many violations there were in all.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// How many of them are in no entry, because the log was full.
    pub fn unlisted(&self) -> u64 {
        self.unlisted
    }

    /// Whether nothing was found wrong.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// Takes everything out, for the next call.
    pub fn clear(&mut self) {
        *self = ViolationLog::with_limit(self.limit);
    }

    /// Adds what somebody else found: a crash, a timeout, a wild access.
    pub fn push(&mut self, violation: Violation) {
        let key = (violation.kind, violation.ip, violation.allocation);
        self.count(key, violation.offset, violation.seq, || violation);
    }

    /// Adds a finding, and puts it into words only if there is none like it.
    #[inline]
    pub(super) fn record(
        &mut self,
        finding: &Finding,
        describe: impl FnOnce(&Finding) -> Violation,
    ) {
        let key = (
            finding.kind,
            finding.event.ip,
            finding.place.map(|place| place.allocation),
        );
        let offset = finding.place.map(|place| place.offset);
        self.count(key, offset, Some(finding.event.seq), || describe(finding));
    }

    pub(super) fn refuse(&mut self, refused: &Refused) {
        self.push(Violation {
            kind: ViolationKind::Unsupported,
            access: (refused.addr != 0).then_some(refused.kind),
            certain: false,
            addr: refused.addr,
            size: 0,
            allocation: None,
            allocation_name: None,
            offset: None,
            ip: refused.ip,
            tid: refused.tid,
            seq: None,
            // Without an address it is about the trace as a whole, not about one access.
            message: if refused.addr == 0 {
                refused.what.clone()
            } else {
                format!(
                    "{} at {:#x} cannot be described exactly: {}",
                    refused.kind, refused.addr, refused.what
                )
            },
        });
    }

    fn count(
        &mut self,
        key: Key,
        offset: Option<i64>,
        seq: Option<u64>,
        make: impl FnOnce() -> Violation,
    ) {
        self.total += 1;
        let known = match self.last {
            Some((last, index)) if last == key => Some(index),
            _ => self.index.get(&key).copied(),
        };
        let index = match known {
            Some(index) => {
                let entry = &mut self.entries[index];
                entry.count += 1;
                entry.last_offset = offset;
                entry.last_seq = seq;
                index
            }
            None if self.entries.len() >= self.limit => {
                self.unlisted += 1;
                return;
            }
            None => {
                let violation = make();
                self.entries.push(Logged {
                    violation,
                    count: 1,
                    last_offset: offset,
                    last_seq: seq,
                });
                self.index.insert(key, self.entries.len() - 1);
                self.entries.len() - 1
            }
        };
        self.last = Some((key, index));
    }
}
