//! Maps that the traced process writes and the programs read, mapped into it.
//!
//! # Safety
//!
//! A handler that cannot be told may still write to the map when the recorder goes. So its pages
//! are never unmapped: anonymous ones take their place, which nobody reads.
#![allow(unsafe_code)]

use std::os::fd::AsFd as _;
use std::ptr;

use aya::maps::MapData;
use rustix::mm::{MapFlags, ProtFlags};

/// Size of a page in bytes; a map's last one is filled up.
const PAGE: usize = 4096;

/// Owns the mapping of an array map, all of whose elements together are a `T`.
#[derive(Debug)]
pub(super) struct LentMap<T> {
    value: *mut T,
    /// Programs that are loaded later refer to it by its descriptor.
    _map: MapData,
}

// SAFETY: the pages are shared memory of this process and the kernel, and belong to no thread.
unsafe impl<T> Send for LentMap<T> {}

impl<T> LentMap<T> {
    /// Length of the mapping in bytes.
    const LEN: usize = size_of::<T>().next_multiple_of(PAGE);

    /// Maps the array map `map`, made to be mapped.
    pub(super) fn map(map: MapData) -> std::io::Result<LentMap<T>> {
        let descriptor = map.fd().as_fd();
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let value = unsafe {
            rustix::mm::mmap(
                ptr::null_mut(),
                Self::LEN,
                rights,
                MapFlags::SHARED,
                descriptor,
                0,
            )
        }?;
        Ok(LentMap {
            value: value.cast(),
            _map: map,
        })
    }

    /// The elements, which stay mapped for good. Only atomic words of them may be looked at.
    pub(super) fn value(&self) -> *mut T {
        self.value
    }
}

impl<T> Drop for LentMap<T> {
    fn drop(&mut self) {
        let flags = MapFlags::PRIVATE | MapFlags::FIXED;
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: replaces the pages that `map` made, in one step. Should that fail the old ones
        // stay, which is as good.
        let _ = unsafe { rustix::mm::mmap_anonymous(self.value.cast(), Self::LEN, rights, flags) };
    }
}
