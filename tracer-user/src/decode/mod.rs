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
#[cfg(doc)]
use tracer_ebpf::NO_REGISTER;
use tracer_ebpf::{AuxRecord, Regs};

mod address;
mod coverage;
mod lanes;
mod machine;
mod masked;
mod needs;
mod plan;
mod refusal;
mod special;
mod stack;
mod string;
mod tiles;
mod xsave;

#[cfg(test)]
mod table_tests;

pub use address::{Address, Segment};
pub use lanes::Lanes;
pub(crate) use machine::options;
pub use needs::{Needs, Source, peek};
pub use refusal::Refusal;
pub use string::{Rep, RepKind, StringOp, WholeRep, runs_whole};

use crate::access::{Access, AccessKind};
use address::{RBP, RSP};
use plan::{Effect, Piece, Plan, Planned};
use string::Trouble;

/// Longest x86 instruction in bytes.
const MAX_INSTRUCTION: usize = 15;

/// An instruction and how its accesses follow from registers.
#[derive(Clone, Debug)]
pub struct Decoded {
    instruction: Instruction,
    plan: Plan,
    checked: Option<(Address, u64)>,
    needs: Needs,
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
        let as_read_by = |options| Decoder::with_ip(64, bytes, ip, options).decode();
        let instruction = as_read_by(options().unwrap_or(DecoderOptions::NONE));
        if instruction.is_invalid() {
            return Err(Refusal::Undecodable {
                ip,
                bytes: bytes.to_vec(),
            });
        }
        let amd = as_read_by(DecoderOptions::AMD);
        if options().is_none() && (amd != instruction || amd.len() != instruction.len()) {
            return Err(Refusal::unsupported(
                &instruction,
                "processors differ in its meaning",
            ));
        }
        let Planned {
            plan,
            checked,
            touches_stack,
        } = plan::plan(&instruction)?;
        let touches = !matches!(&plan, Plan::Pieces(pieces) if pieces.is_empty());
        let needs = if touches || checked.is_some() {
            Needs::of(&instruction)
        } else {
            Needs::default()
        };
        Ok(Decoded {
            instruction,
            plan,
            checked,
            needs,
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

    /// What an `AuxRecord` must hold for [`accesses`](Decoded::accesses).
    pub fn needs(&self) -> Needs {
        self.needs
    }

    /// Whether [`accesses`](Decoded::accesses) needs an `AuxRecord`.
    pub fn needs_aux(&self) -> bool {
        self.needs.any()
    }

    /// The gather or scatter that this is, if it is one.
    pub fn lanes(&self) -> Option<Lanes> {
        match self.plan {
            Plan::Lanes(lanes) => Some(lanes),
            _ => None,
        }
    }

    /// What the processor may check for faults in an execution with `regs`, beyond what it
    /// accesses: address and length in bytes. A cache flush does so, and a store that checks the
    /// lanes that its mask leaves out.
    pub fn checked(&self, regs: &Regs, aux: Option<&AuxRecord>) -> Option<(u64, u64)> {
        match &self.plan {
            Plan::Xsave { at, form } => Some((at.resolve(regs, aux)?, form.checked(regs))),
            Plan::Enter { level, slot } => {
                // Whether the new stack pointer could be written at (Intel SDM volume 2, ENTER).
                let pushed = (u64::from(*level) + 1) * slot;
                let frame = u64::from(self.instruction.immediate16());
                let stack = regs.gpr[usize::from(RSP)];
                Some((stack.wrapping_sub(pushed).wrapping_sub(frame), 1))
            }
            _ => {
                let (at, len) = self.checked?;
                Some((at.resolve(regs, aux)?, len))
            }
        }
    }

    /// Whether a fault at `addr` can be one of an execution with `regs`, whose `accesses` are
    /// given: it lies in one of them, or in what is [`checked`](Decoded::checked).
    pub fn explains(
        &self,
        regs: &Regs,
        aux: Option<&AuxRecord>,
        accesses: &[Access],
        addr: u64,
    ) -> bool {
        let checked = self.checked(regs, aux);
        let ranges = accesses.iter().map(|access| (access.addr, access.len));
        ranges
            .chain(checked)
            .any(|(first, len)| addr.wrapping_sub(first) < len)
    }

    /// Whether it accesses no memory, and checks none for faults.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(&self.plan, Plan::Pieces(pieces) if pieces.is_empty()) && self.checked.is_none()
    }

    /// Whether all that it accesses is at the stack pointer.
    pub(crate) fn uses_stack_alone(&self) -> bool {
        matches!(&self.plan, Plan::Pieces(pieces)
            if pieces.iter().all(|piece| piece.at.is_stack_relative()))
    }

    /// What it does to the bytes at its explicit memory operand, as accesses to address 0, in
    /// order: where that is all that it accesses, and all of it is known beforehand.
    pub(crate) fn plain_accesses(&self) -> Option<Vec<Access>> {
        let piece = self.only_piece()?;
        if Address::of_operand(&self.instruction) != Some(piece.at) {
            return None;
        }
        let mut accesses = Vec::new();
        push(piece, 0, &mut accesses);
        Some(accesses)
    }

    /// Numbers of the base and the index register, in the order of `Regs::gpr` or [`NO_REGISTER`],
    /// where all that it accesses is at one address, which follows from those two alone. It may
    /// read what is there, write it, or both.
    pub(crate) fn address_registers(&self) -> Option<[u8; 2]> {
        self.only_piece().map(|piece| piece.at.registers())
    }

    /// The one place that it accesses, where general registers alone say where that is.
    fn only_piece(&self) -> Option<&Piece> {
        match &self.plan {
            Plan::Pieces(pieces)
                if !self.touches_stack && self.checked.is_none() && !self.needs.any() =>
            {
                match &pieces[..] {
                    [piece] => Some(piece),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// The string instruction that this is, if it is one.
    pub fn string_op(&self) -> Option<StringOp> {
        match self.plan {
            Plan::String(op) => Some(op),
            _ => None,
        }
    }

    /// Whether it also reads or writes the stack, beside an explicit memory operand, as `push [m]`
    /// and `call [m]` do.
    pub fn touches_stack(&self) -> bool {
        self.touches_stack
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
                let aux = aux.ok_or_else(|| self.missing("its mask register"))?;
                let mask = aux.masks[usize::from(masked.register & 7)];
                masked.accesses(resolve(at)?, mask, *kind, out);
            }
            Plan::Signs { at, signs, kind } => {
                let aux = aux.ok_or_else(|| self.missing("the vector that selects its bytes"))?;
                signs.accesses(resolve(at)?, &aux.vectors[1], *kind, out);
            }
            Plan::Lanes(lanes) => {
                let aux = aux.ok_or_else(|| self.missing("the vector of its indices"))?;
                if !lanes.accesses(regs, aux, out) {
                    return Err(self.no_segment());
                }
            }
            Plan::Xsave { at, form } => {
                if self.needs.any() && aux.is_none() {
                    return Err(self.missing("the header of its area"));
                }
                form.accesses(resolve(at)?, regs, aux, out)
                    .map_err(|why| Refusal::unsupported(&self.instruction, why))?;
            }
            Plan::Tiles(tiles) => {
                let aux = aux.ok_or_else(|| self.missing("the configuration of its tile"))?;
                tiles
                    .accesses(regs, aux, out)
                    .map_err(|why| Refusal::unsupported(&self.instruction, why))?;
            }
            Plan::Line { at } => out.push(Access {
                kind: AccessKind::Write,
                certain: true,
                addr: resolve(at)? & !63,
                len: 64,
            }),
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
            Plan::Enter { level, slot } => enter(*level, *slot, regs, out),
        }
        Ok(())
    }

    fn no_segment(&self) -> Refusal {
        self.missing("the base of its segment")
    }

    fn missing(&self, what: &'static str) -> Refusal {
        Refusal::needs_aux(&self.instruction, what)
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
fn enter(level: u8, size: u64, regs: &Regs, out: &mut Vec<Access>) {
    let rsp = regs.gpr[usize::from(RSP)];
    let rbp = regs.gpr[usize::from(RBP)];
    let mut slot = rsp;
    let mut write = |out: &mut Vec<Access>| {
        slot = slot.wrapping_sub(size);
        out.push(Access {
            kind: AccessKind::Write,
            certain: true,
            addr: slot,
            len: size,
        });
    };
    write(out);
    for outer in 1..u64::from(level) {
        let addr = rbp.wrapping_sub(size * outer);
        out.push(Access {
            kind: AccessKind::Read,
            certain: true,
            addr,
            len: size,
        });
        write(out);
    }
    if level > 0 {
        write(out);
    }
}
