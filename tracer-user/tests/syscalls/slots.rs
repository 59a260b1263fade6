//! Memory for the blocks of a case: one slot each, in an arena and beside it.
//!
//! ```text
//!  slot: │ inaccessible page │ ROOM bytes, accessible │ inaccessible up to SLOT │
//!  arena: native half │ slots, all inaccessible      host half │ slots
//! ```
//!
//! # Safety
//! [`Slots`] owns its reservations. They are reached by raw copies inside the rooms only, whose
//! bounds are checked here; the kernel writes to them only within calls that a case made.
#![allow(unsafe_code)]

use std::ptr;

use tracer_ebpf::{DELTA, SEGMENT_SIZE, Session};

/// Bytes from one slot to the next.
pub(crate) const SLOT: u64 = 64 << 10;
/// Accessible bytes of a slot.
pub(crate) const ROOM: u64 = 32 << 10;
/// Where they begin.
pub(crate) const EDGE: u64 = 4096;
/// How many slots there are.
pub(crate) const COUNT: u64 = 16;

/// Two rows of slots.
pub(crate) struct Slots {
    native: u64,
    plain: u64,
}

impl Slots {
    pub(crate) fn new() -> Slots {
        let reserved = reserve(4 * SEGMENT_SIZE);
        let slots = Slots {
            native: reserved.next_multiple_of(2 * SEGMENT_SIZE),
            plain: reserve(COUNT * SLOT),
        };
        for slot in 0..COUNT {
            for inside in [true, false] {
                slots.protect(slot as usize, inside, false);
            }
        }
        slots
    }

    pub(crate) fn session(&self) -> Session {
        Session {
            arena_base: self.native,
            arena_len: 2 * SEGMENT_SIZE,
        }
    }

    /// Address, as native code has it, `offset` bytes from the beginning of a slot's room.
    pub(crate) fn addr(&self, slot: usize, inside: bool, offset: i64) -> u64 {
        assert!((slot as u64) < COUNT, "a case has too many blocks");
        let row = if inside { self.native } else { self.plain };
        (row + slot as u64 * SLOT + EDGE).wrapping_add_signed(offset)
    }

    /// Makes a room readable, and writable unless `read_only`.
    pub(crate) fn protect(&self, slot: usize, inside: bool, read_only: bool) {
        let room = self.host(self.addr(slot, inside, 0));
        let at = ptr::with_exposed_provenance_mut(room as usize);
        let write = if read_only { 0 } else { libc::PROT_WRITE };
        // SAFETY: the room lies in a reservation of this type, to which no reference exists.
        let done = unsafe { libc::mprotect(at, ROOM as usize, libc::PROT_READ | write) };
        assert_eq!(done, 0);
    }

    /// Where this process reaches it.
    fn host(&self, addr: u64) -> u64 {
        if self.session().is_native(addr) {
            addr + DELTA
        } else {
            addr
        }
    }

    /// Sets all bytes of a room to `fill`, and those from `offset` on that are in it to `bytes`.
    pub(crate) fn put(&self, slot: usize, inside: bool, offset: i64, fill: u8, bytes: &[u8]) {
        let mut room = vec![fill; ROOM as usize];
        for (index, byte) in bytes.iter().enumerate() {
            let at = offset + index as i64;
            if let Ok(at) = usize::try_from(at)
                && let Some(place) = room.get_mut(at)
            {
                *place = *byte;
            }
        }
        let to = self.host(self.addr(slot, inside, 0));
        // SAFETY: exactly the room of a slot, which is writable and owned.
        unsafe {
            ptr::copy_nonoverlapping(
                room.as_ptr(),
                ptr::with_exposed_provenance_mut(to as usize),
                room.len(),
            );
        }
    }

    /// All bytes of a room.
    pub(crate) fn get(&self, slot: usize, inside: bool) -> Vec<u8> {
        let mut room = vec![0; ROOM as usize];
        let from = self.host(self.addr(slot, inside, 0));
        // SAFETY: exactly the room of a slot, which is readable and owned.
        unsafe {
            ptr::copy_nonoverlapping(
                ptr::with_exposed_provenance(from as usize),
                room.as_mut_ptr(),
                room.len(),
            );
        }
        room
    }
}

fn reserve(len: u64) -> u64 {
    // SAFETY: no address is asked for, so nothing is replaced.
    let base = unsafe {
        libc::mmap(
            ptr::null_mut(),
            len as usize,
            libc::PROT_NONE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    assert_ne!(base, libc::MAP_FAILED);
    base.expose_provenance() as u64
}
