//! From instruction bytes and registers to accesses: a pure function.
//!
//! ```text
//!  bytes ──parse──► Decoded ── accesses(registers, aux) ──► reads and writes, in order
//!                      │
//!                      └─ once for each site; `accesses` runs for each fault
//! ```
//! Decoding is iced's. What the bytes do to memory is decided once, in `plan`, whose default is
//! refusal: an instruction whose accesses cannot be told exactly is a [`Refusal`], never a guess.
//! Nothing here looks at a faulting address.
//!
//! A read-modify-write gives its read first. Only a write that may not happen is not `certain`.

use iced_x86::{Decoder, DecoderOptions, Instruction};
use tracer_ebpf::{AuxRecord, Regs};

mod address;
mod coverage;
mod masked;
mod plan;
mod refusal;
mod string;

#[cfg(test)]
mod table_tests;

pub use address::Segment;
pub use refusal::Refusal;
pub use string::{Rep, RepKind, StringOp, WholeRep, runs_whole};

use crate::access::{Access, AccessKind};
use address::{Address, RBP, RSP};
use plan::{Effect, Piece, Plan, Planned};
use string::Trouble;

/// Longest x86 instruction in bytes.
pub const MAX_INSTRUCTION: usize = 15;

/// An instruction and how its accesses follow from registers.
#[derive(Clone, Debug)]
pub struct Decoded {
    instruction: Instruction,
    plan: Plan,
    operand: Option<Address>,
    needs_aux: bool,
    touches_stack: bool,
}

impl Decoded {
    /// Decodes the instruction at the start of `bytes`, which were at address `ip`. At most 15
    /// bytes are looked at.
    ///
    /// # Errors
    ///
    /// [`Refusal::Undecodable`] if the bytes are no 64-bit instruction or end too early,
    /// [`Refusal::Unsupported`] if the instruction's accesses are not known exactly.
    pub fn parse(bytes: &[u8], ip: u64) -> Result<Decoded, Refusal> {
        let bytes = &bytes[..bytes.len().min(MAX_INSTRUCTION)];
        let instruction = Decoder::with_ip(64, bytes, ip, DecoderOptions::NONE).decode();
        if instruction.is_invalid() {
            return Err(Refusal::Undecodable {
                ip,
                bytes: bytes.to_vec(),
            });
        }
        // AMD heeds an operand-size prefix on near branches, Intel does not.
        let amd = Decoder::with_ip(64, bytes, ip, DecoderOptions::AMD).decode();
        if amd != instruction || amd.len() != instruction.len() {
            return Err(Refusal::unsupported(
                &instruction,
                "processors differ in its meaning",
            ));
        }
        let Planned {
            plan,
            operand,
            touches_stack,
        } = plan::plan(&instruction)?;
        let needs_aux = match &plan {
            Plan::Pieces(pieces) => pieces.iter().any(|piece| piece.at.segment.is_some()),
            Plan::Bit { piece, .. } => piece.at.segment.is_some(),
            Plan::Masked { .. } => true,
            Plan::String(op) => op.segment.is_some(),
            Plan::Enter { .. } => false,
        };
        Ok(Decoded {
            instruction,
            plan,
            operand,
            needs_aux,
            touches_stack,
        })
    }

    /// Length of the instruction in bytes.
    #[expect(clippy::len_without_is_empty, reason = "an instruction is never empty")]
    pub fn len(&self) -> usize {
        self.instruction.len()
    }

    /// Address of the instruction.
    pub fn ip(&self) -> u64 {
        self.instruction.ip()
    }

    /// The instruction as iced sees it.
    pub fn instruction(&self) -> &Instruction {
        &self.instruction
    }

    /// The instruction in Intel syntax.
    pub fn text(&self) -> String {
        refusal::text(&self.instruction)
    }

    /// Whether [`accesses`](Decoded::accesses) needs an `AuxRecord`: for mask registers, or the
    /// base of fs or gs.
    pub fn needs_aux(&self) -> bool {
        self.needs_aux
    }

    /// The string instruction that this is, if it is one.
    pub fn string_op(&self) -> Option<StringOp> {
        match self.plan {
            Plan::String(op) => Some(op),
            _ => None,
        }
    }

    /// Whether it reads or writes the stack implicitly, as `push`, `call` and `leave` do.
    pub fn touches_stack(&self) -> bool {
        self.touches_stack
    }

    /// Address of the explicit memory operand of an instruction that has one and accesses it,
    /// before masks and bit offsets; `None` also if it needs a segment base and `aux` is `None`.
    pub fn effective_address(&self, regs: &Regs, aux: Option<&AuxRecord>) -> Option<u64> {
        self.operand?.resolve(regs, aux)
    }

    /// Appends the accesses that the instruction makes when it is executed with `regs`, in order,
    /// wherever they lie. `rep` matters for repeated string instructions only.
    ///
    /// # Errors
    ///
    /// [`Refusal::NeedsAux`] without `aux` where [`needs_aux`](Decoded::needs_aux) is true;
    /// [`Refusal::Unsupported`] where it is these registers that make the accesses inexact. `out`
    /// is then as it was.
    pub fn accesses(
        &self,
        regs: &Regs,
        aux: Option<&AuxRecord>,
        rep: Rep,
        out: &mut Vec<Access>,
    ) -> Result<(), Refusal> {
        let before = out.len();
        let result = self.append(regs, aux, rep, out);
        if result.is_err() {
            out.truncate(before);
        }
        result
    }

    fn append(
        &self,
        regs: &Regs,
        aux: Option<&AuxRecord>,
        rep: Rep,
        out: &mut Vec<Access>,
    ) -> Result<(), Refusal> {
        let resolve = |at: &Address| at.resolve(regs, aux).ok_or_else(|| self.no_segment());
        match &self.plan {
            Plan::Pieces(pieces) => {
                for piece in pieces {
                    push(piece, resolve(&piece.at)?, out);
                }
            }
            Plan::Bit { piece, register } => {
                let addr = resolve(&piece.at)?;
                push(
                    piece,
                    addr.wrapping_add(bit_distance(piece, *register, regs)),
                    out,
                );
            }
            Plan::Masked { at, masked, kind } => {
                let aux =
                    aux.ok_or_else(|| Refusal::needs_aux(&self.instruction, "its mask register"))?;
                let mask = aux.masks[usize::from(masked.register & 7)];
                if !masked.accesses(resolve(at)?, mask, *kind, out) {
                    return Err(Refusal::unsupported(
                        &self.instruction,
                        "its store checks lanes for faults that it does not write",
                    ));
                }
            }
            Plan::String(op) => {
                op.accesses(regs, aux, rep, out)
                    .map_err(|trouble| match trouble {
                        Trouble::NoSegmentBase => self.no_segment(),
                        Trouble::TooLong => Refusal::unsupported(
                            &self.instruction,
                            "it has too many iterations to be described at once",
                        ),
                    })?;
            }
            Plan::Enter { level } => enter(*level, regs, out),
        }
        Ok(())
    }

    fn no_segment(&self) -> Refusal {
        Refusal::needs_aux(&self.instruction, "the base of its segment")
    }
}

fn push(piece: &Piece, addr: u64, out: &mut Vec<Access>) {
    let mut one = |kind, certain| {
        out.push(Access {
            kind,
            certain,
            addr,
            len: piece.size,
        })
    };
    match piece.effect {
        Effect::Read => one(AccessKind::Read, true),
        Effect::Write => one(AccessKind::Write, true),
        Effect::MaybeWrite => one(AccessKind::Write, false),
        Effect::ReadWrite => {
            one(AccessKind::Read, true);
            one(AccessKind::Write, true);
        }
        Effect::ReadMaybeWrite => {
            one(AccessKind::Read, true);
            one(AccessKind::Write, false);
        }
    }
}

/// Bytes from the operand to the word that holds the bit: the offset is signed and counts bits
/// (Intel SDM volume 2, BT).
fn bit_distance(piece: &Piece, register: u8, regs: &Regs) -> u64 {
    let value = regs.gpr[usize::from(register & 15)];
    let offset = match piece.size {
        2 => i64::from(value as i16),
        4 => i64::from(value as i32),
        _ => value as i64,
    };
    let word_bits = (piece.size * 8) as i64;
    (offset.div_euclid(word_bits) as u64).wrapping_mul(piece.size)
}

/// `enter` pushes rbp, copies `level - 1` frame pointers, and pushes the new one.
fn enter(level: u8, regs: &Regs, out: &mut Vec<Access>) {
    let rsp = regs.gpr[usize::from(RSP)];
    let rbp = regs.gpr[usize::from(RBP)];
    let mut slot = rsp;
    let mut write = |out: &mut Vec<Access>| {
        slot = slot.wrapping_sub(8);
        out.push(Access {
            kind: AccessKind::Write,
            certain: true,
            addr: slot,
            len: 8,
        });
    };
    write(out);
    for outer in 1..u64::from(level) {
        let addr = rbp.wrapping_sub(8 * outer);
        out.push(Access {
            kind: AccessKind::Read,
            certain: true,
            addr,
            len: 8,
        });
        write(out);
    }
    if level > 0 {
        write(out);
    }
}
