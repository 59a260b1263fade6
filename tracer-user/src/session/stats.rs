//! What a call cost: counters before and after it, and their difference.

use crate::{backend::Emitted, pipeline::Totals};

/// What one call cost and yielded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallStats {
    /// Faults that the producer counted, accesses that translated code logged, and refusals that
    /// have neither.
    pub emitted: u64,
    /// Of those, faults that became events.
    pub delivered: u64,
    /// Of those, accesses refused by name.
    pub rejected: u64,
    /// Of those, records lost for want of room.
    pub dropped: u64,
    /// Of those emitted, page faults of native code's own instructions.
    pub faults: u64,
    /// Of those emitted, accesses that translated code made and logged itself.
    pub translated: u64,
    /// Access events.
    pub events: u64,
    /// Of those, reads.
    pub reads: u64,
    /// Of those, writes.
    pub writes: u64,
    /// System calls that touched the arena.
    pub syscalls: u64,
    /// Instructions executed by opening the native view.
    pub steps: u64,
    /// Distinct sites seen.
    pub sites: u64,
    /// Calls of the probed function that the kernel saw begin and end, where it was asked to.
    pub probed: Option<(u64, u64)>,
}

impl CallStats {
    /// Adds the counts of a later call of the same session.
    pub fn add(&mut self, later: &CallStats) {
        self.emitted += later.emitted;
        self.delivered += later.delivered;
        self.rejected += later.rejected;
        self.dropped += later.dropped;
        self.faults += later.faults;
        self.translated += later.translated;
        self.events += later.events;
        self.reads += later.reads;
        self.writes += later.writes;
        self.syscalls += later.syscalls;
        self.steps += later.steps;
        self.sites = later.sites;
        self.probed = match (self.probed, later.probed) {
            (Some(before), Some(later)) => Some((before.0 + later.0, before.1 + later.1)),
            (before, later) => before.or(later),
        };
    }

    /// Whether every access is accounted for: nothing dropped, nothing refused, nothing missing.
    pub fn complete(&self) -> bool {
        self.dropped == 0 && self.rejected == 0 && self.balanced()
    }

    /// Whether everything emitted has become of something.
    pub(super) fn balanced(&self) -> bool {
        self.emitted == self.delivered + self.rejected + self.dropped
    }
}

/// Counters at one moment.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    pub(super) emitted: Emitted,
    pub(super) totals: Totals,
    pub(super) steps: u64,
    pub(super) blind: u64,
    pub(super) uncopied: u64,
    pub(super) changed: u64,
    pub(super) foreign: u64,
    pub(super) handled: u64,
    /// Entries of logs.
    pub(super) logged: u64,
    pub(super) failed: u64,
}

impl Mark {
    /// Faults of the session that the handler resumed, and touches that the dispatcher told, and
    /// the kernel did not count. Faults of a stepped instruction are the kernel's alone.
    pub(super) fn unrecorded(&self) -> u64 {
        let twice = self.totals.stepping + self.totals.repeated;
        let recorded = self.emitted.emitted - twice.min(self.emitted.emitted);
        self.handled.saturating_sub(recorded)
    }

    pub(super) fn since(&self, before: &Mark) -> CallStats {
        // Records too, but the producer counts them apart.
        let failed = self.totals.failed_syscalls - before.totals.failed_syscalls;
        let emitted = self.emitted.emitted - before.emitted.emitted;
        let touches = self.totals.touches - before.totals.touches;
        let translated = self.logged - before.logged;
        CallStats {
            emitted: emitted + failed + translated,
            translated,
            faults: emitted.saturating_sub(touches),
            delivered: self.totals.delivered - before.totals.delivered,
            rejected: self.totals.rejected - before.totals.rejected,
            dropped: self.emitted.dropped - before.emitted.dropped,
            events: self.totals.events - before.totals.events,
            reads: self.totals.reads - before.totals.reads,
            writes: self.totals.writes - before.totals.writes,
            syscalls: self.totals.syscalls - before.totals.syscalls,
            steps: self.steps - before.steps,
            sites: self.totals.sites,
            probed: self
                .emitted
                .probed
                .zip(before.emitted.probed)
                .map(|(now, then)| (now.0 - then.0, now.1 - then.1)),
        }
    }
}
