//! How full the kernel's ring is, for a signal handler.
//!
//! A `BPF_MAP_TYPE_RINGBUF` shows its positions in its first two pages. They are mapped a second
//! time, read-only, so that the faulting thread can look before it goes on:
//!
//! ```text
//!   page 0: consumer position (the reader's)   ─┐  used = producer - consumer
//!   page 1: producer position (the kernel's)   ─┘
//! ```
//!
//! # Safety
//!
//! A [`RingView`] is `Copy` and may outlive the [`super::Ebpf`] it came from, in a handler that
//! cannot be told. So its two pages are never unmapped: when the recorder goes, anonymous zero
//! pages take their place (which also releases the ring), and the view reads as empty for ever.
//! The positions are 8-byte aligned words that others change, and are read atomically.
#![allow(unsafe_code)]

use std::os::fd::BorrowedFd;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags};

/// Size of a page in bytes; x86-64 has no other for these mappings.
const PAGE: usize = 4096;

/// Reads how many bytes of a ring wait to be read. Async-signal-safe.
#[derive(Clone, Copy, Debug)]
pub struct RingView {
    consumer: &'static AtomicU64,
    producer: &'static AtomicU64,
    /// Size of the ring in bytes.
    size: u64,
}

impl RingView {
    /// Bytes written and not yet read, headers included (8 for each record, and records are
    /// rounded up to 8). Never less than there are at the moment of the call.
    #[inline]
    pub fn used(&self) -> u64 {
        // In this order: a record written in between makes the result too large, not too small.
        let consumer = self.consumer.load(Ordering::Acquire);
        let producer = self.producer.load(Ordering::Acquire);
        producer.saturating_sub(consumer)
    }

    /// Bytes ever written, headers included.
    pub fn written(&self) -> u64 {
        self.producer.load(Ordering::Acquire)
    }

    /// Bytes ever read, headers included.
    pub fn read(&self) -> u64 {
        self.consumer.load(Ordering::Acquire)
    }

    /// Size of the ring in bytes. A record is dropped if it would fill it to the last byte.
    #[inline]
    pub fn size(&self) -> u64 {
        self.size
    }
}

/// Owns the mapping behind the [`RingView`]s of one ring.
#[derive(Debug)]
pub(super) struct RingPages {
    view: RingView,
}

impl RingPages {
    /// Maps the positions of the ring buffer map `ring`, which holds `size` bytes.
    pub(super) fn map(ring: BorrowedFd<'_>, size: u64) -> std::io::Result<Self> {
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let base = unsafe {
            rustix::mm::mmap(
                ptr::null_mut(),
                2 * PAGE,
                ProtFlags::READ,
                MapFlags::SHARED,
                ring,
                0,
            )
        }?;
        // SAFETY: each page begins with an aligned position, and stays mapped (see module docs).
        let view = unsafe {
            RingView {
                consumer: &*base.cast::<AtomicU64>(),
                producer: &*base.byte_add(PAGE).cast::<AtomicU64>(),
                size,
            }
        };
        Ok(RingPages { view })
    }

    pub(super) fn view(&self) -> RingView {
        self.view
    }
}

impl Drop for RingPages {
    fn drop(&mut self) {
        let base = ptr::from_ref(self.view.consumer).cast_mut().cast();
        // SAFETY: replaces the two pages that `map` made, in one step, by readable ones. Should
        // that fail the old ones stay, which is as good.
        let _ = unsafe {
            rustix::mm::mmap_anonymous(
                base,
                2 * PAGE,
                ProtFlags::READ,
                MapFlags::PRIVATE | MapFlags::FIXED,
            )
        };
    }
}
