//! `mmap` and `munmap`: native code's calls, made for it and taken down.
//!
//! # Safety
//! As in [`super`].
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};

use super::c::caller;
use crate::native::Function;
use crate::native::active::active;

pub(super) unsafe extern "C" fn mmap_hook(
    addr: *mut c_void,
    len: usize,
    rights: c_int,
    flags: c_int,
    fd: c_int,
    offset: i64,
    site: u64,
) -> *mut c_void {
    // SAFETY: native code's call, made for it.
    let at = unsafe { libc::mmap(addr, len, rights, flags, fd, offset) };
    if at != libc::MAP_FAILED
        && let Some(active) = active()
    {
        let writable = rights & libc::PROT_WRITE != 0;
        active.with(|heap, memory| {
            let by = caller(Function::Mmap, site);
            heap.mapped(memory, at as u64, len as u64, writable, by);
        });
    }
    at
}

pub(super) unsafe extern "C" fn munmap_hook(addr: *mut c_void, len: usize, _site: u64) -> c_int {
    // SAFETY: native code's call, made for it.
    let status = unsafe { libc::munmap(addr, len) };
    if status == 0
        && let Some(active) = active()
    {
        active.with(|heap, memory| heap.unmapped(memory, addr as u64, len as u64));
    }
    status
}
