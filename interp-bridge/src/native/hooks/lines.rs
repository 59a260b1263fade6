//! `getline` and `getdelim`, which resize their caller's block inside libc.
//!
//! # Safety
//! As in [`super`].
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int};

use super::c::{adopt, caller, errno, set_errno};
use crate::native::active::active;
use crate::native::heap::MALLOC_ALIGN;
use crate::native::{Function, real};

pub(super) unsafe extern "C" fn getline_hook(
    line: *mut *mut c_char,
    size: *mut usize,
    stream: *mut libc::FILE,
    site: u64,
) -> isize {
    // SAFETY: native code's pointers, handed on.
    unsafe {
        read_line(
            Function::Getline,
            line,
            size,
            c_int::from(b'\n'),
            stream,
            site,
        )
    }
}

pub(super) unsafe extern "C" fn getdelim_hook(
    line: *mut *mut c_char,
    size: *mut usize,
    delimiter: c_int,
    stream: *mut libc::FILE,
    site: u64,
) -> isize {
    // SAFETY: native code's pointers, handed on.
    unsafe { read_line(Function::Getdelim, line, size, delimiter, stream, site) }
}

/// `getline` gives its caller's block to libc's own `realloc`, which knows nothing of the arena:
/// so the block moves to the real heap first.
///
/// # Safety
/// As `getdelim`.
unsafe fn read_line(
    function: Function,
    line: *mut *mut c_char,
    size: *mut usize,
    delimiter: c_int,
    stream: *mut libc::FILE,
    site: u64,
) -> isize {
    let active = active();
    // SAFETY: the real function does the same with these pointers, and says so if it may not.
    unsafe {
        if let Some(active) = active
            && !line.is_null()
            && !size.is_null()
            && !line.read_volatile().is_null()
        {
            let block = line.read_volatile() as u64;
            let taken =
                active.with(|heap, memory| heap.hand_over(memory, block, caller(function, site)));
            if let Some(Some(content)) = taken {
                let moved = real::allocate(content.len().max(1), MALLOC_ALIGN as usize, false);
                if moved.is_null() {
                    set_errno(libc::ENOMEM);
                    return -1;
                }
                std::ptr::copy_nonoverlapping(content.as_ptr(), moved.cast(), content.len());
                line.write_volatile(moved.cast());
            }
        }
        let read = real::getdelim(line, size, delimiter, stream);
        if let Some(active) = active
            && !line.is_null()
            && !size.is_null()
        {
            let before = *errno();
            let (block, len) = (line.read_volatile(), size.read_volatile());
            adopt(
                active,
                function,
                block.cast(),
                len,
                MALLOC_ALIGN as usize,
                site,
            );
            set_errno(before);
        }
        read
    }
}
