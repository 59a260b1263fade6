//! Places: what an entry of the log stands for, by its number.
//!
//! ```text
//!  entry   │ number of the place: 24 bits │ address: its low 40 bits │
//!             │                                └─► the arena lies within 128 GiB
//!             └─► instruction, and what it does to the bytes at the address
//! ```
//!
//! # Safety
//! Cells hold null or a pointer from `Box::leak`, which stays valid for ever.
#![allow(unsafe_code)]

use std::{
    io,
    sync::atomic::{AtomicPtr, AtomicU32, Ordering},
};

use crate::{access::AccessKind, mapping::Mapping};

/// Bits of an entry that hold the address.
pub(crate) const ADDRESS_BITS: u32 = 40;
/// Numbers that there are. 0 is for what is no access.
const PLACES: usize = 1 << 20;

/// What an instruction does to the bytes at an address, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Effect {
    /// Direction.
    pub kind: AccessKind,
    /// False where a write may leave the bytes alone.
    pub certain: bool,
    /// Length in bytes.
    pub len: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Place {
    /// Address of the original instruction.
    pub ip: u64,
    /// One or two.
    pub effects: Box<[Effect]>,
    /// Reads among them, and writes shifted by 32: those of many entries can be added at once.
    pub counts: u64,
    /// The count of sites that it was last counted in.
    pub seen: AtomicU32,
}

impl Place {
    /// An instruction at `ip` with so many effects, one or two.
    pub(crate) fn new(ip: u64, effects: Box<[Effect]>) -> Place {
        let is_read = |effect: &&Effect| effect.kind == AccessKind::Read;
        let reads = effects.iter().filter(is_read).count();
        let writes = effects.len() - reads;
        Place {
            ip,
            counts: reads as u64 | (writes as u64) << 32,
            effects,
            seen: AtomicU32::new(0),
        }
    }
}

/// All places of the process.
pub(crate) struct Places {
    cells: Mapping,
    next: AtomicU32,
}

impl Places {
    /// None yet.
    ///
    /// # Errors
    /// What `mmap(2)` says.
    pub(super) fn new() -> io::Result<Places> {
        Ok(Places {
            cells: Mapping::private(PLACES * size_of::<AtomicPtr<Place>>())?,
            next: AtomicU32::new(1),
        })
    }

    #[inline]
    fn cell(&self, number: u32) -> Option<&AtomicPtr<Place>> {
        let number = number as usize;
        // SAFETY: the mapping holds PLACES zeroed pointers for the life of `self`.
        (number < PLACES)
            .then(|| unsafe { &*self.cells.as_ptr().cast::<AtomicPtr<Place>>().add(number) })
    }

    /// Gives a place a number; none where all are in use. One caller at a time.
    pub(super) fn add(&self, place: Place) -> Option<u32> {
        let number = self.next.load(Ordering::Relaxed);
        let cell = self.cell(number)?;
        let place = std::ptr::from_mut(Box::leak(Box::new(place)));
        cell.store(place, Ordering::Release);
        self.next.store(number + 1, Ordering::Relaxed);
        Some(number)
    }

    /// The place with a number.
    #[inline]
    pub(crate) fn get(&self, number: u32) -> Option<&'static Place> {
        // SAFETY: null, or leaked by `add`.
        unsafe { self.cell(number)?.load(Ordering::Acquire).as_ref() }
    }
}
