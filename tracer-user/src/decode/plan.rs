//! From an instruction to a plan: what to compute for each execution of it.
//!
//! The default is refusal. An instruction gets a plan if it is within the [coverage], and iced
//! reports exactly the memory operands that the plan has: an operand that only iced or only the
//! plan knows of is a refusal too.
//!
//! [coverage]: super::coverage

use iced_x86::{Code, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind};

use super::address::{Address, RBP, RSP};
use super::coverage::excluded;
use super::masked::{Masked, Verdict};
use super::refusal::Refusal;
use super::string::StringOp;
use crate::access::AccessKind;

/// What an operand undergoes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Read,
    Write,
    /// May leave the bytes alone.
    MaybeWrite,
    ReadWrite,
    /// `cmpxchg` and its like.
    ReadMaybeWrite,
}

/// One memory operand of fixed size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) at: Address,
    /// Bytes, at least 1.
    pub(super) size: u64,
    pub(super) effect: Effect,
}

/// How an instruction's accesses follow from registers.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Plan {
    /// These operands, in this order.
    Pieces(Vec<Piece>),
    /// A bit test whose bit offset, in a register, reaches beyond the operand.
    Bit { piece: Piece, register: u8 },
    /// Lanes that a mask register selects.
    Masked {
        at: Address,
        masked: Masked,
        kind: AccessKind,
    },
    /// A string instruction.
    String(StringOp),
    /// `enter` with this nesting level.
    Enter { level: u8 },
}

/// A plan and what follows from it.
pub(super) struct Planned {
    pub(super) plan: Plan,
    /// Address of the explicit memory operand, if there is one and it is accessed.
    pub(super) operand: Option<Address>,
    pub(super) touches_stack: bool,
}

impl Planned {
    fn plain(plan: Plan, operand: Option<Address>) -> Planned {
        Planned {
            plan,
            operand,
            touches_stack: false,
        }
    }
}

/// Makes the plan of a valid instruction.
pub(super) fn plan(instruction: &Instruction) -> Result<Planned, Refusal> {
    let refuse = |why| Err(Refusal::unsupported(instruction, why));
    if let Some(why) = excluded(instruction) {
        return refuse(why);
    }
    let mut factory = InstructionInfoFactory::new();
    let info = factory.info(instruction);
    let known = info.used_memory().len();
    let operand =
        (0..instruction.op_count()).find(|&operand| instruction.op_kind(operand) == OpKind::Memory);

    if let Some(op) = StringOp::of(instruction) {
        let operands = usize::from(op.source) + usize::from(op.dest.is_some());
        if known != operands {
            return refuse("its implicit operands are not understood");
        }
        return Ok(Planned::plain(Plan::String(op), None));
    }

    let mut pieces = Vec::new();
    if let Some(operand) = operand {
        let Some(at) = Address::of_operand(instruction) else {
            return refuse("it addresses memory with a vector index");
        };
        let effect = match info.op_access(operand) {
            _ if is_hint(instruction.mnemonic()) => None,
            OpAccess::NoMemAccess => None,
            OpAccess::Read => Some(Effect::Read),
            OpAccess::Write => Some(Effect::Write),
            OpAccess::ReadWrite => Some(Effect::ReadWrite),
            OpAccess::ReadCondWrite if is_compare_exchange(instruction.mnemonic()) => {
                Some(Effect::ReadMaybeWrite)
            }
            OpAccess::CondWrite if instruction.has_op_mask() => Some(Effect::Write),
            _ => return refuse("it accesses memory under a condition that is not understood"),
        };
        let Some(effect) = effect else {
            return Ok(Planned::plain(Plan::Pieces(pieces), None));
        };
        let size = instruction.memory_size().size() as u64;
        if size == 0 {
            return refuse("the size of its memory operand is not known");
        }
        if instruction.has_op_mask() {
            let kind = match effect {
                Effect::Read => AccessKind::Read,
                Effect::Write => AccessKind::Write,
                _ => return refuse("a mask on this kind of operand is not understood"),
            };
            match Masked::of(instruction) {
                Verdict::Whole => {}
                Verdict::Masked(masked) if known == 1 => {
                    return Ok(Planned::plain(Plan::Masked { at, masked, kind }, Some(at)));
                }
                _ => return refuse("which bytes its mask selects is not known"),
            }
        }
        let piece = Piece { at, size, effect };
        if is_bit_test(instruction.mnemonic()) && instruction.op1_kind() == OpKind::Register {
            let register = instruction.op1_register().number() as u8;
            return Ok(Planned::plain(Plan::Bit { piece, register }, Some(at)));
        }
        pieces.push(piece);
    }
    // `pop` computes an address relative to rsp after rsp has moved.
    if instruction.mnemonic() == Mnemonic::Pop {
        for piece in pieces
            .iter_mut()
            .filter(|piece| piece.at.is_stack_relative())
        {
            piece.at = piece.at.plus(piece.size);
        }
    }
    let operand = pieces.first().map(|piece| piece.at);
    split_fxsave(instruction, &mut pieces);
    add_movdir64b(instruction, &mut pieces);
    let touches_stack = match stack(instruction, &mut pieces) {
        Stack::Untouched => false,
        Stack::Pieces => true,
        Stack::Enter(level) => {
            return Ok(Planned {
                plan: Plan::Enter { level },
                operand: None,
                touches_stack: true,
            });
        }
    };
    let expected = match instruction.mnemonic() {
        // iced has one entry for the area, and counts the source of movdir64b twice.
        Mnemonic::Fxsave | Mnemonic::Fxsave64 => 1,
        Mnemonic::Movdir64b => known,
        _ => pieces.len(),
    };
    if known != expected {
        return refuse("its implicit operands are not understood");
    }
    Ok(Planned {
        plan: Plan::Pieces(pieces),
        operand,
        touches_stack,
    })
}

/// `fxsave` checks 512 bytes for faults but writes only the first 416 (Intel SDM volume 1,
/// table 10-2: the rest is reserved or left to software).
fn split_fxsave(instruction: &Instruction, pieces: &mut Vec<Piece>) {
    if !matches!(
        instruction.mnemonic(),
        Mnemonic::Fxsave | Mnemonic::Fxsave64
    ) {
        return;
    }
    if let [piece] = pieces[..] {
        let tail = Piece {
            at: piece.at.plus(416),
            size: piece.size - 416,
            effect: Effect::MaybeWrite,
        };
        *pieces = vec![Piece { size: 416, ..piece }, tail];
    }
}

/// The destination of `movdir64b` is a register that holds an address.
fn add_movdir64b(instruction: &Instruction, pieces: &mut Vec<Piece>) {
    if instruction.mnemonic() == Mnemonic::Movdir64b {
        let register = instruction.op0_register();
        let number = register.number() as u8;
        let at = if register.is_gpr32() {
            Address::narrow_register(number)
        } else {
            Address::register(number, 0)
        };
        pieces.push(Piece {
            at,
            size: 64,
            effect: Effect::Write,
        });
    }
}

enum Stack {
    Untouched,
    Pieces,
    Enter(u8),
}

/// Adds the implicit stack operand.
fn stack(instruction: &Instruction, pieces: &mut Vec<Piece>) -> Stack {
    let moved = i64::from(instruction.stack_pointer_increment());
    match instruction.mnemonic() {
        Mnemonic::Push | Mnemonic::Pushf | Mnemonic::Pushfq | Mnemonic::Call => {
            let size = moved.unsigned_abs();
            let at = Address::register(RSP, moved);
            pieces.push(Piece {
                at,
                size,
                effect: Effect::Write,
            });
        }
        Mnemonic::Pop | Mnemonic::Popf | Mnemonic::Popfq => {
            let size = moved.unsigned_abs();
            let at = Address::register(RSP, 0);
            pieces.insert(
                0,
                Piece {
                    at,
                    size,
                    effect: Effect::Read,
                },
            );
        }
        Mnemonic::Ret => {
            pieces.push(Piece {
                at: Address::register(RSP, 0),
                size: 8,
                effect: Effect::Read,
            });
        }
        Mnemonic::Leave => {
            let size = if instruction.code() == Code::Leaveq {
                8
            } else {
                2
            };
            pieces.push(Piece {
                at: Address::register(RBP, 0),
                size,
                effect: Effect::Read,
            });
        }
        Mnemonic::Enter => return Stack::Enter(instruction.immediate8_2nd() % 32),
        _ => return Stack::Untouched,
    }
    Stack::Pieces
}

/// Instructions that name memory but neither read nor write it.
fn is_hint(mnemonic: Mnemonic) -> bool {
    matches!(
        mnemonic,
        Mnemonic::Nop
            | Mnemonic::Clflush
            | Mnemonic::Clflushopt
            | Mnemonic::Clwb
            | Mnemonic::Cldemote
    )
}

fn is_compare_exchange(mnemonic: Mnemonic) -> bool {
    matches!(
        mnemonic,
        Mnemonic::Cmpxchg | Mnemonic::Cmpxchg8b | Mnemonic::Cmpxchg16b
    )
}

fn is_bit_test(mnemonic: Mnemonic) -> bool {
    matches!(
        mnemonic,
        Mnemonic::Bt | Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc
    )
}
