//! Runs: straight code whose accesses by the same registers are looked at together.
//!
//! ```text
//!  mov eax, [rsi]        private from rsi to rsi+12? ──yes──► all three as they were
//!  add eax, [rsi+4]                                  └─no───► each with its own check
//!  add eax, [rsi+8]
//! ```
//! Code that mostly works on memory of its own would pay most of its time for looks, one an access.
//! Which accesses those are is guessed: the ones that never faulted. A wrong guess costs one look
//! more, and changes nothing else.

use std::collections::{HashMap, HashSet};

use iced_x86::{Instruction, InstructionInfoFactory, OpAccess, Register};

use super::{
    asm::{Condition, Gpr, Label},
    emit::{CannotEncode, Emitter, borrow},
    live::Live,
    scan::{Insn, Kind, Scan},
    tables::{SEGMENT_BITS, Tables},
};

/// Instructions of a run at most.
const LONGEST: usize = 256;
/// Distance of its accesses at most: much less than a segment, so that two segments hold them.
const FAR: i64 = 1 << 20;

/// Registers that make up an address, beside a displacement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Base {
    base: Register,
    index: Register,
    scale: u32,
}

/// What one look of a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    base: Base,
    /// Lowest displacement of its accesses.
    low: i64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Run {
    /// How many instructions, one after the other.
    pub(super) len: usize,
    /// Addresses of those that need no check of their own where the looks find private memory.
    pub(super) members: HashSet<u64>,
    looks: Vec<Look>,
}

/// Finds the runs of a region, by the addresses that they begin at. `targets` is where it is jumped
/// or come to; `touched` says of which instructions it is known that they touched the arena.
pub(super) fn find(
    scan: &Scan,
    live: &HashMap<u64, Live>,
    targets: &HashSet<u64>,
    touched: &dyn Fn(u64) -> bool,
) -> HashMap<u64, Run> {
    let insns: Vec<&Insn> = scan.values().collect();
    let mut factory = InstructionInfoFactory::new();
    let mut runs = HashMap::new();
    let mut at = 0;
    while at < insns.len() {
        let first = insns[at];
        let usable = live[&first.ip()].before.flags == 0;
        let run = base_of(first, touched)
            .filter(|_| usable)
            .and_then(|base| run(&mut factory, straight(&insns[at..], targets), base, touched));
        at += run.as_ref().map_or(1, |run| run.len);
        runs.extend(run.map(|run| (first.ip(), run)));
    }
    runs
}

/// The instructions that follow the first, without a branch to or from between.
fn straight<'a>(insns: &'a [&'a Insn], targets: &HashSet<u64>) -> &'a [&'a Insn] {
    let simple = |insn: &Insn| matches!(insn.kind, Kind::Plain | Kind::Checked(_));
    let more = insns.windows(2).take(LONGEST).take_while(|pair| {
        let (before, insn) = (pair[0], pair[1]);
        before.next() == insn.ip() && simple(insn) && !targets.contains(&insn.ip())
    });
    &insns[..=more.count()]
}

/// A run from the first of these instructions to the last that goes by `base`, if that is worth it.
fn run(
    factory: &mut InstructionInfoFactory,
    insns: &[&Insn],
    base: Base,
    touched: &dyn Fn(u64) -> bool,
) -> Option<Run> {
    // Of each combination of registers, its accesses until one of the registers changes.
    let mut open: Vec<(Base, Vec<usize>)> = vec![(base, Vec::new())];
    let mut written = 0u16;
    for (index, insn) in insns.iter().enumerate() {
        if let Some(base) = base_of(insn, touched)
            && written & base.registers() == 0
        {
            match open.iter_mut().find(|(known, _)| *known == base) {
                Some((_, members)) => members.push(index),
                None => open.push((base, vec![index])),
            }
        }
        written |= writes(factory, &insn.instruction);
        if written & base.registers() != 0 {
            break;
        }
    }
    let len = open[0].1.last()? + 1;
    let (mut members, mut looks) = (HashSet::new(), Vec::new());
    for (base, all) in open {
        let within = all.iter().take_while(|index| **index < len);
        let within: Vec<&Insn> = within.map(|index| insns[*index]).collect();
        let places = || within.iter().map(|insn| displacement(insn));
        let (Some(low), Some(high)) = (places().min(), places().max()) else {
            continue;
        };
        if within.len() >= 2 && high - low < FAR && i32::try_from(low).is_ok() {
            members.extend(within.iter().map(|insn| insn.ip()));
            looks.push(Look { base, low });
        }
    }
    (looks.first()?.base == base).then_some(Run {
        len,
        members,
        looks,
    })
}

/// The registers of an access that is checked, and thought to be private.
fn base_of(insn: &Insn, touched: &dyn Fn(u64) -> bool) -> Option<Base> {
    let instruction = &insn.instruction;
    let base = Base {
        base: instruction.memory_base(),
        index: instruction.memory_index(),
        scale: instruction.memory_index_scale(),
    };
    let is_64 = |register: Register| register == Register::None || register.is_gpr64();
    let good = matches!(insn.kind, Kind::Checked(_))
        && base.base.is_gpr64()
        && is_64(base.index)
        && !touched(insn.ip());
    good.then_some(base)
}

fn displacement(insn: &Insn) -> i64 {
    insn.instruction.memory_displacement64() as i64
}

/// Registers that an instruction may change.
fn writes(factory: &mut InstructionInfoFactory, instruction: &Instruction) -> u16 {
    let changed = |access: OpAccess| {
        !matches!(
            access,
            OpAccess::None | OpAccess::NoMemAccess | OpAccess::Read | OpAccess::CondRead
        )
    };
    let used = factory.info(instruction).used_registers().iter();
    used.filter(|used| used.register().is_gpr() && changed(used.access()))
        .fold(0, |all, used| all | bit(used.register()))
}

fn bit(register: Register) -> u16 {
    if register.is_gpr() {
        1 << register.full_register().number()
    } else {
        0
    }
}

impl Base {
    fn registers(self) -> u16 {
        bit(self.base) | bit(self.index)
    }
}

impl Run {
    /// Emits its looks, which go to `other` unless all of them find private memory. What is saved for
    /// them still is where they end, either way. `live` is of the first instruction; flags are not
    /// needed there.
    pub(super) fn looks(
        &self,
        emitter: &mut Emitter,
        tables: &Tables,
        live: &Live,
        other: Label,
    ) -> Result<(), CannotEncode> {
        let bases = self.looks.iter().map(|look| look.base.registers());
        let mut taken = bases.fold(0, |all, registers| all | registers);
        taken |= emitter.pointer().map_or(0, |number| 1 << number);
        let needed = live.before.registers & !emitter.free();
        let mut one = |emitter: &mut Emitter| -> Result<Gpr, CannotEncode> {
            let (register, needed) = borrow(taken, needed).ok_or(CannotEncode)?;
            taken |= 1 << register;
            if needed {
                emitter.save(register);
            }
            Ok(register)
        };
        let (segment, found) = (one(emitter)?, one(emitter)?);
        for Look { base, low } in &self.looks {
            emitter.address_of(segment, base.base, base.index, base.scale, *low)?;
            let asm = &mut emitter.asm;
            asm.rotate_right(segment, segment, SEGMENT_BITS);
            asm.mov32(segment, segment);
            // This segment and the next: what follows within less than a segment is in one of them.
            asm.load_table(found, segment, tables.segments());
            asm.or_table(found, segment, tables.segments() + 8);
            asm.jump_if(Condition::NotEqual, other);
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "runs_tests.rs"]
mod tests;
