//! Operators `new` and `delete` of C++, in all their forms.
//!
//! # Safety
//! As in [`super`].
#![allow(unsafe_code)]

use std::ffi::c_void;

use super::c::{allocate, function, give_back};
use crate::native::Function;
use crate::native::heap::MALLOC_ALIGN;

pub(super) unsafe extern "C" fn new_hook<const F: usize>(
    size: usize,
    _nothrow: usize,
    site: u64,
) -> *mut c_void {
    allocate(function(F), size, MALLOC_ALIGN as usize, false, site)
}

pub(super) unsafe extern "C" fn new_aligned_hook<const F: usize>(
    size: usize,
    align: usize,
    _nothrow: usize,
    site: u64,
) -> *mut c_void {
    if !align.is_power_of_two() {
        return std::ptr::null_mut();
    }
    allocate(function(F), size, align, false, site)
}

pub(super) unsafe extern "C" fn delete_hook<const F: usize>(
    block: *mut c_void,
    first: usize,
    second: usize,
    site: u64,
) {
    use Function as D;
    let (size, align) = match function(F) {
        D::DeleteSized | D::DeleteArraySized => (Some(first as u64), None),
        D::DeleteAligned
        | D::DeleteAlignedNothrow
        | D::DeleteArrayAligned
        | D::DeleteArrayAlignedNothrow => (None, Some(first as u64)),
        D::DeleteSizedAligned | D::DeleteArraySizedAligned => {
            (Some(first as u64), Some(second as u64))
        }
        _ => (None, None),
    };
    // SAFETY: native code's promise, handed on.
    unsafe { give_back(function(F), block, [first, second], size, align, site) };
}
