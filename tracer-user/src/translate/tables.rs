//! Tables that translated code looks things up in.
//!
//! ```text
//!  segments   by GiB of the address space: 0 where native code works on memory of its own, else
//!             what leads from an address (divided by 16) to its shadow byte
//!  clear      by size and direction of an access, then by shadow byte: 1 if the access is right
//!             wherever in its granule it begins
//!  known      by original address: where it is translated. Two tables, by bits 0-15 and 4-19,
//!             of negated keys and of targets, so that a look-up leaves the flags alone
//!  trap       a page that nobody may touch: translated code does to ask for help
//! ```
//! They lie below 2 GiB, so that a table's address fits into an operand beside a register.
//!
//! # Safety
//! The mapping is made once, lives as long as the process and is reached through atomics only. A key of
//! `known` is written after its target, and an entry is never given to another key while threads
//! may run code that found it.
#![allow(unsafe_code)]

use std::{
    io,
    sync::atomic::{AtomicU8, AtomicU64, Ordering},
};

use tracer_ebpf::{SEGMENT_SIZE, Session};

use crate::shadow::{ShadowView, WRITABLE};

/// Bits of an address below the number of its segment.
pub(super) const SEGMENT_BITS: u8 = SEGMENT_SIZE.trailing_zeros() as u8;
/// Segments of the user's half of the address space.
const SEGMENTS: usize = 1 << (47 - SEGMENT_BITS);
/// Entries of one table of known addresses.
const KNOWN: usize = 1 << 16;
/// Longest access in bytes that is checked inline.
pub(super) const MOST: u64 = 64;
const CLEAR: usize = 256;

const SEGMENTS_AT: usize = 0;
const KNOWN_AT: usize = SEGMENTS_AT + SEGMENTS * 8;
const CLEAR_AT: usize = KNOWN_AT + 4 * KNOWN * 8;
const TRAP_AT: usize = CLEAR_AT + (MOST as usize * 2 * CLEAR).next_multiple_of(4096);
const LENGTH: usize = TRAP_AT + 4096;

/// A negated key that no address has.
const NOTHING: u64 = 0;

/// See the module.
pub(crate) struct Tables {
    base: u64,
}

impl Tables {
    /// Tables in which nothing is known.
    ///
    /// # Errors
    /// What `mmap(2)` says, where there is no room below 2 GiB for instance.
    pub(super) fn new() -> io::Result<Tables> {
        // SAFETY: a new mapping replaces none; its last page is ours, and made inaccessible.
        let base = unsafe {
            let flags =
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_32BIT;
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let base = libc::mmap(std::ptr::null_mut(), LENGTH, protection, flags, -1, 0);
            if base == libc::MAP_FAILED
                || libc::mprotect(base.byte_add(TRAP_AT), 4096, libc::PROT_NONE) != 0
            {
                return Err(io::Error::last_os_error());
            }
            base as u64
        };
        if base + LENGTH as u64 > i32::MAX as u64 {
            return Err(io::Error::from_raw_os_error(libc::ENOMEM));
        }
        let tables = Tables { base };
        for len in 1..=MOST {
            for write in [false, true] {
                for value in 0..=u8::MAX {
                    let clear =
                        u64::from(value >> 1) >= needed(len) && (!write || value & WRITABLE != 0);
                    let at = clear_at(len, write) + usize::from(value);
                    tables.byte(at).store(clear.into(), Ordering::Relaxed);
                }
            }
        }
        Ok(tables)
    }

    fn byte(&self, at: usize) -> &AtomicU8 {
        debug_assert!(at < TRAP_AT);
        // SAFETY: inside the mapping, before the page that cannot be accessed.
        unsafe { &*((self.base as usize + at) as *const AtomicU8) }
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        debug_assert!(at < CLEAR_AT && at.is_multiple_of(8));
        // SAFETY: as in `byte`; the mapping is aligned to pages.
        unsafe { &*((self.base as usize + at) as *const AtomicU64) }
    }

    fn address(&self, at: usize) -> u32 {
        self.base as u32 + at as u32
    }

    /// Address of the table of segments.
    pub(super) fn segments(&self) -> u32 {
        self.address(SEGMENTS_AT)
    }

    /// Address of the row of `clear` for accesses of `len` bytes, 1 to [`MOST`].
    pub(super) fn clear(&self, len: u64, write: bool) -> u32 {
        self.address(clear_at(len, write))
    }

    /// Addresses of the negated keys and the targets of one of the two tables.
    pub(super) fn known(&self, way: usize) -> (u32, u32) {
        let (keys, targets) = known_at(way);
        (self.address(keys), self.address(targets))
    }

    /// Address of the page that nobody may touch.
    pub(super) fn trap(&self) -> u32 {
        self.address(TRAP_AT)
    }

    /// Whether an address lies in that page. Async-signal-safe.
    pub(crate) fn is_trap(&self, addr: u64) -> bool {
        addr.wrapping_sub(u64::from(self.trap())) < 4096
    }

    /// From now on the arena is this one, with this shadow; or there is none.
    pub(crate) fn set_arena(&self, arena: Option<(Session, &ShadowView)>) {
        for segment in 0..SEGMENTS {
            let cell = self.word(SEGMENTS_AT + segment * 8);
            if cell.load(Ordering::Relaxed) != 0 {
                cell.store(0, Ordering::Relaxed);
            }
        }
        let Some((session, shadow)) = arena else {
            return;
        };
        for pair in 0..session.arena_len / (2 * SEGMENT_SIZE) {
            let native = session.arena_base + pair * 2 * SEGMENT_SIZE;
            let segment = (native >> SEGMENT_BITS) as usize;
            if segment < SEGMENTS {
                let cell = self.word(SEGMENTS_AT + segment * 8);
                cell.store(shadow.bias(pair), Ordering::Release);
            }
        }
    }

    /// Where the code at `original` goes on in translated code, or 0. Async-signal-safe.
    pub(crate) fn find(&self, original: u64) -> u64 {
        for way in 0..2 {
            let (key, target) = self.entry(way, original);
            if key.load(Ordering::Acquire) == original.wrapping_neg() {
                return target.load(Ordering::Relaxed);
            }
        }
        0
    }

    fn entry(&self, way: usize, original: u64) -> (&AtomicU64, &AtomicU64) {
        let (keys, targets) = known_at(way);
        let index = (original >> (4 * way)) as usize & (KNOWN - 1);
        (self.word(keys + index * 8), self.word(targets + index * 8))
    }

    /// Enters where the code at `original` goes on; false where there is no place for it. One
    /// caller at a time.
    pub(super) fn enter(&self, original: u64, target: u64) -> bool {
        let negated = original.wrapping_neg();
        for way in 0..2 {
            let (key, cell) = self.entry(way, original);
            let held = key.load(Ordering::Relaxed);
            if held == negated {
                cell.store(target, Ordering::Release);
                return true;
            }
            if held == NOTHING {
                cell.store(target, Ordering::Relaxed);
                key.store(negated, Ordering::Release);
                return true;
            }
        }
        false
    }

    /// Forgets what is known of original addresses: code of some is gone. Async-signal-safe.
    pub(super) fn forget(&self) {
        for way in 0..2 {
            let (keys, _) = known_at(way);
            for index in 0..KNOWN {
                self.word(keys + index * 8)
                    .store(NOTHING, Ordering::Release);
            }
        }
    }
}

/// Live bytes from its granule's first on that an access of `len` bytes needs wherever it begins.
pub(super) fn needed(len: u64) -> u64 {
    len + 15
}

fn clear_at(len: u64, write: bool) -> usize {
    CLEAR_AT + (len as usize - 1) * 2 * CLEAR + usize::from(write) * CLEAR
}

fn known_at(way: usize) -> (usize, usize) {
    let keys = KNOWN_AT + way * 2 * KNOWN * 8;
    (keys, keys + KNOWN * 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_was_entered_until_it_forgets() {
        let tables = Tables::new().unwrap();
        let originals: Vec<u64> = (0..2000u64).map(|i| 0x7f00_1234_0000 + i * 0x53).collect();
        for &original in &originals {
            assert!(tables.enter(original, original + 1));
        }
        for &original in &originals {
            assert_eq!(tables.find(original), original + 1);
        }
        assert_eq!(tables.find(originals[0] - 1), 0);
        tables.forget();
        for &original in &originals {
            assert_eq!(tables.find(original), 0);
        }
    }

    #[test]
    fn an_address_with_no_place_is_said_to_have_none() {
        let tables = Tables::new().unwrap();
        let far = |i: u64| 0x7f00_0000_0040 + (i << 20);
        assert!(tables.enter(far(0), 1) && tables.enter(far(1), 2));
        assert!(!tables.enter(far(2), 3), "both places are taken");
        assert_eq!((tables.find(far(0)), tables.find(far(1))), (1, 2));
    }

    #[test]
    fn clear_is_what_is_right_wherever_it_begins() {
        let tables = Tables::new().unwrap();
        let row = |len, write, value: u8| {
            tables
                .byte(clear_at(len, write) + usize::from(value))
                .load(Ordering::Relaxed)
        };
        assert_eq!(row(4, false, 19 << 1), 1);
        assert_eq!(row(4, false, 18 << 1), 0);
        assert_eq!((row(4, true, 19 << 1), row(4, true, 19 << 1 | 1)), (0, 1));
        assert_eq!(
            (row(64, true, 127 << 1 | 1), row(64, false, 78 << 1)),
            (1, 0)
        );
    }
}
