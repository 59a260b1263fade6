//! The code cache: where translated code lies.
//!
//! ```text
//!  area ──┬── read-write view: the preparing thread writes here
//!         └── read-execute view, within 2 GiB of the library that it is for: threads run here
//! ```
//! Operands of original code that are relative to its own address are moved along, so translated code
//! has to be near. Each area is filled from its start; nothing is ever taken out of it, since a thread
//! may be anywhere in it. When all is full nothing more is translated.
//!
//! # Safety
//! Code is written once, through the write view, before its address is published. The only words that change
//! later are cells, eight aligned bytes each that code jumps through, by an atomic store.
//! Regions are leaked, so a signal handler may follow a pointer to one at any time.
#![allow(unsafe_code)]

use std::{
    io,
    ops::Range,
    os::fd::AsFd,
    sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering},
};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use super::{
    region::{Point, Region},
    transfer::ExitAt,
};
use crate::{mapping::Mapping, modules};

/// Bytes of an area, unless the cache is smaller.
const AREA: u64 = 16 << 20;
/// Areas at most.
const AREAS: usize = 32;
/// How far code may be from the code that it was made of.
const REACH: u64 = 0x7800_0000;
/// Regions that an area can hold.
const REGIONS: usize = 1 << 15;
/// Bytes that regions are aligned to.
const ALIGN: u64 = 64;

/// Bytes of the cache, unless told otherwise.
pub(super) const CAPACITY: u64 = 256 << 20;

struct Area {
    write: Mapping,
    run: Mapping,
    used: AtomicU64,
    regions: Mapping,
    count: AtomicUsize,
}

/// See the module.
pub(crate) struct CodeCache {
    areas: [AtomicPtr<Area>; AREAS],
    capacity: u64,
}

impl CodeCache {
    pub(super) fn new(capacity: u64) -> CodeCache {
        CodeCache {
            areas: [const { AtomicPtr::new(std::ptr::null_mut()) }; AREAS],
            capacity,
        }
    }

    fn areas(&self) -> impl Iterator<Item = &'static Area> {
        self.areas.iter().map_while(|area| {
            // SAFETY: null, or leaked by `open_area`.
            unsafe { area.load(Ordering::Acquire).as_ref() }
        })
    }

    /// Where code made of what lies at `origin` may be placed next, and how many bytes fit. One
    /// caller at a time.
    pub(super) fn room(&self, origin: u64, wanted: u64) -> Option<(u64, u64)> {
        let near = self
            .areas()
            .find(|area| area.is_near(origin) && area.room() >= wanted);
        let area = match near {
            Some(area) => area,
            None => self.open_area(origin, wanted)?,
        };
        Some((area.next(), area.room()))
    }

    /// The same for code that may lie anywhere.
    pub(super) fn room_anywhere(&self, wanted: u64) -> Option<(u64, u64)> {
        let area = self.areas().find(|area| area.room() >= wanted)?;
        Some((area.next(), area.room()))
    }

    fn open_area(&self, origin: u64, wanted: u64) -> Option<&'static Area> {
        let taken: u64 = self.areas().map(|area| area.run.len() as u64).sum();
        let left = self.capacity.saturating_sub(taken);
        let len = AREA.min(left).next_multiple_of(4096);
        if left == 0 || len < wanted {
            return None;
        }
        let place = self
            .areas
            .iter()
            .find(|area| area.load(Ordering::Acquire).is_null())?;
        let base = gap_near(origin, len)?;
        let area = Area::new(base, len).ok()?;
        let area: &'static Area = Box::leak(Box::new(area));
        place.store(std::ptr::from_ref(area).cast_mut(), Ordering::Release);
        Some(area)
    }

    /// Puts code where [`room`](Self::room) said it may be. One caller at a time.
    pub(super) fn add(&self, code: &[u8], region: Region) -> Option<&'static Region> {
        let area = self.areas().find(|area| area.next() == region.base)?;
        area.add(code, region)
    }

    /// The region around an address. Async-signal-safe.
    pub(crate) fn region(&self, address: u64) -> Option<&'static Region> {
        self.areas().find(|area| area.holds(address))?.find(address)
    }

    /// What holds at an address of translated code. Async-signal-safe.
    pub(crate) fn point(&self, address: u64) -> Option<Point> {
        self.region(address)?.point(address)
    }

    /// Changes a cell: where code goes on that jumps through it. Async-signal-safe.
    fn set_cell(&self, cell: u64, target: u64) {
        let Some(area) = self.areas().find(|area| area.holds(cell)) else {
            return;
        };
        let offset = cell - area.run.addr();
        if offset.is_multiple_of(8) {
            let at = area.write.addr() + offset;
            // SAFETY: eight aligned bytes of the write view, which code only loads from.
            unsafe { &*(at as *const AtomicU64) }.store(target, Ordering::Release);
        }
    }

    /// Has an exit go to a translation, or leave for good where that is 0. Async-signal-safe.
    pub(crate) fn resolve(&self, exit: &ExitAt, translated: u64) {
        self.set_cell(
            exit.cell,
            if translated == 0 {
                exit.leave
            } else {
                translated
            },
        );
    }

    /// Has all exits ask anew where they go. Async-signal-safe.
    pub(super) fn ask_anew(&self) {
        for area in self.areas() {
            let count = area.count.load(Ordering::Acquire);
            for exit in (0..count)
                .filter_map(|index| area.get(index))
                .flat_map(|region| &region.exits)
            {
                self.set_cell(exit.cell, exit.ask);
            }
        }
    }

    /// Bytes of code that are there.
    pub(crate) fn used(&self) -> u64 {
        self.areas()
            .map(|area| area.used.load(Ordering::Relaxed))
            .sum()
    }
}

impl Area {
    fn new(base: u64, len: u64) -> io::Result<Area> {
        let flags = MemfdFlags::CLOEXEC;
        let file = memfd_create("ffitrace-translated", flags | MemfdFlags::EXEC)
            .or_else(|_| memfd_create("ffitrace-translated", flags))?;
        ftruncate(&file, len)?;
        let len = len as usize;
        Ok(Area {
            write: Mapping::file(file.as_fd(), len, libc::PROT_READ | libc::PROT_WRITE)?,
            run: Mapping::file_at(file.as_fd(), base, len, libc::PROT_READ | libc::PROT_EXEC)?,
            used: AtomicU64::new(0),
            regions: Mapping::private(REGIONS * size_of::<AtomicPtr<Region>>())?,
            count: AtomicUsize::new(0),
        })
    }

    fn holds(&self, address: u64) -> bool {
        address.wrapping_sub(self.run.addr()) < self.run.len() as u64
    }

    fn is_near(&self, origin: u64) -> bool {
        let (start, end) = (self.run.addr(), self.run.addr() + self.run.len() as u64);
        end.abs_diff(origin) < REACH && start.abs_diff(origin) < REACH
    }

    fn next(&self) -> u64 {
        self.run.addr() + self.used.load(Ordering::Relaxed)
    }

    fn room(&self) -> u64 {
        if self.count.load(Ordering::Relaxed) >= REGIONS {
            return 0;
        }
        self.run.len() as u64 - self.used.load(Ordering::Relaxed)
    }

    fn cell(&self, index: usize) -> &AtomicPtr<Region> {
        assert!(index < REGIONS);
        // SAFETY: the mapping holds REGIONS zeroed pointers for the life of `self`.
        unsafe { &*self.regions.as_ptr().cast::<AtomicPtr<Region>>().add(index) }
    }

    fn get(&self, index: usize) -> Option<&'static Region> {
        // SAFETY: null, or leaked by `add`.
        unsafe { self.cell(index).load(Ordering::Acquire).as_ref() }
    }

    fn add(&self, code: &[u8], region: Region) -> Option<&'static Region> {
        let used = self.used.load(Ordering::Relaxed);
        if code.len() as u64 > self.room() {
            return None;
        }
        // SAFETY: the bytes lie in the write view, and nobody runs or reads them before this
        // function returns.
        unsafe {
            let to = self.write.as_ptr().add(used as usize);
            std::ptr::copy_nonoverlapping(code.as_ptr(), to, code.len());
        }
        let region: &'static Region = Box::leak(Box::new(region));
        let count = self.count.load(Ordering::Relaxed);
        self.cell(count)
            .store(std::ptr::from_ref(region).cast_mut(), Ordering::Release);
        self.count.store(count + 1, Ordering::Release);
        let next = (used + code.len() as u64).next_multiple_of(ALIGN);
        self.used
            .store(next.min(self.run.len() as u64), Ordering::Release);
        Some(region)
    }

    /// Regions lie in the order in which they were added.
    fn find(&self, address: u64) -> Option<&'static Region> {
        let (mut low, mut high) = (0, self.count.load(Ordering::Acquire));
        while low < high {
            let middle = low.midpoint(high);
            if self.get(middle)?.base <= address {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        self.get(low.checked_sub(1)?)
    }
}

/// Free address space of `len` bytes near `origin`, nearest first.
fn gap_near(origin: u64, len: u64) -> Option<u64> {
    /// Room that is left to the neighbours of a gap, stacks and heaps that may grow.
    const MARGIN: u64 = 32 << 20;
    const LOWEST: u64 = 1 << 20;
    let mappings = modules::mappings().ok()?;
    let mut best: Option<u64> = None;
    let mut consider = |gap: Range<u64>| {
        let (start, end) = (gap.start + MARGIN, gap.end.saturating_sub(MARGIN));
        if end < start || end - start < len {
            return;
        }
        for at in [start, (end - len) & !4095] {
            let near = at.abs_diff(origin) < REACH && (at + len).abs_diff(origin) < REACH;
            if near && best.is_none_or(|best| at.abs_diff(origin) < best.abs_diff(origin)) {
                best = Some(at);
            }
        }
    };
    // The kernel's page of old system calls lies above all that a process can map.
    const HIGHEST: u64 = (1 << 47) - 4096;
    let mut before = LOWEST;
    for mapping in mappings
        .iter()
        .filter(|mapping| mapping.range.end <= HIGHEST)
    {
        consider(before..mapping.range.start);
        before = before.max(mapping.range.end);
    }
    consider(before..HIGHEST);
    best
}
