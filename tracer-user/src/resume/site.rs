//! Sites: instructions that touched the native view, and how their threads go on.
//!
//! The table is open-addressed and lock-free. Entries are leaked and never change, so a handler
//! may read one at any time; an address whose instruction bytes changed (a library was unloaded
//! and another one loaded) gets a new entry in the same place.
//!
//! # Safety
//! The table's cells hold null or a pointer from `Box::leak`, which stays valid for ever.
#![allow(unsafe_code)]

use std::{
    io,
    sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering},
};

use crate::{
    decode::{Lanes, Needs, StringOp},
    mapping::Mapping,
};

/// Cells of the table: 1 MiB of address space, committed as used.
const CELLS: usize = 1 << 17;
/// How far a look-up goes before the table counts as full around an address.
const PROBES: usize = 64;

/// How a thread that faulted at a site goes on.
#[derive(Debug)]
pub enum Action {
    /// Run the copy whose memory operand is moved to the host view.
    Operand {
        /// Address of the copy.
        copy: u64,
    },
    /// Run a copy that moves rsi, rdi or both for the time of the instruction.
    String {
        /// Which registers and sizes the instruction uses.
        op: StringOp,
        /// Copies with rsi moved, rdi moved, both moved; 0 where there is none.
        copies: [u64; 3],
    },
    /// Run the copy if all lanes of the gather or scatter lie in the native view.
    Lanes {
        /// Which addresses it uses.
        lanes: Lanes,
        /// Address of the copy.
        copy: u64,
    },
    /// Open the native view, execute one instruction, close it.
    Step,
    /// The same for want of room for a copy, though it is not the same: a repetition is taken
    /// for done at once, and pushed flags show the step. Counted, and refused.
    Uncopied,
}

/// An instruction that touched the native view.
#[derive(Debug)]
pub(crate) struct Site {
    /// Its address.
    pub ip: u64,
    /// The bytes there.
    pub bytes: [u8; 15],
    /// How many of them could be read.
    pub read: u8,
    /// Its length in bytes; 0 where it could not be decoded.
    pub len: u8,
    /// What its accesses depend on that a page fault does not show.
    pub needs: Needs,
    /// Whether it also uses the stack without saying so (`push [m]`).
    pub touches_stack: bool,
    /// Longest single operand in bytes, to judge whether an access looks wrong; at least 1.
    pub reach: u64,
    /// How its threads go on.
    pub action: Action,
    /// What the kernel's part may be told of it, a word of `KnownSite`: where its accesses follow
    /// from registers that this names, and its code cannot change; else 0.
    pub known: AtomicU64,
    /// How often it was single-stepped in this session.
    pub steps: AtomicU64,
    /// How often it faulted, until it was translated.
    pub faults: AtomicU32,
    /// Where it is translated: 0 if it is not yet, [`NEVER`] if it will not be.
    pub translated: AtomicU64,
}

impl Site {
    /// A site of which nothing is known but so many bytes: its threads are single-stepped.
    pub(super) fn stepped(ip: u64, bytes: [u8; 15], read: u8) -> Site {
        Site {
            ip,
            bytes,
            read,
            len: 0,
            needs: Needs::default(),
            touches_stack: false,
            reach: 1,
            action: Action::Step,
            known: AtomicU64::new(0),
            steps: AtomicU64::new(0),
            faults: AtomicU32::new(0),
            translated: AtomicU64::new(0),
        }
    }
}

/// The site will not be translated.
pub(super) const NEVER: u64 = 1;

/// All sites of the process.
pub(crate) struct SiteTable {
    cells: Mapping,
}

impl SiteTable {
    /// An empty table.
    ///
    /// # Errors
    /// What `mmap(2)` says.
    pub(crate) fn new() -> io::Result<SiteTable> {
        Ok(SiteTable {
            cells: Mapping::shared(CELLS * size_of::<AtomicPtr<Site>>())?,
        })
    }

    fn cell(&self, index: usize) -> &AtomicPtr<Site> {
        // SAFETY: the mapping holds CELLS zeroed pointers for the life of `self`, and the mask
        // keeps the index below CELLS.
        unsafe {
            &*self
                .cells
                .as_ptr()
                .cast::<AtomicPtr<Site>>()
                .add(index & (CELLS - 1))
        }
    }

    fn start(ip: u64) -> usize {
        (ip.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize
    }

    /// The site at `ip`, where it is known. Async-signal-safe. The caller compares the bytes.
    pub(crate) fn find(&self, ip: u64) -> Option<&'static Site> {
        for probe in 0..PROBES {
            let found = self.cell(Self::start(ip) + probe).load(Ordering::Acquire);
            // SAFETY: null, or leaked by `insert`.
            let site = unsafe { found.as_ref() }?;
            if site.ip == ip {
                return Some(site);
            }
        }
        None
    }

    /// All sites that are known.
    pub(crate) fn all(&self) -> impl Iterator<Item = &'static Site> {
        (0..CELLS).filter_map(|index| {
            // SAFETY: null, or leaked by `insert`.
            unsafe { self.cell(index).load(Ordering::Acquire).as_ref() }
        })
    }

    /// Adds `site`, or replaces the one at its address, and returns it. One caller at a time.
    /// Where the table is full around the address the site works but is not remembered.
    pub(crate) fn insert(&self, site: Site) -> &'static Site {
        let site: &'static Site = Box::leak(Box::new(site));
        for probe in 0..PROBES {
            let cell = self.cell(Self::start(site.ip) + probe);
            // SAFETY: null, or leaked by an earlier call.
            let found = unsafe { cell.load(Ordering::Acquire).as_ref() };
            if found.is_none_or(|found| found.ip == site.ip) {
                cell.store(std::ptr::from_ref(site).cast_mut(), Ordering::Release);
                break;
            }
        }
        site
    }
}

/// A reference to a site that another thread handed over as a pointer.
pub(super) fn leaked(site: *const Site) -> &'static Site {
    // SAFETY: sites are made by `SiteTable::insert` only, which leaks them, and the preparing
    // thread hands over nothing else.
    unsafe { &*site }
}

/// A site for tests.
#[cfg(test)]
pub(super) fn plain(ip: u64, byte: u8) -> Site {
    Site {
        len: 1,
        ..Site::stepped(ip, [byte; 15], 15)
    }
}

#[cfg(test)]
mod tests {
    use super::{plain as site, *};

    #[test]
    fn finds_what_was_inserted_and_replaces_changed_code() {
        let table = SiteTable::new().unwrap();
        assert!(table.find(0x1000).is_none());
        for ip in 0x1000..0x3000 {
            table.insert(site(ip, 1));
        }
        assert!((0x1000..0x3000).all(|ip| table.find(ip).is_some_and(|site| site.ip == ip)));
        assert!(table.find(0x3000).is_none());
        table.insert(site(0x1800, 2));
        assert_eq!(table.find(0x1800).unwrap().bytes[0], 2);
    }
}
