//! From an access event to changed bytes, or to what is wrong with it.
//!
//! ```text
//!  inside one of the last allocations?  ──yes──► mark          (the common case)
//!  inside a live allocation?            ──yes──► mark, remember it
//!  touches live ones in part            ──────► mark the parts inside; out of bounds
//!  touches freed ones                   ──────► use after free
//!  in the arena, near something or not  ──────► out of bounds of the nearest
//!  elsewhere: external allocations, likewise    wild access
//! ```
//!
//! Over-reads of vectorised string functions, which read past a string inside an aligned block on
//! purpose, come out of here as `out_of_bounds` findings like any other: they are told apart
//! by the instruction that makes them, which this module does not know. Whoever does turns the
//! finding's kind into [`ViolationKind::Overread`] between [`Memory::apply`] and the log.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
};

use tracer_user::access::{Access, AccessEvent, AccessKind, Loop, Refused, Repeated};

use super::violation::{Finding, Place, Violation, ViolationKind};
use super::{AllocId, Allocation, Memory, Slot};

/// The live allocations that were used last, so that most events need no search. A copy loop
/// alternates between two or three of them.
#[derive(Debug, Default)]
pub(super) struct Recent {
    entries: [(u64, u64, Slot); 4],
    next: usize,
}

impl Recent {
    /// The allocation that holds all of `[addr, addr + len)`, if it was used lately.
    #[inline]
    fn find(&self, addr: u64, len: u64) -> Option<Slot> {
        self.entries
            .iter()
            .find(|(base, size, _)| {
                let offset = addr.wrapping_sub(*base);
                offset < *size && len <= *size - offset
            })
            .map(|(_, _, slot)| *slot)
    }

    fn remember(&mut self, base: u64, size: u64, slot: Slot) {
        self.entries[self.next] = (base, size, slot);
        self.next = (self.next + 1) % self.entries.len();
    }

    /// For when an allocation goes: none of size 0 is ever found.
    pub(super) fn clear(&mut self) {
        *self = Recent::default();
    }
}

impl Memory {
    /// Applies one access: marks what it read, wrote and initialised, and says what is wrong
    /// with it. Bytes inside live allocations are marked even then, for native code did touch
    /// them. An event of length 0 does nothing.
    #[inline]
    pub fn apply(&mut self, event: &AccessEvent) -> Option<Finding> {
        let access = &event.access;
        match self.recent.find(access.addr, access.len) {
            Some(slot) => self.mark_inside(slot, event),
            None => self.search(event),
        }
    }

    /// Applies the accesses of a loop at once, where that comes to the same as one by one: each
    /// position stays in one live allocation, reads what is initialised already, writes what may
    /// be written, and no pointers are kept of it. False, with nothing changed, where it does not.
    pub fn apply_loop(&mut self, repeated: &Loop<'_>) -> bool {
        let fits = repeated.positions.iter().all(|position| {
            let Some((start, len)) = span(position, repeated.rounds) else {
                return false;
            };
            let Some(record) = self.around(start, len).and_then(|slot| self.record(slot)) else {
                return false;
            };
            let offset = start - record.base();
            !record.is_tracked()
                && match position.access.kind {
                    AccessKind::Read => record.init().contains_range(offset..offset + len),
                    AccessKind::Write => record.mutable,
                }
        });
        if !fits {
            return false;
        }
        for position in repeated.positions {
            let Some((start, len)) = span(position, repeated.rounds) else {
                continue;
            };
            let Some(slot) = self.around(start, len) else {
                continue;
            };
            // What an unrolled loop reads piece by piece is marked at once, by its first piece.
            let tile = tile(repeated.positions, position).and_then(|tile| {
                let (first, width) = (tile.start, tile.end - tile.start);
                let before = position.access.addr - first;
                let whole = start - before..start - before + len - position.access.len + width;
                let held = self.around(whole.start, whole.end - whole.start) == Some(slot);
                held.then_some((first, whole))
            });
            let all = match &tile {
                Some((first, _)) if *first != position.access.addr => continue,
                Some((_, whole)) => whole.clone(),
                None => start..start + len,
            };
            if let Some(record) = self.records[slot].as_mut() {
                mark_loop(record, position, repeated.rounds, all, tile.is_some());
            }
            self.touch(slot);
        }
        true
    }

    /// The live allocation that holds all of `[start, start + len)`.
    fn around(&mut self, start: u64, len: u64) -> Option<Slot> {
        if let Some(slot) = self.recent.find(start, len) {
            return Some(slot);
        }
        let slot = self.holding(&self.live, start)?;
        let record = self.record(slot)?;
        let (base, size) = (record.base(), record.size());
        if len > size - (start - base) {
            return None;
        }
        self.recent.remember(base, size, slot);
        Some(slot)
    }

    /// Applies one access and logs what is wrong with it.
    #[inline]
    pub fn observe(&mut self, event: &AccessEvent) {
        if let Some(finding) = self.apply(event) {
            self.report(&finding);
        }
    }

    /// Logs a finding. The message is only made for the first of its kind, site and allocation.
    pub fn report(&mut self, finding: &Finding) {
        let Memory {
            log, records, ids, ..
        } = self;
        log.record(finding, |finding| describe(finding, ids, records));
    }

    /// Takes down an over-read that is no violation, for those who ask for them.
    pub fn note_overread(&mut self, finding: &Finding) {
        let Memory {
            overreads,
            records,
            ids,
            ..
        } = self;
        overreads.record(finding, |finding| describe(finding, ids, records));
    }

    /// Logs an access that no recorder could describe exactly.
    pub fn refuse(&mut self, refused: &Refused) {
        self.log.refuse(refused);
    }

    /// Places an address for people: the live allocation that holds it, else a freed one, else
    /// the nearest. Outside the arena, where there is an external one near; `None` elsewhere, and
    /// in an empty arena.
    pub fn locate(&self, addr: u64) -> Option<Place> {
        if !self.arena.session().is_native(addr) {
            let (slot, _) = self.blame_external(addr, addr.saturating_add(1))?;
            return self.place(slot, addr);
        }
        let (slot, _) = self.blame(addr, addr.saturating_add(1))?;
        self.place(slot, addr)
    }

    /// Where the live allocation is that a range of addresses touches or is nearest to; `None`
    /// where there is none, or the range touches bytes of another one, live or freed.
    pub fn neighbour(&self, range: &Range<u64>) -> Option<Range<u64>> {
        let (start, end) = (range.start, range.end);
        let slot = match overlapping(&self.live, &self.records, start, end)[..] {
            [] => self.nearest(&self.live, start, end)?,
            [one] => one,
            _ => return None,
        };
        let freed = self
            .holding(&self.freed, start)
            .or_else(|| self.reached(&self.freed, start, end));
        let record = self.record(slot).filter(|_| freed.is_none())?;
        Some(record.base()..record.end())
    }

    /// All bytes lie in the live allocation `slot`.
    #[inline]
    fn mark_inside(&mut self, slot: Slot, event: &AccessEvent) -> Option<Finding> {
        let record = self.records[slot].as_mut()?;
        let access = &event.access;
        let offset = access.addr - record.base();
        let range = offset..offset + access.len;
        if record.mark(range.clone(), access) {
            return self.attend(slot, range, event);
        }
        None
    }

    /// What an access calls for beyond the marks: exposes what it read, gives what it wrote
    /// wildcard provenance, and says what is wrong with it.
    #[inline(never)]
    fn attend(&mut self, slot: Slot, range: Range<u64>, event: &AccessEvent) -> Option<Finding> {
        let access = &event.access;
        self.touch(slot);
        let record = self.record(slot)?;
        let finding = |kind| Finding {
            kind,
            event: *event,
            place: self.place(slot, access.addr),
        };
        if access.kind == AccessKind::Read {
            let lint = (self.lint.is_on() && record.first_unreadable(range.clone()).is_some())
                .then(|| finding(ViolationKind::UninitRead));
            self.apply_provenance(slot, range, access);
            return self.note_uninit_read(&lint?);
        }
        let forbidden = (!record.mutable).then(|| finding(ViolationKind::WriteToReadOnly));
        self.apply_provenance(slot, range, access);
        forbidden
    }

    /// The part of an access that concerns pointers. What it read is exposed. So is what an
    /// uncertain write may have left where it was: if it did not happen, the pointer is still
    /// there, and may be used as the wildcard that it is now taken for.
    fn apply_provenance(&mut self, slot: Slot, range: Range<u64>, access: &Access) {
        let Some(record) = self.records[slot].as_mut().filter(|it| it.is_tracked()) else {
            return;
        };
        let targets: Vec<AllocId> = match (access.kind, access.certain) {
            (AccessKind::Write, true) => Vec::new(),
            (AccessKind::Write, false) if !record.mutable => return,
            _ => record.targets(range.clone()).collect(),
        };
        if access.kind == AccessKind::Write {
            record.make_wildcard(range);
        }
        for id in targets {
            // What was freed and forgotten has nothing to expose.
            let _ = self.expose(id);
        }
    }

    #[cold]
    #[inline(never)]
    fn search(&mut self, event: &AccessEvent) -> Option<Finding> {
        let (start, len) = (event.access.addr, event.access.len);
        if len == 0 {
            return None;
        }
        let end = start.saturating_add(len);
        let session = self.arena.session();
        if !session.is_native(start) && !session.is_native(end - 1) {
            return self.search_external(event, start, end);
        }
        let below = self.live.range(..=start).next_back();
        if let Some((base, slot)) = below.map(|(base, slot)| (*base, *slot))
            && let Some(record) = self.records[slot].as_ref()
            && end <= record.end()
        {
            self.recent.remember(base, record.size(), slot);
            return self.mark_inside(slot, event);
        }
        for slot in overlapping(&self.live, &self.records, start, end) {
            self.mark_part(slot, event, start, end);
        }
        let blamed = self.blame(start, end);
        let (place, kind) = match blamed {
            Some((slot, kind)) => (self.place(slot, start), kind),
            None => (None, ViolationKind::OutOfBounds),
        };
        Some(Finding {
            kind,
            event: *event,
            place,
        })
    }

    /// Marks what an access did to one of several allocations. What is wrong with that part alone
    /// is returned.
    pub(super) fn mark_part(
        &mut self,
        slot: Slot,
        event: &AccessEvent,
        start: u64,
        end: u64,
    ) -> Option<Finding> {
        let record = self.records.get_mut(slot)?.as_mut()?;
        let from = start.max(record.base()) - record.base();
        let to = end.min(record.end()) - record.base();
        record.mark(from..to, &event.access);
        self.attend(slot, from..to, event)
    }

    /// Which allocation an access that is not inside a live one is about, and what is wrong.
    ///
    /// Where the access begins decides; then what it touches first; then, in the red zones, whose
    /// they are; then what is nearest. A freed allocation far off explains nothing if there is a
    /// live one.
    fn blame(&self, start: u64, end: u64) -> Option<(Slot, ViolationKind)> {
        use ViolationKind::{OutOfBounds, UseAfterFree};
        let near_freed = || {
            let below = self.freed.range(..=start).next_back();
            let above = self.freed.range(start..).next();
            let owns = |slot: &Slot| self.record(*slot).is_some_and(|record| record.owns(start));
            below
                .into_iter()
                .chain(above)
                .map(|(_, slot)| *slot)
                .find(owns)
        };
        let holding = |map| self.holding(map, start);
        let reached = |map| self.reached(map, start, end);
        let nearest = |map| self.nearest(map, start, end);
        holding(&self.live)
            .map(|slot| (slot, OutOfBounds))
            .or_else(|| Some((holding(&self.freed)?, UseAfterFree)))
            .or_else(|| Some((reached(&self.live)?, OutOfBounds)))
            .or_else(|| Some((reached(&self.freed)?, UseAfterFree)))
            .or_else(|| Some((near_freed()?, UseAfterFree)))
            .or_else(|| Some((nearest(&self.live)?, OutOfBounds)))
            .or_else(|| Some((nearest(&self.freed)?, OutOfBounds)))
    }

    /// The allocation that holds the byte at `addr`.
    pub(super) fn holding(&self, map: &BTreeMap<u64, Slot>, addr: u64) -> Option<Slot> {
        let (_, slot) = map.range(..=addr).next_back()?;
        (self.record(*slot)?.end() > addr).then_some(*slot)
    }

    /// The first allocation with bytes that begins in `[start, end)`.
    pub(super) fn reached(&self, map: &BTreeMap<u64, Slot>, start: u64, end: u64) -> Option<Slot> {
        let has_bytes = |slot: &Slot| self.record(*slot).is_some_and(|record| record.size() > 0);
        map.range(start..end).map(|(_, slot)| *slot).find(has_bytes)
    }

    /// The allocation nearest to `[start, end)`, which touches none. At equal distance the one
    /// below: running over the end is the common mistake.
    pub(super) fn nearest(&self, map: &BTreeMap<u64, Slot>, start: u64, end: u64) -> Option<Slot> {
        let below = map.range(..=start).next_back().map(|(_, slot)| *slot);
        let above = map
            .range(start.saturating_add(1)..)
            .next()
            .map(|(_, slot)| *slot);
        let (Some(low), Some(high)) = (below, above) else {
            return below.or(above);
        };
        let gap_below = start.saturating_sub(self.record(low)?.end());
        let gap_above = self.record(high)?.base().saturating_sub(end);
        Some(if gap_above < gap_below { high } else { low })
    }

    fn touch(&mut self, slot: Slot) {
        if let Some(record) = self.records[slot].as_mut()
            && record.touch()
        {
            self.touched.push((slot, record.id));
        }
    }

    pub(super) fn record(&self, slot: Slot) -> Option<&Allocation> {
        self.records.get(slot)?.as_ref()
    }

    pub(super) fn place(&self, slot: Slot, addr: u64) -> Option<Place> {
        let record = self.record(slot)?;
        Some(Place {
            allocation: record.id,
            offset: addr.wrapping_sub(record.base()) as i64,
        })
    }
}

/// First address and length in bytes of what a position of a loop touches, gaps included.
fn span(position: &Repeated, rounds: u64) -> Option<(u64, u64)> {
    let Access { addr, len, .. } = position.access;
    let distance = position
        .stride
        .unsigned_abs()
        .checked_mul(rounds.checked_sub(1)?)?;
    let start = if position.stride < 0 {
        addr.checked_sub(distance)?
    } else {
        addr
    };
    Some((start, distance.checked_add(len)?)).filter(|(_, all)| len > 0 && *all < 1 << 40)
}

/// Marks what a position of a loop did to an allocation that holds all of it. Positions that an
/// unrolled loop has beside it, and that fill its gaps, are marked with it: `whole` says so.
fn mark_loop(
    record: &mut Allocation,
    position: &Repeated,
    rounds: u64,
    all: Range<u64>,
    whole: bool,
) {
    let base = record.base();
    let access = &position.access;
    let stride = position.stride.unsigned_abs();
    let range = all.start - base..all.end - base;
    if whole || stride <= access.len {
        record.mark(range, access);
    } else {
        record.mark_strided(
            range.start..range.start + access.len,
            stride,
            rounds,
            access,
        );
    }
}

/// The first and last address of what the positions like this one touch together in one round, if
/// that is as much as they go on by: all bytes between.
fn tile(positions: &[Repeated], like: &Repeated) -> Option<Range<u64>> {
    let stride = like.stride.unsigned_abs();
    if stride <= like.access.len {
        return None;
    }
    let same = |other: &&Repeated| {
        (other.stride, other.access.kind, other.access.certain)
            == (like.stride, like.access.kind, like.access.certain)
            && other.access.addr.abs_diff(like.access.addr) < stride
    };
    let mut ranges: Vec<Range<u64>> = positions
        .iter()
        .filter(same)
        .map(|other| other.access.addr..other.access.addr + other.access.len)
        .collect();
    ranges.sort_unstable_by_key(|range| range.start);
    let mut all = ranges.first()?.clone();
    for range in &ranges[1..] {
        if range.start > all.end {
            return None;
        }
        all.end = all.end.max(range.end);
    }
    (all.end - all.start >= stride).then_some(all)
}

/// Allocations of a map that `[start, end)` touches, the lowest first.
pub(super) fn overlapping(
    map: &BTreeMap<u64, Slot>,
    records: &[Option<Allocation>],
    start: u64,
    end: u64,
) -> Vec<Slot> {
    let record = |slot: Slot| records.get(slot)?.as_ref();
    let touches = |slot: &Slot| record(*slot).is_some_and(|record| record.end() > start);
    let mut slots: Vec<Slot> = map
        .range(..end)
        .rev()
        .map(|(_, slot)| *slot)
        .take_while(touches)
        .filter(|slot| record(*slot).is_some_and(|record| record.size() > 0))
        .collect();
    slots.reverse();
    slots
}

/// A finding in words, with what is known of the allocation that it is about.
pub(super) fn describe(
    finding: &Finding,
    ids: &HashMap<AllocId, Slot>,
    records: &[Option<Allocation>],
) -> Violation {
    let slot = finding.place.and_then(|place| ids.get(&place.allocation));
    finding.describe(slot.and_then(|slot| records[*slot].as_ref()))
}
