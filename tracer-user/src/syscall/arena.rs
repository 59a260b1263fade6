//! Where memory that a system call is handed lies, and where the kernel is to find it.

use tracer_ebpf::{DELTA, SEGMENT_SIZE, Session};

use super::Reason;

/// The address at which the kernel reaches `len` bytes that native code calls `addr`: in the
/// host view if they are arena memory, otherwise unchanged.
///
/// # Errors
/// [`Reason::Straddles`] if some of the bytes are arena memory, but not all in one segment.
pub(super) fn place(arena: Session, addr: u64, len: u64) -> Result<u64, Reason> {
    if len == 0 {
        return Ok(address(arena, addr));
    }
    let last = addr.checked_add(len - 1);
    if arena.is_native(addr) {
        return match last {
            Some(last) if addr / SEGMENT_SIZE == last / SEGMENT_SIZE => Ok(addr + DELTA),
            _ => Err(Reason::Straddles),
        };
    }
    match last {
        Some(last) if overlaps_native(arena, addr, last) => Err(Reason::Straddles),
        // A range that wraps is none: the kernel refuses it.
        _ => Ok(addr),
    }
}

/// As [`place`], for an address that is a key or whose length does not matter.
pub(super) fn address(arena: Session, addr: u64) -> u64 {
    if arena.is_native(addr) {
        addr + DELTA
    } else {
        addr
    }
}

/// Whether `[addr, last]` has a byte in either view.
pub(super) fn overlaps(arena: Session, addr: u64, len: u64) -> bool {
    let last = addr.saturating_add(len.max(1) - 1);
    addr < arena.arena_base + arena.arena_len && last >= arena.arena_base
}

/// Whether `[addr, last]`, which begins outside the native view, runs into it.
fn overlaps_native(arena: Session, addr: u64, last: u64) -> bool {
    let end = arena.arena_base + arena.arena_len;
    if addr >= end {
        return false;
    }
    // The first native half at or above `addr`.
    let next = if addr <= arena.arena_base {
        arena.arena_base
    } else {
        arena.arena_base + (addr - arena.arena_base).next_multiple_of(2 * SEGMENT_SIZE)
    };
    next < end && next <= last
}

/// Bytes from `addr` to the end of its segment.
pub(super) fn rest_of_segment(addr: u64) -> u64 {
    SEGMENT_SIZE - addr % SEGMENT_SIZE
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u64 = 16 << 30;
    const ARENA: Session = Session {
        arena_base: BASE,
        arena_len: 4 * SEGMENT_SIZE,
    };

    #[test]
    fn moves_what_is_inside_a_segment() {
        assert_eq!(place(ARENA, BASE, 1), Ok(BASE + DELTA));
        assert_eq!(place(ARENA, BASE, SEGMENT_SIZE), Ok(BASE + DELTA));
        let second = BASE + 2 * SEGMENT_SIZE;
        assert_eq!(place(ARENA, second + 5, 0), Ok(second + 5 + DELTA));
        for outside in [0, 4096, BASE - 8, BASE + DELTA, BASE + ARENA.arena_len] {
            assert_eq!(place(ARENA, outside, 8), Ok(outside), "{outside:#x}");
        }
        for wraps in [4096, u64::MAX - 3] {
            assert_eq!(place(ARENA, wraps, u64::MAX), Ok(wraps));
        }
    }

    #[test]
    fn refuses_what_is_not() {
        let end = BASE + SEGMENT_SIZE;
        for (addr, len) in [
            (BASE - 8, 9),
            (end - 8, 9),
            (end - 1, u64::MAX),
            (BASE, SEGMENT_SIZE + 1),
            (end + SEGMENT_SIZE - 1, 2),
            (4096, u64::MAX - 4096),
        ] {
            assert_eq!(
                place(ARENA, addr, len),
                Err(Reason::Straddles),
                "{addr:#x}+{len:#x}"
            );
        }
        assert!(place(ARENA, end + SEGMENT_SIZE - 1, 1).is_ok());
        assert!(place(ARENA, BASE - 8, 8).is_ok());
        assert_eq!(place(ARENA, u64::MAX - 8, 8), Ok(u64::MAX - 8));
    }

    #[test]
    fn sees_ranges_that_touch_either_view() {
        assert!(overlaps(ARENA, BASE + DELTA, 1) && overlaps(ARENA, BASE - 1, 2));
        assert!(overlaps(ARENA, 0, u64::MAX) && overlaps(ARENA, BASE, 0));
        assert!(!overlaps(ARENA, BASE - 1, 1));
        assert!(!overlaps(ARENA, BASE + ARENA.arena_len, 1));
    }
}
