//! String instructions: `movs`, `stos`, `lods`, `cmps`, `scas`, alone or repeated.
//!
//! One element is at rsi (source) and rdi (destination); the direction flag says which way the
//! registers then move. `rep` repeats rcx times. `cmps` and `scas` repeat until a condition
//! fails, which registers alone do not tell, so those are always taken one element at a time.

use iced_x86::{Code, Instruction, Register};
use tracer_ebpf::{AuxRecord, Regs, SEGMENT_SIZE, Session};

use super::address::{NARROW, Segment};
use crate::access::{Access, AccessKind};

const RCX: usize = 1;
const RSI: usize = 6;
const RDI: usize = 7;
const DIRECTION_FLAG: u64 = 1 << 10;

/// How many iterations of a repeated string instruction are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rep {
    /// The next one.
    Once,
    /// All of them. Conditional repetitions are taken as [`Rep::Once`].
    Whole,
}

/// The prefix of a string instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepKind {
    /// None: one element.
    None,
    /// rcx elements.
    Rep,
    /// At most rcx elements, while the comparison gives equal (`true`) or unequal (`false`).
    RepConditional(bool),
}

/// A string instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StringOp {
    /// Whether it reads at rsi.
    pub source: bool,
    /// What it does at rdi, if anything.
    pub dest: Option<AccessKind>,
    /// Size of an element in bytes: 1, 2, 4 or 8.
    pub element: u64,
    /// Its prefix.
    pub rep: RepKind,
    /// Whether an address-size prefix makes it use esi, edi and ecx.
    pub narrow: bool,
    /// Segment of the source, where its base counts.
    pub segment: Option<Segment>,
}

impl StringOp {
    /// Recognises a string instruction. `ins` and `outs` are not: they are privileged.
    pub(super) fn of(instruction: &Instruction) -> Option<StringOp> {
        let (source, dest, element) = match instruction.code() {
            Code::Movsb_m8_m8 => (true, Some(AccessKind::Write), 1),
            Code::Movsw_m16_m16 => (true, Some(AccessKind::Write), 2),
            Code::Movsd_m32_m32 => (true, Some(AccessKind::Write), 4),
            Code::Movsq_m64_m64 => (true, Some(AccessKind::Write), 8),
            Code::Stosb_m8_AL => (false, Some(AccessKind::Write), 1),
            Code::Stosw_m16_AX => (false, Some(AccessKind::Write), 2),
            Code::Stosd_m32_EAX => (false, Some(AccessKind::Write), 4),
            Code::Stosq_m64_RAX => (false, Some(AccessKind::Write), 8),
            Code::Lodsb_AL_m8 => (true, None, 1),
            Code::Lodsw_AX_m16 => (true, None, 2),
            Code::Lodsd_EAX_m32 => (true, None, 4),
            Code::Lodsq_RAX_m64 => (true, None, 8),
            Code::Cmpsb_m8_m8 => (true, Some(AccessKind::Read), 1),
            Code::Cmpsw_m16_m16 => (true, Some(AccessKind::Read), 2),
            Code::Cmpsd_m32_m32 => (true, Some(AccessKind::Read), 4),
            Code::Cmpsq_m64_m64 => (true, Some(AccessKind::Read), 8),
            Code::Scasb_AL_m8 => (false, Some(AccessKind::Read), 1),
            Code::Scasw_AX_m16 => (false, Some(AccessKind::Read), 2),
            Code::Scasd_EAX_m32 => (false, Some(AccessKind::Read), 4),
            Code::Scasq_RAX_m64 => (false, Some(AccessKind::Read), 8),
            _ => return None,
        };
        let conditional = dest == Some(AccessKind::Read);
        let rep = match (
            instruction.has_repe_prefix(),
            instruction.has_repne_prefix(),
        ) {
            (false, false) => RepKind::None,
            (equal, _) if conditional => RepKind::RepConditional(equal),
            _ => RepKind::Rep,
        };
        let narrow = (0..instruction.op_count()).any(|operand| {
            use iced_x86::OpKind::{MemoryESEDI, MemorySegEDI, MemorySegESI};
            matches!(
                instruction.op_kind(operand),
                MemoryESEDI | MemorySegEDI | MemorySegESI
            )
        });
        let segment = if source {
            Segment::of(instruction)
        } else {
            None
        };
        debug_assert!(segment.is_none() || instruction.memory_segment() >= Register::FS);
        Some(StringOp {
            source,
            dest,
            element,
            rep,
            narrow,
            segment,
        })
    }

    /// Number of elements that the instruction, or the next iteration of it, handles.
    fn count(&self, regs: &Regs, rep: Rep) -> u64 {
        let left = if self.narrow {
            regs.gpr[RCX] & NARROW
        } else {
            regs.gpr[RCX]
        };
        match (self.rep, rep) {
            (RepKind::None, _) => 1,
            (RepKind::Rep, Rep::Whole) => left,
            _ => left.min(1),
        }
    }

    /// Appends the accesses; the error says what is in the way.
    pub(super) fn accesses(
        &self,
        regs: &Regs,
        aux: Option<&AuxRecord>,
        rep: Rep,
        out: &mut Vec<Access>,
    ) -> Result<(), Trouble> {
        let count = self.count(regs, rep);
        if count == 0 {
            return Ok(());
        }
        let segment = Segment::base(self.segment, aux).ok_or(Trouble::NoSegmentBase)?;
        let bytes = count.checked_mul(self.element).ok_or(Trouble::TooLong)?;
        if self.narrow && bytes > NARROW {
            return Err(Trouble::TooLong);
        }
        if self.feeds_itself(regs, segment, bytes) {
            return self.one_by_one(regs, segment, count, out);
        }
        if self.source {
            let start = self.start(regs.gpr[RSI], regs, bytes);
            self.push(AccessKind::Read, segment, start, bytes, out);
        }
        if let Some(kind) = self.dest {
            let start = self.start(regs.gpr[RDI], regs, bytes);
            self.push(kind, 0, start, bytes, out);
        }
        Ok(())
    }

    /// Lowest offset of `bytes` bytes of elements that begin at `first`.
    fn start(&self, first: u64, regs: &Regs, bytes: u64) -> u64 {
        let start = if regs.rflags & DIRECTION_FLAG == 0 {
            first
        } else {
            first.wrapping_sub(bytes - self.element)
        };
        if self.narrow { start & NARROW } else { start }
    }

    /// Appends a range, in two pieces where the address wraps.
    fn push(&self, kind: AccessKind, base: u64, start: u64, bytes: u64, out: &mut Vec<Access>) {
        let end_of_space = if self.narrow { NARROW } else { u64::MAX };
        let room = (end_of_space - start).saturating_add(1);
        let head = bytes.min(room);
        for (start, len) in [(start, head), (0, bytes - head)] {
            if len > 0 {
                out.push(Access {
                    kind,
                    certain: true,
                    addr: base.wrapping_add(start),
                    len,
                });
            }
        }
    }

    /// Whether a repeated `movs` reads elements that it wrote before. Two ranges would then
    /// claim that what it read was there before it began.
    fn feeds_itself(&self, regs: &Regs, segment: u64, bytes: u64) -> bool {
        if !self.source || self.dest != Some(AccessKind::Write) || bytes <= self.element {
            return false;
        }
        let source = segment.wrapping_add(self.start(regs.gpr[RSI], regs, bytes));
        let dest = self.start(regs.gpr[RDI], regs, bytes);
        let ahead = if regs.rflags & DIRECTION_FLAG == 0 {
            dest.wrapping_sub(source)
        } else {
            source.wrapping_sub(dest)
        };
        ahead != 0 && ahead < bytes
    }

    /// The accesses of a `movs` that feeds itself, iteration by iteration.
    fn one_by_one(
        &self,
        regs: &Regs,
        segment: u64,
        count: u64,
        out: &mut Vec<Access>,
    ) -> Result<(), Trouble> {
        // Callers that ask `runs_whole` never get here with more than one element.
        const LIMIT: u64 = 1 << 16;
        if count > LIMIT {
            return Err(Trouble::TooLong);
        }
        for i in 0..count {
            let step = match regs.rflags & DIRECTION_FLAG {
                0 => i * self.element,
                _ => (i * self.element).wrapping_neg(),
            };
            let at = |register: usize| {
                let offset = regs.gpr[register].wrapping_add(step);
                if self.narrow { offset & NARROW } else { offset }
            };
            self.push(AccessKind::Read, segment, at(RSI), self.element, out);
            self.push(AccessKind::Write, 0, at(RDI), self.element, out);
        }
        Ok(())
    }
}

/// Why a string instruction's accesses are not known.
pub(super) enum Trouble {
    /// The base of fs or gs was not recorded.
    NoSegmentBase,
    /// More than the address space, or too much to list one by one.
    TooLong,
}

/// Which registers must be moved by [`DELTA`](tracer_ebpf::DELTA) to run a string instruction on
/// the host view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WholeRep {
    /// It cannot be run as a whole on the host view, or has no operand in the native view.
    No,
    /// rsi.
    Source,
    /// rdi.
    Dest,
    /// rsi and rdi.
    Both,
}

/// Where an operand's whole range lies.
#[derive(PartialEq)]
enum Place {
    Native,
    Outside,
    Across,
}

/// Whether a string instruction can be run as a whole with moved registers: every operand's range
/// must lie within the native half of one segment pair, or wholly outside the arena.
///
/// The range is that of all rcx elements for `rep movs`, `rep stos` and `rep lods`, and of one
/// element for everything else: a conditional repetition takes one fault for each element. A
/// `rep movs` that reads what it wrote itself, an address-size prefix and an `fs` or `gs`
/// override also give [`WholeRep::No`].
pub fn runs_whole(op: &StringOp, regs: &Regs, session: &Session) -> WholeRep {
    let count = op.count(regs, Rep::Whole);
    let Some(bytes) = count.checked_mul(op.element) else {
        return WholeRep::No;
    };
    if bytes == 0 || op.narrow || op.segment.is_some() || op.feeds_itself(regs, 0, bytes) {
        return WholeRep::No;
    }
    let place = |register: usize, used: bool| {
        let first = op.start(regs.gpr[register], regs, bytes);
        if used {
            place(first, bytes, session)
        } else {
            Place::Outside
        }
    };
    match (place(RSI, op.source), place(RDI, op.dest.is_some())) {
        (Place::Native, Place::Outside) => WholeRep::Source,
        (Place::Outside, Place::Native) => WholeRep::Dest,
        (Place::Native, Place::Native) => WholeRep::Both,
        _ => WholeRep::No,
    }
}

fn place(first: u64, bytes: u64, session: &Session) -> Place {
    let Some(last) = first.checked_add(bytes - 1) else {
        return Place::Across;
    };
    let arena_last = session
        .arena_base
        .saturating_add(session.arena_len.saturating_sub(1));
    if session.arena_len == 0 || last < session.arena_base || first > arena_last {
        return Place::Outside;
    }
    let half = |addr: u64| addr.wrapping_sub(session.arena_base) / SEGMENT_SIZE;
    if session.is_native(first) && session.is_native(last) && half(first) == half(last) {
        Place::Native
    } else {
        Place::Across
    }
}
