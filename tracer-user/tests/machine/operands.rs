//! Operands for an instruction form: random registers, immediates and prefixes; memory operands
//! are made in `addressing`.

use iced_x86::{Code, Encoder, Instruction, Mnemonic, OpCodeInfo, OpKind, Register};

use crate::case::Case;
use crate::hardware::{fs_base, has_segment_bases};
use crate::random::Random;
use crate::world::{World, Zone};

const RBX: usize = 3;
pub(crate) const RSP: usize = 4;
const RBP: usize = 5;
pub(crate) const LOW: u64 = 0xffff_ffff;

/// Where memory operands shall be.
#[derive(Clone, Debug)]
pub(crate) struct Aim {
    /// The explicit operand or the source, and the destination or the stack.
    pub(crate) at: [u64; 2],
    /// Zones that lanes of a gather or scatter may lie in.
    pub(crate) zones: Vec<Zone>,
    /// Seed of all other choices: the same one gives the same instruction.
    pub(crate) choices: u64,
}

/// An instruction under construction.
pub(crate) struct Draft<'a> {
    pub(crate) random: Random,
    pub(crate) aim: &'a Aim,
    pub(crate) case: Case,
    pub(crate) instruction: Instruction,
    /// General registers whose value is settled.
    pub(crate) settled: [bool; 16],
    pub(crate) narrow: bool,
    pub(crate) segment: u64,
}

/// Builds a case of `code`; `None` where these choices cannot be encoded.
pub(crate) fn build(code: Code, aim: &Aim, world: &World) -> Option<Case> {
    let mut random = Random::new(aim.choices);
    let mut case = Case {
        seed: random.next(),
        ..Case::default()
    };
    case.regs.rip = world.code_at(random.next());
    case.regs.gpr = std::array::from_fn(|_| random.value());
    // All status flags and the direction flag, at random.
    case.regs.rflags = 0x202 | random.next() & 0x8d5;
    if random.once_in(3) {
        case.regs.rflags |= 1 << 10;
    }
    if random.once_in(4) {
        case.absent = random.next() & 0xe6;
    }
    for mask in &mut case.masks {
        *mask = match random.below(8) {
            0 => u64::MAX,
            1 => 1 << random.below(64),
            2 => 1 << random.below(8),
            3 => 0,
            4 => random.next() & random.next() & random.next(),
            _ => random.next(),
        };
    }
    let narrow = random.once_in(6);
    let mut draft = Draft {
        random,
        aim,
        case,
        instruction: Instruction::default(),
        settled: [false; 16],
        narrow,
        segment: 0,
    };
    draft.instruction.set_code(code);
    draft.prefixes(code.op_code());
    for operand in 0..code.op_code().op_count() {
        draft.operand(code, operand, world)?;
    }
    draft.implicit(code);
    draft.finish()
}

impl Draft<'_> {
    pub(crate) fn settle(&mut self, register: usize, value: u64) -> Option<()> {
        if self.settled[register] && self.case.regs.gpr[register] != value {
            return None;
        }
        self.settled[register] = true;
        self.case.regs.gpr[register] = value;
        Some(())
    }

    fn prefixes(&mut self, op: &OpCodeInfo) {
        let instruction = &mut self.instruction;
        if op.can_use_lock_prefix() && self.random.once_in(3) {
            instruction.set_has_lock_prefix(true);
        }
        if op.can_use_repne_prefix() && self.random.once_in(3) {
            instruction.set_has_repne_prefix(true);
        } else if (op.can_use_rep_prefix()) && self.random.once_in(2) {
            instruction.set_has_rep_prefix(true);
        }
        if op.require_op_mask_register() || op.can_use_op_mask_register() && !self.random.once_in(3)
        {
            instruction.set_op_mask(Register::K1 + self.random.below(7) as u32);
            if op.can_use_zeroing_masking() && self.random.once_in(3) {
                instruction.set_zeroing_masking(true);
            }
        }
        if op.can_broadcast() && self.random.once_in(3) {
            instruction.set_is_broadcast(true);
        }
        // The source of a string instruction and every explicit operand may have one.
        let segments = [
            Register::ES,
            Register::CS,
            Register::SS,
            Register::DS,
            Register::FS,
        ];
        let segment = match self.random.below(12) {
            0 => Some(self.random.of(&segments)),
            1 if has_segment_bases() => Some(Register::GS),
            _ => None,
        };
        if let Some(segment) = segment {
            instruction.set_segment_prefix(segment);
            self.segment = match segment {
                Register::FS => fs_base(),
                Register::GS if self.narrow => self.random.below(1 << 24),
                Register::GS => self.random.next() >> 17,
                _ => 0,
            };
            if segment == Register::GS {
                self.case.gs = self.segment;
            }
        }
    }

    /// A general register of `size` bytes.
    fn general(&mut self, size: u64) -> Register {
        let number = self.random.below(16) as u32;
        match size {
            1 => Register::AL + self.random.below(20) as u32,
            2 => Register::AX + number,
            4 => Register::EAX + number,
            _ => Register::RAX + number,
        }
    }

    fn operand(&mut self, code: Code, operand: u32, world: &World) -> Option<()> {
        let kind = format!("{:?}", code.op_code().op_kind(operand));
        let wide_bank = |random: &mut Random, first: Register| {
            first
                + random.below(
                    if code.op_code().encoding() == iced_x86::EncodingKind::EVEX {
                        32
                    } else {
                        16
                    },
                ) as u32
        };
        let register = match kind.as_str() {
            "seg_rSI" | "es_rDI" | "seg_rDI" => return self.string(operand, &kind),
            "seg_rBX_al" => {
                let al = self.case.regs.gpr[0] & 0xff;
                let at = self.aim.at[0].wrapping_sub(self.segment).wrapping_sub(al);
                let at = self.wide(at);
                self.settle(0, self.case.regs.gpr[0])?;
                self.settle(RBX, at)?;
                let base = if self.narrow {
                    Register::EBX
                } else {
                    Register::RBX
                };
                self.instruction.set_op_kind(operand, OpKind::Memory);
                self.instruction.set_memory_base(base);
                self.instruction.set_memory_index(Register::AL);
                return Some(());
            }
            "mem_offs" => {
                let at = self.aim.at[0].wrapping_sub(self.segment);
                self.instruction.set_op_kind(operand, OpKind::Memory);
                self.instruction
                    .set_memory_displ_size(if self.narrow { 4 } else { 8 });
                self.instruction.set_memory_displacement64(at);
                return (!self.narrow || at <= LOW).then_some(());
            }
            _ if kind.starts_with("mem_vsib") => return self.vector_index(code, operand, &kind),
            "r32_reg_mem" | "r64_reg_mem" => {
                let number = self.random.below(16) as usize;
                let narrow = kind == "r32_reg_mem";
                let value = if narrow {
                    self.aim.at[1] & LOW | self.random.next() & !LOW
                } else {
                    self.aim.at[1]
                };
                if narrow != self.narrow {
                    return None;
                }
                self.settle(number, value)?;
                if narrow {
                    Register::EAX + number as u32
                } else {
                    Register::RAX + number as u32
                }
            }
            _ if kind.contains("mem") => return self.memory(operand, kind.starts_with("sibmem")),
            _ if kind.starts_with("imm") || kind.starts_with("br") => {
                return self.immediate(operand, &kind, world);
            }
            "r8_reg" | "r8_opcode" => self.general(1),
            _ if kind.starts_with("r16") => self.general(2),
            _ if kind.starts_with("r32") => self.general(4),
            _ if kind.starts_with("r64") => self.general(8),
            "seg_reg" => self
                .random
                .of(&[Register::ES, Register::DS, Register::FS, Register::GS]),
            _ if kind.starts_with("xmmp3") => Register::XMM4,
            _ if kind.starts_with("zmmp3") => Register::ZMM4,
            _ if kind.starts_with("xmm") => wide_bank(&mut self.random, Register::XMM0),
            _ if kind.starts_with("ymm") => wide_bank(&mut self.random, Register::YMM0),
            _ if kind.starts_with("zmm") => wide_bank(&mut self.random, Register::ZMM0),
            _ if kind.starts_with("mm") => Register::MM0 + self.random.below(8) as u32,
            "kp1_reg" => Register::K2,
            _ if kind.starts_with("k_") => Register::K0 + self.random.below(8) as u32,
            _ if kind.starts_with("tmm") => Register::TMM0 + self.random.below(8) as u32,
            "sti_opcode" => Register::ST0 + self.random.below(8) as u32,
            "st0" => Register::ST0,
            "al" => Register::AL,
            "cl" => Register::CL,
            "ax" => Register::AX,
            "dx" => Register::DX,
            "eax" => Register::EAX,
            "rax" => Register::RAX,
            "es" => Register::ES,
            "cs" => Register::CS,
            "ss" => Register::SS,
            "ds" => Register::DS,
            "fs" => Register::FS,
            "gs" => Register::GS,
            _ => return None,
        };
        self.instruction.set_op_kind(operand, OpKind::Register);
        self.instruction.set_op_register(operand, register);
        Some(())
    }

    fn immediate(&mut self, operand: u32, kind: &str, world: &World) -> Option<()> {
        let any = self.random.next();
        let instruction = &mut self.instruction;
        match kind {
            "imm8" => {
                // The second immediate of `enter` is one of its own.
                if operand == 1 && instruction.op0_kind() == OpKind::Immediate16 {
                    instruction.set_op1_kind(OpKind::Immediate8_2nd);
                    instruction.set_immediate8_2nd((any % 34) as u8);
                } else {
                    instruction.set_op_kind(operand, OpKind::Immediate8);
                    instruction.set_immediate8(any as u8);
                }
            }
            "imm4_m2z" => {
                instruction.set_op_kind(operand, OpKind::Immediate8);
                instruction.set_immediate8(any as u8 & 3);
            }
            "imm8_const_1" => {
                instruction.set_op_kind(operand, OpKind::Immediate8);
                instruction.set_immediate8(1);
            }
            "imm8sex16" => {
                instruction.set_op_kind(operand, OpKind::Immediate8to16);
                instruction.set_immediate8to16(any as i8 as i16);
            }
            "imm8sex32" => {
                instruction.set_op_kind(operand, OpKind::Immediate8to32);
                instruction.set_immediate8to32(any as i8 as i32);
            }
            "imm8sex64" => {
                instruction.set_op_kind(operand, OpKind::Immediate8to64);
                instruction.set_immediate8to64(any as i8 as i64);
            }
            "imm16" => {
                instruction.set_op_kind(operand, OpKind::Immediate16);
                // What `enter` and `ret` add to rsp.
                instruction.set_immediate16(any as u16 & 0x3ff);
            }
            "imm32" => {
                instruction.set_op_kind(operand, OpKind::Immediate32);
                instruction.set_immediate32(any as u32);
            }
            "imm32sex64" => {
                instruction.set_op_kind(operand, OpKind::Immediate32to64);
                instruction.set_immediate32to64(any as i32 as i64);
            }
            "br64_4" => {
                instruction.set_op_kind(operand, OpKind::NearBranch64);
                instruction.set_near_branch64(world.stub());
            }
            "br16_2" => {
                instruction.set_op_kind(operand, OpKind::NearBranch16);
                instruction.set_near_branch16(world.near_stub()? as u16);
            }
            _ => return None,
        }
        Some(())
    }

    /// Registers that the instruction uses without naming them.
    fn implicit(&mut self, code: Code) {
        let stack = code.op_code().is_stack_instruction()
            || matches!(
                code.mnemonic(),
                Mnemonic::Retf
                    | Mnemonic::Iret
                    | Mnemonic::Iretd
                    | Mnemonic::Iretq
                    | Mnemonic::Call
                    | Mnemonic::Enter
                    | Mnemonic::Leave
                    | Mnemonic::Ret
            );
        let first = usize::from(
            self.instruction
                .op_kinds()
                .any(|kind| kind == OpKind::Memory),
        );
        if stack && !self.settled[RSP] {
            let frame = matches!(code.mnemonic(), Mnemonic::Leave | Mnemonic::Enter);
            if frame {
                self.case.regs.gpr[RBP] = self.aim.at[0];
                self.case.regs.gpr[RSP] = self.aim.at[1];
            } else {
                self.case.regs.gpr[RSP] = self.aim.at[first];
            }
            self.settled[RSP] = true;
        }
        match code.mnemonic() {
            // Quotients that fit.
            Mnemonic::Div | Mnemonic::Idiv => {
                let _ = self.settle(2, 0);
                if !self.settled[0] {
                    self.case.regs.gpr[0] &= 0x7f;
                }
            }
            // All components, or some.
            Mnemonic::Xsave
            | Mnemonic::Xsave64
            | Mnemonic::Xsaveopt
            | Mnemonic::Xsaveopt64
            | Mnemonic::Xsavec
            | Mnemonic::Xsavec64
            | Mnemonic::Xrstor
            | Mnemonic::Xrstor64
                // The protection keys are not to be changed.
                if !self.settled[0] => {
                    self.case.regs.gpr[0] &= !(1 << 9);
            }
            _ => {}
        }
        if matches!(
            code.mnemonic(),
            Mnemonic::Tileloadd
                | Mnemonic::Tileloaddt1
                | Mnemonic::Tilestored
                | Mnemonic::Sttilecfg
        ) {
            self.case.tiles = tile_config(&mut self.random);
        }
    }

    fn finish(mut self) -> Option<Case> {
        // Only registers can be zeroed.
        if self.instruction.op0_kind() == OpKind::Memory {
            self.instruction.set_zeroing_masking(false);
        }
        let mut encoder = Encoder::new(64);
        encoder.encode(&self.instruction, self.case.regs.rip).ok()?;
        self.case.code = encoder.take_buffer();
        Some(self.case)
    }
}

/// A configuration of palette 1.
pub(crate) fn tile_config(random: &mut Random) -> [u8; 64] {
    let mut config = [0; 64];
    config[0] = 1;
    for tile in 0..8 {
        config[16 + 2 * tile] = 1 + random.below(64) as u8;
        config[48 + tile] = 1 + random.below(16) as u8;
    }
    config
}
