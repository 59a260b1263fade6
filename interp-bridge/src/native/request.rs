//! What hooks ask of the heap, and what it answers.

use super::record::Caller;

/// Memory that is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) size: u64,
    /// A power of two.
    pub(super) align: u64,
    pub(super) zeroed: bool,
    pub(super) caller: Caller,
}

/// What came of asking for memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allocated {
    /// It is here, as native code knows it.
    At(u64),
    /// The real function has to make it; then [`NativeHeap::adopt`].
    Real,
    /// There is no memory.
    Failed,
}

/// A call that gives memory back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Release {
    pub(super) addr: u64,
    pub(super) by: Caller,
    /// Size that C++ says the object has.
    pub(super) size: Option<u64>,
    /// Alignment that C++ says it was asked for with.
    pub(super) align: Option<u64>,
}

/// What came of giving memory back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Released {
    /// It is done.
    Done,
    /// It is done, and these blocks may go to the real `free` now.
    Expired(Vec<u64>),
    /// Memory that libc made for itself: the real function knows it.
    Foreign,
    /// It was wrong, and reported.
    Refused,
}

/// Why the interpreter cannot give memory back for native code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// It lies inside an allocation.
    #[error("{addr:#x} is inside `{name}`; its beginning, {base:#x}, can be given back")]
    Inside {
        /// What was asked for.
        addr: u64,
        /// Where the allocation begins.
        base: u64,
        /// Its name.
        name: String,
    },
    /// It was given back before.
    #[error("`{0}` was given back already")]
    Freed(String),
    /// No allocation that was seen begins there.
    #[error(
        "no allocation of native code is known at {0:#x}: it was made before the heap was watched, or by a library that is not covered"
    )]
    Unknown(u64),
}

/// What came of resizing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resized {
    /// It is done, and the block is here now.
    At(u64),
    /// The block has `len` bytes and is to be moved by the caller: from the real heap, or to it.
    Move { len: u64, from_real: bool },
    /// See [`Released::Foreign`].
    Foreign,
    /// It was wrong, and reported.
    Refused,
    /// There is no memory.
    Failed,
}
