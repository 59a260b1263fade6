//! Which registers and status flags are still needed, by instruction.
//!
//! What is not may be overwritten without being saved. Whatever leaves the region needs everything:
//! original code and code that is found only when it runs may be hand-written, and keep to no
//! convention.

use std::collections::HashMap;

use iced_x86::{Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, RflagsBits};

use super::scan::{Insn, Kind, Scan};

/// Registers, a bit each by number, and status flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Set {
    pub(super) registers: u16,
    pub(super) flags: u32,
}

/// Status flags: what a comparison changes.
const STATUS: u32 = RflagsBits::OF
    | RflagsBits::SF
    | RflagsBits::ZF
    | RflagsBits::AF
    | RflagsBits::CF
    | RflagsBits::PF;

const ALL: Set = Set {
    registers: u16::MAX,
    flags: STATUS,
};

/// What an instruction does to registers and flags.
#[derive(Clone, Copy, Debug, Default)]
struct Use {
    read: Set,
    /// Certainly overwritten, all of it.
    killed: Set,
    /// All registers that it has to do with.
    touched: u16,
}

/// What is known of an instruction.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Live {
    /// Needed by it, or after it.
    pub(super) before: Set,
    /// Needed after it.
    pub(super) after: Set,
    /// Registers that it has to do with.
    pub(super) touched: u16,
}

/// Finds what is needed, for all instructions of a region.
pub(super) fn live(scan: &Scan) -> HashMap<u64, Live> {
    let mut factory = InstructionInfoFactory::new();
    let uses: HashMap<u64, Use> = scan
        .iter()
        .map(|(ip, insn)| (*ip, use_of(&mut factory, &insn.instruction)))
        .collect();
    let mut all: HashMap<u64, Live> = scan.keys().map(|ip| (*ip, Live::default())).collect();
    loop {
        let mut changed = false;
        for (ip, insn) in scan.iter().rev() {
            let used = &uses[ip];
            let after = after(insn, &all);
            let before = if insn.kind == Kind::Leave {
                ALL
            } else {
                Set {
                    registers: after.registers & !used.killed.registers | used.read.registers,
                    flags: after.flags & !used.killed.flags | used.read.flags,
                }
            };
            let now = Live {
                before,
                after,
                touched: used.touched,
            };
            let known = all.entry(*ip).or_default();
            if (known.before, known.after) != (before, after) {
                changed = true;
            }
            *known = now;
        }
        if !changed {
            return all;
        }
    }
}

fn after(insn: &Insn, all: &HashMap<u64, Live>) -> Set {
    // Where a call goes is unknown code, and so is where it comes back to its caller's.
    if insn.is_call() || matches!(insn.kind, Kind::Return(_) | Kind::JumpIndirect) {
        return ALL;
    }
    let needed_at = |ip: u64| all.get(&ip).map_or(ALL, |live| live.before);
    let mut set = Set::default();
    let next = insn.goes_on().then(|| insn.next());
    for ip in next.into_iter().chain(insn.branch()) {
        let there = needed_at(ip);
        set.registers |= there.registers;
        set.flags |= there.flags;
    }
    set
}

fn use_of(factory: &mut InstructionInfoFactory, instruction: &Instruction) -> Use {
    let mut out = Use::default();
    let info = factory.info(instruction);
    for used in info.used_registers() {
        let register = used.register();
        if !register.is_gpr() {
            continue;
        }
        let bit = 1u16 << register.full_register().number();
        out.touched |= bit;
        match used.access() {
            OpAccess::Read | OpAccess::CondRead => out.read.registers |= bit,
            OpAccess::Write => {
                // A 32-bit result clears the rest, a smaller one keeps it.
                if register.is_gpr64() || register.is_gpr32() {
                    out.killed.registers |= bit;
                } else {
                    out.read.registers |= bit;
                }
            }
            OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite => {
                out.read.registers |= bit;
            }
            OpAccess::None | OpAccess::NoMemAccess => {}
        }
    }
    // What is read is needed, whatever else is written of it.
    out.killed.registers &= !out.read.registers;
    out.read.flags = instruction.rflags_read() & STATUS;
    if !may_leave_flags(instruction) {
        // What is undefined may in truth be left as it was.
        let written =
            instruction.rflags_written() | instruction.rflags_cleared() | instruction.rflags_set();
        out.killed.flags = written & STATUS & !out.read.flags;
    }
    out
}

/// Shifts by nothing, and repetitions of none, leave the flags alone.
fn may_leave_flags(instruction: &Instruction) -> bool {
    use Mnemonic as M;
    match instruction.mnemonic() {
        M::Shl
        | M::Shr
        | M::Sar
        | M::Sal
        | M::Rol
        | M::Ror
        | M::Rcl
        | M::Rcr
        | M::Shld
        | M::Shrd => {
            let count = instruction.op_count() - 1;
            match instruction.op_kind(count) {
                OpKind::Immediate8 => {
                    instruction.immediate8() & 0x3f == 0 || instruction.immediate8() & 0x1f == 0
                }
                _ => true,
            }
        }
        _ => instruction.has_rep_prefix() || instruction.has_repne_prefix(),
    }
}

#[cfg(test)]
#[path = "live_tests.rs"]
mod tests;
