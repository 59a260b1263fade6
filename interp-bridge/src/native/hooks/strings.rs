//! `strdup` and `strndup`: what they read and write is native code's, and recorded as such.
//!
//! # Safety
//! As in [`super`].
#![allow(unsafe_code)]

use std::ffi::{c_char, c_void};

use super::c::allocate_c;
use crate::native::Function;
use crate::native::heap::MALLOC_ALIGN;

pub(super) unsafe extern "C" fn strdup_hook(text: *const c_char, site: u64) -> *mut c_void {
    // SAFETY: native code's string.
    let len = unsafe { libc::strlen(text) };
    // SAFETY: so many bytes were read just now.
    unsafe { duplicate(Function::Strdup, text, len, site) }
}

pub(super) unsafe extern "C" fn strndup_hook(
    text: *const c_char,
    most: usize,
    site: u64,
) -> *mut c_void {
    // SAFETY: native code's string, or bytes.
    let len = unsafe { libc::strnlen(text, most) };
    // SAFETY: so many bytes were read just now.
    unsafe { duplicate(Function::Strndup, text, len, site) }
}

/// # Safety
/// `len` bytes at `text` must be readable.
unsafe fn duplicate(function: Function, text: *const c_char, len: usize, site: u64) -> *mut c_void {
    let block = allocate_c(function, len + 1, MALLOC_ALIGN as usize, false, site);
    if !block.is_null() {
        // SAFETY: the block is one byte longer; native code's accesses, in the arena too.
        unsafe {
            libc::memcpy(block, text.cast(), len);
            block.cast::<u8>().add(len).write_volatile(0);
        }
    }
    block
}
