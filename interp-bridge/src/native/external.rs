//! Blocks of the real heap and mappings as external allocations of the abstract memory.
//!
//! # Safety
//! What is registered is memory that native code has just got from `malloc`, `mmap` or the like.
//! Nothing in Rust refers to it, and it is taken from the abstract memory before it is given back.
#![allow(unsafe_code)]

use super::request::Wanted;
use crate::memory::{AllocId, AllocKind, ExternalRequest, Memory};

/// Registers a block that native code got; none where the abstract memory has something there
/// that the interpreter registered by itself.
pub(super) fn register(
    memory: &mut Memory,
    base: u64,
    wanted: &Wanted,
    name: &str,
) -> Option<AllocId> {
    let request = ExternalRequest {
        name: Some(name),
        base,
        size: wanted.size,
        align: wanted.align,
        kind: AllocKind::NativeHeap,
        origin: wanted.caller.function.name(),
        site: Some(wanted.caller.site),
        initialised: wanted.zeroed,
        mutable: true,
    };
    // SAFETY: see the module.
    unsafe { memory.register_external(&request) }.ok()
}

/// Registers a mapping that native code made.
pub(super) fn register_map(
    memory: &mut Memory,
    base: u64,
    len: u64,
    mutable: bool,
    site: u64,
) -> Option<AllocId> {
    let request = ExternalRequest {
        name: None,
        base,
        size: len,
        align: super::maps::PAGE,
        kind: AllocKind::Mmap,
        origin: "mmap",
        site: Some(site),
        initialised: true,
        mutable,
    };
    // SAFETY: see the module.
    unsafe { memory.register_external(&request) }.ok()
}
