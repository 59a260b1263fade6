//! Vectors of buffers (`struct iovec`), rebuilt and accounted for.
//!
//! ```text
//!  scratch: │ iovec 0 │ iovec 1 │ … as the kernel gets them │ iovec 0 │ iovec 1 │ … native code's │
//!           at                                              natives
//! ```
//! The kernel gets the copy, so other threads that change the vector meanwhile change nothing:
//! what is told is what the kernel did.

use super::effect::Telling;
use super::prepare::Preparing;
use super::{Reason, Scratch, arena, memory};
use crate::access::AccessKind;

/// Most buffers that one call takes (`UIO_MAXIOV`). With more it fails before it reads any.
pub(super) const MAX_BUFFERS: u64 = 1024;

/// Words of an `iovec`: address, length.
const IOVEC: usize = 2;

/// A vector in the scratch memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Vector {
    /// Index of the first copy for the kernel.
    pub(super) at: usize,
    /// Index of the first as native code has it.
    pub(super) natives: usize,
    /// How many.
    pub(super) count: usize,
    /// Whether the vector or one of its buffers is arena memory.
    pub(super) moved: bool,
}

/// Copies the vector of `count` buffers at `addr` to the scratch memory and moves its addresses.
/// `None` if it is not all readable, or no call would read it; then nothing is taken.
pub(super) fn rebuild(
    this: &mut Preparing<'_>,
    addr: u64,
    count: u64,
) -> Result<Option<Vector>, Reason> {
    if count == 0 || count > MAX_BUFFERS {
        return Ok(None);
    }
    let count = count as usize;
    let from = arena::place(this.arena, addr, (count * 16) as u64)?;
    let mark = this.scratch.mark();
    let at = this
        .scratch
        .take(2 * IOVEC * count)
        .ok_or(Reason::ScratchFull)?;
    let words = this.scratch.words(at, 2 * IOVEC * count);
    let (copies, natives) = words.split_at_mut(IOVEC * count);
    if !memory::load(this.safe, from, bytemuck::cast_slice_mut(natives)) {
        this.scratch.release(mark);
        return Ok(None);
    }
    copies.copy_from_slice(natives);
    let mut moved = from != addr;
    for buffer in copies.chunks_exact_mut(IOVEC) {
        let to = arena::place(this.arena, buffer[0], buffer[1])?;
        moved |= to != buffer[0];
        buffer[0] = to;
    }
    Ok(Some(Vector {
        at,
        natives: at + IOVEC * count,
        count,
        moved,
    }))
}

/// Tells the first `bytes` bytes of the `count` buffers whose native copies begin at word `at`.
pub(super) fn tell(
    telling: &mut Telling<'_>,
    scratch: &Scratch,
    (at, count): (usize, usize),
    kind: AccessKind,
    bytes: u64,
    certain: bool,
) {
    let mut left = bytes;
    for buffer in (at..).step_by(IOVEC).take(count) {
        let len = scratch.word(buffer + 1).min(left);
        left -= len;
        telling.tell(kind, scratch.word(buffer), len, certain);
    }
}
