//! The logs: what translated code did, by thread.
//!
//! ```text
//!  gs ─► area │ log pointer │ slots for registers │ …        one page a thread
//!        buffer 0 │ entry │ entry │ …          │ guard page   the pointer runs into the guard:
//!        buffer 1 │                            │ guard page   a fault, by which the handler seals
//!        buffer 2, 3                           │ guard page   the buffer and takes the next one
//! ```
//! An entry is a word: the number of a [place](super::places) and the low bits of an address. Place
//! 0 marks where a record of the thread stands in the kernel's ring (or our own), so that the reader
//! can put both together: *take* it here, or *skip* it, since entries tell the same.
//!
//! One thread writes a log, and whoever drains reads it. An entry is written before its instruction
//! runs, which may overwrite what the address was made of, and becomes visible after that, by the log
//! pointer (x86 keeps stores in order); whole buffers by their fill. So what does not happen after
//! all, since the instruction faults or a signal comes first, is not there. A
//! thread's log is made before it runs native code or never, so whether a record has a mark is
//! known from its thread.
//!
//! # Safety
//! Area and buffers lie in a mapping that lives as long as the process; both sides reach them through
//! atomics, or through copies of entries that the writer is done with.
#![allow(unsafe_code)]

use std::{
    io,
    ops::Range,
    sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
};

use super::{pace::Sampled, places::ADDRESS_BITS};
use crate::{
    mapping::Mapping,
    resume::safe::{self, Safe},
};

/// Slots of an area, as offsets from `gs`.
pub(super) mod slot {
    /// The log pointer: address of the next entry.
    pub(in crate::translate) const LOG: u32 = 0;
    /// Registers that translated code has borrowed, by number.
    pub(in crate::translate) const SAVED: u32 = 8;
    /// How many there are.
    pub(in crate::translate) const SAVED_COUNT: u32 = 16;
    /// Flags that it has put aside, as `lahf` and `seto al` leave them in ax.
    pub(in crate::translate) const FLAGS: u32 = SAVED + 8 * SAVED_COUNT;
    /// Original address that a transfer goes to.
    pub(in crate::translate) const TARGET: u32 = FLAGS + 8;
    /// Address where that goes on.
    pub(in crate::translate) const NEXT: u32 = TARGET + 8;
    /// Returns to unknown code until it is looked at.
    pub(in crate::translate) const PATIENCE: u32 = NEXT + 8;
}

/// Returns from translated code to the same unknown code before that is translated too.
pub(super) const PATIENCE: u64 = 8;

const BUFFERS: usize = 4;
/// Bytes of a buffer.
const BUFFER: usize = 128 << 10;
const PAGE: usize = 4096;
/// Bytes of all that a thread has: its area, and buffers with a guard each.
const SHARE: usize = PAGE + BUFFERS * (BUFFER + PAGE);
/// Threads that have a log at the same time.
const THREADS: usize = 512;

/// What a mark says about the next record of its thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// It stands here.
    Take = 1,
    /// Entries tell the same, or the access was made again.
    Skip = 2,
}

impl Mark {
    /// The mark that a word of place 0 is.
    pub(crate) fn of(word: u64) -> Option<Mark> {
        match word {
            1 => Some(Mark::Take),
            2 => Some(Mark::Skip),
            _ => None,
        }
    }
}

/// The number of a place and the low bits of the address in an entry.
pub(crate) fn split(word: u64) -> (u32, u64) {
    (
        (word >> ADDRESS_BITS) as u32,
        word & ((1 << ADDRESS_BITS) - 1),
    )
}

/// What both sides know of a log. Zeroes: nobody's.
#[repr(C)]
struct Head {
    /// Kernel id of the thread, 0 where it is nobody's.
    tid: AtomicU32,
    /// 1 once the thread has ended.
    ended: AtomicU32,
    /// 1 once its memory is accessible.
    ready: AtomicU32,
    /// Buffer that is written.
    writing: AtomicU32,
    /// Entries of a sealed buffer, 0 for others.
    sealed: [AtomicU32; BUFFERS],
    /// Words in buffers that were sealed.
    before: AtomicU64,
    /// Marks among all words.
    marks: AtomicU64,
    /// Where the reader is.
    reading: AtomicU32,
    read: AtomicU32,
    sampled: Sampled,
}

/// All logs of the process.
pub(crate) struct Logs {
    heads: Mapping,
    shares: Mapping,
    /// Logs that were ever used.
    used: AtomicUsize,
    /// Entries that were ever read, marks not counted.
    read: AtomicU64,
}

/// A thread's log.
#[derive(Clone, Copy)]
pub(crate) struct Log<'a> {
    head: &'a Head,
    share: u64,
}

impl Logs {
    /// No log yet.
    ///
    /// # Errors
    /// What `mmap(2)` says.
    pub(super) fn new() -> io::Result<Logs> {
        Ok(Logs {
            heads: Mapping::private(THREADS * size_of::<Head>())?,
            shares: Mapping::reserved(THREADS * SHARE)?,
            used: AtomicUsize::new(0),
            read: AtomicU64::new(0),
        })
    }

    fn at(&self, index: usize) -> Log<'_> {
        debug_assert!(index < THREADS);
        Log {
            // SAFETY: the mapping holds THREADS zeroed heads for the life of `self`.
            head: unsafe { &*self.heads.as_ptr().cast::<Head>().add(index) },
            share: self.shares.addr() + (index * SHARE) as u64,
        }
    }

    /// Where the areas of all logs are.
    pub(crate) fn areas(&self) -> Range<u64> {
        let first = self.shares.addr();
        first..first + (THREADS * SHARE) as u64
    }

    fn used(&self) -> impl Iterator<Item = Log<'_>> {
        (0..self.used.load(Ordering::Acquire)).map(|index| self.at(index))
    }

    /// The log of a thread. Async-signal-safe.
    pub(crate) fn find(&self, tid: u32) -> Option<Log<'_>> {
        self.used()
            .find(|log| log.head.tid.load(Ordering::Acquire) == tid)
    }

    /// All logs of threads.
    pub(crate) fn all(&self) -> impl Iterator<Item = Log<'_>> {
        // One that is being taken has nothing to be read.
        self.used()
            .filter(|log| ![0, u32::MAX].contains(&log.tid()))
    }

    /// Gives thread `tid`, the calling one, a log; none where all are in use or there is no memory.
    /// Async-signal-safe.
    pub(crate) fn take(&self, safe: Safe, tid: u32) -> Option<Log<'_>> {
        // Left by an earlier thread of that number, and perhaps not read to its end.
        if let Some(log) = self.find(tid) {
            log.head.ended.store(0, Ordering::Release);
            return Some(log);
        }
        for index in 0..THREADS {
            let log = self.at(index);
            let free = |tid: &AtomicU32| {
                tid.compare_exchange(0, u32::MAX, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
            };
            if log.head.tid.load(Ordering::Relaxed) != 0 || !free(&log.head.tid) {
                continue;
            }
            if log.head.ready.load(Ordering::Acquire) == 0 {
                if !log.make_accessible(safe) {
                    log.head.tid.store(0, Ordering::Release);
                    return None;
                }
                log.slot(slot::LOG).store(log.buffer(0), Ordering::Relaxed);
                log.head.ready.store(1, Ordering::Release);
            }
            log.slot(slot::PATIENCE).store(PATIENCE, Ordering::Relaxed);
            log.head.ended.store(0, Ordering::Relaxed);
            log.head.tid.store(tid, Ordering::Release);
            self.used.fetch_max(index + 1, Ordering::AcqRel);
            return Some(log);
        }
        None
    }

    /// Entries that were ever written, marks not counted.
    pub(crate) fn entries(&self) -> u64 {
        self.used()
            .filter(Log::is_ready)
            .map(|log| log.entries())
            .sum()
    }

    /// So many entries were read.
    pub(crate) fn count_read(&self, entries: u64) {
        self.read.fetch_add(entries, Ordering::Relaxed);
    }

    /// Entries that were ever read.
    pub(crate) fn entries_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Forgets everything that was not read: it belongs to no session.
    pub(crate) fn discard(&self) {
        for log in self.used().filter(Log::is_ready) {
            log.read(&mut |words| {
                let entries = words.iter().filter(|word| Mark::of(**word).is_none());
                self.count_read(entries.count() as u64);
                words.len()
            });
        }
    }
}

impl Log<'_> {
    fn is_ready(&self) -> bool {
        self.head.ready.load(Ordering::Acquire) != 0
    }

    fn make_accessible(&self, safe: Safe) -> bool {
        let part = |offset: usize, len: usize| {
            let protection = (libc::PROT_READ | libc::PROT_WRITE) as u64;
            let args = [self.share + offset as u64, len as u64, protection, 0, 0, 0];
            // SAFETY: inside this log's share of the mapping, which nobody uses yet.
            unsafe { safe::raw(safe, libc::SYS_mprotect, args) == 0 }
        };
        part(0, PAGE) && (0..BUFFERS).all(|index| part(PAGE + index * (BUFFER + PAGE), BUFFER))
    }

    /// Its thread, 0 for none.
    pub(crate) fn tid(&self) -> u32 {
        self.head.tid.load(Ordering::Acquire)
    }

    /// Base of `gs` for its thread.
    pub(crate) fn area(&self) -> u64 {
        self.share
    }

    /// A slot of the area.
    pub(super) fn slot(&self, offset: u32) -> &AtomicU64 {
        debug_assert!(offset as usize + 8 <= PAGE && offset.is_multiple_of(8));
        // SAFETY: inside the area, which was made accessible before anyone got this log.
        unsafe { &*((self.share + u64::from(offset)) as *const AtomicU64) }
    }

    /// What is in a slot. Async-signal-safe.
    pub(super) fn read_slot(&self, offset: u32) -> u64 {
        self.slot(offset).load(Ordering::Relaxed)
    }

    /// Changes what is in a slot. Async-signal-safe.
    pub(super) fn write_slot(&self, offset: u32, value: u64) {
        self.slot(offset).store(value, Ordering::Relaxed);
    }

    fn buffer(&self, index: usize) -> u64 {
        self.share + (PAGE + index * (BUFFER + PAGE)) as u64
    }

    fn writing(&self) -> usize {
        self.head.writing.load(Ordering::Acquire) as usize % BUFFERS
    }

    /// The log pointer. Async-signal-safe, for its thread.
    pub(crate) fn pointer(&self) -> u64 {
        self.slot(slot::LOG).load(Ordering::Acquire)
    }

    /// Publishes all entries before `pointer`. Async-signal-safe, for its thread.
    pub(super) fn set_pointer(&self, pointer: u64) {
        self.slot(slot::LOG).store(pointer, Ordering::Release);
    }

    /// Publishes the next `count` entries, which are written: their instruction has happened.
    /// Async-signal-safe, for its thread.
    pub(crate) fn publish(&self, count: u64) {
        let at = self.pointer();
        self.slot(slot::LOG)
            .store(at + 8 * count, Ordering::Release);
    }

    /// Whether `addr` is of a guard page behind the buffer that is written. Async-signal-safe.
    pub(crate) fn is_guard(&self, addr: u64) -> bool {
        addr.wrapping_sub(self.buffer(self.writing()) + BUFFER as u64) < PAGE as u64
    }

    /// Whether the buffer is full, but for what an entry writes beyond its end.
    fn is_full(&self) -> bool {
        self.pointer() + 16 > self.buffer(self.writing()) + BUFFER as u64
    }

    /// Seals the buffer that is written and goes on with the next. False where the reader has not
    /// come so far; call again then. Async-signal-safe, for its thread.
    pub(crate) fn turn(&self) -> bool {
        let (now, next) = (self.writing(), (self.writing() + 1) % BUFFERS);
        if self.head.sealed[next].load(Ordering::Acquire) != 0 {
            return false;
        }
        let words = (self.pointer() - self.buffer(now)) / 8;
        self.head.before.fetch_add(words, Ordering::Relaxed);
        self.slot(slot::LOG)
            .store(self.buffer(next), Ordering::Release);
        self.head.writing.store(next as u32, Ordering::Release);
        // Last, for the reader goes by it. Only a buffer that is full is sealed, so it has words.
        self.head.sealed[now].store(words as u32, Ordering::Release);
        true
    }

    /// Appends a mark; false where there is no room, so that [`turn`](Self::turn) has to come first.
    /// Async-signal-safe, for its thread.
    pub(crate) fn mark(&self, mark: Mark) -> bool {
        if self.is_full() {
            return false;
        }
        let at = self.pointer();
        // SAFETY: the pointer lies in the buffer, which is not full, and only this thread writes.
        unsafe { (at as *mut u64).write_volatile(mark as u64) };
        self.head.marks.fetch_add(1, Ordering::Relaxed);
        self.slot(slot::LOG).store(at + 8, Ordering::Release);
        true
    }

    /// Entries that were ever written, marks not counted.
    fn entries(&self) -> u64 {
        loop {
            let (writing, before) = (self.writing(), self.head.before.load(Ordering::Acquire));
            let marks = self.head.marks.load(Ordering::Acquire);
            let words = self.pointer().wrapping_sub(self.buffer(writing)) / 8;
            if writing == self.writing() && before == self.head.before.load(Ordering::Acquire) {
                return (before + words).saturating_sub(marks);
            }
        }
    }

    /// Hands words that were not read yet to `each`, as long as there are any and all of them are
    /// taken; `each` says how many it takes. Returns how many were taken. One reader at a time.
    pub(crate) fn read(&self, each: &mut dyn FnMut(&[u64]) -> usize) -> usize {
        let mut taken = 0;
        // As much as a log can hold; a thread that goes on must not keep its reader for ever.
        for _ in 0..=BUFFERS {
            let index = self.head.reading.load(Ordering::Relaxed) as usize % BUFFERS;
            let read = self.head.read.load(Ordering::Relaxed) as usize;
            let sealed = self.head.sealed[index].load(Ordering::Acquire) as usize;
            let there = if sealed != 0 {
                sealed
            } else {
                // The pointer is of this buffer unless it was sealed just now.
                let words = self.pointer().wrapping_sub(self.buffer(index)) / 8;
                if self.head.sealed[index].load(Ordering::Acquire) != 0 {
                    continue;
                }
                if words > (BUFFER / 8) as u64 {
                    return taken;
                }
                words as usize
            };
            let some = if there > read {
                // SAFETY: these words lie in the buffer and are written: the fill, or the pointer,
                // which was read before, says so, and the writer changes them no more.
                let words = unsafe {
                    let first = (self.buffer(index) as *const u64).add(read);
                    std::slice::from_raw_parts(first, there - read)
                };
                each(words)
            } else {
                0
            };
            taken += some;
            self.head
                .read
                .store((read + some) as u32, Ordering::Relaxed);
            if read + some < there {
                return taken;
            }
            if sealed == 0 {
                return taken;
            }
            self.head.read.store(0, Ordering::Relaxed);
            let next = (index + 1) % BUFFERS;
            self.head.reading.store(next as u32, Ordering::Relaxed);
            self.head.sealed[index].store(0, Ordering::Release);
        }
        taken
    }

    /// What is known of where its thread is.
    pub(crate) fn sampled(&self) -> &Sampled {
        &self.head.sampled
    }

    /// Looks at it, see [`Sampled::look`].
    pub(super) fn look(&self) -> (bool, bool) {
        self.head.sampled.look(self.entries())
    }

    /// Its thread has ended: once it has been read, it may be another's. Async-signal-safe.
    pub(crate) fn end(&self) {
        self.head.ended.store(1, Ordering::Release);
    }

    /// Whether its thread has ended: then everything of it is there to be read.
    pub(crate) fn has_ended(&self) -> bool {
        self.head.ended.load(Ordering::Acquire) == 1
    }

    /// Whether there is nothing left to read.
    pub(crate) fn is_read(&self) -> bool {
        let reading = self.head.reading.load(Ordering::Relaxed) as usize % BUFFERS;
        let read = u64::from(self.head.read.load(Ordering::Relaxed));
        reading == self.writing() && self.buffer(reading) + 8 * read == self.pointer()
    }

    /// Gives it back: its thread had ended before it was read to its end.
    pub(crate) fn give_back(&self) {
        self.head.tid.store(0, Ordering::Release);
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
