//! Room in the rings: records written and taken out, and who waits for whom.
//!
//! ```text
//!  handler: record ─► ring ─► a quarter full? ──► wakes who drains
//!                             nearly full?    ──► waits on `drained`
//!  who drains: drain_begins ─► takes records out ─► drain_ended: wakes the handlers
//! ```
//!
//! # Safety
//! The view of the kernel's ring is null or a leaked box; the mapping that it reads lives while
//! the session does, see [`Engine::lend`].
#![allow(unsafe_code)]

use std::sync::atomic::Ordering;

use super::Engine;
use crate::{
    backend::ebpf::RingView,
    resume::safe::{self, Safe},
};

/// Room that is kept free, in records. A thread adds at most one fault (and what completes it)
/// between two looks at the room, so no record is lost with fewer native threads than this. (A
/// stepped instruction adds one for each page that it is the first to need, at most 32.)
pub(crate) const RESERVE_RECORDS: u64 = 8192;

/// Bytes that a fault record takes in the kernel's ring: the record and the kernel's header.
const KERNEL_RECORD: u64 = tracer_user_record_size();

const fn tracer_user_record_size() -> u64 {
    (size_of::<tracer_ebpf::FaultRecord>() as u64 + 8).next_multiple_of(8)
}

impl Engine {
    /// Records waiting, as a pair of (used, room in all). Async-signal-safe.
    fn fill(&self) -> (u64, u64) {
        let kernel = self.kernel_ring.load(Ordering::Acquire);
        let user = self.ring.used();
        // SAFETY: null or a leaked box; its mapping lives while the session does.
        match unsafe { kernel.as_ref() } {
            Some(view) => {
                let used = view.used().div_ceil(KERNEL_RECORD);
                (
                    used.max(user),
                    (view.size() / KERNEL_RECORD).min(self.ring.capacity()),
                )
            }
            None => (user, self.ring.capacity()),
        }
    }

    /// Bytes ever written to the kernel's ring, and records to the user ring, those being
    /// written included.
    pub(crate) fn written(&self) -> (u64, u64) {
        (self.kernel_position(RingView::written), self.ring.pushed())
    }

    /// How much of that has been taken out.
    pub(crate) fn taken_out(&self) -> (u64, u64) {
        (self.kernel_position(RingView::read), self.ring.popped())
    }

    fn kernel_position(&self, position: impl FnOnce(&RingView) -> u64) -> u64 {
        let kernel = self.kernel_ring.load(Ordering::Acquire);
        // SAFETY: as in `fill`.
        unsafe { kernel.as_ref() }.map_or(0, position)
    }

    /// Asks for the rings to be drained when they are a quarter full, and waits while they are
    /// so full that a record might be lost. Async-signal-safe.
    pub(crate) fn make_room(&self, safe: Safe) {
        loop {
            let drained = self.words().drained.load(Ordering::Acquire);
            let (used, capacity) = self.fill();
            if used < capacity / 4 {
                return;
            }
            self.ask_for_drain(safe);
            if used + RESERVE_RECORDS <= capacity {
                return;
            }
            safe::wait(safe, &self.words().drained, drained);
        }
    }

    /// Wakes who drains the rings, unless that is done already. Async-signal-safe.
    pub(in crate::resume) fn ask_for_drain(&self, safe: Safe) {
        if self.words().drain_asked.swap(1, Ordering::AcqRel) == 0 {
            safe::notify(safe, self.drain_fd.load(Ordering::Relaxed));
        }
    }

    /// Appends a record to the user ring, waiting for room if need be. Async-signal-safe.
    pub(crate) fn push<R: bytemuck::Pod>(&self, safe: Safe, record: &R) {
        while !self.ring.push(record) {
            self.make_room(safe);
        }
    }

    /// Counts a fault that is about to be recorded in user space. Async-signal-safe.
    pub(crate) fn count_fault(&self) {
        self.words().faults.fetch_add(1, Ordering::Relaxed);
    }

    /// Faults that user space recorded, or tried to, in the process's life.
    pub(crate) fn faults(&self) -> u64 {
        self.words().faults.load(Ordering::Relaxed)
    }

    /// Called by who drains, before it looks at the rings.
    pub(crate) fn drain_begins(&self) {
        self.words().drain_asked.store(0, Ordering::Release);
    }

    /// Called by who drains, after it took records out.
    pub(crate) fn drain_ended(&self) {
        self.words().drained.fetch_add(1, Ordering::AcqRel);
        safe::wake(Safe::promise(), &self.words().drained);
    }
}
