//! Effective addresses: base + index * scale + displacement, within a segment.

use iced_x86::{Instruction, Register};
use tracer_ebpf::{AuxRecord, NO_REGISTER, Regs};

/// Number of rsp in the x86 register encoding.
pub(super) const RSP: u8 = 4;
/// Number of rbp in the x86 register encoding.
pub(super) const RBP: u8 = 5;
/// Number of rdi in the x86 register encoding.
pub(super) const RDI: u8 = 7;
/// Lowest 32 bits: what an address-size prefix leaves of an address.
pub(super) const NARROW: u64 = 0xffff_ffff;

/// A segment whose base is not zero in 64-bit mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Thread-local storage on Linux.
    Fs,
    /// Free for programs on Linux.
    Gs,
}

impl Segment {
    /// The segment of an instruction's memory operand, `None` for those whose base is zero.
    pub(super) fn of(instruction: &Instruction) -> Option<Segment> {
        match instruction.memory_segment() {
            Register::FS => Some(Segment::Fs),
            Register::GS => Some(Segment::Gs),
            _ => None,
        }
    }

    /// Base address, `None` if it was not recorded.
    pub(super) fn base(segment: Option<Segment>, aux: Option<&AuxRecord>) -> Option<u64> {
        match segment {
            None => Some(0),
            Some(Segment::Fs) => aux.map(|aux| aux.fs_base),
            Some(Segment::Gs) => aux.map(|aux| aux.gs_base),
        }
    }
}

/// A register that is added in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Term {
    Zero,
    /// Number in the order of `Regs::gpr`. A 32-bit register needs no form of its own: the sum
    /// is truncated.
    Full(u8),
    /// `al`, the index of `xlat`.
    Al,
}

impl Term {
    fn new(register: Register) -> Option<Term> {
        match register {
            // The displacement of a rip-relative operand is the whole address in iced.
            Register::None | Register::RIP | Register::EIP => Some(Term::Zero),
            Register::AL => Some(Term::Al),
            _ if register.is_gpr64() || register.is_gpr32() => {
                u8::try_from(register.number()).ok().map(Term::Full)
            }
            _ => None,
        }
    }

    fn value(self, regs: &Regs) -> u64 {
        match self {
            Term::Zero => 0,
            Term::Full(number) => regs.gpr[usize::from(number & 15)],
            Term::Al => regs.gpr[0] & 0xff,
        }
    }
}

/// How to compute the address of an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    base: Term,
    index: Term,
    scale: u64,
    displacement: u64,
    narrow: bool,
    /// The segment, where its base counts.
    pub(super) segment: Option<Segment>,
}

impl Address {
    /// Address of the explicit memory operand; `None` if it is of a kind that is not handled
    /// (vector index).
    pub(super) fn of_operand(instruction: &Instruction) -> Option<Address> {
        let (base, index) = (instruction.memory_base(), instruction.memory_index());
        let narrow = base.is_gpr32()
            || index.is_gpr32()
            || base == Register::EIP
            || (base == Register::None
                && index == Register::None
                && instruction.memory_displ_size() == 4);
        Some(Address {
            base: Term::new(base)?,
            index: Term::new(index)?,
            scale: u64::from(instruction.memory_index_scale()),
            displacement: instruction.memory_displacement64(),
            narrow,
            segment: Segment::of(instruction),
        })
    }

    /// The explicit memory operand without its index, which is a vector or counts rows.
    pub(super) fn without_index(instruction: &Instruction) -> Option<Address> {
        let mut plain = *instruction;
        plain.set_memory_index(Register::None);
        Address::of_operand(&plain)
    }

    /// A general register by number plus a displacement.
    pub(super) fn register(number: u8, displacement: i64) -> Address {
        Address {
            base: Term::Full(number),
            index: Term::Zero,
            scale: 1,
            displacement: displacement as u64,
            narrow: false,
            segment: None,
        }
    }

    /// The same address, truncated to 32 bits.
    pub(super) fn narrowed(self) -> Address {
        Address {
            narrow: true,
            ..self
        }
    }

    /// The same offset, in `segment`.
    pub(super) fn within(self, segment: Option<Segment>) -> Address {
        Address { segment, ..self }
    }

    /// The same address, further up.
    pub(super) fn plus(self, distance: u64) -> Address {
        Address {
            displacement: self.displacement.wrapping_add(distance),
            ..self
        }
    }

    /// Whether rsp is the base.
    pub(super) fn is_stack_relative(&self) -> bool {
        self.base == Term::Full(RSP)
    }

    /// Numbers of the registers that it is made of, base and index, or [`NO_REGISTER`].
    pub(super) fn registers(&self) -> [u8; 2] {
        [self.base, self.index].map(|term| match term {
            Term::Zero => NO_REGISTER,
            Term::Full(number) => number & 15,
            Term::Al => 0,
        })
    }

    /// The address, `None` if it needs a segment base that was not recorded. Async-signal-safe.
    pub fn resolve(&self, regs: &Regs, aux: Option<&AuxRecord>) -> Option<u64> {
        let offset = self
            .base
            .value(regs)
            .wrapping_add(self.index.value(regs).wrapping_mul(self.scale))
            .wrapping_add(self.displacement);
        let offset = if self.narrow { offset & NARROW } else { offset };
        Some(Segment::base(self.segment, aux)?.wrapping_add(offset))
    }
}
