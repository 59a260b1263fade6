//! The list of processes that share the traced one's memory, mapped from its BPF map.
//!
//! # Safety
//!
//! A handler that cannot be told may still write to the list when the recorder goes. So the page is
//! never unmapped: an anonymous one takes its place, which nobody reads.
#![allow(unsafe_code)]

use std::os::fd::AsFd as _;
use std::ptr;

use aya::maps::MapData;
use rustix::mm::{MapFlags, ProtFlags};
use tracer_ebpf::Guests;

/// Size of a page in bytes; the map is shorter.
const PAGE: usize = 4096;

/// Owns the mapping of the list.
#[derive(Debug)]
pub(super) struct GuestPage {
    list: *mut Guests,
    /// Programs that are loaded later refer to it by its descriptor.
    _map: MapData,
}

// SAFETY: the page is shared memory of this process and the kernel, and belongs to no thread.
unsafe impl Send for GuestPage {}

impl GuestPage {
    /// Maps the array map `map`, made to be mapped, whose one element is the list.
    pub(super) fn map(map: MapData) -> std::io::Result<GuestPage> {
        let descriptor = map.fd().as_fd();
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let list = unsafe {
            rustix::mm::mmap(
                ptr::null_mut(),
                PAGE,
                rights,
                MapFlags::SHARED,
                descriptor,
                0,
            )
        }?;
        Ok(GuestPage {
            list: list.cast(),
            _map: map,
        })
    }

    pub(super) fn list(&self) -> *mut Guests {
        self.list
    }
}

impl Drop for GuestPage {
    fn drop(&mut self) {
        let flags = MapFlags::PRIVATE | MapFlags::FIXED;
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: replaces the page that `map` made, in one step. Should that fail the old one
        // stays, which is as good.
        let _ = unsafe { rustix::mm::mmap_anonymous(self.list.cast(), PAGE, rights, flags) };
    }
}
