//! Errors planted for `cargo xtask test`, which runs these under a sanitizer and expects each to
//! be reported: a sanitizer that reports nothing may be one that does not look.
//!
//! # Safety
//!
//! There is none, on purpose. Nobody else runs these tests.
#![allow(unsafe_code)]

use std::hint::black_box;

#[test]
#[ignore = "a planted error: for the sanitizer stage of `cargo xtask test`"]
fn overflow() {
    let bytes = black_box(vec![1u8; 16]);
    // SAFETY: none; this reads the byte behind the vector.
    let behind = unsafe { black_box(bytes.as_ptr()).add(bytes.len()).read_volatile() };
    black_box(behind);
}

#[test]
#[ignore = "a planted error: for the sanitizer stage of `cargo xtask test`"]
fn leak() {
    std::mem::forget(black_box(vec![1u8; 4096]));
}
