//! Work that reaches memory in other orders than one byte after the other, or more of it at once.
//!
//! # Safety
//! As in [`work`](super): each function follows the pointers of the [`Work`] that it is given.
#![allow(unsafe_code)]

use std::{arch::x86_64, ffi::c_void};

use super::Work;

/// A node of the list that [`linked_list`] walks: a cache line.
#[repr(C)]
pub struct Node {
    /// The next node; the last one's is the first.
    pub next: *const Node,
    /// What is summed.
    pub value: u64,
    _rest: [u64; 6],
}

/// One of the structs that [`structs`] walks.
#[repr(C)]
struct Particle {
    id: u32,
    kind: u16,
    flags: u16,
    mass: f64,
    speed: f64,
    energy: f64,
}

/// Sums items of 32 bytes with AVX2: one read each.
///
/// # Safety
/// `data` is a `Work` whose `from` is readable and 32-aligned; the processor has AVX2.
#[target_feature(enable = "avx2")]
pub unsafe extern "C" fn avx2_sum(data: *mut c_void) {
    // SAFETY: by the caller's promise; indices stay below `len / 32`.
    unsafe {
        let work = &mut *data.cast::<Work>();
        let from = work.from.cast::<x86_64::__m256i>();
        let items = work.len / 32;
        let mut sum = x86_64::_mm256_setzero_si256();
        let mut index = 0;
        for _ in 0..work.items {
            sum = x86_64::_mm256_add_epi64(sum, from.add(index).read_volatile());
            index += 1;
            if index == items {
                index = 0;
            }
        }
        work.result = x86_64::_mm256_extract_epi64::<0>(sum) as u64;
    }
}

/// Walks a list of [`Node`]s: two reads each.
///
/// # Safety
/// `data` is a `Work` whose `from` is a node of a list that leads round.
pub unsafe extern "C" fn linked_list(data: *mut c_void) {
    // SAFETY: by the caller's promise.
    unsafe {
        let work = &mut *data.cast::<Work>();
        let mut node = work.from.cast::<Node>();
        let mut sum = 0u64;
        for _ in 0..work.items {
            sum = sum.wrapping_add((&raw const (*node).value).read_volatile());
            node = (&raw const (*node).next).read_volatile();
        }
        work.result = sum;
    }
}

/// Sums 4-byte items at random places: one read each.
///
/// # Safety
/// `data` is a `Work` whose `from` is readable, and whose `len` is a power of two.
pub unsafe extern "C" fn random(data: *mut c_void) {
    // SAFETY: by the caller's promise; indices stay below `len / 4`.
    unsafe {
        let work = &mut *data.cast::<Work>();
        let from = work.from.cast::<u32>();
        let mask = work.len / 4 - 1;
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut sum = 0u64;
        for _ in 0..work.items {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let index = (state >> 16) as usize & mask;
            sum = sum.wrapping_add(u64::from(from.add(index).read_volatile()));
        }
        work.result = sum;
    }
}

/// Walks an array of structs: four fields of each are read, and one is written.
///
/// # Safety
/// `data` is a `Work` whose `to` is writable and 8-aligned.
pub unsafe extern "C" fn structs(data: *mut c_void) {
    // SAFETY: by the caller's promise; indices stay below `len / 32`.
    unsafe {
        let work = &mut *data.cast::<Work>();
        let items = work.len / size_of::<Particle>();
        let mut ids = 0u64;
        let mut index = 0;
        for _ in 0..work.items {
            let particle = work.to.cast::<Particle>().add(index);
            let id = (&raw const (*particle).id).read_volatile();
            let kind = (&raw const (*particle).kind).read_volatile();
            let mass = (&raw const (*particle).mass).read_volatile();
            let speed = (&raw const (*particle).speed).read_volatile();
            (&raw mut (*particle).energy).write_volatile(mass * speed * speed);
            ids = ids.wrapping_add(u64::from(id) + u64::from(kind));
            index += 1;
            if index == items {
                index = 0;
            }
        }
        work.result = ids;
    }
}
