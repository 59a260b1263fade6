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
use tracer_ebpf::{DELTA, Regs};

use crate::decode::{Decoded, RepKind, StringOp};

const RCX: u8 = 1;
const RBX: u8 = 3;
const RSP: u8 = 4;
const RSI: u8 = 6;
const RDI: u8 = 7;
const ZERO_FLAG: u64 = 1 << 6;

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
    /// A vector register as index.
    VectorIndex,
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
            StepReason::VectorIndex => "a vector index",
            StepReason::RipRelative => "an operand relative to the instruction",
            StepReason::AddressSize => "32-bit addresses",
            StepReason::Segment => "a string operand with a segment override",
            StepReason::Displacement => "a displacement that does not fit",
            StepReason::Branch => "a far or 16-bit branch",
            StepReason::Encoding => "an encoding that cannot be reproduced",
        })
    }
}

/// A copy: position-independent code that ends in a jump out of it.
#[derive(Clone, Debug)]
pub struct CodeCopy {
    /// The machine code.
    pub code: Vec<u8>,
    /// Offset of the copied instruction itself: a fault of the copy is a fault at this offset.
    pub insn_offset: usize,
    marks: Vec<Mark>,
    ip: u64,
    next: u64,
}

/// What holds at an instruction boundary of a copy.
#[derive(Clone, Debug)]
struct Mark {
    offset: usize,
    progress: Progress,
    /// What must be added to registers.
    add: [i64; 16],
}

#[derive(Clone, Copy, Debug)]
enum Progress {
    /// The original has not been executed (or, a repeated one, not to the end).
    Before,
    /// It has.
    After,
    /// One iteration has, and whether there is another depends on rcx, from which so much is
    /// still to be taken, and on the zero flag being as given.
    Iterated { pending: u64, while_equal: bool },
}

/// The state of the original code that a state inside a copy stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginalState {
    /// Address in original code.
    pub rip: u64,
    /// What must be added to each register, in the order of `Regs::gpr`.
    pub add: [i64; 16],
}

impl OriginalState {
    /// Turns the registers of a thread inside the copy into those of the original.
    pub fn apply(&self, regs: &mut Regs) {
        regs.rip = self.rip;
        for (register, add) in regs.gpr.iter_mut().zip(self.add) {
            *register = register.wrapping_add_signed(add);
        }
    }
}

impl CodeCopy {
    /// The original state of a thread whose rip is `offset` bytes into the copy, with these
    /// registers (of which only rcx and the flags count, after an iteration of `cmps` or
    /// `scas`). `None` if no instruction of the copy begins there. Does not allocate.
    pub fn original_state(&self, offset: usize, regs: &Regs) -> Option<OriginalState> {
        let mark = self.marks.iter().find(|mark| mark.offset == offset)?;
        let rip = match mark.progress {
            Progress::Before => self.ip,
            Progress::After => self.next,
            Progress::Iterated {
                pending,
                while_equal,
            } => {
                let left = regs.gpr[usize::from(RCX)].wrapping_sub(pending);
                let equal = regs.rflags & ZERO_FLAG != 0;
                if left != 0 && equal == while_equal {
                    self.ip
                } else {
                    self.next
                }
            }
        };
        Some(OriginalState { rip, add: mark.add })
    }

    /// Offsets at which an instruction of the copy begins.
    pub fn boundaries(&self) -> impl Iterator<Item = usize> + '_ {
        self.marks.iter().map(|mark| mark.offset)
    }
}

/// Builds the copies of an instruction.
pub fn displace(decoded: &Decoded) -> Form {
    let result = match decoded.string_op() {
        Some(op) => string(decoded, &op),
        None => operand(decoded).map(|code| Form::Operand { code }),
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

fn string(decoded: &Decoded, op: &StringOp) -> Result<Form, StepReason> {
    if op.narrow {
        return Err(StepReason::AddressSize);
    }
    if op.segment.is_some() {
        return Err(StepReason::Segment);
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

/// Puts a copy together, with a mark at each instruction.
struct Builder {
    code: Vec<u8>,
    insn_offset: usize,
    marks: Vec<Mark>,
    progress: Progress,
    add: [i64; 16],
    ip: u64,
    next: u64,
}

impl Builder {
    fn new(decoded: &Decoded) -> Builder {
        Builder {
            code: Vec::new(),
            insn_offset: 0,
            marks: Vec::new(),
            progress: Progress::Before,
            add: [0; 16],
            ip: decoded.ip(),
            next: decoded.ip().wrapping_add(decoded.len() as u64),
        }
    }

    /// The next instruction begins here.
    fn mark(&mut self, progress: Progress) {
        self.progress = progress;
        self.marks.push(Mark {
            offset: self.code.len(),
            progress,
            add: self.add,
        });
    }

    /// The copied instruction.
    fn original(&mut self, code: &[u8]) {
        self.insn_offset = self.code.len();
        self.mark(Progress::Before);
        self.code.extend_from_slice(code);
        self.progress = Progress::After;
    }

    /// `lea register, [register + distance]`, which leaves the flags alone.
    fn shift(&mut self, register: u8, distance: i64) {
        self.mark(self.progress);
        let displacement = distance as i32;
        self.code
            .extend([0x48, 0x8d, 0x80 | register << 3 | register]);
        self.code.extend(displacement.to_le_bytes());
        self.add[usize::from(register)] -= distance;
    }

    /// Jump to the instruction after the original.
    fn leave_to_next(&mut self) {
        self.mark(Progress::After);
        self.jump(self.next);
    }

    /// `jmp [rip+0]` and the address.
    fn jump(&mut self, target: u64) {
        self.code.extend([0xff, 0x25, 0, 0, 0, 0]);
        self.code.extend(target.to_le_bytes());
    }

    /// The end of an iteration of `repe` (`while_equal`) or `repne`.
    fn one_more_or_next(&mut self, while_equal: bool) {
        const JUMP_LEN: u8 = 14;
        self.mark(self.progress);
        self.code.extend([0x48, 0x8d, 0x49, 0xff]); // lea rcx, [rcx-1]
        self.add[usize::from(RCX)] = 0;
        self.mark(Progress::Iterated {
            pending: 0,
            while_equal,
        });
        self.code.extend([0xe3, 2 + JUMP_LEN]); // jrcxz done
        self.mark(Progress::Iterated {
            pending: 0,
            while_equal,
        });
        let unless = if while_equal { 0x75 } else { 0x74 };
        self.code.extend([unless, JUMP_LEN]); // jne or je done
        self.mark(Progress::Before);
        self.jump(self.ip);
        self.leave_to_next();
    }

    fn finish(self) -> CodeCopy {
        let Builder {
            code,
            insn_offset,
            marks,
            ip,
            next,
            ..
        } = self;
        CodeCopy {
            code,
            insn_offset,
            marks,
            ip,
            next,
        }
    }
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
fn moved(instruction: &Instruction, extra: i64) -> Result<Vec<u8>, StepReason> {
    match memory_operands(instruction) {
        0 => return Err(StepReason::NoOperand),
        1 => {}
        _ => return Err(StepReason::TwoOperands),
    }
    if instruction.is_vsib() {
        return Err(StepReason::VectorIndex);
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
    let mut back = Decoder::with_ip(64, &code, 0, DecoderOptions::NONE).decode();
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
