//! Work on memory that is not in the arena, alone or between accesses to it, and `memcpy`.
//!
//! # Safety
//! As in [`work`](super): each function follows the pointers of the [`Work`] that it is given.
#![allow(unsafe_code)]

use std::ffi::c_void;

use super::Work;

/// Sums 4-byte items of memory of its own: one read each, none of the arena.
///
/// # Safety
/// `data` is a `Work` whose `own` is readable.
pub unsafe extern "C" fn own_loop(data: *mut c_void) {
    // SAFETY: by the caller's promise; indices stay below `len / 4`.
    unsafe {
        let work = &mut *data.cast::<Work>();
        let own = work.own.cast::<u32>();
        let items = work.len / 4;
        let mut sum = 0u64;
        let mut index = 0;
        for _ in 0..work.items {
            sum = sum.wrapping_add(u64::from(own.add(index).read_volatile()));
            index += 1;
            if index == items {
                index = 0;
            }
        }
        work.result = sum;
    }
}

/// Reads a 4-byte item of the arena, and then `N - 1` of memory of its own.
///
/// # Safety
/// `data` is a `Work` whose `from` and `own` are readable, with at least `4 * N` bytes.
pub unsafe extern "C" fn every<const N: usize>(data: *mut c_void) {
    // SAFETY: by the caller's promise; indices stay below `len / 4`, and below `N`.
    unsafe {
        let work = &mut *data.cast::<Work>();
        let (from, own) = (work.from.cast::<u32>(), work.own.cast::<u32>());
        let items = work.len / 4;
        let mut sum = 0u64;
        let mut index = 0;
        for _ in 0..work.items {
            sum = sum.wrapping_add(u64::from(from.add(index).read_volatile()));
            for own_index in 1..N {
                sum = sum.wrapping_add(u64::from(own.add(own_index).read_volatile()));
            }
            index += 1;
            if index == items {
                index = 0;
            }
        }
        work.result = sum;
    }
}

/// Writes 8 bytes at each of the addresses that its own memory lists, round and round.
///
/// # Safety
/// `data` is a `Work` whose `own` has `len / 8` addresses that may be written.
pub unsafe extern "C" fn write_all_over(data: *mut c_void) {
    // SAFETY: by the caller's promise; indices stay below `len / 8`.
    unsafe {
        let work = &mut *data.cast::<Work>();
        let places = work.own.cast::<*mut u64>();
        let count = work.len / 8;
        let mut index = 0;
        for item in 0..work.items {
            places.add(index).read().write_volatile(item);
            index += 1;
            if index == count {
                index = 0;
            }
        }
    }
}

/// Copies the whole buffer with the C library's `memcpy`, whatever `len` is.
///
/// # Safety
/// `data` is a `Work` whose `from` is readable and `to` writable.
pub unsafe extern "C" fn copies(data: *mut c_void) {
    type Copy = unsafe extern "C" fn(*mut c_void, *const c_void, usize) -> *mut c_void;
    // The compiler knows what `memcpy` does, and would make one of many.
    let copy = std::hint::black_box(libc::memcpy as Copy);
    // SAFETY: by the caller's promise.
    unsafe {
        let work = &mut *data.cast::<Work>();
        for _ in 0..work.items {
            copy(work.to.cast(), work.from.cast(), work.len);
        }
    }
}
