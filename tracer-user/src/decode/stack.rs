//! Operands on the stack that an instruction does not name.

use iced_x86::{Code, Instruction, Mnemonic};

use super::address::{Address, RBP, RSP};
use super::plan::{Effect, Piece};

/// How an instruction uses the stack without naming it.
pub(super) enum Stack {
    /// Not at all.
    Untouched,
    /// The operands were added. So many bytes from rsp on are popped, and may be checked for
    /// faults, though not all of them are read; 0 if that adds nothing.
    Pieces { popped: u64 },
    /// As `enter` does, with this nesting level and size of a slot.
    Enter { level: u8, slot: u64 },
}

/// Bytes of a slot on the stack that are read for a segment register.
const SELECTOR: u64 = 2;

/// Adds the implicit stack operands.
pub(super) fn stack(instruction: &Instruction, pieces: &mut Vec<Piece>) -> Stack {
    let moved = i64::from(instruction.stack_pointer_increment());
    let at_rsp = |displacement: i64, size: u64, effect| Piece {
        at: Address::register(RSP, displacement),
        size,
        effect,
    };
    // What a far transfer pushes or pops: slots of the operand size.
    let slot = match instruction.code() {
        Code::Retfw | Code::Retfw_imm16 | Code::Iretw | Code::Call_m1616 => 2,
        Code::Retfd | Code::Retfd_imm16 | Code::Iretd | Code::Call_m1632 => 4,
        _ => 8,
    };
    let mut popped = 0;
    let far = |(above, size)| at_rsp(above * slot as i64, size, Effect::Read);
    match instruction.mnemonic() {
        Mnemonic::Call if instruction.is_call_far_indirect() => {
            for below in [1, 2] {
                pieces.push(at_rsp(-below * slot as i64, slot, Effect::Write));
            }
        }
        Mnemonic::Push | Mnemonic::Pushf | Mnemonic::Pushfq | Mnemonic::Call => {
            pieces.push(at_rsp(moved, moved.unsigned_abs(), Effect::Write));
        }
        Mnemonic::Pop if instruction.op0_register().is_segment_register() => {
            pieces.push(at_rsp(0, SELECTOR, Effect::Read));
            popped = moved.unsigned_abs();
        }
        Mnemonic::Pop | Mnemonic::Popf | Mnemonic::Popfq => {
            let size = moved.unsigned_abs();
            pieces.insert(0, at_rsp(0, size, Effect::Read));
        }
        Mnemonic::Ret => pieces.push(at_rsp(0, 8, Effect::Read)),
        Mnemonic::Retf => {
            pieces.extend([(0, slot), (1, SELECTOR)].map(far));
            popped = 2 * slot;
        }
        Mnemonic::Iret | Mnemonic::Iretd | Mnemonic::Iretq => {
            pieces.extend([(0, slot), (1, SELECTOR), (2, slot), (3, slot)].map(far));
            pieces.push(far((4, SELECTOR)));
            popped = 5 * slot;
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
        Mnemonic::Enter => {
            let slot = if instruction.code() == Code::Enterq_imm16_imm8 {
                8
            } else {
                2
            };
            let level = instruction.immediate8_2nd() % 32;
            return Stack::Enter { level, slot };
        }
        _ => return Stack::Untouched,
    }
    Stack::Pieces { popped }
}
