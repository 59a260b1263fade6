//! What is known of each piece of memory that native code made.

use super::{Family, Function};
use crate::memory::AllocId;

/// Who made memory, or gave it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The function that was called.
    pub function: Function,
    /// Where that call returns to: the instruction behind the call. Behind a tail call it is that
    /// of the caller's caller.
    pub site: u64,
    /// Kernel id of the calling thread.
    pub tid: u32,
}

/// Where memory lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the arena: every access to it is recorded.
    Arena,
    /// Where the real function put it: accesses are not recorded.
    Real,
}

/// One allocation of native code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NativeAllocation {
    /// Its record in the abstract memory; none where that already has something there.
    pub id: Option<AllocId>,
    /// Its number, 1 for the first that was seen; `heap#1` is its name in the abstract memory.
    pub number: u64,
    /// Its address, as native code knows it.
    pub base: u64,
    /// Size in bytes, as it was asked for.
    pub size: u64,
    /// Alignment in bytes, as it was asked for; 16 where nothing was.
    pub align: u64,
    /// Where it lies.
    pub place: Place,
    /// Who made it.
    pub made: Caller,
    /// Who gave it back, if native code did.
    pub freed: Option<Caller>,
}

impl NativeAllocation {
    /// How it was made.
    pub fn family(&self) -> Family {
        self.made.function.family()
    }

    /// Its name in the abstract memory and in messages.
    pub fn name(&self) -> String {
        name(self.number)
    }

    pub(super) fn contains(&self, addr: u64) -> bool {
        addr.wrapping_sub(self.base) < self.size
    }
}

pub(super) fn name(number: u64) -> String {
    format!("heap#{number}")
}

/// Totals, for reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Allocations that were made, those by `realloc` included.
    pub allocations: u64,
    /// Allocations that were given back, those by `realloc` included.
    pub frees: u64,
    /// Allocations that are live.
    pub live: u64,
    /// Their sizes together, in bytes.
    pub live_bytes: u64,
}
