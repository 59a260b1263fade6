//! Lists of strings (`argv`, `envp`), rebuilt.
//!
//! The kernel reads such a list twice, to count and to copy; it gets a copy that does not change.
//! The strings themselves it reads in place. A call that succeeds does not return, so what is read
//! is told before: all of it, also if the call then fails before it gets to the lists.

use super::effect::{Effect, Telling};
use super::prepare::Preparing;
use super::{Reason, Scratch, arena, memory};
use crate::access::AccessKind::Read;

/// Longest string of a list, in bytes (`MAX_ARG_STRLEN`).
const LONGEST: u64 = 32 * 4096;

/// The address of the list for the kernel: `addr` itself if nothing is arena memory.
pub(super) fn rebuild(this: &mut Preparing<'_>, addr: u64) -> Result<u64, Reason> {
    if addr == 0 {
        return Ok(addr);
    }
    let Some((count, moved)) = survey(this, addr)? else {
        return Ok(arena::address(this.arena, addr));
    };
    if !moved {
        return Ok(addr);
    }
    let from = arena::place(this.arena, addr, count * 8)?;
    let count = count as usize;
    let at = this.take(2 * count)?;
    let (copies, natives) = this.scratch.words(at, 2 * count).split_at_mut(count);
    if !memory::load(this.safe, from, bytemuck::cast_slice_mut(natives)) {
        return Ok(from);
    }
    // Another thread may have taken the end away meanwhile; the copy has one.
    natives[count - 1] = 0;
    copies.copy_from_slice(natives);
    for word in at..at + count {
        let string = this.scratch.word(word);
        if let Some((to, _)) = this.text(string, LONGEST)? {
            this.scratch.words(word, 1)[0] = to;
        }
    }
    this.later(Effect::Strings {
        addr,
        natives: at + count,
        count,
    })?;
    Ok(this.scratch.addr(at))
}

/// Tells that a list of `count` entries at `addr` is read, and its strings.
pub(super) fn tell(
    telling: &mut Telling<'_>,
    scratch: &Scratch,
    addr: u64,
    natives: usize,
    count: usize,
) {
    telling.tell(Read, addr, count as u64 * 8, true);
    for word in natives..natives + count {
        let string = scratch.word(word);
        if telling.arena.is_native(string) {
            let limit = LONGEST.min(arena::rest_of_segment(string));
            let host = arena::address(telling.arena, string);
            let len = memory::text(telling.safe, host, limit).map_or(0, |text| text.len);
            telling.tell(Read, string, len, true);
        }
    }
}

/// How many entries the list has, with the null one, and whether it or one of its strings is
/// arena memory. `None` if its end is not readable.
fn survey(this: &Preparing<'_>, addr: u64) -> Result<Option<(u64, bool)>, Reason> {
    let mut chunk = [0u64; 32];
    let (mut count, mut moved) = (0, this.arena.is_native(addr));
    loop {
        let at = addr.wrapping_add(count * 8);
        // Whole entries up to the end of the page; one that crosses it is read by itself.
        let here = ((4096 - at % 4096) / 8).clamp(1, chunk.len() as u64) as usize;
        let from = arena::place(this.arena, at, here as u64 * 8)?;
        let words = &mut chunk[..here];
        if !memory::load(this.safe, from, bytemuck::cast_slice_mut(words)) {
            return Ok(None);
        }
        for &word in words.iter() {
            count += 1;
            if word == 0 {
                return Ok(Some((count, moved)));
            }
            moved |= this.arena.is_native(word);
        }
    }
}
