//! A session's ring, as the traced process maps it: how full it is, and what is in it.
//!
//! ```text
//!   page 0: consumer position (the reader's)   ─┐  used = producer - consumer
//!   page 1: producer position (the kernel's)   ─┘
//!   then the records, twice in a row, so that none is cut at the end:
//!     [length, bit 31: being written, bit 30: given up | 4 bytes | the record] …
//! ```
//! (kernel/bpf/ringbuf.c.) It is read with nothing but its descriptor mapped: a process without
//! privileges may do that, but may not ask the kernel about the map, as libraries for it do.
//!
//! # Safety
//!
//! A [`RingView`] is `Copy` and may outlive the [`Ring`] it came from, in a handler that cannot be
//! told. So the pages with the positions are lent with it ([`Pages::lend`]), and the view of a ring
//! that has gone reads as empty for ever. The positions and the records' headers are aligned words
//! that others change, and are read atomically. The kernel does not write to a record that it has
//! finished before the consumer's position has passed it, so until then it may be read by reference.
#![allow(unsafe_code)]

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::mm::ProtFlags;
use tracer_ebpf::PAGE_BYTES as PAGE;

use super::pages::Pages;

/// Longest wait for a record that another thread is just writing. It takes that thread well under
/// a microsecond, unless the machine takes its processor away.
const MAX_BUSY: Duration = Duration::from_millis(100);

/// Bits of a record's header (`BPF_RINGBUF_BUSY_BIT`, `BPF_RINGBUF_DISCARD_BIT`).
const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;

/// Length of a record's header in bytes.
pub(crate) const HEADER: u64 = 8;

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

/// A mapped ring, and the right to take records out of it.
#[derive(Debug)]
pub(crate) struct Ring {
    view: RingView,
    consumer: Pages,
    producer: Pages,
    records: Pages,
}

impl Ring {
    /// Maps the ring buffer map `ring`, which holds `size` bytes, a power of two.
    ///
    /// # Errors
    /// What `mmap(2)` says: among others that the size is not the ring's.
    pub(crate) fn map(ring: BorrowedFd<'_>, size: u32) -> std::io::Result<Ring> {
        let consumer = Pages::map(ring, 0, PAGE, ProtFlags::READ | ProtFlags::WRITE)?;
        let producer = Pages::map(ring, PAGE, PAGE, ProtFlags::READ)?;
        let records = Pages::map(ring, 2 * PAGE, 2 * size as usize, ProtFlags::READ)?;
        // SAFETY: each page begins with an aligned position. It is used as long as the ring is, or
        // lent (see module docs).
        let view = unsafe {
            RingView {
                consumer: &*consumer.address().cast::<AtomicU64>(),
                producer: &*producer.address().cast::<AtomicU64>(),
                size: u64::from(size),
            }
        };
        Ok(Ring {
            view,
            consumer,
            producer,
            records,
        })
    }

    /// How full it is, for whoever wants to know, for ever.
    pub(crate) fn view(&self) -> RingView {
        self.consumer.lend();
        self.producer.lend();
        self.view
    }

    /// Hands every record that is in the ring at the time of the call to `each`, in order, and
    /// says how many. A record that another thread is writing at this moment is waited for.
    pub(crate) fn drain(&mut self, each: &mut dyn FnMut(&[u8])) -> usize {
        let end = self.view.written();
        let mut position = self.view.read();
        let data = self.records.address().cast::<u8>().cast_const();
        let mut count = 0;
        let mut waiting_since = None;
        // The consumer's page can be written by whoever had the ring: nothing there is believed.
        let sound = |position: u64, length: u64| {
            position.is_multiple_of(8)
                && end
                    .checked_sub(position)
                    .is_some_and(|left| left <= self.view.size && length <= left)
        };
        while position < end {
            if !sound(position, HEADER) {
                tracing::warn!("the ring's positions are broken: {position:#x} of {end:#x}");
                break;
            }
            let at = position & (self.view.size - 1);
            // SAFETY: headers are aligned to 8 and lie in the ring, whose bytes are mapped.
            let header = unsafe { &*data.add(at as usize).cast::<AtomicU32>() };
            let header = header.load(Ordering::Acquire);
            if header & BUSY != 0 {
                let since = *waiting_since.get_or_insert_with(Instant::now);
                if since.elapsed() > MAX_BUSY {
                    // It stays in the ring for the next call, and the counters show that it is owed.
                    tracing::warn!("a record is reserved but not written after {MAX_BUSY:?}");
                    break;
                }
                std::thread::yield_now();
                continue;
            }
            waiting_since = None;
            let length = u64::from(header & !DISCARDED);
            if !sound(position, length + HEADER) {
                tracing::warn!("the ring has a broken record: {length} bytes at {position:#x}");
                break;
            }
            if header & DISCARDED == 0 {
                // SAFETY: the kernel reserved as many bytes behind the header, which the second
                // mapping of the ring continues at its end, and has finished them.
                each(unsafe {
                    std::slice::from_raw_parts(data.add((at + HEADER) as usize), length as usize)
                });
                count += 1;
            }
            position += (length + HEADER).next_multiple_of(8);
            self.view.consumer.store(position, Ordering::Release);
        }
        count
    }
}
