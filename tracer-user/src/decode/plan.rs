//! From an instruction to a plan: what to compute for each execution of it.
//!
//! The default is refusal. An instruction gets a plan if it is within the [coverage], and iced
//! reports exactly the memory operands that the plan has: an operand that only iced or only the
//! plan knows of is a refusal too.
//!
//! [coverage]: super::coverage

use iced_x86::{Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind};

use super::address::{Address, RSP};
use super::coverage::excluded;
use super::lanes::Lanes;
use super::masked::{Masked, Signs, Verdict};
use super::refusal::Refusal;
use super::special;
use super::stack::{Stack, stack};
use super::string::StringOp;
use super::tiles::Tiles;
use super::xsave::Form;
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
    /// Elements that a vector register selects.
    Signs {
        at: Address,
        signs: Signs,
        kind: AccessKind,
    },
    /// Lanes with an address each.
    Lanes(Lanes),
    /// A state area.
    Xsave { at: Address, form: Form },
    /// Rows of a tile.
    Tiles(Tiles),
    /// The cache line around an address is written (`clzero`).
    Line { at: Address },
    /// A string instruction.
    String(StringOp),
    /// `enter` with this nesting level, and the size of what it pushes.
    Enter { level: u8, slot: u64 },
}

/// A plan and what follows from it.
pub(super) struct Planned {
    pub(super) plan: Plan,
    /// What the processor may check for faults beyond what it accesses: so many bytes.
    pub(super) checked: Option<(Address, u64)>,
    pub(super) touches_stack: bool,
}

impl Planned {
    pub(super) fn plain(plan: Plan, checked: Option<(Address, u64)>) -> Planned {
        Planned {
            plan,
            checked,
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

    if let Some(special) = special::plan(instruction, operand.map(|it| info.op_access(it))) {
        return special.or_else(refuse);
    }

    let mut pieces = Vec::new();
    if let Some(operand) = operand {
        let Some(at) = Address::of_operand(instruction) else {
            return refuse("the address of its memory operand is not understood");
        };
        let effect = match info.op_access(operand) {
            _ if flushes(instruction.mnemonic()) => {
                return Ok(Planned::plain(Plan::Pieces(pieces), Some((at, 1))));
            }
            // Hints, now or on later processors.
            _ if matches!(
                instruction.mnemonic(),
                Mnemonic::Nop | Mnemonic::Reservednop
            ) =>
            {
                None
            }
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
                    let checked = masked.checked.then_some((at, size));
                    return Ok(Planned::plain(Plan::Masked { at, masked, kind }, checked));
                }
                _ => return refuse("which bytes its mask selects is not known"),
            }
        }
        let piece = Piece { at, size, effect };
        if is_bit_test(instruction.mnemonic()) && instruction.op1_kind() == OpKind::Register {
            let register = instruction.op1_register().number() as u8;
            return Ok(Planned::plain(Plan::Bit { piece, register }, None));
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
    split_fxsave(instruction, &mut pieces);
    add_movdir64b(instruction, &mut pieces);
    let explicit = !pieces.is_empty();
    let (touches_stack, checked) = match stack(instruction, &mut pieces) {
        Stack::Untouched => (false, None),
        Stack::Pieces { popped } => {
            let checked = (popped > 0).then(|| (Address::register(RSP, 0), popped));
            (explicit, checked)
        }
        Stack::Enter { level, slot } => {
            return Ok(Planned {
                plan: Plan::Enter { level, slot },
                checked: None,
                touches_stack: false,
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
        checked,
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
        let mut at = Address::register(number, 0);
        if register.is_gpr32() {
            at = at.narrowed();
        }
        pieces.push(Piece {
            at,
            size: 64,
            effect: Effect::Write,
        });
    }
}

/// Instructions that do something to the cache line of an address that has to be accessible, but
/// neither read nor write it.
fn flushes(mnemonic: Mnemonic) -> bool {
    matches!(
        mnemonic,
        Mnemonic::Clflush | Mnemonic::Clflushopt | Mnemonic::Clwb | Mnemonic::Cldemote
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
