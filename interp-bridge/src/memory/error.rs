//! Why the memory cannot do what was asked. Errors are values that an interpreter can show.

use std::ops::Range;

use tracer_user::shadow::ShadowError;

use super::{AllocId, Freer};
use crate::arena::ArenaError;

/// Why the abstract memory cannot do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// The arena refused.
    #[error(transparent)]
    Arena(#[from] ArenaError),
    /// The table for the signal handler cannot be mapped.
    #[error(transparent)]
    Shadow(#[from] ShadowError),
    /// No such allocation, or one that was freed long ago.
    #[error("no allocation {0}: it never existed, or was freed and forgotten")]
    Unknown(AllocId),
    /// The allocation is freed.
    #[error("{allocation} was freed already{freer}")]
    Freed {
        /// Name and size of the allocation.
        allocation: String,
        /// Who freed it.
        freer: Freer,
    },
    /// A range is not inside the allocation.
    #[error("bytes {start}..{end} are not inside {allocation}", start = range.start, end = range.end)]
    Range {
        /// Name and size of the allocation.
        allocation: String,
        /// The range asked for.
        range: Range<u64>,
    },
    /// Initial bytes of another length than the allocation.
    #[error("{given} initial bytes for an allocation of {size} bytes: give exactly as many")]
    InitLength {
        /// How many bytes were given.
        given: u64,
        /// Size of the allocation, in bytes.
        size: u64,
    },
    /// Bytes that would be read are not initialised.
    #[error(
        "bytes {start}..{end} of {allocation} are not initialised; bytes {asked_start}..{asked_end} \
         were to be read",
        start = uninit.start, end = uninit.end,
        asked_start = asked.start, asked_end = asked.end
    )]
    Uninit {
        /// Name and size of the allocation.
        allocation: String,
        /// Offsets that were to be read.
        asked: Range<u64>,
        /// The first of them that are not initialised, as far as they go.
        uninit: Range<u64>,
    },
    /// A scalar of a size that there is none of.
    #[error("a scalar of {0} bytes: it has 1 to 16")]
    ScalarSize(u64),
    /// An address that is no valid pointer.
    #[error(transparent)]
    Pointer(#[from] PointerError),
    /// Memory outside of the arena that cannot be registered, or not be reached.
    #[error(transparent)]
    External(#[from] ExternalError),
}

/// Why an address may not be used to reach memory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PointerError {
    /// The pointer was made from a number, and may reach nothing.
    #[error(
        "{addr:#x} is a number without provenance, and may not be dereferenced; make it from an \
         exposed address instead"
    )]
    NoProvenance {
        /// The address.
        addr: u64,
    },
    /// No exposed live allocation has these bytes.
    #[error("{addr:#x} is a dangling pointer: no exposed allocation has {size} bytes there{hint}")]
    Dangling {
        /// The address.
        addr: u64,
        /// How many bytes were to be reached.
        size: u64,
        /// What is there instead: empty, or `; ` and words.
        hint: String,
    },
    /// The allocation that the pointer is for is gone.
    #[error("{addr:#x} is a dangling pointer: {allocation} was freed{freer}")]
    Freed {
        /// The address.
        addr: u64,
        /// Name and size of the allocation.
        allocation: String,
        /// Who freed it.
        freer: Freer,
    },
    /// The pointer leads out of its allocation.
    #[error(
        "{size} bytes at offset {offset} are not inside {allocation}, which the pointer is for"
    )]
    OutOfBounds {
        /// Name and size of the allocation.
        allocation: String,
        /// Bytes from its base, negative before it.
        offset: i64,
        /// How many bytes were to be reached.
        size: u64,
    },
}

/// Why memory outside of the arena cannot be registered or reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExternalError {
    /// It overlaps a live allocation.
    #[error(
        "{size} bytes at {base:#x} cannot be registered: {with} at {with_base:#x} is live there; \
         free it first"
    )]
    Overlaps {
        /// Address given.
        base: u64,
        /// Size given, in bytes.
        size: u64,
        /// The allocation that is there.
        id: AllocId,
        /// Its name and size.
        with: String,
        /// Its address.
        with_base: u64,
    },
    /// It lies in the arena, whose memory is allocated, not registered.
    #[error("{size} bytes at {base:#x} lie in the arena: allocate there instead of registering")]
    InArena {
        /// Address given.
        base: u64,
        /// Size given, in bytes.
        size: u64,
    },
    /// It is at null, or reaches beyond the end of the address space.
    #[error("{size} bytes at {base:#x} are no memory: null, or beyond the address space")]
    NoMemory {
        /// Address given.
        base: u64,
        /// Size given, in bytes.
        size: u64,
    },
    /// Its bytes could not be read or written: it is not mapped (any more), or protected.
    #[error(
        "{allocation} cannot be {how}: of {len} bytes at {addr:#x} only {done} are mapped so; it \
         was unmapped or protected behind the interpreter's back"
    )]
    Unreachable {
        /// Name and size of the allocation.
        allocation: String,
        /// `read` or `written`.
        how: &'static str,
        /// Address of the first byte.
        addr: u64,
        /// How many bytes there were to be.
        len: u64,
        /// How many of them could be reached.
        done: u64,
    },
}
