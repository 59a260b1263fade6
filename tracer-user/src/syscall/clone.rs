//! The structure of `clone3`, rebuilt.
//!
//! ```text
//!  0 flags  8 pidfd  16 child_tid  24 parent_tid  32 exit_signal  40 stack  48 stack_size
//!  56 tls  64 set_tid  72 set_tid_size  80 cgroup
//! ```
//! Stack and tls stay as they are: the new thread uses them, not the kernel.

use super::prepare::Preparing;
use super::shape::When;
use super::{Reason, arena, memory};
use crate::access::AccessKind::{Read, Write};

/// Sizes that the kernel takes, in bytes; with others the call fails before anything is read.
const SIZES: std::ops::RangeInclusive<u64> = 64..=4096;

const FLAGS: usize = 0;
const PIDFD: usize = 1;
const CHILD_TID: usize = 2;
const PARENT_TID: usize = 3;
const SET_TID: usize = 8;
const SET_TID_SIZE: usize = 9;

/// The address of the structure of `size` bytes for the kernel.
pub(super) fn rebuild(this: &mut Preparing<'_>, addr: u64, size: u64) -> Result<u64, Reason> {
    if !SIZES.contains(&size) {
        return Ok(addr);
    }
    let from = arena::place(this.arena, addr, size)?;
    let mark = this.scratch.mark();
    // The fields that are looked at are there in any case, if need be as zeroes.
    let count = (size.div_ceil(8) as usize).max(SET_TID_SIZE + 1);
    let at = this.take(count)?;
    let words = this.scratch.words(at, count);
    words.fill(0);
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(words);
    if !memory::load(this.safe, from, &mut bytes[..size as usize]) {
        this.scratch.release(mark);
        return Ok(from);
    }
    let has = {
        let flags = words[FLAGS];
        move |flag: i32| flags & flag as u32 as u64 != 0
    };
    let shared = has(libc::CLONE_VM);
    let mut moved = from != addr;
    for (field, used, len, touched) in [
        (PIDFD, has(libc::CLONE_PIDFD), 4, Some((Write, When::Done))),
        (
            PARENT_TID,
            has(libc::CLONE_PARENT_SETTID),
            4,
            Some((Write, When::Done)),
        ),
        (
            CHILD_TID,
            has(libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID),
            4,
            // In a copy of the memory, the child's write is not this process's.
            (shared && has(libc::CLONE_CHILD_SETTID)).then_some((Write, When::Done)),
        ),
        (
            SET_TID,
            true,
            this.scratch.word(at + SET_TID_SIZE).min(32) * 4,
            Some((Read, When::AtOnce)),
        ),
    ] {
        let given = this.scratch.word(at + field);
        if !used || given == 0 {
            continue;
        }
        let to = arena::place(this.arena, given, len)?;
        moved |= to != given;
        this.scratch.words(at + field, 1)[0] = to;
        if let Some((kind, when)) = touched {
            this.range(kind, given, len, when)?;
        }
    }
    this.range(Read, addr, size, When::AtOnce)?;
    if !moved {
        this.scratch.release(mark);
        return Ok(addr);
    }
    Ok(this.scratch.addr(at))
}
