//! The native heap: what is live, what was freed, and what is wrong with a free.
//!
//! ```text
//!  free(p) ── a live allocation begins at p? ──yes──► made by the same family? ──► given back
//!          │                                                └─no──► mismatched_free
//!          ├─ p is inside a live one, or inside a freed one ──────► invalid_free
//!          ├─ one that began at p was freed ──────────────────────► double_free
//!          ├─ p is the interpreter's memory, a stack, a file's ───► invalid_free
//!          └─ else libc made it for itself (getline, asprintf) ───► the real function
//! ```
//!
//! A free that is wrong is reported and not carried out. To be sure of a double free, an address
//! may not be used again behind our back: blocks of the arena wait in its quarantine, and those
//! of the real heap wait in one of ours before the real `free` gets them.

use std::collections::BTreeMap;

use super::blame::holding;
use super::call_site::CallSites;
use super::external;
use super::foreign::Mappings;
use super::maps::NativeMaps;
use super::objects::LoadedObject;
use super::record::{self, Caller, NativeAllocation, Place, Totals};
use super::request::{Allocated, Release, ReleaseError, Released, Resized, Wanted};
use super::waiting::Waiting;
use super::words::Words;
use super::{Family, NativeHeapMode};
use crate::arena::{ArenaError, View};
use crate::memory::{
    AllocId, AllocKind, AllocRequest, Freer, Init, Memory, MemoryError, Origin, ViolationKind,
};

/// What `malloc` aligns to, in bytes.
pub(super) const MALLOC_ALIGN: u64 = 16;
/// Records of freed allocations from which on those of reused memory are dropped.
const FREED_RECORDS: usize = 1 << 17;

/// See the module.
pub(super) struct NativeHeap {
    mode: NativeHeapMode,
    view: View,
    pub(super) live: BTreeMap<u64, NativeAllocation>,
    pub(super) freed: BTreeMap<u64, NativeAllocation>,
    waiting: Waiting,
    totals: Totals,
    next: u64,
    pub(super) mappings: Mappings,
    pub(super) words: Words,
    maps: NativeMaps,
    pub(super) sites: CallSites,
}

impl NativeHeap {
    /// An empty heap. `objects` are what is loaded.
    pub(super) fn new(mode: NativeHeapMode, view: View, objects: Vec<LoadedObject>) -> NativeHeap {
        NativeHeap {
            mode,
            view,
            live: BTreeMap::new(),
            freed: BTreeMap::new(),
            waiting: Waiting::default(),
            totals: Totals::default(),
            next: 1,
            mappings: Mappings::new(objects),
            words: Words::default(),
            maps: NativeMaps::default(),
            sites: CallSites::default(),
        }
    }

    pub(super) fn totals(&self) -> Totals {
        self.totals
    }

    /// Live allocations, in the order in which they were made.
    pub(super) fn live(&self) -> Vec<NativeAllocation> {
        let mut all: Vec<_> = self.live.values().cloned().collect();
        all.sort_unstable_by_key(|allocation| allocation.number);
        all
    }

    /// The allocation with that record in the abstract memory, live or freed.
    pub(super) fn find(&self, id: AllocId) -> Option<&NativeAllocation> {
        let mut all = self.live.values().chain(self.freed.values());
        all.find(|allocation| allocation.id == Some(id))
    }

    /// The live allocation that holds the byte at an address.
    pub(super) fn containing(&self, addr: u64) -> Option<&NativeAllocation> {
        holding(&self.live, addr)
    }

    /// Makes an allocation in the arena, if the heap is there.
    pub(super) fn allocate(&mut self, memory: &mut Memory, wanted: &Wanted) -> Allocated {
        if self.mode == NativeHeapMode::Observe {
            return Allocated::Real;
        }
        let align = wanted.align.max(MALLOC_ALIGN);
        let name = record::name(self.next);
        let request = AllocRequest {
            name: Some(&name),
            size: wanted.size,
            align,
            init: if wanted.zeroed {
                Init::Zeroed
            } else {
                Init::Uninit
            },
            mutable: true,
            kind: AllocKind::NativeHeap,
        };
        let made = memory
            .allocate(&request)
            .and_then(|id| Ok((id, memory.address_in(id, self.view)?)));
        match made {
            Ok((id, base)) => {
                let origin = Origin {
                    what: wanted.caller.function.name().to_owned(),
                    site: Some(wanted.caller.site),
                };
                let _ = memory.set_origin(id, origin);
                // Native code has its address, and may hand it on.
                let _ = memory.expose(id);
                self.enter(Some(id), base, wanted, Place::Arena);
                Allocated::At(base)
            }
            Err(MemoryError::Arena(ArenaError::TooLarge(_) | ArenaError::Alignment(_))) => {
                Allocated::Real
            }
            Err(_) => Allocated::Failed,
        }
    }

    /// Takes down an allocation that the real function made.
    pub(super) fn adopt(&mut self, memory: &mut Memory, base: u64, wanted: &Wanted) {
        // What was there before is gone, though nobody told: libc gave it back itself.
        self.forget_live(memory, base, base.saturating_add(wanted.size.max(1)));
        let id = external::register(memory, base, wanted, &record::name(self.next));
        self.enter(id, base, wanted, Place::Real);
    }

    /// Real blocks that begin or lie in a range are gone, though nobody told: libc gave them back
    /// by itself, or it would not hand them out.
    fn forget_live(&mut self, memory: &mut Memory, start: u64, end: u64) {
        let gone: Vec<u64> = self
            .live
            .range(..end)
            .rev()
            .take_while(|(base, block)| **base + block.size.max(1) > start)
            .filter(|(_, block)| block.place == Place::Real)
            .map(|(base, _)| *base)
            .collect();
        for base in gone {
            self.drop_live(memory, base, None);
        }
    }

    /// Takes a block from the live ones.
    fn drop_live(
        &mut self,
        memory: &mut Memory,
        base: u64,
        by: Option<Caller>,
    ) -> Option<NativeAllocation> {
        let mut block = self.live.remove(&base)?;
        block.freed = by;
        self.totals.frees += 1;
        self.totals.live -= 1;
        self.totals.live_bytes -= block.size;
        if let Some(id) = block.id {
            let freer = by.map_or(Freer::Unmapped, |by| Freer::Native {
                ip: self.sites.call_before(by.site),
                tid: by.tid,
            });
            // The interpreter may have freed it there by itself.
            let _ = memory.free_by(id, freer);
        }
        Some(block)
    }

    fn enter(&mut self, id: Option<AllocId>, base: u64, wanted: &Wanted, place: Place) {
        self.freed.remove(&base);
        self.totals.allocations += 1;
        self.totals.live += 1;
        self.totals.live_bytes += wanted.size;
        let allocation = NativeAllocation {
            id,
            number: self.next,
            base,
            size: wanted.size,
            align: wanted.align,
            place,
            made: wanted.caller,
            freed: None,
        };
        self.next += 1;
        self.live.insert(base, allocation);
    }

    /// Gives memory back, or says what is wrong with that.
    pub(super) fn release(&mut self, memory: &mut Memory, release: &Release) -> Released {
        let Some(allocation) = self.live.get(&release.addr) else {
            return self.unknown(memory, release.addr, &release.by);
        };
        if let Some(why) = self.words.mismatch(allocation, release) {
            let allocation = allocation.clone();
            let kind = ViolationKind::MismatchedFree;
            self.violate(
                memory,
                kind,
                release.addr,
                &release.by,
                Some(&allocation),
                why,
            );
            return Released::Refused;
        }
        self.give_back(memory, release.addr, release.by)
    }

    /// Moves a live allocation to the freed ones.
    fn give_back(&mut self, memory: &mut Memory, base: u64, by: Caller) -> Released {
        let Some(block) = self.drop_live(memory, base, Some(by)) else {
            return Released::Refused;
        };
        let (place, size) = (block.place, block.size);
        self.freed.insert(base, block);
        match place {
            Place::Arena => {
                self.forget_reused(memory);
                Released::Done
            }
            Place::Real => match self.wait(base, size) {
                expired if expired.is_empty() => Released::Done,
                expired => Released::Expired(expired),
            },
        }
    }

    /// Gives back what native code handed over, for the interpreter. Returns blocks that may go to
    /// the real `free` now.
    pub(super) fn release_by_interpreter(
        &mut self,
        memory: &mut Memory,
        addr: u64,
    ) -> Result<Vec<u64>, ReleaseError> {
        if !self.live.contains_key(&addr) {
            return Err(match (holding(&self.live, addr), self.freed.get(&addr)) {
                (Some(block), _) => ReleaseError::Inside {
                    addr,
                    base: block.base,
                    name: block.name(),
                },
                (None, Some(block)) => ReleaseError::Freed(block.name()),
                (None, None) => ReleaseError::Unknown(addr),
            });
        }
        if let Some(id) = self.live.get(&addr).and_then(|block| block.id) {
            // It may have done so by itself.
            let _ = memory.free(id);
        }
        let Some(block) = self.drop_live(memory, addr, None) else {
            return Err(ReleaseError::Unknown(addr));
        };
        let (place, size) = (block.place, block.size);
        self.freed.insert(addr, block);
        if place == Place::Arena {
            return Ok(Vec::new());
        }
        Ok(self.wait(addr, size))
    }

    /// Has a freed block of the real heap wait. Returns those that may go to the real `free` now.
    fn wait(&mut self, base: u64, size: u64) -> Vec<u64> {
        let expired = self.waiting.push(base, size);
        for base in &expired {
            self.freed.remove(base);
        }
        expired
    }

    /// Gives a block another size, which always moves it.
    pub(super) fn resize(&mut self, memory: &mut Memory, addr: u64, wanted: &Wanted) -> Resized {
        let by = wanted.caller;
        let Some(block) = self.live.get(&addr) else {
            return match self.unknown(memory, addr, &by) {
                Released::Foreign => Resized::Foreign,
                _ => Resized::Refused,
            };
        };
        let release = Release {
            addr,
            by,
            size: None,
            align: None,
        };
        if block.family() != Family::Malloc {
            // Which is what it reports.
            self.release(memory, &release);
            return Resized::Refused;
        }
        let (from, len, place) = (block.id, block.size, block.place);
        if place == Place::Real {
            return Resized::Move {
                len,
                from_real: true,
            };
        }
        match self.allocate(memory, wanted) {
            Allocated::At(to) => {
                let to_id = self.live.get(&to).and_then(|block| block.id);
                if let (Some(from), Some(to)) = (from, to_id) {
                    // Both are live, and as long.
                    let copied = memory.copy(from, 0..len.min(wanted.size), to, 0);
                    debug_assert!(copied.is_ok(), "{copied:?}");
                }
                self.give_back(memory, addr, by);
                Resized::At(to)
            }
            Allocated::Real => Resized::Move {
                len,
                from_real: false,
            },
            Allocated::Failed => Resized::Failed,
        }
    }

    /// Size of the live block at an address.
    pub(super) fn size_of(&self, addr: u64) -> Option<u64> {
        self.live.get(&addr).map(|block| block.size)
    }

    /// A block goes over to libc, which will resize or free it by itself. Returns the content of
    /// one of the arena, which libc cannot take: it has to be put on the real heap first.
    pub(super) fn hand_over(
        &mut self,
        memory: &mut Memory,
        addr: u64,
        by: Caller,
    ) -> Option<Vec<u8>> {
        let block = self.live.get(&addr)?;
        let (place, id, size) = (block.place, block.id, block.size);
        let content = match (place, id) {
            (Place::Arena, Some(id)) => memory.read_bytes(id, 0..size).ok(),
            _ => None,
        };
        let block = self.drop_live(memory, addr, Some(by))?;
        if place == Place::Arena {
            self.freed.insert(addr, block);
        }
        content
    }

    /// Takes down a mapping that native code made, over whatever was there.
    pub(super) fn mapped(
        &mut self,
        memory: &mut Memory,
        base: u64,
        len: u64,
        writable: bool,
        by: Caller,
    ) {
        self.maps.map(memory, base, len, writable, by);
    }

    /// Takes down that native code unmapped a range.
    pub(super) fn unmapped(&mut self, memory: &mut Memory, base: u64, len: u64) {
        self.maps.unmap(memory, base, len);
    }

    /// Forgets everything, and ends the life of what is on the real heap in the abstract memory.
    /// Returns the blocks that waited to be freed.
    pub(super) fn clear(&mut self, memory: &mut Memory) -> Vec<u64> {
        let real = |block: &&NativeAllocation| block.place == Place::Real;
        for id in self.live.values().filter(real).filter_map(|block| block.id) {
            let _ = memory.free(id);
        }
        self.live.clear();
        self.freed.clear();
        self.maps.clear(memory);
        self.waiting.clear()
    }

    /// Drops records of freed allocations whose memory may hold others by now.
    fn forget_reused(&mut self, memory: &Memory) {
        if self.freed.len() >= FREED_RECORDS {
            self.freed.retain(|_, allocation| {
                allocation.place == Place::Real
                    || allocation.id.is_some_and(|id| memory.get(id).is_some())
            });
        }
    }
}
