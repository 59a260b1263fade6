//! Which code a region consists of: what direct branches reach from its entries, within the function.
//!
//! Instructions that something was translated of before are left out, and jumped to; those that cannot
//! be moved end the region, and are run where they are.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ops::Range,
};

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register,
};

use super::declined::Declined;
use crate::{
    access::AccessKind,
    decode::{self, Decoded},
    resume::{
        displace,
        safe::{self, Safe},
    },
    translate::{places::Effect, tables},
};

/// Instructions of one region at most.
const MOST: usize = 1024;
/// The same, where the end of the function is not known.
const MOST_UNBOUNDED: usize = 256;
/// Longest x86 instruction in bytes.
const LONGEST: usize = 15;

/// What becomes of an instruction.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// It is run where it is: the region ends before it.
    Leave,
    /// It is run as it is, and touches no memory but the stack and the library's own.
    Plain,
    /// It is run as it is, and may touch the arena: its fault tells then.
    InPlace,
    /// Its memory operand is checked, and logged where it lies in the arena.
    Checked(Checked),
    /// `jmp` to a constant address.
    Jump(u64),
    /// A conditional jump, by the low four bits of its opcode.
    Branch(u8, u64),
    /// `jrcxz`, `loop` and their like, which reach only so far.
    ShortBranch(u64),
    /// `call` of a constant address.
    Call(u64),
    /// `call` of a register or memory.
    CallIndirect,
    /// `jmp` to a register or memory.
    JumpIndirect,
    /// `ret`, and how many bytes it pops beside the address.
    Return(u16),
}

/// An access that is checked inline.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Checked {
    /// What happens to the bytes, in order.
    pub effects: Box<[Effect]>,
    /// How many there are.
    pub len: u64,
    /// Whether they may be written.
    pub write: bool,
    /// The instruction, with its operand in the host view.
    pub host: Box<[u8]>,
}

/// One instruction of a region.
#[derive(Clone, Debug)]
pub(super) struct Insn {
    pub(super) instruction: Instruction,
    pub(super) bytes: [u8; LONGEST],
    pub(super) kind: Kind,
}

impl Insn {
    pub(super) fn ip(&self) -> u64 {
        self.instruction.ip()
    }

    pub(super) fn next(&self) -> u64 {
        self.instruction.next_ip()
    }

    pub(super) fn code(&self) -> &[u8] {
        &self.bytes[..self.instruction.len()]
    }

    /// Whether what follows it may be run next. After a call that is so too.
    pub(super) fn goes_on(&self) -> bool {
        !matches!(
            self.kind,
            Kind::Leave | Kind::Jump(_) | Kind::JumpIndirect | Kind::Return(_)
        )
    }

    /// Where it may jump within the function.
    pub(super) fn branch(&self) -> Option<u64> {
        match self.kind {
            Kind::Jump(to) | Kind::Branch(_, to) | Kind::ShortBranch(to) => Some(to),
            _ => None,
        }
    }

    pub(super) fn is_call(&self) -> bool {
        matches!(self.kind, Kind::Call(_) | Kind::CallIndirect)
    }
}

/// The instructions of a region, by address.
pub(super) type Scan = BTreeMap<u64, Insn>;

/// Reads code of this process.
struct Reader {
    at: u64,
    bytes: Vec<u8>,
}

impl Reader {
    const WINDOW: usize = 1024;

    /// Up to 15 bytes at `ip`.
    fn read(&mut self, ip: u64, limit: &Range<u64>) -> [u8; LONGEST] {
        let inside = |at: u64, len: usize| ip >= at && ip - at + LONGEST as u64 <= len as u64;
        if !inside(self.at, self.bytes.len()) {
            let from = ip.saturating_sub(64).max(limit.start);
            let safe = Safe::promise();
            self.bytes.resize(Reader::WINDOW, 0);
            let got = safe::read_memory(safe, safe::process_id(safe), from, &mut self.bytes);
            self.bytes[got..].fill(0);
            self.at = from;
        }
        let mut out = [0; LONGEST];
        let from = (ip - self.at) as usize;
        let rest = &self.bytes[from.min(self.bytes.len())..];
        let len = rest.len().min(LONGEST);
        out[..len].copy_from_slice(&rest[..len]);
        out
    }
}

/// Scans from `entries` on, within `limit` (the function, or what is mapped where its extent is not
/// known: not `bounded`). `known` are addresses that were translated before.
pub(super) fn scan(
    entries: &[u64],
    limit: &Range<u64>,
    bounded: bool,
    known: &HashMap<u64, u64>,
    declined: &Declined,
) -> Scan {
    let most = if bounded { MOST } else { MOST_UNBOUNDED };
    let mut reader = Reader {
        at: 0,
        bytes: Vec::new(),
    };
    let mut all = Scan::new();
    let mut todo: VecDeque<u64> = entries.iter().copied().collect();
    while let Some(mut ip) = todo.pop_front() {
        while limit.contains(&ip)
            && !all.contains_key(&ip)
            && (!known.contains_key(&ip) || entries.contains(&ip))
            && all.len() < most
        {
            let bytes = reader.read(ip, limit);
            let insn = classify(ip, bytes, declined);
            todo.extend(insn.branch());
            let (goes_on, next) = (insn.goes_on(), insn.next());
            all.insert(ip, insn);
            if !goes_on {
                break;
            }
            ip = next;
        }
    }
    // Stack frames by rbp: nothing of them is in the arena, or it is found by its fault.
    let frames = all.values().any(|insn| sets_frame(&insn.instruction));
    for insn in all.values_mut() {
        if frames
            && insn.instruction.memory_base() == Register::RBP
            && matches!(insn.kind, Kind::Checked(_))
        {
            insn.kind = Kind::Plain;
        }
    }
    all
}

/// `mov rbp, rsp`, or `lea rbp, [rsp+…]`.
fn sets_frame(instruction: &Instruction) -> bool {
    instruction.op0_kind() == OpKind::Register
        && instruction.op0_register() == Register::RBP
        && match instruction.mnemonic() {
            Mnemonic::Mov => {
                instruction.op1_kind() == OpKind::Register
                    && instruction.op1_register() == Register::RSP
            }
            Mnemonic::Lea => instruction.memory_base() == Register::RSP,
            _ => false,
        }
}

fn classify(ip: u64, bytes: [u8; LONGEST], declined: &Declined) -> Insn {
    let options = decode::options().unwrap_or(DecoderOptions::NONE);
    let instruction = Decoder::with_ip(64, &bytes, ip, options).decode();
    let kind = kind_of(&instruction, &bytes, declined);
    Insn {
        instruction,
        bytes,
        kind,
    }
}

fn kind_of(instruction: &Instruction, bytes: &[u8], declined: &Declined) -> Kind {
    if instruction.is_invalid() || uses_gs(instruction) || must_stay(instruction) {
        declined.add(Declined::STAYS);
        return Kind::Leave;
    }
    match instruction.flow_control() {
        FlowControl::Next => {}
        FlowControl::UnconditionalBranch => {
            return match instruction.code() {
                Code::Jmp_rel8_64 | Code::Jmp_rel32_64 => Kind::Jump(instruction.near_branch64()),
                _ => Kind::Leave,
            };
        }
        FlowControl::ConditionalBranch => return conditional(instruction),
        FlowControl::Call => {
            return match instruction.code() {
                Code::Call_rel32_64 => Kind::Call(instruction.near_branch64()),
                _ => Kind::Leave,
            };
        }
        FlowControl::IndirectCall if instruction.code() == Code::Call_rm64 => {
            return indirect(instruction, Kind::CallIndirect);
        }
        FlowControl::IndirectBranch if instruction.code() == Code::Jmp_rm64 => {
            return indirect(instruction, Kind::JumpIndirect);
        }
        FlowControl::Return => {
            return match instruction.code() {
                Code::Retnq => Kind::Return(0),
                Code::Retnq_imm16 => Kind::Return(instruction.immediate16()),
                _ => Kind::Leave,
            };
        }
        _ => {
            declined.add(Declined::STAYS);
            return Kind::Leave;
        }
    }
    memory(instruction, bytes, declined)
}

fn conditional(instruction: &Instruction) -> Kind {
    let to = instruction.near_branch64();
    let code = instruction.code();
    if code.is_jcc_short_or_near() {
        // The last byte of the opcode ends in the condition: 0x70 to 0x7f, 0x0f80 to 0x0f8f.
        let is_64 = instruction.op0_kind() == OpKind::NearBranch64;
        let opcode = code.op_code().op_code();
        return if is_64 {
            Kind::Branch((opcode & 0xf) as u8, to)
        } else {
            Kind::Leave
        };
    }
    match code {
        Code::Jrcxz_rel8_64
        | Code::Jecxz_rel8_64
        | Code::Loop_rel8_64_RCX
        | Code::Loop_rel8_64_ECX
        | Code::Loope_rel8_64_RCX
        | Code::Loope_rel8_64_ECX
        | Code::Loopne_rel8_64_RCX
        | Code::Loopne_rel8_64_ECX => Kind::ShortBranch(to),
        _ => Kind::Leave,
    }
}

fn indirect(instruction: &Instruction, kind: Kind) -> Kind {
    let usable = match instruction.op0_kind() {
        OpKind::Register => instruction.op0_register() != Register::RSP,
        OpKind::Memory => instruction.memory_base() != Register::EIP,
        _ => false,
    };
    if usable { kind } else { Kind::Leave }
}

/// Whether it uses `gs`, which translated code has for itself.
fn uses_gs(instruction: &Instruction) -> bool {
    instruction.memory_segment() == Register::GS
        || instruction.segment_prefix() == Register::GS
        || (0..instruction.op_count()).any(|operand| {
            instruction.op_kind(operand) == OpKind::Register
                && instruction.op_register(operand).is_segment_register()
        })
        || matches!(
            instruction.mnemonic(),
            Mnemonic::Rdgsbase
                | Mnemonic::Wrgsbase
                | Mnemonic::Wrfsbase
                | Mnemonic::Swapgs
                | Mnemonic::Lgs
                | Mnemonic::Lss
                | Mnemonic::Lfs
        )
}

/// Whether it cannot be run elsewhere, or is not worth it.
fn must_stay(instruction: &Instruction) -> bool {
    matches!(
        instruction.mnemonic(),
        Mnemonic::Syscall | Mnemonic::Sysenter | Mnemonic::Popf | Mnemonic::Popfq
    )
}

/// What becomes of an instruction that does not branch: how its access is checked inline, if it has
/// one and it can be.
fn memory(instruction: &Instruction, bytes: &[u8], declined: &Declined) -> Kind {
    let base = instruction.memory_base();
    let explicit = (0..instruction.op_count()).any(|op| instruction.op_kind(op) == OpKind::Memory);
    let absolute = base == Register::None && instruction.memory_index() == Register::None;
    let elsewhere = instruction.is_ip_rel_memory_operand()
        || matches!(base, Register::RSP | Register::ESP)
        || absolute
        || instruction.memory_segment() == Register::FS;
    let Ok(decoded) = Decoded::parse(bytes, instruction.ip()) else {
        declined.add_if(explicit, Declined::NOT_EXACT);
        return Kind::InPlace;
    };
    if decoded.is_idle() {
        return Kind::Plain;
    }
    if explicit && elsewhere || decoded.uses_stack_alone() {
        // Not in the arena; if it is all the same, its fault tells.
        return Kind::Plain;
    }
    match checked(instruction, &decoded) {
        Ok(checked) => Kind::Checked(checked),
        Err(reason) => {
            declined.add(reason);
            Kind::InPlace
        }
    }
}

fn checked(instruction: &Instruction, decoded: &Decoded) -> Result<Checked, usize> {
    let accesses = decoded
        .plain_accesses()
        .ok_or(if decoded.string_op().is_some() {
            Declined::STRING
        } else {
            Declined::MORE_STATE
        })?;
    let effects: Box<[Effect]> = accesses
        .iter()
        .map(|access| Effect {
            kind: access.kind,
            certain: access.certain,
            len: access.len,
        })
        .collect();
    let len = effects.first().map_or(0, |effect| effect.len);
    if !(1..=tables::MOST).contains(&len) {
        return Err(Declined::LONG);
    }
    let host = displace::moved(instruction, 0).map_err(|_| Declined::NOT_MOVED)?;
    let write = effects
        .iter()
        .any(|effect| effect.kind == AccessKind::Write);
    Ok(Checked {
        effects,
        len,
        write,
        host: host.into(),
    })
}
