//! The abstract memory: what the interpreter knows of each byte that native code may reach.
//!
//! ```text
//!  access events, in order ──► apply ──► init, read, written, maybe written   (per allocation)
//!                                └─────► findings ──► violation log           (bounded)
//! ```
//!
//! [`Memory`] owns the [arena](crate::arena) and the record of every allocation in it. Freed
//! allocations are remembered while their memory is in quarantine, so a use after free names what
//! was freed. Applying an event to the allocation of one of the last events takes a few
//! nanoseconds; everything that is wrong goes a slower way, which is still bounded.
//!
//! Events and the interpreter's own changes must be in order: before the interpreter frees or
//! reads memory, the events of the native code that ran before have to be applied. `Memory` is
//! meant to sit behind a lock.

mod allocation;
mod apply;
mod byteset;
mod log;
mod violation;

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use tracer_user::shadow::{Shadow, ShadowError};

use crate::arena::{Arena, ArenaError, Request, View};

pub use allocation::{AllocId, AllocRequest, Allocation, Init};
pub use byteset::ByteSet;
pub use log::{Logged, MAX_ENTRIES, ViolationLog};
pub use violation::{Finding, Place, Violation, ViolationKind};

/// Why the abstract memory cannot do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// The arena refused.
    #[error(transparent)]
    Arena(#[from] ArenaError),
    /// The table for the signal handler cannot be mapped.
    #[error(transparent)]
    Shadow(#[from] ShadowError),
    /// No such allocation, or one that was freed long ago.
    #[error("no allocation {0}: it never existed, or was freed and forgotten")]
    Unknown(AllocId),
    /// The allocation is freed.
    #[error("{0} was freed already")]
    Freed(String),
    /// A range is not inside the allocation.
    #[error("bytes {start}..{end} are not inside {allocation}", start = range.start, end = range.end)]
    Range {
        /// Name and size of the allocation.
        allocation: String,
        /// The range asked for.
        range: Range<u64>,
    },
    /// Initial bytes of another length than the allocation.
    #[error("{given} initial bytes for an allocation of {size} bytes: give exactly as many")]
    InitLength {
        /// How many bytes were given.
        given: u64,
        /// Size of the allocation, in bytes.
        size: u64,
    },
}

/// Index of an allocation's record.
type Slot = usize;

/// All allocations of an interpreter that native code may reach.
#[derive(Debug)]
pub struct Memory {
    arena: Arena,
    shadow: Shadow,
    records: Vec<Option<Allocation>>,
    vacant: Vec<Slot>,
    ids: HashMap<AllocId, Slot>,
    live: BTreeMap<u64, Slot>,
    freed: BTreeMap<u64, Slot>,
    recent: apply::Recent,
    touched: Vec<(Slot, AllocId)>,
    next_id: u64,
    log: ViolationLog,
    overreads: ViolationLog,
}

impl Memory {
    /// An abstract memory over a new arena.
    ///
    /// # Errors
    ///
    /// When address space for the arena or the shadow table is not to be had.
    pub fn new() -> Result<Memory, MemoryError> {
        Memory::over(Arena::new()?)
    }

    /// An abstract memory over an arena that holds nothing yet.
    ///
    /// # Errors
    ///
    /// When the shadow table cannot be mapped.
    pub fn over(arena: Arena) -> Result<Memory, MemoryError> {
        let shadow = Shadow::new(arena.session())?;
        Ok(Memory {
            arena,
            shadow,
            records: Vec::new(),
            vacant: Vec::new(),
            ids: HashMap::new(),
            live: BTreeMap::new(),
            freed: BTreeMap::new(),
            recent: apply::Recent::default(),
            touched: Vec::new(),
            next_id: 0,
            log: ViolationLog::default(),
            overreads: ViolationLog::default(),
        })
    }

    /// Makes an allocation.
    ///
    /// # Errors
    ///
    /// What the arena refuses, and [`MemoryError::InitLength`].
    pub fn allocate(&mut self, request: &AllocRequest<'_>) -> Result<AllocId, MemoryError> {
        let AllocRequest {
            name,
            size,
            align,
            init,
            mutable,
        } = *request;
        if let Init::Bytes(bytes) = init
            && bytes.len() as u64 != size
        {
            return Err(MemoryError::InitLength {
                given: bytes.len() as u64,
                size,
            });
        }
        let zeroed = matches!(init, Init::Zeroed);
        let result = self.arena.allocate(Request {
            size,
            align,
            zeroed,
        });
        // Making room may have ended the quarantine of some blocks, even where it was in vain.
        self.forget_released();
        let block = result?;
        if let Init::Bytes(bytes) = init {
            self.arena
                .views_mut()
                .write(block.base, bytes)
                .map_err(ArenaError::from)?;
        }
        let id = AllocId(self.next_id);
        self.next_id += 1;
        let initialised = !matches!(init, Init::Uninit);
        let record = Allocation::new(
            id,
            name.map(str::to_owned),
            block,
            align,
            mutable,
            initialised,
        );
        let slot = match self.vacant.pop() {
            Some(slot) => {
                self.records[slot] = Some(record);
                slot
            }
            None => {
                self.records.push(Some(record));
                self.records.len() - 1
            }
        };
        self.ids.insert(id, slot);
        self.live.insert(block.base, slot);
        self.shadow.set_live(block.base, size, mutable);
        Ok(id)
    }

    /// Frees an allocation. Its record stays for a while, to name it in a use after free.
    ///
    /// # Errors
    ///
    /// [`MemoryError::Freed`] for a double free, [`MemoryError::Unknown`].
    pub fn free(&mut self, id: AllocId) -> Result<(), MemoryError> {
        let slot = self.live_slot(id)?;
        let Some(record) = self.records[slot].as_mut() else {
            return Err(MemoryError::Unknown(id));
        };
        record.live = false;
        let block = record.block;
        self.shadow.set_dead(block.base, block.size);
        self.live.remove(&block.base);
        self.freed.insert(block.base, slot);
        self.recent.clear();
        self.arena.free(block)?;
        self.forget_released();
        Ok(())
    }

    /// Copies bytes of an allocation, initialised or not.
    ///
    /// # Errors
    ///
    /// [`MemoryError::Freed`], [`MemoryError::Range`] or [`MemoryError::Unknown`].
    pub fn read_bytes(&self, id: AllocId, range: Range<u64>) -> Result<Vec<u8>, MemoryError> {
        let base = self.checked(id, &range)?.base();
        let mut bytes = vec![0; (range.end - range.start) as usize];
        self.arena
            .views()
            .read(base + range.start, &mut bytes)
            .map_err(ArenaError::from)?;
        Ok(bytes)
    }

    /// Writes bytes for the interpreter, which may write read-only allocations too, and marks
    /// them initialised. It does not count as written by native code.
    ///
    /// # Errors
    ///
    /// As [`read_bytes`](Self::read_bytes).
    pub fn write_bytes(
        &mut self,
        id: AllocId,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), MemoryError> {
        let range = offset..offset.saturating_add(bytes.len() as u64);
        let base = self.checked(id, &range)?.base();
        self.arena
            .views_mut()
            .write(base + offset, bytes)
            .map_err(ArenaError::from)?;
        let slot = self.live_slot(id)?;
        if let Some(record) = self.records[slot].as_mut() {
            record.init.insert(range);
        }
        Ok(())
    }

    /// Marks bytes as uninitialised again, as an interpreter does for what was moved out of.
    /// Their contents stay.
    ///
    /// # Errors
    ///
    /// As [`read_bytes`](Self::read_bytes).
    pub fn deinitialize(&mut self, id: AllocId, range: Range<u64>) -> Result<(), MemoryError> {
        self.checked(id, &range)?;
        let slot = self.live_slot(id)?;
        if let Some(record) = self.records[slot].as_mut() {
            record.init.remove(range);
        }
        Ok(())
    }

    /// Allows or forbids native code to write the allocation.
    ///
    /// # Errors
    ///
    /// [`MemoryError::Freed`] or [`MemoryError::Unknown`].
    pub fn set_mutable(&mut self, id: AllocId, mutable: bool) -> Result<(), MemoryError> {
        let slot = self.live_slot(id)?;
        if let Some(record) = self.records[slot].as_mut() {
            record.mutable = mutable;
            self.shadow
                .set_live(record.block.base, record.block.size, mutable);
        }
        Ok(())
    }

    /// Address of an allocation in the native view.
    ///
    /// # Errors
    ///
    /// [`MemoryError::Unknown`]. The address of a freed allocation is given while it is known:
    /// a dangling pointer has one too.
    pub fn address(&self, id: AllocId) -> Result<u64, MemoryError> {
        self.address_in(id, View::Native)
    }

    /// Address of an allocation in one of the views.
    ///
    /// # Errors
    ///
    /// As [`address`](Self::address).
    pub fn address_in(&self, id: AllocId, view: View) -> Result<u64, MemoryError> {
        let allocation = self.get(id).ok_or(MemoryError::Unknown(id))?;
        Ok(view.address(allocation.base()))
    }

    /// The record of an allocation, freed ones included while they are known.
    pub fn get(&self, id: AllocId) -> Option<&Allocation> {
        self.records.get(*self.ids.get(&id)?)?.as_ref()
    }

    /// All known allocations, freed ones included, in the order in which they were made.
    pub fn allocations(&self) -> Vec<&Allocation> {
        let mut all: Vec<_> = self.records.iter().flatten().collect();
        all.sort_unstable_by_key(|record| record.id);
        all
    }

    /// The allocations whose coverage changed since the last
    /// [`reset_coverage`](Self::reset_coverage).
    pub fn touched(&self) -> impl Iterator<Item = &Allocation> {
        // The slot of a forgotten allocation may hold another by now.
        self.touched.iter().filter_map(|(slot, id)| {
            self.records[*slot]
                .as_ref()
                .filter(|record| record.id == *id)
        })
    }

    /// Forgets what native code read and wrote; what is initialised stays. For the start of a
    /// call. Takes time for the allocations that were touched, not for all.
    pub fn reset_coverage(&mut self) {
        for (slot, _) in self.touched.drain(..) {
            if let Some(record) = self.records[slot].as_mut() {
                record.reset_coverage();
            }
        }
    }

    /// The arena.
    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    /// Maps the arena's first segment, if none is mapped yet.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub fn ensure_segment(&mut self) -> Result<(), MemoryError> {
        Ok(self.arena.ensure_segment()?)
    }

    /// The shadow table that the signal handler looks at. [`Memory`] keeps it up to date.
    pub fn shadow(&self) -> &Shadow {
        &self.shadow
    }

    /// What was found wrong so far.
    pub fn violations(&self) -> &ViolationLog {
        &self.log
    }

    /// The log, to add what only the session sees (crashes, timeouts), or to empty it.
    pub fn violations_mut(&mut self) -> &mut ViolationLog {
        &mut self.log
    }

    /// Over-reads of string functions that were found benign, equal ones counted together.
    pub fn overreads(&self) -> &ViolationLog {
        &self.overreads
    }

    fn live_slot(&self, id: AllocId) -> Result<Slot, MemoryError> {
        let slot = *self.ids.get(&id).ok_or(MemoryError::Unknown(id))?;
        match &self.records[slot] {
            Some(record) if record.live => Ok(slot),
            Some(record) => Err(MemoryError::Freed(record.title())),
            None => Err(MemoryError::Unknown(id)),
        }
    }

    fn checked(&self, id: AllocId, range: &Range<u64>) -> Result<&Allocation, MemoryError> {
        let slot = self.live_slot(id)?;
        let record = self.records[slot]
            .as_ref()
            .ok_or(MemoryError::Unknown(id))?;
        if range.start > range.end || range.end > record.size() {
            let allocation = record.title();
            return Err(MemoryError::Range {
                allocation,
                range: range.clone(),
            });
        }
        Ok(record)
    }

    /// Drops the records of freed allocations whose memory may now be reused.
    fn forget_released(&mut self) {
        if !self.arena.has_released() {
            return;
        }
        for base in self.arena.released() {
            if let Some(slot) = self.freed.remove(&base)
                && let Some(record) = self.records[slot].take()
            {
                self.ids.remove(&record.id);
                self.vacant.push(slot);
            }
        }
    }
}

#[cfg(test)]
mod tests;
