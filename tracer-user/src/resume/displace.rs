//! The code that a faulting thread is sent to: its instruction, working on the host view.
//!
//! ```text
//!  original                      copy
//!  ip:   add [rbx+8], eax        add [rbx+8+DELTA], eax
//!  next: ...                     jmp [rip] ──► next
//!
//!  ip:   rep movsb               lea rsi, [rsi+DELTA]      (source in the arena)
//!  next: ...                     rep movsb
//!                                lea rsi, [rsi-DELTA]
//!                                jmp [rip] ──► next
//!
//!  ip:   repe cmpsb              lea rsi, [rsi+DELTA]      one iteration: flags decide
//!  next: ...                     cmpsb
//!                                lea rsi, [rsi-DELTA]
//!                                lea rcx, [rcx-1]
//!                                jrcxz done
//!                                jne done
//!                                jmp [rip] ──► ip
//!                          done: jmp [rip] ──► next
//! ```
//! A copy is position-independent. It needs no free register and, apart from what the instruction
//! itself does, changes no flag: `lea` and `jrcxz` leave flags alone. A signal that arrives inside
//! a copy can be attributed with [`CodeCopy::original_state`].
//!
//! What differs from running in place: the x87 instruction pointer that `fnstenv` and its like
//! store is that of the copy, and `call [m]` becomes a push and a jump, which a shadow stack would
//! not see.

use std::fmt;

use iced_x86::{Code, Decoder, DecoderOptions, Encoder, Instruction, Mnemonic, OpKind, Register};
use tracer_ebpf::DELTA;

use super::copy::{Builder, Progress};
pub use super::copy::{CodeCopy, OriginalState};
use crate::decode::{self, Decoded, Lanes, RepKind, StringOp};

const RCX: u8 = 1;
const RBX: u8 = 3;
const RSP: u8 = 4;
const RSI: u8 = 6;
const RDI: u8 = 7;

/// How an instruction is run on the host view.
#[derive(Clone, Debug)]
pub enum Form {
    /// One copy, whose explicit memory operand is [`DELTA`] further up.
    Operand {
        /// The copy.
        code: CodeCopy,
    },
    /// A string instruction. Which copy is right depends on registers:
    /// see [`runs_whole`](crate::decode::runs_whole).
    String {
        /// rsi moved, if it uses rsi.
        source: Option<CodeCopy>,
        /// rdi moved, if it uses rdi.
        dest: Option<CodeCopy>,
        /// Both moved, if it uses both.
        both: Option<CodeCopy>,
    },
    /// A gather or scatter: one copy, which is right where all lanes lie in the native view.
    Lanes {
        /// Which addresses it uses.
        lanes: Lanes,
        /// The copy.
        code: CodeCopy,
    },
    /// There is no copy: open the arena, single-step, close.
    Step {
        /// Why.
        why: StepReason,
    },
}

/// Why an instruction has no displaced copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StepReason {
    /// Only implicit memory operands (the stack), or none.
    NoOperand,
    /// More than one memory operand that may lie in the arena.
    TwoOperands,
    /// Rows of a tile, which may lie outside of the native view.
    Rows,
    /// Relative to the instruction's own address.
    RipRelative,
    /// 32-bit addresses.
    AddressSize,
    /// A string operand in `fs` or `gs`.
    Segment,
    /// The moved displacement does not fit 32 bits.
    Displacement,
    /// A branch other than a near one through memory.
    Branch,
    /// The instruction cannot be encoded anew to the same effect.
    Encoding,
}

impl fmt::Display for StepReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StepReason::NoOperand => "no explicit memory operand",
            StepReason::TwoOperands => "two memory operands",
            StepReason::Rows => "rows of a tile",
            StepReason::RipRelative => "an operand relative to the instruction",
            StepReason::AddressSize => "32-bit addresses",
            StepReason::Segment => "a string operand with a segment override",
            StepReason::Displacement => "a displacement that does not fit",
            StepReason::Branch => "a far or 16-bit branch",
            StepReason::Encoding => "an encoding that cannot be reproduced",
        })
    }
}

/// Builds the copies of an instruction.
pub fn displace(decoded: &Decoded) -> Form {
    let result = match decoded.string_op() {
        Some(op) => string(decoded, &op),
        None => operand(decoded).map(|code| match decoded.lanes() {
            Some(lanes) => Form::Lanes { lanes, code },
            None => Form::Operand { code },
        }),
    };
    result.unwrap_or_else(|why| Form::Step { why })
}

fn operand(decoded: &Decoded) -> Result<CodeCopy, StepReason> {
    let instruction = decoded.instruction();
    let mut copy = Builder::new(decoded);
    match instruction.mnemonic() {
        // Its result is the address, not what is there.
        Mnemonic::Lea => return Err(StepReason::NoOperand),
        Mnemonic::Movdir64b => return Err(StepReason::TwoOperands),
        // Rows may lie anywhere.
        Mnemonic::Tileloadd | Mnemonic::Tileloaddt1 | Mnemonic::Tilestored => {
            return Err(StepReason::Rows);
        }
        Mnemonic::Xlatb => {
            // Its index is al, so the base has to move.
            if is_narrow(instruction) {
                return Err(StepReason::AddressSize);
            }
            copy.shift(RBX, DELTA as i64);
            copy.original(&encode(instruction)?);
            copy.shift(RBX, -(DELTA as i64));
            copy.leave_to_next();
        }
        // A step would show in the flags that `pushf` pushes.
        Mnemonic::Push
        | Mnemonic::Pop
        | Mnemonic::Pushf
        | Mnemonic::Pushfq
        | Mnemonic::Popf
        | Mnemonic::Popfq
            if memory_operands(instruction) == 0 =>
        {
            if matches!(instruction.op0_register(), Register::RSP | Register::SP) {
                return Err(StepReason::NoOperand);
            }
            copy.shift(RSP, DELTA as i64);
            copy.original(&encode(instruction)?);
            copy.shift(RSP, -(DELTA as i64));
            copy.leave_to_next();
        }
        // The address is in rdi, with no displacement.
        Mnemonic::Maskmovq | Mnemonic::Maskmovdqu | Mnemonic::Vmaskmovdqu => {
            if instruction.op0_kind() != OpKind::MemorySegRDI {
                return Err(StepReason::AddressSize);
            }
            copy.shift(RDI, DELTA as i64);
            copy.original(&encode(instruction)?);
            copy.shift(RDI, -(DELTA as i64));
            copy.leave_to_next();
        }
        Mnemonic::Call => {
            if instruction.code() != Code::Call_rm64 {
                return Err(no_operand_or(instruction, StepReason::Branch));
            }
            // The push comes first, so an address relative to rsp is 8 further up.
            let mut jump = *instruction;
            jump.set_code(Code::Jmp_rm64);
            let extra = if instruction.memory_base() == Register::RSP {
                8
            } else {
                0
            };
            let jump = moved(&jump, extra)?;
            copy.mark(Progress::Before);
            copy.code.extend([0xff, 0x35]); // push qword ptr [rip+len(jump)]
            copy.code.extend((jump.len() as u32).to_le_bytes());
            copy.add[usize::from(RSP)] += 8;
            copy.original(&jump);
            copy.code.extend(copy.next.to_le_bytes());
        }
        Mnemonic::Jmp => {
            if instruction.code() != Code::Jmp_rm64 {
                return Err(no_operand_or(instruction, StepReason::Branch));
            }
            copy.original(&moved(instruction, 0)?);
        }
        _ => {
            copy.original(&moved(instruction, 0)?);
            copy.leave_to_next();
        }
    }
    Ok(copy.finish())
}

/// Why a string instruction has no copies, if it has none.
fn string_without_copies(op: &StringOp) -> Option<StepReason> {
    if op.narrow {
        Some(StepReason::AddressSize)
    } else if op.segment.is_some() {
        Some(StepReason::Segment)
    } else {
        None
    }
}

/// Whether this instruction is run by copies for strings, which make more than one iteration a
/// fault.
pub fn has_string_copies(decoded: &Decoded) -> bool {
    decoded
        .string_op()
        .is_some_and(|op| string_without_copies(&op).is_none())
}

fn string(decoded: &Decoded, op: &StringOp) -> Result<Form, StepReason> {
    if let Some(why) = string_without_copies(op) {
        return Err(why);
    }
    let mut instruction = *decoded.instruction();
    if let RepKind::RepConditional(_) = op.rep {
        instruction.set_has_repe_prefix(false);
        instruction.set_has_repne_prefix(false);
    }
    let code = encode(&instruction)?;
    let build = |registers: &[u8]| {
        let mut copy = Builder::new(decoded);
        for &register in registers {
            copy.shift(register, DELTA as i64);
        }
        copy.original(&code);
        if let RepKind::RepConditional(while_equal) = op.rep {
            copy.progress = Progress::Iterated {
                pending: 1,
                while_equal,
            };
            copy.add[usize::from(RCX)] = -1;
        }
        for &register in registers {
            copy.shift(register, -(DELTA as i64));
        }
        if let RepKind::RepConditional(while_equal) = op.rep {
            copy.one_more_or_next(while_equal);
        } else {
            copy.leave_to_next();
        }
        copy.finish()
    };
    let uses_dest = op.dest.is_some();
    Ok(Form::String {
        source: op.source.then(|| build(&[RSI])),
        dest: uses_dest.then(|| build(&[RDI])),
        both: (op.source && uses_dest).then(|| build(&[RSI, RDI])),
    })
}

fn memory_operands(instruction: &Instruction) -> usize {
    (0..instruction.op_count())
        .filter(|&operand| instruction.op_kind(operand) == OpKind::Memory)
        .count()
}

fn no_operand_or(instruction: &Instruction, why: StepReason) -> StepReason {
    if memory_operands(instruction) == 0 {
        StepReason::NoOperand
    } else {
        why
    }
}

fn is_narrow(instruction: &Instruction) -> bool {
    instruction.memory_base().is_gpr32()
        || instruction.memory_index().is_gpr32()
        || instruction.memory_base() == Register::EIP
        || instruction.memory_displ_size() == 4
            && instruction.memory_base() == Register::None
            && instruction.memory_index() == Register::None
}

/// The instruction with its explicit memory operand `DELTA + extra` further up.
pub(crate) fn moved(instruction: &Instruction, extra: i64) -> Result<Vec<u8>, StepReason> {
    match memory_operands(instruction) {
        0 => return Err(StepReason::NoOperand),
        1 => {}
        _ => return Err(StepReason::TwoOperands),
    }
    if instruction.is_ip_rel_memory_operand() {
        return Err(StepReason::RipRelative);
    }
    if is_narrow(instruction) {
        return Err(StepReason::AddressSize);
    }
    let distance = DELTA as i64 + extra;
    let before = instruction.memory_displacement64();
    let after = before.wrapping_add_signed(distance);
    // `mov` between memory at an absolute address and al, ax, eax or rax has 64 bits for it.
    let absolute = matches!(
        instruction.code(),
        Code::Mov_AL_moffs8
            | Code::Mov_AX_moffs16
            | Code::Mov_EAX_moffs32
            | Code::Mov_RAX_moffs64
            | Code::Mov_moffs8_AL
            | Code::Mov_moffs16_AX
            | Code::Mov_moffs32_EAX
            | Code::Mov_moffs64_RAX
    );
    let fits = (before as i64)
        .checked_add(distance)
        .is_some_and(|sum| i32::try_from(sum).is_ok());
    if !absolute && !fits {
        return Err(StepReason::Displacement);
    }
    let mut wanted = *instruction;
    wanted.set_memory_displacement64(after);
    // For 64-bit addresses this means a displacement of full size, sign-extended.
    wanted.set_memory_displ_size(8);
    encode(&wanted)
}

/// Encodes an instruction and makes sure that it decodes to the same again.
fn encode(instruction: &Instruction) -> Result<Vec<u8>, StepReason> {
    let mut encoder = Encoder::new(64);
    encoder
        .encode(instruction, 0)
        .map_err(|_| StepReason::Encoding)?;
    let code = encoder.take_buffer();
    let options = decode::options().unwrap_or(DecoderOptions::NONE);
    let mut back = Decoder::with_ip(64, &code, 0, options).decode();
    // How wide a displacement is encoded makes no difference to what it is.
    back.set_memory_displ_size(instruction.memory_displ_size());
    if back == *instruction && back.len() == code.len() {
        Ok(code)
    } else {
        Err(StepReason::Encoding)
    }
}

#[cfg(test)]
#[path = "displace_tests.rs"]
mod tests;
