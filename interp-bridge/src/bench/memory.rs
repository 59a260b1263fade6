//! The memory that work is done on, and the call that does it.
//!
//! # Safety
//! [`call`] runs the bench's own functions on [`Work`] whose buffers are live and as long as it
//! says; they own nothing. The functions that need more have it from [`Fill`].
#![allow(unsafe_code)]

use std::{ffi::c_void, ptr};

use super::{
    BenchError,
    work::{Work, WorkFn, walk::Node},
};
use crate::{
    bridge::{Bridge, BridgeError, CallOptions, CallOutcome},
    memory::{AllocId, AllocRequest, Init},
};

/// Size in bytes of each of the allocations that are live beside the work.
const LIVE: u64 = 64 << 10;

/// What the first buffer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fill {
    /// Zeroes.
    Zeroes,
    /// A list of [`Node`]s that leads through all of it in random order, and round.
    List,
}

/// Two buffers in the arena and one outside, as [`Work`] has them.
pub(super) struct Buffers {
    pub(super) work: Work,
    /// What `work.own` points to.
    _own: Vec<u64>,
}

impl Buffers {
    /// Buffers of `size` bytes each, a multiple of 64.
    pub(super) fn new(bridge: &Bridge, size: u64, fill: Fill) -> Result<Buffers, BenchError> {
        let (from_id, from) = allocate(bridge, size)?;
        let (_, to) = allocate(bridge, size)?;
        let mut own = vec![0u64; size.div_ceil(8) as usize];
        if fill == Fill::List {
            let bytes = list(from, size);
            let written = bridge.memory().write_bytes(from_id, 0, &bytes);
            written.map_err(BridgeError::from)?;
        }
        Ok(Buffers {
            work: Work {
                from: from as *const u8,
                to: to as *mut u8,
                own: own.as_mut_ptr().cast(),
                len: size as usize,
                items: 0,
                result: 0,
            },
            _own: own,
        })
    }
}

/// The bytes of a list that lies at `base`: one cycle through all nodes (Sattolo's shuffle).
fn list(base: u64, size: u64) -> Vec<u8> {
    let node = size_of::<Node>() as u64;
    let count = size / node;
    let mut order: Vec<u64> = (0..count).collect();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for last in (1..count as usize).rev() {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        order.swap(last, (state >> 33) as usize % last);
    }
    let mut bytes = vec![0; size as usize];
    for (index, next) in order.iter().enumerate() {
        let at = index * node as usize;
        bytes[at..at + 8].copy_from_slice(&(base + next * node).to_le_bytes());
        bytes[at + 8..at + 16].copy_from_slice(&(index as u64).to_le_bytes());
    }
    bytes
}

/// An allocation of zeroes, and the address that native code knows it by.
pub(super) fn allocate(bridge: &Bridge, size: u64) -> Result<(AllocId, u64), BenchError> {
    let request = AllocRequest {
        size,
        align: 64,
        init: Init::Zeroed,
        ..AllocRequest::default()
    };
    allocate_as(bridge, &request)
}

/// An allocation, and the address that native code knows it by.
pub(super) fn allocate_as(
    bridge: &Bridge,
    request: &AllocRequest<'_>,
) -> Result<(AllocId, u64), BenchError> {
    let id = bridge
        .memory()
        .allocate(request)
        .map_err(BridgeError::from)?;
    Ok((id, bridge.address(id).map_err(BridgeError::from)?))
}

/// Makes allocations of so many bytes in all, which nobody touches.
pub(super) fn live(bridge: &Bridge, bytes: u64) -> Result<(), BenchError> {
    for _ in 0..bytes / LIVE {
        allocate(bridge, LIVE)?;
    }
    Ok(())
}

/// Makes one native call of a piece of work.
pub(super) fn call(
    bridge: &Bridge,
    function: WorkFn,
    work: &mut Work,
) -> Result<CallOutcome, BridgeError> {
    let data = ptr::from_mut(work).cast::<c_void>();
    // SAFETY: the work's buffers are live and as long as it says; the functions own nothing.
    unsafe { bridge.call(function, data, CallOptions::default()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::work::walk;

    #[test]
    fn the_list_is_one_cycle() {
        let mut words = vec![0u64; 64 * 8];
        let base = words.as_mut_ptr();
        let bytes = list(base as u64, 64 * 64);
        // SAFETY: both are 4096 bytes long.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), base.cast(), bytes.len()) };
        let mut work = Work {
            from: base.cast(),
            to: ptr::null_mut(),
            own: ptr::null_mut(),
            len: bytes.len(),
            items: 64,
            result: 0,
        };
        // SAFETY: the list lies where its pointers say.
        unsafe { walk::linked_list(ptr::from_mut(&mut work).cast()) };
        assert_eq!(work.result, (0..64).sum::<u64>());
    }
}
