//! Bytes of this process that are nobody's in Rust: native heap, static data, real mappings.
//!
//! # Safety
//!
//! They are reached by the kernel (`process_vm_readv(2)` and its sibling on this process itself),
//! never by a Rust reference, so native code may read and write them at any time, and an address
//! without memory, or whose pages are protected, is a short count and not a fault. What is
//! written is memory that the interpreter registered as an external allocation, or that it names
//! itself: that nothing in Rust refers to it is the promise of
//! [`register_external`](super::Memory::register_external) and
//! [`write_native`](super::Memory::write_native), which is why these are `unsafe`.
#![allow(unsafe_code)]

use tracer_user::resume::safe::{Safe, process_id, read_memory, write_memory};

/// Copies bytes at `addr` and returns how many could be read before the first bad page.
pub(super) fn read(addr: u64, into: &mut [u8]) -> usize {
    let safe = Safe::promise();
    read_memory(safe, process_id(safe), addr, into)
}

/// Copies bytes to `addr` and returns how many could be written before the first bad page.
pub(super) fn write(addr: u64, bytes: &[u8]) -> usize {
    let safe = Safe::promise();
    // SAFETY: callers write only what nothing in Rust refers to, by the promise made when it was
    // registered, or for this write.
    unsafe { write_memory(safe, process_id(safe), addr, bytes) }
}
