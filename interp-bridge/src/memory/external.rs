//! Memory outside of the arena that the interpreter may use: native heap, static data, mappings.
//!
//! ```text
//!  malloc'd by native code ──► register_external ──► read, write, resolve, free, as in the arena
//!                                    │
//!                                    └─ native code writes it unseen: after each native call
//!                                       (`native_ran`) all of it is wildcard again
//! ```
//!
//! Its bytes stay where they are. Accesses of native code to it are not recorded, so the events
//! say nothing of it; an event that does lie there (of a system call, or of a crash) is placed.
//! Its address is native code's own, so it is exposed from the start.
//!
//! # Safety
//!
//! [`Memory::register_external`] is `unsafe` to call, and nothing else here is: the bytes of what
//! was registered are later written for the interpreter (see `real`), which is sound by the
//! promise that its caller makes.
#![allow(unsafe_code)]

use std::collections::{BTreeMap, VecDeque};

use tracer_user::access::AccessEvent;

use super::allocation::{Home, Parts};
use super::apply::overlapping;
use super::violation::{Finding, ViolationKind};
use super::{
    AllocId, Allocation, ExternalError, ExternalRequest, Memory, MemoryError, Origin, Slot, real,
};
use crate::arena::MAX_RED_ZONE;

/// How many freed external allocations are remembered, to name them in a late use.
const REMEMBERED: usize = 4096;

/// The external allocations, by address.
#[derive(Debug, Default)]
pub(super) struct Externals {
    live: BTreeMap<u64, Slot>,
    freed: BTreeMap<u64, Slot>,
    /// Those that were freed, the oldest first. Some may be forgotten already.
    order: VecDeque<(u64, Slot)>,
    /// Those whose bytes the interpreter changed since native code last ran.
    changed: Vec<(Slot, AllocId)>,
}

impl Externals {
    pub(super) fn live(&self) -> &BTreeMap<u64, Slot> {
        &self.live
    }

    /// The interpreter changed what is known of the bytes of one.
    pub(super) fn note_change(&mut self, slot: Slot, id: AllocId) {
        if self.changed.last() != Some(&(slot, id)) {
            self.changed.push((slot, id));
        }
    }

    /// One was freed. Returns a record to forget, so that there are not too many.
    pub(super) fn retire(&mut self, base: u64, slot: Slot) -> Option<Slot> {
        self.live.remove(&base);
        let replaced = self.freed.insert(base, slot);
        self.order.push_back((base, slot));
        if replaced.is_some() {
            return replaced;
        }
        while self.order.len() > REMEMBERED {
            let (base, slot) = self.order.pop_front()?;
            if self.freed.get(&base) == Some(&slot) {
                return self.freed.remove(&base);
            }
        }
        None
    }
}

impl Memory {
    /// Takes memory that exists already, outside of the arena, for an allocation. The interpreter
    /// reads and writes it like any other; freeing it here only ends its life here. Freed
    /// allocations that it overlaps are forgotten: their memory was reused.
    ///
    /// # Errors
    ///
    /// [`MemoryError::External`]: it overlaps a live allocation, lies in the arena, or is no
    /// memory. Whether it is mapped is asked when it is read.
    ///
    /// # Safety
    ///
    /// Until the allocation is freed here, the interpreter may write these bytes. Nothing in Rust
    /// may refer to them, and writing them must be what their owner expects: they are memory that
    /// native code handed over, or static data that it shares.
    pub unsafe fn register_external(
        &mut self,
        request: &ExternalRequest<'_>,
    ) -> Result<AllocId, MemoryError> {
        let ExternalRequest { base, size, .. } = *request;
        let end = base.checked_add(size).filter(|_| base != 0);
        let end = end.ok_or(ExternalError::NoMemory { base, size })?;
        let session = self.arena.session();
        let arena = session.arena_base..session.arena_base + session.arena_len;
        if base < arena.end && arena.start < end.max(base + 1) {
            return Err(ExternalError::InArena { base, size }.into());
        }
        let there = overlapping(&self.external.live, &self.records, base, end);
        let same = self.external.live.get(&base).copied();
        if let Some(slot) = there.into_iter().next().or(same)
            && let Some(record) = self.record(slot)
        {
            return Err(ExternalError::Overlaps {
                base,
                size,
                id: record.id(),
                with: record.title(),
                with_base: record.base(),
            }
            .into());
        }
        self.forget_freed(base, end);
        let (id, slot) = self.record_new(|id| {
            let mut record = Allocation::new(Parts {
                id,
                name: request.name.map(str::to_owned),
                base,
                size,
                home: Home::External,
                align: request.align,
                mutable: request.mutable,
                kind: request.kind,
                initialised: false,
            });
            record.origin = Some(Box::new(Origin {
                what: request.origin.to_owned(),
                site: request.site,
            }));
            if request.initialised {
                record.make_wildcard(0..size);
            }
            record
        });
        self.external.live.insert(base, slot);
        if !request.initialised {
            self.external.note_change(slot, id);
        }
        self.expose(id)?;
        Ok(id)
    }

    /// Copies bytes of this process that nobody has registered, and returns how many could be read
    /// before the first page that cannot. What they are is not known: they have no provenance, and
    /// count as initialised.
    pub fn read_native(&self, addr: u64, into: &mut [u8]) -> usize {
        real::read(addr, into)
    }

    /// Writes bytes of this process that nobody has registered, and returns how many could be
    /// written before the first page that cannot.
    ///
    /// # Safety
    ///
    /// Nothing in Rust may refer to these bytes, and writing them must be what their owner, native
    /// code, expects.
    pub unsafe fn write_native(&mut self, addr: u64, bytes: &[u8]) -> usize {
        real::write(addr, bytes)
    }

    /// The live external allocation that begins at an address.
    pub fn external_at(&self, base: u64) -> Option<&Allocation> {
        self.record(*self.external.live.get(&base)?)
    }

    /// The external allocation that was freed last of those that began at an address, while it is
    /// remembered and nothing else was registered there.
    pub fn freed_external_at(&self, base: u64) -> Option<&Allocation> {
        self.record(*self.external.freed.get(&base)?)
    }

    /// The live allocation, in the arena or external, that holds the byte at an address of
    /// native code. An address of the host view counts as that of the native view.
    pub fn containing(&self, addr: u64) -> Option<&Allocation> {
        let native = self.arena.to_native(addr).unwrap_or(addr);
        let slot = self
            .holding(&self.live, native)
            .or_else(|| self.holding(&self.external.live, native))?;
        self.record(slot)
    }

    /// The live external allocations, in the order of their addresses.
    pub fn externals(&self) -> impl Iterator<Item = &Allocation> {
        let slots = self.external.live.values();
        slots.filter_map(|slot| self.record(*slot))
    }

    /// Whether native code ran: it may have written any mutable external allocation, and read all
    /// of them. Takes time for those that the interpreter changed since the last time.
    pub(super) fn externals_may_have_changed(&mut self) {
        for (slot, id) in std::mem::take(&mut self.external.changed) {
            self.may_have_changed(slot, id);
        }
    }

    /// An access outside of the arena: in external allocations, or wild.
    pub(super) fn search_external(
        &mut self,
        event: &AccessEvent,
        start: u64,
        end: u64,
    ) -> Option<Finding> {
        let mut first = None;
        let mut reached = start;
        let mut whole = true;
        for slot in overlapping(&self.external.live, &self.records, start, end) {
            let record = self.record(slot)?;
            whole &= record.base() <= reached;
            reached = record.end();
            let found = self.mark_part(slot, event, start, end);
            first = first.or(found);
        }
        if whole && reached >= end {
            // Allocations that lie side by side may be reached by one access.
            return first;
        }
        let blamed = self.blame_external(start, end);
        Some(Finding {
            kind: blamed.map_or(ViolationKind::WildAccess, |(_, kind)| kind),
            event: *event,
            place: blamed.and_then(|(slot, _)| self.place(slot, start)),
        })
    }

    /// The external allocation that an access is about, if it is in or near one, and what is
    /// wrong. Red zones there are none, so near is what a red zone would be at most.
    pub(super) fn blame_external(&self, start: u64, end: u64) -> Option<(Slot, ViolationKind)> {
        use ViolationKind::{UseAfterFree, WildAccess};
        let Externals { live, freed, .. } = &self.external;
        let near = |map| {
            let slot = self.nearest(map, start, end)?;
            let record = self.record(slot)?;
            let gap = start
                .saturating_sub(record.end())
                .max(record.base().saturating_sub(end));
            (gap <= MAX_RED_ZONE).then_some(slot)
        };
        self.holding(live, start)
            .map(|slot| (slot, WildAccess))
            .or_else(|| Some((self.holding(freed, start)?, UseAfterFree)))
            .or_else(|| Some((self.reached(live, start, end)?, WildAccess)))
            .or_else(|| Some((self.reached(freed, start, end)?, UseAfterFree)))
            .or_else(|| Some((near(live)?, WildAccess)))
            .or_else(|| Some((near(freed)?, WildAccess)))
    }

    fn forget_freed(&mut self, base: u64, end: u64) {
        let end = end.max(base.saturating_add(1));
        let mut gone = overlapping(&self.external.freed, &self.records, base, end);
        // One without bytes is in the way as well, if it is at the same address.
        gone.extend(self.external.freed.get(&base).copied());
        for slot in gone {
            if let Some(record) = self.record(slot) {
                let at = record.base();
                self.external.freed.remove(&at);
                self.forget(slot);
            }
        }
    }
}
