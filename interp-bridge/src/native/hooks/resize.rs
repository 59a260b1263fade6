//! `realloc` and `reallocarray`.
//!
//! # Safety
//! As in [`super`].
#![allow(unsafe_code)]

use std::ffi::c_void;

use super::c::{adopt, allocate, allocate_c, caller, give_back, no_memory};
use crate::native::active::{Active, active, is_arena};
use crate::native::heap::MALLOC_ALIGN;
use crate::native::request::{Resized, Wanted};
use crate::native::{Function, real};

pub(super) unsafe extern "C" fn realloc_hook(
    block: *mut c_void,
    size: usize,
    site: u64,
) -> *mut c_void {
    // SAFETY: native code's promise, handed on.
    unsafe { resize(Function::Realloc, block, size, site) }
}

pub(super) unsafe extern "C" fn reallocarray_hook(
    block: *mut c_void,
    count: usize,
    size: usize,
    site: u64,
) -> *mut c_void {
    match count.checked_mul(size) {
        // SAFETY: native code's promise, handed on.
        Some(size) => unsafe { resize(Function::ReallocArray, block, size, site) },
        None => no_memory(),
    }
}

/// # Safety
/// As `realloc`; a block that is none is told and refused.
unsafe fn resize(function: Function, block: *mut c_void, size: usize, site: u64) -> *mut c_void {
    if block.is_null() {
        return allocate_c(function, size, MALLOC_ALIGN as usize, false, site);
    }
    let Some(active) = active() else {
        if is_arena(block as u64) {
            // Whoever has the arena is not here.
            return no_memory();
        }
        // SAFETY: native code's promise.
        return unsafe { real::realloc(block as u64, size) };
    };
    if size == 0 {
        // As glibc has it: the block is given back.
        // SAFETY: native code's promise, handed on.
        unsafe { give_back(function, block, [0; 2], None, None, site) };
        return std::ptr::null_mut();
    }
    let resized = active.with(|heap, memory| {
        let wanted = Wanted {
            size: size as u64,
            align: MALLOC_ALIGN,
            zeroed: false,
            caller: caller(function, site),
        };
        heap.resize(memory, block as u64, &wanted)
    });
    match resized {
        Some(Resized::At(address)) => address as *mut c_void,
        // SAFETY: a block that lives, of `len` bytes.
        Some(Resized::Move { len, from_real }) => unsafe {
            move_block(active, function, block, len as usize, from_real, size, site)
        },
        Some(Resized::Foreign) => {
            // SAFETY: a block that libc made, as far as anyone can tell.
            let moved = unsafe { real::realloc(block as u64, size) };
            adopt(active, function, moved, size, MALLOC_ALIGN as usize, site);
            moved
        }
        Some(Resized::Refused | Resized::Failed) => no_memory(),
        None if is_arena(block as u64) => no_memory(),
        // SAFETY: native code's promise.
        None => unsafe { real::realloc(block as u64, size) },
    }
}

/// Moves a block to or from the real heap, or inside it: always to another place, so that
/// pointers to the old one can be told.
///
/// # Safety
/// The block must be live and have `len` bytes.
unsafe fn move_block(
    active: &Active,
    function: Function,
    block: *mut c_void,
    len: usize,
    from_real: bool,
    size: usize,
    site: u64,
) -> *mut c_void {
    let moved = if from_real {
        allocate(function, size, MALLOC_ALIGN as usize, false, site)
    } else {
        // There was no room in the arena.
        let moved = real::allocate(size, MALLOC_ALIGN as usize, false);
        adopt(active, function, moved, size, MALLOC_ALIGN as usize, site);
        moved
    };
    if moved.is_null() {
        return no_memory();
    }
    // SAFETY: both are live and have so many bytes.
    unsafe {
        libc::memcpy(moved, block, len.min(size));
        give_back(function, block, [0; 2], None, None, site);
    }
    moved
}
