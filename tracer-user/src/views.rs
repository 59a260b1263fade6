//! The two views of the arena: the same memory mapped twice, at a constant distance.
//!
//! ```text
//!  base                 +1 GiB               +2 GiB               +3 GiB
//!   │ native view 0      │ host view 0        │ native view 1      │ host view 1        │ …
//!   │ PROT_NONE          │ read and write     │ PROT_NONE          │ read and write     │
//!   └──────── memfd 0 ───┴──── memfd 0 ───────┴──── memfd 1 ───────┴──── memfd 1 ───────┘
//! ```
//!
//! Native code gets addresses of the native view, so each of its accesses faults and is
//! recorded. The interpreter works on the host view, which is [`DELTA`] bytes higher, and on
//! which the resumed instruction works too. The whole address range is reserved at once, so that
//! "is this arena memory" is one comparison in the kernel and in the signal handler; pairs of
//! segments are mapped into it as they are needed. No descriptor stays open: native code that
//! closes all of them cannot hurt.
//!
//! # Safety
//!
//! The module owns one reservation of address space and maps only inside it, so no mapping of
//! anyone else is ever replaced. Native threads may change the memory at any moment, hence no
//! Rust reference to it is ever made: it is read and written by raw copies whose bounds were
//! checked against the mapped segments. A copy that runs while native code writes the same bytes
//! sees old or new bytes, as any two processes on shared memory do. Reading takes `&self` and
//! writing `&mut self`, so Rust code cannot race with itself through this type.
#![allow(unsafe_code)]

use std::ptr;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{Advice, MapFlags, ProtFlags};
use rustix::process::Resource;
use tracer_ebpf::{DELTA, SEGMENT_SIZE, Session};

use crate::host::remedy;

/// How many segment pairs are reserved where nothing forbids it: 128 GiB of address space.
pub const MAX_PAIRS: u64 = 64;

/// Size in bytes of one pair: native half and host half.
pub const PAIR_SIZE: u64 = 2 * SEGMENT_SIZE;

/// Smallest unit that [`Views::discard`] gives back to the system, in bytes.
pub const PAGE_SIZE: u64 = 4096;

/// Why the views cannot be made, grown or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ViewsError {
    /// Not even one pair of segments fits the process's address space.
    #[error(
        "cannot reserve {} GiB of address space for the arena: {source}; {limit}",
        bytes >> 30
    )]
    Reserve {
        /// Bytes that were asked for last.
        bytes: u64,
        /// Which limit is in the way, and how to lift it.
        limit: String,
        /// What the system said.
        source: rustix::io::Errno,
    },
    /// All reserved segments are in use.
    #[error(
        "the arena is full: all {0} reserved segments of 1 GiB are in use; free allocations, or \
         raise the address space limit (`ulimit -v`) if it is set"
    )]
    Exhausted(usize),
    /// A file size limit forbids the memory file behind a segment.
    #[error(
        "the file size limit (`ulimit -f`, {bytes} bytes) is below the 1 GiB of an arena segment: \
         {}",
        remedy::FILE_SIZE,
        bytes = .0
    )]
    FileSizeLimit(u64),
    /// A system call on a segment failed.
    #[error(
        "{call} of arena segment {segment} failed: {source}{}",
        remedy::of_memory(call)
    )]
    Segment {
        /// Name of the system call.
        call: &'static str,
        /// Index of the segment pair.
        segment: usize,
        /// What the system said.
        source: rustix::io::Errno,
    },
    /// A range does not lie in one mapped segment of the native view.
    #[error("{len} bytes at {addr:#x} are not inside one mapped segment of the native view")]
    OutOfRange {
        /// First address asked for.
        addr: u64,
        /// Length asked for, in bytes.
        len: u64,
    },
}

/// The reserved address range and the segments mapped in it. Unmaps everything when dropped, so
/// the owner drops it only when no native code can run any more.
#[derive(Debug)]
pub struct Views {
    base: u64,
    pairs: u64,
    segments: usize,
}

impl Views {
    /// Reserves address space for [`MAX_PAIRS`] segment pairs, or fewer where a limit is in the
    /// way, and maps none of them yet.
    ///
    /// Where the address space of the process is limited, at most half of the limit is taken, so
    /// that the program itself still has room.
    ///
    /// # Errors
    ///
    /// [`ViewsError::Reserve`] names the limit if not even one pair fits.
    pub fn new() -> Result<Views, ViewsError> {
        let limit = rustix::process::getrlimit(Resource::As).current;
        let mut pairs = match limit {
            Some(bytes) => (bytes / 2 / PAIR_SIZE).clamp(1, MAX_PAIRS),
            None => MAX_PAIRS,
        };
        loop {
            match reserve(pairs * PAIR_SIZE) {
                Ok(base) => {
                    return Ok(Views {
                        base,
                        pairs,
                        segments: 0,
                    });
                }
                Err(_) if pairs > 1 => pairs /= 2,
                Err(source) => {
                    let limit = explain_limit(limit);
                    return Err(ViewsError::Reserve {
                        bytes: PAIR_SIZE,
                        limit,
                        source,
                    });
                }
            }
        }
    }

    /// Base and length of the reserved range, for the recorders.
    pub fn session(&self) -> Session {
        Session {
            arena_base: self.base,
            arena_len: self.pairs * PAIR_SIZE,
        }
    }

    /// Maps the next segment pair and returns the first address of its native half. Its bytes
    /// are zero.
    ///
    /// # Errors
    ///
    /// [`ViewsError::Exhausted`] when every reserved pair is mapped; otherwise the system call
    /// that failed.
    pub fn add_segment(&mut self) -> Result<u64, ViewsError> {
        let segment = self.segments;
        if segment as u64 == self.pairs {
            return Err(ViewsError::Exhausted(segment));
        }
        // Growing a file past this limit is not just an error but a fatal SIGXFSZ.
        match rustix::process::getrlimit(Resource::Fsize).current {
            Some(limit) if limit < SEGMENT_SIZE => return Err(ViewsError::FileSizeLimit(limit)),
            _ => {}
        }
        let fail = |call| {
            move |source| ViewsError::Segment {
                call,
                segment,
                source,
            }
        };
        let memfd = rustix::fs::memfd_create(
            "ffitrace-arena",
            MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
        )
        .map_err(fail("memfd_create"))?;
        rustix::fs::ftruncate(&memfd, SEGMENT_SIZE).map_err(fail("ftruncate"))?;
        // A file that shrank would turn accesses of the host view into SIGBUS.
        rustix::fs::fcntl_add_seals(&memfd, SealFlags::SHRINK | SealFlags::SEAL)
            .map_err(fail("fcntl(F_ADD_SEALS)"))?;

        let native = self.base + segment as u64 * PAIR_SIZE;
        let halves = [
            (native, ProtFlags::empty()),
            (native + DELTA, ProtFlags::READ | ProtFlags::WRITE),
        ];
        for (addr, protection) in halves {
            let at = ptr::with_exposed_provenance_mut(addr as usize);
            // SAFETY: `[addr, addr + SEGMENT_SIZE)` lies in the reservation that this type owns
            // (segment < pairs), and this pair is not handed out before this function returns,
            // so MAP_FIXED replaces only our own PROT_NONE reservation.
            unsafe {
                rustix::mm::mmap(
                    at,
                    SEGMENT_SIZE as usize,
                    protection,
                    MapFlags::SHARED | MapFlags::FIXED | MapFlags::NORESERVE,
                    &memfd,
                    0,
                )
            }
            .map_err(fail("mmap"))?;
            // A forked child must not write into the interpreter's memory unseen.
            // SAFETY: the range was mapped just above; DONTFORK does not change this process.
            unsafe { rustix::mm::madvise(at, SEGMENT_SIZE as usize, Advice::LinuxDontFork) }
                .map_err(fail("madvise(MADV_DONTFORK)"))?;
        }
        self.segments += 1;
        Ok(native)
    }

    /// How many segment pairs are mapped.
    pub fn segments(&self) -> usize {
        self.segments
    }

    /// Whether all of `[addr, addr + len)` lies in one mapped segment of the native view.
    pub fn contains(&self, addr: u64, len: u64) -> bool {
        let offset = addr.wrapping_sub(self.base);
        let within = offset % PAIR_SIZE;
        offset / PAIR_SIZE < self.segments as u64
            && within <= SEGMENT_SIZE
            && len <= SEGMENT_SIZE - within
    }

    /// The same byte in the host view. Only meaningful for addresses of mapped segments.
    pub fn host(&self, native: u64) -> *mut u8 {
        ptr::with_exposed_provenance_mut(native.wrapping_add(DELTA) as usize)
    }

    /// Copies bytes out of the arena, from the native address `native`.
    ///
    /// # Errors
    ///
    /// [`ViewsError::OutOfRange`], and nothing is copied.
    pub fn read(&self, native: u64, into: &mut [u8]) -> Result<(), ViewsError> {
        self.check(native, into.len() as u64)?;
        // SAFETY: the source range was checked to lie in a mapped, readable host segment, and
        // `into` is memory that Rust owns, so it cannot overlap the arena.
        unsafe { ptr::copy_nonoverlapping(self.host(native), into.as_mut_ptr(), into.len()) };
        Ok(())
    }

    /// Copies bytes into the arena, to the native address `native`.
    ///
    /// # Errors
    ///
    /// [`ViewsError::OutOfRange`], and nothing is copied.
    pub fn write(&mut self, native: u64, from: &[u8]) -> Result<(), ViewsError> {
        self.check(native, from.len() as u64)?;
        // SAFETY: the destination was checked to lie in a mapped, writable host segment, and no
        // Rust reference to arena memory exists that `from` could be.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), self.host(native), from.len()) };
        Ok(())
    }

    /// Sets `len` bytes to zero, touching every one of them. See [`discard`](Self::discard) for
    /// long ranges.
    ///
    /// # Errors
    ///
    /// [`ViewsError::OutOfRange`], and nothing is changed.
    pub fn zero(&mut self, native: u64, len: u64) -> Result<(), ViewsError> {
        self.check(native, len)?;
        // SAFETY: the range was checked to lie in a mapped, writable host segment.
        unsafe { ptr::write_bytes(self.host(native), 0, len as usize) };
        Ok(())
    }

    /// Sets `len` bytes to zero and gives their whole pages back to the system, so that memory
    /// nobody touches costs nothing.
    ///
    /// # Errors
    ///
    /// [`ViewsError::OutOfRange`], and nothing is changed.
    pub fn discard(&mut self, native: u64, len: u64) -> Result<(), ViewsError> {
        self.check(native, len)?;
        let end = native + len;
        let first = native.next_multiple_of(PAGE_SIZE);
        let last = end - end % PAGE_SIZE;
        if first >= last {
            return self.zero(native, len);
        }
        self.zero(native, first - native)?;
        self.zero(last, end - last)?;
        let at = self.host(first).cast();
        // SAFETY: whole pages of a mapped, shared, writable host segment, inside the checked
        // range. MADV_REMOVE punches a hole into the memory file; the bytes read as zero in both
        // views afterwards, which is what this function promises.
        let punched =
            unsafe { rustix::mm::madvise(at, (last - first) as usize, Advice::LinuxRemove) };
        match punched {
            Ok(()) => Ok(()),
            // Locked memory (mlockall) cannot be punched; the promise is still zero bytes.
            Err(_) => self.zero(first, last - first),
        }
    }

    fn check(&self, addr: u64, len: u64) -> Result<(), ViewsError> {
        if self.contains(addr, len) {
            Ok(())
        } else {
            Err(ViewsError::OutOfRange { addr, len })
        }
    }
}

impl Drop for Views {
    fn drop(&mut self) {
        let base = ptr::with_exposed_provenance_mut(self.base as usize);
        // SAFETY: exactly the range that `reserve` mapped for this value; no Rust reference into
        // it exists. The result is of no use here: unmapping a range one owns cannot fail but
        // for kernel memory, and then the range merely stays reserved.
        let _ = unsafe { rustix::mm::munmap(base, (self.pairs * PAIR_SIZE) as usize) };
    }
}

/// Reserves `len` bytes of address space aligned to [`PAIR_SIZE`] and returns the first address.
fn reserve(len: u64) -> Result<u64, rustix::io::Errno> {
    if let Some(base) = reserve_apart(len) {
        return Ok(base);
    }
    let padded = (len + PAIR_SIZE) as usize;
    // SAFETY: a fresh mapping at an address of the kernel's choice replaces nothing.
    let start = unsafe {
        rustix::mm::mmap_anonymous(
            ptr::null_mut(),
            padded,
            ProtFlags::empty(),
            MapFlags::PRIVATE | MapFlags::NORESERVE,
        )
    }?
    .expose_provenance() as u64;
    let base = start.next_multiple_of(PAIR_SIZE);
    let unmap = |from: u64, to: u64| {
        if from < to {
            let at = ptr::with_exposed_provenance_mut(from as usize);
            // SAFETY: part of the mapping just made, outside what is returned. If it fails the
            // padding stays reserved, which costs address space only.
            let _ = unsafe { rustix::mm::munmap(at, (to - from) as usize) };
        }
    };
    unmap(start, base);
    unmap(base + len, start + padded as u64);
    Ok(base)
}

/// Addresses that no program, library, heap or stack is given by the kernel, and no usual tool
/// reserves: where arenas lie together, the programs in the kernel tell the page faults of all else
/// by two comparisons.
pub(crate) const APART: std::ops::Range<u64> = 0x2000_0000_0000..0x3000_0000_0000;

/// Reserves address space there, at an address that cannot be guessed; none if it is taken.
fn reserve_apart(len: u64) -> Option<u64> {
    use std::hash::{BuildHasher as _, Hasher as _, RandomState};
    let random = RandomState::new().build_hasher().finish();
    let places = (APART.end - APART.start - len) / PAIR_SIZE;
    let wanted = APART.start + random % places * PAIR_SIZE;
    // SAFETY: a mapping that replaces nothing.
    let mapped = unsafe {
        rustix::mm::mmap_anonymous(
            ptr::with_exposed_provenance_mut(wanted as usize),
            len as usize,
            ProtFlags::empty(),
            MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED_NOREPLACE,
        )
    }
    .ok()?
    .expose_provenance() as u64;
    if mapped == wanted {
        return Some(mapped);
    }
    // A kernel before 4.17 takes the address for a hint.
    // SAFETY: the mapping just made.
    let _ = unsafe {
        rustix::mm::munmap(
            ptr::with_exposed_provenance_mut(mapped as usize),
            len as usize,
        )
    };
    None
}

fn explain_limit(address_space: Option<u64>) -> String {
    match address_space {
        Some(limit) => format!(
            "the address space limit (`ulimit -v`) is {} MiB: raise it to at least {} MiB, or \
             remove it with `ulimit -v unlimited`",
            limit >> 20,
            (PAIR_SIZE * 3) >> 20
        ),
        None => "no address space limit (`ulimit -v`) is set: look at vm.overcommit_memory, \
                 vm.max_map_count and the memory limits of the container"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests;
