//! What the signal handler may know of the arena: one byte for each 16 bytes of the native view.
//!
//! ```text
//!  native view   │ 16 bytes │ 16 bytes │ 16 bytes │ 16 bytes │
//!                ├ red zone ┼ buf: 20 bytes ──────┼ red zone ┤
//!  live from     │    0     │    20    │    4     │    0     │   its first byte on, at most 127
//!  shadow        │    0     │    41    │    9     │    0     │   twice that, plus 1: writable
//! ```
//! A byte counts how much is live from its granule on, not just in it, so that one load tells of an
//! access that does not end in the granule where it begins: translated code
//! ([`translate`](crate::translate)) has no time for more.
//!
//! The exact verdict on an access is the bridge's, which sees it later and in order. But the
//! native stack is only there at the moment of the fault, so the handler asks the shadow whether
//! the access *looks* wrong and takes a snapshot of the stack then. The table is shared with
//! forked supervisors, starts as "nothing is live", and costs memory only where it was touched.
//!
//! # Safety
//!
//! The table is a mapping owned by [`Shadow`] and reached only as `AtomicU64` words: written with
//! relaxed stores by the one owner (`&mut self`), read with relaxed loads by anyone who holds a
//! [`ShadowView`]. A view is a raw pointer, so making one is `unsafe`: it must not outlive the
//! table. Reads may be a moment old, which suits a hint.
#![allow(unsafe_code)]

use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::fs::MemfdFlags;
use rustix::mm::{Advice, MapFlags, ProtFlags};
use tracer_ebpf::{SEGMENT_SIZE, Session};

/// Bytes of the native view that one shadow byte describes.
pub const GRANULE: u64 = 16;

/// Accesses longer than this many bytes always count as suspicious, so that a look at the shadow
/// takes a bounded time. A snapshot of the stack is cheap beside such an access.
pub const LOOK_LIMIT: u64 = 64 << 10;

/// Flag of a shadow byte: native code may write.
pub(crate) const WRITABLE: u8 = 1;
/// Most live bytes that a shadow byte counts, from its granule's first on.
pub(crate) const REACH: u64 = 127;
/// Granules of which a shadow byte may count bytes of another granule.
const BACK: u64 = REACH / GRANULE;
/// Shadow bytes in one word of the table.
const PER_WORD: u64 = 8;
/// From this many table bytes on, dead ranges are given back to the system: below, taking the
/// pages again costs more than it saves.
const PUNCH_FROM: u64 = 1 << 20;

/// The call that a file size limit forbids.
pub(crate) const FILE_SIZE: &str = "ftruncate (the file size limit, `ulimit -f`, is too low)";

/// Why there is no shadow.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot map {len} bytes of shadow memory: {call} failed: {source}{}",
    crate::host::remedy::of_memory(call)
)]
pub struct ShadowError {
    /// Name of the system call.
    pub call: &'static str,
    /// Size of the table in bytes.
    pub len: u64,
    /// What the system said.
    pub source: rustix::io::Errno,
}

/// The table, and the only one that writes it. Unmapped when dropped.
#[derive(Debug)]
pub struct Shadow {
    view: ShadowView,
    len: u64,
}

/// Read access to the table from any thread, signal handler or forked process.
#[derive(Clone, Copy, Debug)]
pub struct ShadowView {
    session: Session,
    words: NonNull<AtomicU64>,
}

// SAFETY: the pointer is only used to load and store `AtomicU64` words, which any thread may do;
// that the table outlives the view is the promise of whoever made the view.
unsafe impl Send for ShadowView {}
// SAFETY: as above.
unsafe impl Sync for ShadowView {}

/// Bytes of the table for an arena: one for each granule of the native halves, which are half of
/// it.
pub(crate) fn table_size(session: Session) -> u64 {
    session.arena_len / 2 / GRANULE
}

impl Shadow {
    /// Maps the table for the arena that `session` describes. Nothing is live in it.
    ///
    /// # Errors
    ///
    /// The system call that failed.
    pub fn new(session: Session) -> Result<Shadow, ShadowError> {
        let len = table_size(session);
        let fail = |call| move |source| ShadowError { call, len, source };
        // A memory file rather than MAP_ANONYMOUS: it is shared with forked children as well,
        // and its size is not charged up front where overcommit is off. It may exceed the file
        // size limit, whose breach is a fatal signal, so that is asked first.
        let limit = rustix::process::getrlimit(rustix::process::Resource::Fsize).current;
        if limit.is_some_and(|limit| limit < len) {
            return Err(fail(FILE_SIZE)(rustix::io::Errno::FBIG));
        }
        let memfd = rustix::fs::memfd_create("ffitrace-shadow", MemfdFlags::CLOEXEC)
            .map_err(fail("memfd_create"))?;
        rustix::fs::ftruncate(&memfd, len).map_err(fail("ftruncate"))?;
        // SAFETY: a fresh mapping at an address of the kernel's choice replaces nothing.
        let at = unsafe {
            rustix::mm::mmap(
                ptr::null_mut(),
                len as usize,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::NORESERVE,
                &memfd,
                0,
            )
        }
        .map_err(fail("mmap"))?;
        let words = NonNull::new(at.cast()).ok_or(fail("mmap")(rustix::io::Errno::NOMEM))?;
        Ok(Shadow {
            view: ShadowView { session, words },
            len,
        })
    }

    /// A copyable reader for handlers and other threads.
    ///
    /// # Safety
    ///
    /// The view must not be used after this `Shadow` was dropped.
    pub unsafe fn view(&self) -> ShadowView {
        self.view
    }

    /// See [`ShadowView::suspicious`].
    pub fn suspicious(&self, addr: u64, len: u64, write: bool) -> bool {
        self.view.suspicious(addr, len, write)
    }

    /// Marks `[base, base + len)` as live; `mutable` says whether native code may write it.
    ///
    /// `base` is a multiple of [`GRANULE`], which the arena sees to; another one is rounded
    /// down. What lies outside the native view is ignored.
    pub fn set_live(&mut self, base: u64, len: u64, mutable: bool) {
        let flag = if mutable { WRITABLE } else { 0 };
        let base = base - base % GRANULE;
        self.end_before(base);
        // All but the last granules have more than a byte can count.
        let far = len.saturating_sub(REACH).div_ceil(GRANULE);
        self.fill(base, far, (REACH as u8) << 1 | flag);
        for granule in far..len.div_ceil(GRANULE) {
            let left = (len - granule * GRANULE).min(REACH) as u8;
            self.fill(base.wrapping_add(granule * GRANULE), 1, left << 1 | flag);
        }
    }

    /// Marks `[base, base + len)` as not live. Rounded as by [`set_live`](Self::set_live).
    pub fn set_dead(&mut self, base: u64, len: u64) {
        let base = base - base % GRANULE;
        self.end_before(base);
        self.fill(base, len.div_ceil(GRANULE), 0);
    }

    /// What is live before `base` counts no byte from there on.
    fn end_before(&mut self, base: u64) {
        for back in 1..=BACK {
            let granule = base.wrapping_sub(back * GRANULE);
            let Some(index) = self.view.index(granule) else {
                return;
            };
            let byte = self.view.byte(index);
            let most = (back * GRANULE) as u8;
            if byte >> 1 > most {
                self.fill(granule, 1, most << 1 | byte & WRITABLE);
            }
        }
    }

    /// Sets the shadow bytes of `count` granules from `addr` on, word by word.
    fn fill(&mut self, addr: u64, count: u64, value: u8) {
        let Some(first) = self.view.index(addr) else {
            return;
        };
        // An allocation never crosses its segment, so more than that is a caller's mistake.
        let segment = SEGMENT_SIZE / GRANULE;
        let end = first + count.min(segment - first % segment);
        let pattern = u64::from_ne_bytes([value; 8]);
        let (first_word, end_word) = (first.div_ceil(PER_WORD), end / PER_WORD);
        if first_word > end_word {
            return self.merge(end_word, first % PER_WORD..end % PER_WORD, pattern);
        }
        if !first.is_multiple_of(PER_WORD) {
            self.merge(first_word - 1, first % PER_WORD..PER_WORD, pattern);
        }
        if value == 0 && (end_word - first_word) * PER_WORD >= PUNCH_FROM {
            self.punch(first_word, end_word);
        } else {
            for word in first_word..end_word {
                self.view.word(word).store(pattern, Relaxed);
            }
        }
        if !end.is_multiple_of(PER_WORD) {
            self.merge(end_word, 0..end % PER_WORD, pattern);
        }
    }

    /// Replaces some bytes of one word. Only the owner writes, so load and store suffice.
    fn merge(&mut self, word: u64, bytes: std::ops::Range<u64>, pattern: u64) {
        if bytes.is_empty() {
            return;
        }
        let mask = (u64::MAX >> (64 - 8 * (bytes.end - bytes.start))) << (8 * bytes.start);
        let cell = self.view.word(word);
        cell.store(cell.load(Relaxed) & !mask | pattern & mask, Relaxed);
    }

    /// Zeroes the words, and gives their whole pages back to the system.
    fn punch(&mut self, first: u64, end: u64) {
        const WORDS_PER_PAGE: u64 = 4096 / 8;
        let first_page = first.next_multiple_of(WORDS_PER_PAGE);
        let end_page = end - end % WORDS_PER_PAGE;
        for word in (first..first_page).chain(end_page..end) {
            self.view.word(word).store(0, Relaxed);
        }
        let at = ptr::from_ref(self.view.word(first_page)).cast_mut().cast();
        // SAFETY: whole pages of our own shared, writable mapping; MADV_REMOVE makes them read
        // as zero, which is what is wanted, and readers go through atomics.
        let punched = unsafe {
            rustix::mm::madvise(
                at,
                ((end_page - first_page) * 8) as usize,
                Advice::LinuxRemove,
            )
        };
        if punched.is_err() {
            for word in first_page..end_page {
                self.view.word(word).store(0, Relaxed);
            }
        }
    }
}

impl Drop for Shadow {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `new`; whoever made views promised that they are
        // not used any more.
        let _ = unsafe { rustix::mm::munmap(self.view.words.as_ptr().cast(), self.len as usize) };
    }
}

impl ShadowView {
    /// Whether an access of `len` bytes at `addr` touches a byte that is not live, or writes a
    /// read-only one. Async-signal-safe, at most [`LOOK_LIMIT`]`/ 112` loads.
    ///
    /// Errs towards `true`: for more than [`LOOK_LIMIT`] bytes, and for what is not all in one
    /// segment of the native view.
    #[inline]
    pub fn suspicious(&self, addr: u64, len: u64, write: bool) -> bool {
        if len == 0 {
            return false;
        }
        if len > LOOK_LIMIT {
            return true;
        }
        let last = addr.wrapping_add(len - 1);
        let (Some(first), Some(last_index)) = (self.index(addr), self.index(last)) else {
            return true;
        };
        if last < addr || last_index < first || last_index - first > LOOK_LIMIT / GRANULE {
            return true;
        }
        let (mut at, mut left) = (addr, len);
        loop {
            let Some(index) = self.index(at) else {
                return true;
            };
            let byte = self.byte(index);
            let live = u64::from(byte >> 1).saturating_sub(at % GRANULE);
            if live == 0 || write && byte & WRITABLE == 0 {
                return true;
            }
            if live >= left {
                return false;
            }
            at += live;
            left -= live;
        }
    }

    /// What to add to an address of the native view, divided by [`GRANULE`], for the address of
    /// its shadow byte; for the segment pair of this number.
    pub(crate) fn bias(&self, pair: u64) -> u64 {
        let native = self.session.arena_base + pair * 2 * SEGMENT_SIZE;
        let byte = self.words.as_ptr() as u64 + pair * (SEGMENT_SIZE / GRANULE);
        byte.wrapping_sub(native / GRANULE)
    }

    /// Index of the shadow byte of `addr`, if it lies in the native view.
    #[inline]
    fn index(&self, addr: u64) -> Option<u64> {
        if !self.session.is_native(addr) {
            return None;
        }
        let offset = addr - self.session.arena_base;
        let (pair, within) = (offset / (2 * SEGMENT_SIZE), offset % SEGMENT_SIZE);
        Some((pair * SEGMENT_SIZE + within) / GRANULE)
    }

    /// One shadow byte.
    #[inline]
    fn byte(&self, index: u64) -> u8 {
        let word = self.word(index / PER_WORD).load(Relaxed);
        word.to_le_bytes()[(index % PER_WORD) as usize]
    }

    /// One word of the table.
    #[inline]
    fn word(&self, word: u64) -> &AtomicU64 {
        debug_assert!(word < self.session.arena_len / 2 / GRANULE / PER_WORD);
        // SAFETY: indices come from `index`, hence are below arena_len / 2 / GRANULE / PER_WORD,
        // the number of words mapped; the mapping is aligned to pages and lives as long as the
        // table, which views do not outlive.
        unsafe { self.words.add(word as usize).as_ref() }
    }
}

#[cfg(test)]
mod tests;
