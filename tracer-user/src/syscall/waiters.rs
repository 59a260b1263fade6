//! `struct futex_waitv`: val 8, uaddr 8, flags 4, reserved 4. Rebuilt with the addresses moved.

use super::effect::Effect;
use super::prepare::Preparing;
use super::shape::When;
use super::{Reason, arena, memory};
use crate::access::AccessKind::Read;

/// Words of one structure.
const WORDS: usize = 3;
/// Which of them is the address.
const ADDRESS: usize = 1;
/// Most that a call takes (`FUTEX_WAITV_MAX`). With more it fails before it reads any.
const MAX: u64 = 128;

/// The address of the `count` structures for the kernel. They are read, and the words that
/// they are about.
pub(super) fn rebuild(this: &mut Preparing<'_>, addr: u64, count: u64) -> Result<u64, Reason> {
    if count == 0 || count > MAX {
        return Ok(addr);
    }
    let count = count as usize;
    let from = arena::place(this.arena, addr, (count * WORDS * 8) as u64)?;
    let mark = this.scratch.mark();
    let at = this.take(2 * count * WORDS)?;
    let words = this.scratch.words(at, 2 * count * WORDS);
    let (copies, natives) = words.split_at_mut(count * WORDS);
    if !memory::load(this.safe, from, bytemuck::cast_slice_mut(natives)) {
        this.scratch.release(mark);
        return Ok(from);
    }
    copies.copy_from_slice(natives);
    let mut moved = from != addr;
    for waiter in copies.chunks_exact_mut(WORDS) {
        let to = arena::place(this.arena, waiter[ADDRESS], 4)?;
        moved |= to != waiter[ADDRESS];
        waiter[ADDRESS] = to;
    }
    if !moved {
        this.scratch.release(mark);
        return Ok(addr);
    }
    this.range(Read, addr, (count * WORDS * 8) as u64, When::Before)?;
    this.later(Effect::Compared {
        natives: at + count * WORDS + ADDRESS,
        stride: WORDS,
        count,
    })?;
    Ok(this.scratch.addr(at))
}
