//! An owned memory mapping.
//!
//! # Safety
//! `Mapping` is the only owner of its range: it is created by `mmap`, never aliased by another
//! owner, and unmapped once, on drop. The memory is reached through raw pointers only, because
//! signal handlers, native threads and a forked supervisor may change it at any time.
#![allow(unsafe_code)]

use std::{io, ptr::NonNull};

/// A page-aligned range of memory that is unmapped on drop.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is only an address range; what lives in it is guarded by its users.
unsafe impl Send for Mapping {}
// SAFETY: as above, no method gives access to the memory but by raw pointer.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Zeroed read-write memory of `len` bytes (rounded up to pages), shared with children of
    /// `fork` and committed only as it is touched.
    ///
    /// # Errors
    /// What `mmap(2)` says, usually `ENOMEM`.
    pub fn shared(len: usize) -> io::Result<Mapping> {
        Self::map(
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
        )
    }

    /// Zeroed read-write memory of `len` bytes (rounded up to pages), of which children of `fork`
    /// get a copy, committed only as it is touched.
    ///
    /// # Errors
    /// What `mmap(2)` says, usually `ENOMEM`.
    pub fn private(len: usize) -> io::Result<Mapping> {
        Self::map(
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
        )
    }

    /// Address space of `len` bytes (rounded up to pages) that is not accessible yet.
    ///
    /// # Errors
    /// What `mmap(2)` says, usually `ENOMEM`.
    pub fn reserved(len: usize) -> io::Result<Mapping> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        Self::map(len, libc::PROT_NONE, flags, -1)
    }

    /// A stack of `len` bytes with an inaccessible page below it.
    ///
    /// # Errors
    /// What `mmap(2)` or `mprotect(2)` says.
    pub fn stack(len: usize) -> io::Result<Mapping> {
        let page = page_size();
        let mapping = Self::map(
            len + page,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK,
            -1,
        )?;
        // SAFETY: the first page belongs to the mapping just made, which nothing uses yet.
        if unsafe { libc::mprotect(mapping.base.as_ptr().cast(), page, libc::PROT_NONE) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(mapping)
    }

    /// Maps `len` bytes of the file `fd` from its start, shared, with protection `prot`.
    ///
    /// # Errors
    /// What `mmap(2)` says.
    pub fn file(fd: std::os::fd::BorrowedFd<'_>, len: usize, prot: i32) -> io::Result<Mapping> {
        use std::os::fd::AsRawFd;
        Self::map(len, prot, libc::MAP_SHARED, fd.as_raw_fd())
    }

    /// As [`file`](Self::file), at address `at`, where nothing may be mapped.
    ///
    /// # Errors
    /// What `mmap(2)` says; `EEXIST` where something is there.
    pub fn file_at(
        fd: std::os::fd::BorrowedFd<'_>,
        at: u64,
        len: usize,
        prot: i32,
    ) -> io::Result<Mapping> {
        use std::os::fd::AsRawFd;
        let flags = libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE;
        Self::map_at(at, len, prot, flags, fd.as_raw_fd())
    }

    fn map(len: usize, prot: i32, flags: i32, fd: i32) -> io::Result<Mapping> {
        Self::map_at(0, len, prot, flags, fd)
    }

    fn map_at(at: u64, len: usize, prot: i32, flags: i32, fd: i32) -> io::Result<Mapping> {
        let len = len.next_multiple_of(page_size());
        // SAFETY: the address is a wish, or nothing may be there, so no mapping is replaced.
        let base = unsafe {
            libc::mmap(
                at as *mut libc::c_void,
                len,
                prot,
                flags | libc::MAP_NORESERVE,
                fd,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::Error::from_raw_os_error(libc::ENOMEM))?;
        Ok(Mapping { base, len })
    }

    /// First byte.
    pub fn as_ptr(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// First address.
    pub fn addr(&self) -> u64 {
        self.base.as_ptr() as u64
    }

    /// Length in bytes, a multiple of the page size.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never true: an empty mapping cannot be made.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `map` and is unmapped only here.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// Size of a page in bytes.
pub fn page_size() -> usize {
    rustix::param::page_size()
}
