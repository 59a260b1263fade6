//! What the bridge needs of a memory, where the interpreter has one of its own: which addresses
//! are live, and a list of what was done to them.

use std::{collections::BTreeMap, ops::Range};

use tracer_user::{
    access::{AccessEvent as Event, Refused},
    shadow::Shadow,
};

use super::events::{AccessEvent, MemEvents};
use crate::{
    arena::{Arena, Block, Request},
    memory::{Finding, InterpreterMemory, MemoryError, Violation, ViolationKind},
};

/// See the module. Addresses are those of the native view.
pub(super) struct DoorMemory {
    arena: Arena,
    shadow: Shadow,
    live: BTreeMap<u64, Block>,
    /// Freed, and kept from being used again for a while.
    freed: BTreeMap<u64, Block>,
    pub(super) events: MemEvents,
    /// What could not be told exactly.
    pub(super) refused: Vec<String>,
    /// What ended the call, if something did.
    pub(super) ended: Option<Violation>,
}

impl DoorMemory {
    pub(super) fn new() -> Result<DoorMemory, MemoryError> {
        let arena = Arena::new()?;
        let shadow = Shadow::new(arena.session())?;
        Ok(DoorMemory {
            arena,
            shadow,
            live: BTreeMap::new(),
            freed: BTreeMap::new(),
            events: MemEvents::default(),
            refused: Vec::new(),
            ended: None,
        })
    }

    /// The native address of a new allocation.
    pub(super) fn allocate(&mut self, request: Request) -> Result<u64, MemoryError> {
        let block = self.arena.allocate(request)?;
        self.forget_released();
        self.shadow.set_live(block.base, block.size, true);
        self.live.insert(block.base, block);
        Ok(block.base)
    }

    /// Frees the allocation that begins at `base`; false where there is none.
    pub(super) fn free(&mut self, base: u64) -> bool {
        let Some(block) = self.live.remove(&base) else {
            return false;
        };
        self.shadow.set_dead(block.base, block.size);
        self.freed.insert(base, block);
        let freed = self.arena.free(block).is_ok();
        self.forget_released();
        freed
    }

    fn forget_released(&mut self) {
        for base in self.arena.released() {
            self.freed.remove(&base);
        }
    }

    /// The allocation in `map` that holds the byte at `addr`.
    fn holding(map: &BTreeMap<u64, Block>, addr: u64) -> Option<Range<u64>> {
        let (_, block) = map.range(..=addr).next_back()?;
        let range = block.base..block.base + block.size;
        range.contains(&addr).then_some(range)
    }

    /// Those in `map` that touch `range`.
    fn touching<'a>(
        map: &'a BTreeMap<u64, Block>,
        range: &'a Range<u64>,
    ) -> impl Iterator<Item = Range<u64>> + 'a {
        let holding = DoorMemory::holding(map, range.start);
        let inside = range.start.saturating_add(1)..range.end.max(range.start.saturating_add(1));
        let others = map.range(inside).map(|(_, block)| block);
        holding
            .into_iter()
            .chain(others.map(|block| block.base..block.base + block.size))
    }
}

fn range(event: &Event) -> Range<u64> {
    event.access.addr..event.access.addr.saturating_add(event.access.len)
}

impl InterpreterMemory for DoorMemory {
    fn arena(&self) -> &Arena {
        &self.arena
    }

    fn arena_mut(&mut self) -> &mut Arena {
        &mut self.arena
    }

    fn shadow(&self) -> &Shadow {
        &self.shadow
    }

    fn apply(&mut self, event: &Event) -> Option<Finding> {
        let touched = range(event);
        let live = DoorMemory::holding(&self.live, touched.start);
        if live.is_some_and(|live| live.end >= touched.end) {
            self.events.acc_events.push(event.into());
            return None;
        }
        let freed = DoorMemory::holding(&self.freed, touched.start).is_some();
        let kind = if freed {
            ViolationKind::UseAfterFree
        } else {
            ViolationKind::OutOfBounds
        };
        Some(Finding {
            kind,
            event: *event,
            place: None,
        })
    }

    fn neighbour(&self, range: &Range<u64>) -> Option<Range<u64>> {
        if DoorMemory::touching(&self.freed, range).next().is_some() {
            return None;
        }
        let mut touching = DoorMemory::touching(&self.live, range);
        if let Some(one) = touching.next() {
            return touching.next().is_none().then_some(one);
        }
        let bounds = |(_, block): (&u64, &Block)| block.base..block.base + block.size;
        let below = self.live.range(..=range.start).next_back().map(bounds);
        let above = self.live.range(range.end..).next().map(bounds);
        match (below, above) {
            (Some(below), Some(above)) if above.start - range.end < range.start - below.end => {
                Some(above)
            }
            (below, above) => below.or(above),
        }
    }

    /// The interpreter finds out for itself that it is outside of what is live.
    fn report(&mut self, finding: &Finding) {
        self.events.acc_events.push((&finding.event).into());
    }

    /// The bytes beside the string are not used, so only those of the allocation were read.
    fn note_overread(&mut self, finding: &Finding) {
        let read = range(&finding.event);
        let Some(live) = self.neighbour(&read) else {
            return;
        };
        let (start, end) = (read.start.max(live.start), read.end.min(live.end));
        if start < end {
            self.events
                .acc_events
                .push(AccessEvent::Read(super::AccessRange {
                    addr: start as usize,
                    size: (end - start) as usize,
                }));
        }
    }

    fn refuse(&mut self, refused: &Refused) {
        self.refused.push(refused.what.clone());
    }

    fn violation(&mut self, violation: Violation) {
        self.ended = Some(violation);
    }

    fn title_at(&self, addr: u64) -> Option<String> {
        let live = DoorMemory::holding(&self.live, addr)?;
        Some(format!(
            "the allocation of {} bytes at {:#x}",
            live.end - live.start,
            live.start
        ))
    }

    fn native_ran(&mut self, _traced: bool) {}
}
