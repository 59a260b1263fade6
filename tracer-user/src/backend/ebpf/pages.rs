//! Pages of a BPF map, mapped into this process.
//!
//! # Safety
//!
//! A handler that cannot be told may still look at pages that were lent when the recorder goes. So those
//! are never unmapped: anonymous pages with the same rights take their place, in one step, which also
//! releases the map. Others are unmapped, and their owner has handed out nothing that refers to them.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::os::fd::BorrowedFd;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::mm::{MapFlags, ProtFlags};

/// Owns a mapping.
#[derive(Debug)]
pub(super) struct Pages {
    at: *mut c_void,
    /// Length in bytes.
    len: usize,
    rights: ProtFlags,
    lent: AtomicBool,
}

// SAFETY: a mapping belongs to the process and to no thread; what is in it is looked at by the owner.
unsafe impl Send for Pages {}

impl Pages {
    /// Maps `len` bytes from `offset` on of what `map` shows, both whole pages.
    ///
    /// # Errors
    /// What `mmap(2)` says: among others that there are not as many.
    pub(super) fn map(
        map: BorrowedFd<'_>,
        offset: usize,
        len: usize,
        rights: ProtFlags,
    ) -> std::io::Result<Pages> {
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let at = unsafe {
            rustix::mm::mmap(
                ptr::null_mut(),
                len,
                rights,
                MapFlags::SHARED,
                map,
                offset as u64,
            )
        }?;
        Ok(Pages {
            at,
            len,
            rights,
            lent: AtomicBool::new(false),
        })
    }

    /// The first byte, for the owner.
    pub(super) fn address(&self) -> *mut c_void {
        self.at
    }

    /// The first byte, for whoever wants it: there are pages for good.
    pub(super) fn lend(&self) -> *mut c_void {
        self.lent.store(true, Ordering::Relaxed);
        self.at
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        let flags = MapFlags::PRIVATE | MapFlags::FIXED;
        // SAFETY: the pages that `map` made. Should replacing them fail the old ones stay, which is as
        // good.
        let _ = unsafe {
            if *self.lent.get_mut() {
                rustix::mm::mmap_anonymous(self.at, self.len, self.rights, flags).map(drop)
            } else {
                rustix::mm::munmap(self.at, self.len)
            }
        };
    }
}
