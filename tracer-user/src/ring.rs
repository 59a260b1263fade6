//! The ring that user space writes records into: the in-process handler (fault and aux records)
//! and the ptrace supervisor. The kernel has its own ring with the same records.
//!
//! ```text
//!   head ─►[record][record][record]◄─ tail        capacity is a power of two
//!          slot.turn == position + 1: full        slot.turn == position: free
//! ```
//! Many producers, one consumer, bounded (D. Vyukov's bounded queue). A producer claims a
//! position by advancing `tail`, writes the record, then publishes it by advancing the slot's
//! turn; the consumer sees records in the order in which positions were claimed. `push` neither
//! allocates nor blocks, so a signal handler may call it; a full ring makes it return false, and
//! the producer waits and tries again. Nothing is ever overwritten.
//!
//! # Safety
//! The slots live in a shared mapping owned by the ring. A slot's payload is written only by the
//! producer that claimed its position and read only by the consumer after the turn was published
//! with release ordering, so no two accesses to a payload ever race.
#![allow(unsafe_code)]

use std::{
    cell::UnsafeCell,
    io,
    sync::atomic::{AtomicU64, Ordering},
};

use tracer_ebpf::AuxRecord;

use crate::mapping::Mapping;

/// Bytes that a record may have at most: the largest record completes a fault.
pub const MAX_RECORD: usize = size_of::<AuxRecord>();

#[repr(C)]
struct Slot {
    turn: AtomicU64,
    payload: UnsafeCell<[u8; MAX_RECORD]>,
}

#[repr(C, align(128))]
struct Positions {
    tail: AtomicU64,
    _apart: [u64; 15],
    head: AtomicU64,
}

/// A bounded queue of records, usable from signal handlers and across `fork`.
pub struct UserRing {
    memory: Mapping,
    capacity: u64,
}

impl UserRing {
    /// A ring of `capacity` records.
    ///
    /// # Errors
    /// What `mmap(2)` says.
    ///
    /// # Panics
    /// If `capacity` is not a power of two.
    pub fn new(capacity: u64) -> io::Result<UserRing> {
        assert!(capacity.is_power_of_two());
        let len = size_of::<Positions>() + capacity as usize * size_of::<Slot>();
        let ring = UserRing {
            memory: Mapping::shared(len)?,
            capacity,
        };
        for position in 0..capacity {
            ring.slot(position).turn.store(position, Ordering::Relaxed);
        }
        Ok(ring)
    }

    fn positions(&self) -> &Positions {
        // SAFETY: the mapping is page-aligned, zeroed, larger than `Positions`, and lives as
        // long as `self`; all fields are atomics, for which any bit pattern is valid.
        unsafe { &*self.memory.as_ptr().cast::<Positions>() }
    }

    fn slot(&self, position: u64) -> &Slot {
        let index = (position & (self.capacity - 1)) as usize;
        // SAFETY: `index < capacity`, and `new` mapped `capacity` slots after the positions;
        // 256 bytes of positions keep slots 8-aligned. Payloads are behind `UnsafeCell`.
        unsafe {
            &*self
                .memory
                .as_ptr()
                .add(size_of::<Positions>())
                .cast::<Slot>()
                .add(index)
        }
    }

    /// Appends `record`, or returns false where the ring is full. Async-signal-safe.
    pub fn push<R: bytemuck::Pod>(&self, record: &R) -> bool {
        const { assert!(size_of::<R>() <= MAX_RECORD) };
        let tail = &self.positions().tail;
        let mut position = tail.load(Ordering::Relaxed);
        loop {
            let slot = self.slot(position);
            let turn = slot.turn.load(Ordering::Acquire);
            if turn == position {
                match tail.compare_exchange_weak(
                    position,
                    position + 1,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                ) {
                    Ok(_) => {
                        let bytes = bytemuck::bytes_of(record);
                        // SAFETY: this thread claimed `position`; until it publishes the turn
                        // no other thread touches the payload. The length was checked above.
                        unsafe {
                            std::ptr::copy_nonoverlapping(
                                bytes.as_ptr(),
                                slot.payload.get().cast::<u8>(),
                                bytes.len(),
                            );
                        }
                        slot.turn.store(position + 1, Ordering::Release);
                        return true;
                    }
                    Err(now) => position = now,
                }
            } else if turn < position {
                return false;
            } else {
                position = tail.load(Ordering::Relaxed);
            }
        }
    }

    /// Takes the oldest record into `out` and returns true, or false where there is none (or the
    /// oldest is still being written). One consumer at a time: the caller holds the only one.
    pub fn pop(&self, out: &mut [u8; MAX_RECORD]) -> bool {
        let head = &self.positions().head;
        let position = head.load(Ordering::Relaxed);
        let slot = self.slot(position);
        if slot.turn.load(Ordering::Acquire) != position + 1 {
            return false;
        }
        // SAFETY: the turn says that the payload is published, and it stays so until the store
        // below frees the slot. `out` is exactly as long as the payload.
        unsafe { out.copy_from_slice(&*slot.payload.get()) };
        slot.turn.store(position + self.capacity, Ordering::Release);
        head.store(position + 1, Ordering::Release);
        true
    }

    /// Records in the ring, those being written included. Async-signal-safe.
    pub fn used(&self) -> u64 {
        let positions = self.positions();
        let head = positions.head.load(Ordering::Acquire);
        positions.tail.load(Ordering::Acquire).saturating_sub(head)
    }

    /// Records that fit.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Records ever taken out.
    pub fn popped(&self) -> u64 {
        self.positions().head.load(Ordering::Acquire)
    }

    /// Records ever appended.
    pub fn pushed(&self) -> u64 {
        self.positions().tail.load(Ordering::Acquire)
    }
}

// SAFETY: producers and consumer are synchronised by the turns, see the module's Safety section;
// that there is one consumer is up to the owner, who keeps it behind `&mut` or a lock.
unsafe impl Sync for UserRing {}
// SAFETY: nothing in the ring belongs to a thread.
unsafe impl Send for UserRing {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_and_refuses_when_full() {
        let ring = UserRing::new(4).unwrap();
        for value in 0..4u64 {
            assert!(ring.push(&value));
        }
        assert!(!ring.push(&4u64));
        let mut out = [0; MAX_RECORD];
        for value in 0..4u64 {
            assert!(ring.pop(&mut out));
            assert_eq!(u64::from_ne_bytes(out[..8].try_into().unwrap()), value);
        }
        assert!(!ring.pop(&mut out));
        assert!(ring.push(&9u64));
        assert_eq!(ring.used(), 1);
    }

    #[test]
    fn many_producers_lose_nothing() {
        let ring = UserRing::new(64).unwrap();
        let each = 20_000u64;
        let mut seen = [0u64; 4];
        std::thread::scope(|scope| {
            for producer in 0..4u64 {
                let ring = &ring;
                scope.spawn(move || {
                    for count in 0..each {
                        while !ring.push(&[producer, count]) {
                            std::thread::yield_now();
                        }
                    }
                });
            }
            let mut out = [0; MAX_RECORD];
            while seen.iter().sum::<u64>() < 4 * each {
                if ring.pop(&mut out) {
                    let [producer, count]: [u64; 2] = bytemuck::pod_read_unaligned(&out[..16]);
                    assert_eq!(seen[producer as usize], count, "out of order");
                    seen[producer as usize] += 1;
                } else {
                    std::thread::yield_now();
                }
            }
        });
        assert_eq!(seen, [each; 4]);
        assert_eq!(ring.pushed(), 4 * each);
    }
}
