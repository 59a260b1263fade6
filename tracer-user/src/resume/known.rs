//! Sites that the kernel's part is told of, so that it records less of their faults.
//!
//! ```text
//!  fault, recorded whole ─► handler: the site's code cannot change ─► listed
//!  fault of a listed site ─ recorded in short ─► handler: the same bytes? ──no──► taken back, or
//!                                                                         counted, refused
//!  native code changes what is mapped ─► what lies there is struck off
//! ```
//! The reader expands a short record by the bytes of the last whole one at its address, so a site is
//! listed only after one was written in this session, and only in code that is mapped from a file and
//! not writable. Should its bytes change nevertheless, the handler of the very fault sees it.
//!
//! # Safety
//! The table is the map of the eBPF programs, mapped for good (see `backend/ebpf/lent.rs`). Its words
//! are read and written atomically.
#![allow(unsafe_code)]

use std::{
    ops::Range,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering},
};

use tracer_ebpf::{KNOWN_SITES, KnownSite};

use super::site::{Site, SiteTable};

/// The table as the recorder lends it.
pub(crate) type Table = [u64; KNOWN_SITES];

/// See the module.
pub(crate) struct Known {
    table: AtomicPtr<Table>,
    /// Whether anything was ever listed in this table.
    any: AtomicBool,
    /// Faults of listed sites whose bytes had changed, and whose records could not be taken back.
    pub(crate) changed: AtomicU64,
}

impl Known {
    pub(super) const fn new() -> Known {
        Known {
            table: AtomicPtr::new(std::ptr::null_mut()),
            any: AtomicBool::new(false),
            changed: AtomicU64::new(0),
        }
    }

    /// Where to list sites from now on, null for nowhere.
    pub(super) fn lend(&self, table: *mut Table) {
        self.any.store(false, Ordering::Relaxed);
        self.table.store(table, Ordering::Release);
    }

    fn cells(&self) -> Option<&[AtomicU64; KNOWN_SITES]> {
        let table = self.table.load(Ordering::Acquire);
        // SAFETY: null, or a table that stays mapped; words and atomic words have the same form.
        unsafe { table.cast::<[AtomicU64; KNOWN_SITES]>().as_ref() }
    }

    /// Lists a site that this thread's last fault was recorded at. Async-signal-safe.
    #[inline]
    pub(super) fn list(&self, site: &Site) {
        let word = site.known.load(Ordering::Relaxed);
        if word != 0
            && let Some(cells) = self.cells()
        {
            let cell = &cells[KnownSite::cell(site.ip)];
            if cell.load(Ordering::Relaxed) != word {
                self.any.store(true, Ordering::Release);
                cell.store(word, Ordering::SeqCst);
                // Another thread may have struck it off in between.
                if site.known.load(Ordering::SeqCst) == 0 {
                    cell.store(0, Ordering::Release);
                }
            }
        }
    }

    /// Strikes off the site at `ip`, whose bytes have changed, and says whether it was listed: then what
    /// the kernel recorded of this thread's last fault cannot be told. Async-signal-safe.
    pub(super) fn strike(&self, ip: u64) -> bool {
        let Some(cells) = self.cells() else {
            return false;
        };
        let cell = &cells[KnownSite::cell(ip)];
        let word = cell.load(Ordering::Acquire);
        let listed = word != 0 && KnownSite::from_word(word).ip() == ip;
        if listed {
            cell.store(0, Ordering::Release);
        }
        listed
    }

    /// What is mapped in a range changes: what was listed there is struck off, and not listed again
    /// before it was prepared anew. Async-signal-safe.
    pub(super) fn forget(&self, range: &Range<u64>, sites: &SiteTable) {
        let Some(cells) = self.cells().filter(|_| self.any.load(Ordering::Acquire)) else {
            return;
        };
        let inside = |word: u64| word != 0 && range.contains(&KnownSite::from_word(word).ip());
        if !cells
            .iter()
            .any(|cell| inside(cell.load(Ordering::Relaxed)))
        {
            return;
        }
        for site in sites.all() {
            if range.contains(&site.ip) {
                site.known.store(0, Ordering::SeqCst);
            }
        }
        for cell in cells {
            if inside(cell.load(Ordering::SeqCst)) {
                cell.store(0, Ordering::Release);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resume::site;

    /// A table that is lent, and sites at these addresses.
    fn lent(ips: &[u64]) -> (Known, SiteTable) {
        let sites = SiteTable::new().unwrap();
        for ip in ips {
            let site = sites.insert(site::plain(*ip, 1));
            let known = KnownSite::new(*ip, [0, 1]).unwrap();
            site.known.store(known.word(), Ordering::Relaxed);
        }
        let table = Box::leak(Box::new([0; KNOWN_SITES]));
        let known = Known::new();
        known.list(sites.find(ips[0]).unwrap());
        known.lend(table);
        (known, sites)
    }

    #[test]
    fn lists_the_last_site_of_a_cell_and_forgets_by_address() {
        let same_cell = (0x1001..)
            .find(|ip| KnownSite::cell(*ip) == KnownSite::cell(0x1000))
            .unwrap();
        let (known, sites) = lent(&[0x1000, same_cell]);
        let listed = || {
            let word = known.cells().unwrap()[KnownSite::cell(0x1000)].load(Ordering::Relaxed);
            KnownSite::from_word(word).ip()
        };
        assert_eq!(listed(), 0, "nothing before the table is lent");
        let [first, second] = [0x1000, same_cell].map(|ip| sites.find(ip).unwrap());
        known.list(first);
        assert_eq!(listed(), 0x1000);
        known.list(second);
        assert_eq!(listed(), same_cell);
        known.forget(&(0x1000..0x1001), &sites);
        assert_eq!(listed(), same_cell, "another address");
        known.forget(&(same_cell..same_cell + 1), &sites);
        assert_eq!(listed(), 0);
        known.list(second);
        assert_eq!(listed(), 0, "its code may have changed");
        known.list(first);
        assert_eq!(listed(), 0x1000);
    }

    #[test]
    fn strikes_off_what_was_listed() {
        let (known, sites) = lent(&[0x1000]);
        assert!(!known.strike(0x1000));
        known.list(sites.find(0x1000).unwrap());
        assert!(!known.strike(0x1001));
        assert!(known.strike(0x1000));
        assert!(!known.strike(0x1000), "once");
    }
}
