//! Native work with a known number of accesses to arena memory.
//!
//! The loops are compiled code of this program, seen by the recorders like any library's. Each
//! access is volatile, so the compiler neither merges nor drops one.
//!
//! # Safety
//! Each function follows the pointers of the [`Work`] it is given, which its maker filled with
//! addresses of live allocations that are large enough. They own nothing, so a call may be left
//! anywhere.
#![allow(unsafe_code)]

pub mod mix;
pub mod threads;
pub mod walk;

use std::ffi::c_void;

/// What a piece of work is done on.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Work {
    /// Source buffer.
    pub from: *const u8,
    /// Target buffer.
    pub to: *mut u8,
    /// Memory that is not in the arena, as long as the buffers; null where it is not needed.
    pub own: *mut u8,
    /// Length of each buffer in bytes, a multiple of 64 where the work does not say otherwise.
    pub len: usize,
    /// How many items to do.
    pub items: u64,
    /// Where results go, so that nothing is optimised away.
    pub result: u64,
}

/// A piece of native work.
pub type WorkFn = unsafe extern "C" fn(*mut c_void);

/// Sums 4-byte items: one read each.
///
/// # Safety
/// `data` is a `Work` whose `from` is readable.
pub unsafe extern "C" fn scalar_loop(data: *mut c_void) {
    // SAFETY: by the caller's promise; indices stay below `len / 4`.
    unsafe {
        let work = &mut *data.cast::<Work>();
        let from = work.from.cast::<u32>();
        let items = work.len / 4;
        let mut sum = 0u64;
        let mut index = 0;
        for _ in 0..work.items {
            sum = sum.wrapping_add(u64::from(from.add(index).read_volatile()));
            index += 1;
            if index == items {
                index = 0;
            }
        }
        work.result = sum;
    }
}

/// Copies bytes one by one: a read and a write each.
///
/// # Safety
/// `data` is a `Work` whose `from` is readable and `to` writable.
pub unsafe extern "C" fn byte_copy(data: *mut c_void) {
    // SAFETY: by the caller's promise; indices stay below `len`.
    unsafe {
        let work = &mut *data.cast::<Work>();
        let mut index = 0;
        for _ in 0..work.items {
            work.to
                .add(index)
                .write_volatile(work.from.add(index).read_volatile());
            index += 1;
            if index == work.len {
                index = 0;
            }
        }
    }
}

/// Adds to one 8-byte item with a locked instruction: a read and a write each.
///
/// # Safety
/// `data` is a `Work` whose `to` is writable and 8-aligned.
pub unsafe extern "C" fn atomic_add(data: *mut c_void) {
    // SAFETY: by the caller's promise.
    unsafe {
        let work = &mut *data.cast::<Work>();
        let counter = std::sync::atomic::AtomicU64::from_ptr(work.to.cast());
        for _ in 0..work.items {
            counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    }
}

/// Reads one byte: the smallest call.
///
/// # Safety
/// `data` is a `Work` whose `from` is readable.
pub unsafe extern "C" fn one_read(data: *mut c_void) {
    // SAFETY: by the caller's promise.
    unsafe {
        let work = &mut *data.cast::<Work>();
        work.result = u64::from(work.from.read_volatile());
    }
}
