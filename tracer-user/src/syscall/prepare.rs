//! From the shape of a call to its plan: arguments are moved, structures rebuilt, what is read
//! first is told, and what depends on the result is written down.

use tracer_ebpf::Session;

use super::effect::Effect;
use super::plan::{MaskPlace, Moved, WaitMask};
use super::shape::{Arg, Shape, When};
use super::{
    Call, Reason, Refusal, Scratch, arena, buffers, clone, memory, message, strings, waiters,
};
use crate::access::AccessKind::{self, Read, Write};
use crate::resume::safe::Safe;

/// Longest structure with addresses that is looked through, in bytes: none that the kernel takes
/// is longer.
const LONGEST_OPAQUE: u64 = 1 << 20;

/// The state of a call that is being prepared.
pub(super) struct Preparing<'a> {
    pub(super) safe: Safe,
    pub(super) arena: Session,
    pub(super) scratch: &'a mut Scratch,
    pub(super) moved: Moved,
    /// The mask to wait with, if there is one.
    pub(super) mask: Option<WaitMask>,
}

impl Preparing<'_> {
    /// Goes through all arguments.
    pub(super) fn arguments(&mut self, call: &Call, shape: &Shape) -> Result<(), Refusal> {
        for (index, arg) in shape.iter().enumerate() {
            let addr = call.args[index];
            let to = self.argument(call, *arg, addr).map_err(|reason| Refusal {
                reason,
                addr,
                detail: 0,
            })?;
            if *arg != Arg::Word {
                self.moved.args[index] = to;
            }
            if self.mask.is_some() && self.moved.mask == MaskPlace::Nowhere {
                self.moved.mask = match arg {
                    Arg::MaskBlock => MaskPlace::Block(index),
                    _ => MaskPlace::Argument(index),
                };
            }
        }
        Ok(())
    }

    /// One argument: returns the value for the kernel.
    fn argument(&mut self, call: &Call, arg: Arg, addr: u64) -> Result<u64, Reason> {
        match arg {
            Arg::Value => Ok(addr),
            Arg::Text(limit, when) => match self.text(addr, limit)? {
                Some((to, len)) => self.range(Read, addr, len, when).map(|()| to),
                None => Ok(addr),
            },
            Arg::In(len, when) => self.fixed(addr, len, &[(Read, when)]),
            Arg::Out(len, when) => self.fixed(addr, len, &[(Write, when)]),
            Arg::InOut(len, read, write) => self.fixed(addr, len, &[(Read, read), (Write, write)]),
            Arg::Data {
                kind,
                max,
                unit,
                certain,
            } => {
                let effect = Effect::Data {
                    kind,
                    addr,
                    max,
                    unit,
                    certain,
                };
                self.sized_by_result(addr, max, effect)
            }
            Arg::Entries { max, old } => {
                self.sized_by_result(addr, max, Effect::Entries { addr, old })
            }
            Arg::Buffers(kind, count) => self.buffers(kind, addr, count),
            Arg::Sized { word, read } => self.sized(call, word, addr, read),
            Arg::Word => Ok(addr),
            Arg::Message(kind) => self.messages(kind, addr, None, call.args[2]),
            Arg::Messages(kind, count) => self.messages(kind, addr, Some(count), call.args[3]),
            Arg::Strings => strings::rebuild(self, addr),
            Arg::Polled(count) => {
                let len = count.saturating_mul(8);
                self.sized_by_result(addr, len, Effect::Polled { addr, count })
            }
            Arg::Set(bits) => self.set(addr, bits),
            Arg::Waiters(count) => waiters::rebuild(self, addr, count),
            Arg::Requests(count) => self.requests(addr, count),
            Arg::CloneArgs(size) => clone::rebuild(self, addr, size),
            Arg::ChildInfo => {
                self.fixed(addr, 12, &[(Write, When::Always)])?;
                self.fixed_at(addr, 16, 12, &[(Write, When::Always)])
            }
            Arg::Headed(max) => self.sized_by_result(addr, max, Effect::Headed { addr, max }),
            Arg::Processors(len) => {
                let known = len.min(8);
                self.fixed(addr, known, &[(Read, When::OnceOpen)])?;
                self.fixed_at(addr, known, len - known, &[(Read, When::Perhaps)])
            }
            Arg::Typed(max) => {
                self.fixed(addr, 8, &[(Write, When::Done)])?;
                let data = addr.wrapping_add(8);
                let effect = Effect::Data {
                    kind: Write,
                    addr: data,
                    max,
                    unit: 1,
                    certain: true,
                };
                self.sized_by_result(data, max, effect)?;
                arena::place(self.arena, addr, max.saturating_add(8))
            }
            Arg::Mask(size) => self.mask(addr, size),
            Arg::MaskBlock => self.mask_block(addr),
            Arg::Key => Ok(arena::address(self.arena, addr)),
            Arg::Aimed(len) if arena::overlaps(self.arena, addr, len) => Err(Reason::Aimed),
            Arg::Aimed(_) => Ok(addr),
            Arg::Within(len) => arena::place(self.arena, addr, len),
            Arg::Opaque(len) => self.opaque(addr, len),
            Arg::Not(reason) if self.arena.is_native(addr) => Err(reason),
            Arg::Not(_) => Ok(addr),
        }
    }

    /// Where a string is for the kernel, and how many bytes of it are read: up to its NUL, at
    /// most `limit`. `None` for a string outside the arena.
    pub(super) fn text(&self, addr: u64, limit: u64) -> Result<Option<(u64, u64)>, Reason> {
        if !self.arena.is_native(addr) {
            return Ok(None);
        }
        let rest = arena::rest_of_segment(addr);
        let to = arena::address(self.arena, addr);
        // Reserved memory that no segment is mapped in yet: the kernel says EFAULT.
        let Some(text) = memory::text(self.safe, to, limit.min(rest)) else {
            return Ok(Some((to, 0)));
        };
        if !text.ended && rest < limit {
            return Err(Reason::Straddles);
        }
        Ok(Some((to, text.len)))
    }

    /// Memory of a known length, touched in these ways.
    fn fixed(&mut self, addr: u64, len: u64, uses: &[(AccessKind, When)]) -> Result<u64, Reason> {
        if addr == 0 || len == 0 {
            return Ok(arena::address(self.arena, addr));
        }
        let to = arena::place(self.arena, addr, len)?;
        for (kind, when) in uses {
            self.range(*kind, addr, len, *when)?;
        }
        Ok(to)
    }

    /// Memory of a known length, `offset` bytes into a structure. Returns where the structure is.
    fn fixed_at(
        &mut self,
        addr: u64,
        offset: u64,
        len: u64,
        uses: &[(AccessKind, When)],
    ) -> Result<u64, Reason> {
        if addr != 0 {
            self.fixed(addr.wrapping_add(offset), len, uses)?;
        }
        arena::place(self.arena, addr, offset.saturating_add(len))
    }

    /// Writes down that a range is touched, and when.
    pub(super) fn range(
        &mut self,
        kind: AccessKind,
        addr: u64,
        len: u64,
        when: When,
    ) -> Result<(), Reason> {
        if !self.arena.is_native(addr) {
            return Ok(());
        }
        self.later(Effect::Range {
            kind,
            addr,
            len,
            when,
        })
    }

    /// Writes down something to be told when the result is known.
    pub(super) fn later(&mut self, effect: Effect) -> Result<(), Reason> {
        self.moved.later(effect)
    }

    /// Takes words of the scratch memory.
    pub(super) fn take(&mut self, count: usize) -> Result<usize, Reason> {
        self.scratch.take(count).ok_or(Reason::ScratchFull)
    }

    fn sized_by_result(&mut self, addr: u64, max: u64, effect: Effect) -> Result<u64, Reason> {
        let to = arena::place(self.arena, addr, max)?;
        if to != addr {
            self.later(effect)?;
        }
        Ok(to)
    }

    fn buffers(&mut self, kind: AccessKind, addr: u64, count: u64) -> Result<u64, Reason> {
        let mark = self.scratch.mark();
        let Some(vector) = buffers::rebuild(self, addr, count)? else {
            return Ok(arena::address(self.arena, addr));
        };
        if !vector.moved {
            self.scratch.release(mark);
            return Ok(addr);
        }
        self.range(Read, addr, vector.count as u64 * 16, When::OnceOpen)?;
        self.later(Effect::Buffers {
            kind,
            natives: vector.natives,
            count: vector.count,
        })?;
        Ok(self.scratch.addr(vector.at))
    }

    /// A buffer and its length word, another argument.
    fn sized(&mut self, call: &Call, word: usize, addr: u64, read: When) -> Result<u64, Reason> {
        let from = arena::place(self.arena, call.args[word], 4)?;
        self.moved.args[word] = from;
        let room =
            memory::load_u32(self.safe, from).map_or(0, |room| super::shape::int(room.into()));
        let to = arena::place(self.arena, addr, room)?;
        if to != addr || from != call.args[word] {
            self.range(Read, call.args[word], 4, read)?;
            self.later(Effect::Sized {
                addr,
                room,
                word: call.args[word],
            })?;
        }
        Ok(to)
    }

    fn messages(
        &mut self,
        kind: AccessKind,
        addr: u64,
        count: Option<u64>,
        flags: u64,
    ) -> Result<u64, Reason> {
        let certain = kind == Read || !message::discards(flags);
        match message::rebuild(self, kind, addr, count, certain)? {
            Some(rebuilt) => {
                self.later(Effect::Messages(rebuilt))?;
                Ok(self.scratch.addr(rebuilt.at))
            }
            None => Ok(arena::address(self.arena, addr)),
        }
    }

    /// A set of descriptors of `select`. The kernel looks at no more bits than this process's
    /// table of descriptors has room for: 64 at least, and how many more it does not tell.
    fn set(&mut self, addr: u64, bits: u64) -> Result<u64, Reason> {
        let len = bits.div_ceil(64) * 8;
        let known = len.min(8);
        self.fixed(addr, known, &[(Read, When::Before), (Write, When::Done)])?;
        let rest = [(Read, When::Perhaps), (Write, When::Perhaps)];
        self.fixed_at(addr, known, len - known, &rest)
    }

    fn mask(&mut self, addr: u64, size: u64) -> Result<u64, Reason> {
        if addr == 0 {
            return Ok(addr);
        }
        // Another size is EINVAL before the mask is looked at.
        let to = arena::place(self.arena, addr, 8)?;
        if size == 8 {
            self.range(Read, addr, 8, When::Before)?;
        }
        self.mask = Some(WaitMask { addr: to, size });
        Ok(to)
    }

    /// The last argument of `pselect6`: address and size of the mask.
    fn mask_block(&mut self, addr: u64) -> Result<u64, Reason> {
        if addr == 0 {
            return Ok(addr);
        }
        let from = arena::place(self.arena, addr, 16)?;
        let mut block = [0u64; 2];
        if !memory::load(self.safe, from, bytemuck::cast_slice_mut(&mut block)) {
            return Ok(from);
        }
        self.range(Read, addr, 16, When::Before)?;
        let to = self.mask(block[0], block[1])?;
        if from == addr && to == block[0] {
            return Ok(addr);
        }
        let at = self.take(2)?;
        self.scratch.words(at, 2).copy_from_slice(&[to, block[1]]);
        Ok(self.scratch.addr(at))
    }

    /// Requests that the kernel works off later: none may have arena memory.
    fn requests(&mut self, addr: u64, count: u64) -> Result<u64, Reason> {
        if self.arena.is_native(addr) {
            return Err(Reason::Kept);
        }
        for index in 0..count {
            let Some(request) = memory::load_u64(self.safe, addr.wrapping_add(index * 8)) else {
                break;
            };
            self.opaque(request, 64).map_err(|_| Reason::Kept)?;
        }
        Ok(addr)
    }

    /// A structure whose addresses are not followed. Looked through word by word.
    fn opaque(&mut self, addr: u64, len: u64) -> Result<u64, Reason> {
        if self.arena.is_native(addr) {
            return Err(Reason::Inside);
        }
        let len = len.min(LONGEST_OPAQUE);
        let mut chunk = [0u64; 32];
        for at in (0..len).step_by(256) {
            let here = ((len - at) / 8).min(32) as usize;
            let words = &mut chunk[..here];
            // What cannot be read the kernel cannot read either.
            if !memory::load(
                self.safe,
                addr.wrapping_add(at),
                bytemuck::cast_slice_mut(words),
            ) {
                return Ok(addr);
            }
            if words.iter().any(|word| self.arena.is_native(*word)) {
                return Err(Reason::Inside);
            }
        }
        Ok(addr)
    }
}
