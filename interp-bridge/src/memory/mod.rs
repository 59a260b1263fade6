//! The abstract memory: what the interpreter knows of each byte that native code may reach.
//!
//! ```text
//!  access events, in order ──► apply ──► init, provenance, read, written   (per allocation)
//!                                ├─────► exposed allocations
//!                                └─────► findings ──► violation log           (bounded)
//!  an untraced call ──► all that is reachable from what is exposed may have changed
//!  the interpreter ──► allocate, free, read, write, copy, pointers, expose, resolve
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
//!
//! Memory outside of the arena (native heap, static data) can be registered, and is then read and
//! written like any other. An interpreter that has a memory of its own implements
//! [`InterpreterMemory`] instead.

mod allocation;
mod apply;
mod bytes;
mod byteset;
mod error;
mod external;
mod interpreter;
mod lint;
mod log;
mod pointers;
mod provenance;
mod real;
mod records;
mod request;
mod untraced;
mod violation;

use std::collections::{BTreeMap, HashMap};

use tracer_user::shadow::Shadow;

use crate::arena::{Arena, ArenaError, Request, View};

pub use allocation::Allocation;
use allocation::{Home, Parts};
pub use byteset::ByteSet;
pub use error::{ExternalError, MemoryError, PointerError};
pub use interpreter::InterpreterMemory;
pub use lint::Level;
pub use log::{Logged, MAX_ENTRIES, ViolationLog};
pub use provenance::{ByteProvenance, POINTER_SIZE, Pointer, Provenance};
pub use request::{AllocId, AllocKind, AllocRequest, ExternalRequest, Freer, Init, Origin};
pub use violation::{Finding, Place, Violation, ViolationKind};

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
    external: external::Externals,
    exposed: Vec<(Slot, AllocId)>,
    recent: apply::Recent,
    touched: Vec<(Slot, AllocId)>,
    next_id: u64,
    log: ViolationLog,
    overreads: ViolationLog,
    lint: lint::UninitReads,
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
            external: external::Externals::default(),
            exposed: Vec::new(),
            recent: apply::Recent::default(),
            touched: Vec::new(),
            next_id: 0,
            log: ViolationLog::default(),
            overreads: ViolationLog::default(),
            lint: lint::UninitReads::default(),
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
            kind,
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
        self.prune_exposed();
        if let Init::Bytes(bytes) = init {
            self.arena
                .views_mut()
                .write(block.base, bytes)
                .map_err(ArenaError::from)?;
        }
        let (id, slot) = self.record_new(|id| {
            Allocation::new(Parts {
                id,
                name: name.map(str::to_owned),
                base: block.base,
                size: block.size,
                home: Home::Arena(block),
                align,
                mutable,
                kind,
                initialised: !matches!(init, Init::Uninit),
            })
        });
        self.live.insert(block.base, slot);
        self.shadow.set_live(block.base, size, mutable);
        Ok(id)
    }

    /// Frees an allocation for the interpreter. Its record stays for a while, to name it in a use
    /// after free.
    ///
    /// # Errors
    ///
    /// [`MemoryError::Freed`] for a double free, [`MemoryError::Unknown`].
    pub fn free(&mut self, id: AllocId) -> Result<(), MemoryError> {
        self.free_by(id, Freer::Interpreter)
    }

    /// As [`free`](Self::free), for whoever did it. The memory of an external allocation is not
    /// touched: it is native code's to free.
    ///
    /// # Errors
    ///
    /// As [`free`](Self::free).
    pub fn free_by(&mut self, id: AllocId, freer: Freer) -> Result<(), MemoryError> {
        let slot = self.live_slot(id)?;
        let Some(record) = self.records[slot].as_mut() else {
            return Err(MemoryError::Unknown(id));
        };
        record.freed = Some(freer);
        let (base, size, home) = (record.base(), record.size(), record.home);
        self.recent.clear();
        match home {
            Home::Arena(block) => {
                self.shadow.set_dead(base, size);
                self.live.remove(&base);
                self.freed.insert(base, slot);
                self.arena.free(block)?;
                self.forget_released();
            }
            Home::External => {
                if let Some(forgotten) = self.external.retire(base, slot) {
                    self.forget(forgotten);
                }
            }
        }
        self.prune_exposed();
        Ok(())
    }

    /// Allows or forbids native code to write the allocation.
    ///
    /// # Errors
    ///
    /// [`MemoryError::Freed`] or [`MemoryError::Unknown`].
    pub fn set_mutable(&mut self, id: AllocId, mutable: bool) -> Result<(), MemoryError> {
        let (base, size, external) = self.change(id, |record| {
            record.set_mutable(mutable);
            (record.base(), record.size(), record.is_external())
        })?;
        if !external {
            self.shadow.set_live(base, size, mutable);
        }
        Ok(())
    }

    /// Says where an allocation comes from, for messages: what native code asked for it, and the
    /// instruction that did.
    ///
    /// # Errors
    ///
    /// [`MemoryError::Freed`] or [`MemoryError::Unknown`].
    pub fn set_origin(&mut self, id: AllocId, origin: Origin) -> Result<(), MemoryError> {
        self.change(id, |record| record.origin = Some(Box::new(origin)))
    }

    /// Address of an allocation in the native view; the real one of an external allocation.
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
        Ok(if allocation.is_external() {
            allocation.base()
        } else {
            view.address(allocation.base())
        })
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
}

#[cfg(test)]
mod tests;
