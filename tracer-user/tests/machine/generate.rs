//! Cases of an instruction form: memory operands at the edges of pages, contents that the
//! instruction accepts.
//!
//! The account of a draft, whose operands lie somewhere, tells how far they reach; the operands
//! are then moved so that the account begins or ends exactly at the edge of a page, or crosses it
//! by one byte.

use iced_x86::{Code, Mnemonic};
use tracer_user::decode::{Decoded, Refusal};

use crate::case::Case;
use crate::claim::Claim;
use crate::operands::{Aim, RSP, build, tile_config};
use crate::random::Random;
use crate::world::{PAGE, World, ZONE_PAGES};

/// Why there is no case.
#[derive(Debug)]
pub(crate) enum NoCase {
    /// These choices cannot be encoded, or make no sense: others may.
    Unlucky,
    /// The bytes mean another instruction on this processor.
    Another,
    /// The decoder refuses it.
    Refused(Refusal),
}

/// A random case of `code`. `aligned` keeps operands at multiples of their size.
pub(crate) fn case(
    code: Code,
    random: &mut Random,
    world: &World,
    aligned: bool,
) -> Result<Case, NoCase> {
    let zones = world.zones();
    let first = random.below(4) as usize;
    let second = (first + 1 + random.below(4) as usize) % zones.len();
    let (first, second) = if random.once_in(8) {
        (zones.len() - 1, first)
    } else {
        (first, second)
    };
    let mut order = zones.clone();
    order.swap(0, first);
    let middle = |zone: usize| zones[zone].base + ZONE_PAGES / 2 * PAGE;
    let mut aim = Aim {
        at: [middle(first), middle(second)],
        zones: order,
        choices: random.next(),
    };
    let draft = build(code, &aim, world).ok_or(NoCase::Unlucky)?;
    let decoded = Decoded::parse(&draft.code, draft.regs.rip).map_err(|refusal| match refusal {
        // Registers that must differ are the same.
        Refusal::Undecodable { .. } => NoCase::Unlucky,
        refusal => NoCase::Refused(refusal),
    })?;
    if decoded.instruction().code() != code {
        return Err(NoCase::Another);
    }
    let draft = contents(draft, code, &aim, world, &mut random.clone());
    let claim = Claim::of(&draft, world).map_err(NoCase::Refused)?;
    if decoded.lanes().is_none() {
        for (anchor, zone) in [first, second].into_iter().enumerate() {
            let mut ranges = claim
                .ranges()
                .filter(|(addr, len)| world.zone_of(*addr, *len) == Some(zone))
                .peekable();
            // A bit offset may lead anywhere.
            let anywhere = anchor == 0
                && claim
                    .ranges()
                    .all(|(addr, len)| world.zone_of(addr, len).is_none());
            let (low, high) = if anywhere {
                edges(claim.ranges())
            } else if ranges.peek().is_some() {
                edges(ranges)
            } else {
                continue;
            };
            let to = place(random, middle(zone), high.wrapping_sub(low), aligned);
            aim.at[anchor] = aim.at[anchor].wrapping_add(to.wrapping_sub(low));
        }
    }
    let placed = build(code, &aim, world).ok_or(NoCase::Unlucky)?;
    let placed = contents(placed, code, &aim, world, random);
    let claim = Claim::of(&placed, world).map_err(NoCase::Refused)?;
    let inside = claim
        .ranges()
        .all(|(addr, len)| world.zone_of(addr, len).is_some());
    if inside {
        Ok(placed)
    } else {
        Err(NoCase::Unlucky)
    }
}

fn edges(ranges: impl Iterator<Item = (u64, u64)>) -> (u64, u64) {
    ranges.fold((u64::MAX, 0), |(low, high), (addr, len)| {
        (low.min(addr), high.max(addr.wrapping_add(len)))
    })
}

/// Where `len` bytes shall begin, near `middle`, which is the edge of a page.
fn place(random: &mut Random, middle: u64, len: u64, aligned: bool) -> u64 {
    if aligned {
        let unit = len.next_power_of_two().clamp(1, 64);
        return match random.below(3) {
            0 => middle,
            1 => middle - len.next_multiple_of(unit),
            _ => middle - random.below(PAGE / unit) * unit,
        };
    }
    match random.below(6) {
        0 => middle,
        1 => middle - len,
        2 => (middle + 1).wrapping_sub(len),
        3 => middle - 1,
        4 => middle - random.below(len.max(1)),
        _ => middle + random.below(PAGE),
    }
}

/// Fills in what the instruction has to find in memory to run through.
fn contents(mut case: Case, code: Code, aim: &Aim, world: &World, random: &mut Random) -> Case {
    use Mnemonic as M;
    let operand = aim.at[0];
    let stack = case.regs.gpr[RSP];
    let stub = world.stub();
    let near = world.near_stub().unwrap_or(0);
    let mut put = |addr: u64, bytes: &[u8]| case.memory.push((addr, bytes.to_vec()));
    const CODE_SELECTOR: u64 = 0x33;
    const DATA_SELECTOR: u64 = 0x2b;
    let slot = match code {
        Code::Retfw | Code::Retfw_imm16 | Code::Iretw => 2,
        Code::Retfd | Code::Retfd_imm16 | Code::Iretd => 4,
        _ => 8,
    };
    let target = if slot == 2 { near } else { stub };
    match code {
        Code::Call_rm64 | Code::Jmp_rm64 => put(operand, &stub.to_le_bytes()),
        Code::Call_m1616 | Code::Jmp_m1616 => {
            put(operand, &(near as u16).to_le_bytes());
            put(operand + 2, &(CODE_SELECTOR as u16).to_le_bytes());
        }
        Code::Call_m1632 | Code::Jmp_m1632 => {
            put(operand, &(stub as u32).to_le_bytes());
            put(operand + 4, &(CODE_SELECTOR as u16).to_le_bytes());
        }
        Code::Call_m1664 | Code::Jmp_m1664 => {
            put(operand, &stub.to_le_bytes());
            put(operand + 8, &(CODE_SELECTOR as u16).to_le_bytes());
        }
        Code::Lss_r16_m1616 | Code::Lfs_r16_m1616 | Code::Lgs_r16_m1616 => {
            put(operand + 2, &(DATA_SELECTOR as u16).to_le_bytes());
        }
        Code::Lss_r32_m1632 | Code::Lfs_r32_m1632 | Code::Lgs_r32_m1632 => {
            put(operand + 4, &(DATA_SELECTOR as u16).to_le_bytes());
        }
        Code::Lss_r64_m1664 | Code::Lfs_r64_m1664 | Code::Lgs_r64_m1664 => {
            put(operand + 8, &(DATA_SELECTOR as u16).to_le_bytes());
        }
        Code::Mov_Sreg_rm16 | Code::Mov_Sreg_r32m16 | Code::Mov_Sreg_r64m16 => {
            put(operand, &[random.of(&[0, DATA_SELECTOR]) as u8, 0]);
        }
        _ => {}
    }
    let mut frame = |words: &[u64]| {
        for (word, at) in words.iter().zip((stack..).step_by(slot)) {
            put(at, &word.to_le_bytes()[..slot]);
        }
    };
    match code.mnemonic() {
        M::Ret => frame(&[stub]),
        M::Retf => frame(&[target, CODE_SELECTOR]),
        M::Iret | M::Iretd | M::Iretq => {
            frame(&[target, CODE_SELECTOR, 0x202, stack & 0x7fff, DATA_SELECTOR]);
        }
        M::Popf | M::Popfq => frame(&[0x202 | random.next() & 0x8d5]),
        M::Pop
            if code
                .op_code()
                .op_kinds()
                .iter()
                .any(|kind| matches!(format!("{kind:?}").as_str(), "fs" | "gs")) =>
        {
            frame(&[0])
        }
        M::Ldmxcsr | M::Vldmxcsr => put(operand, &0x1f80u32.to_le_bytes()),
        M::Fldcw | M::Fldenv | M::Frstor => put(operand, &0x37fu16.to_le_bytes()),
        M::Fxrstor | M::Fxrstor64 => {
            put(operand, &0x37fu16.to_le_bytes());
            put(operand + 24, &0x1fa0u32.to_le_bytes());
        }
        M::Xrstor | M::Xrstor64 => {
            put(operand, &0x37fu16.to_le_bytes());
            put(operand + 24, &0x1fa0u32.to_le_bytes());
            let mut header = [0; 64];
            let enabled = crate::hardware::tracked() & 0xe7;
            let present = random.next() & enabled;
            header[..8].copy_from_slice(&present.to_le_bytes());
            if random.once_in(2) {
                let compacted = 1 << 63 | present | random.next() & enabled;
                header[8..16].copy_from_slice(&u64::to_le_bytes(compacted));
            }
            put(operand + 512, &header);
        }
        M::Ldtilecfg => put(operand, &tile_config(random)),
        // Equal up to somewhere, so that repetitions go on.
        M::Cmpsb | M::Cmpsw | M::Cmpsd | M::Cmpsq | M::Scasb | M::Scasw | M::Scasd | M::Scasq
            if !random.once_in(3) =>
        {
            const AROUND: usize = 512;
            let same = vec![0x5a; 2 * AROUND];
            let mut other = same.clone();
            other[random.below(2 * AROUND as u64) as usize] = 0;
            put(aim.at[0] - AROUND as u64, &same);
            put(aim.at[1] - AROUND as u64, &other);
            if matches!(code.mnemonic(), M::Scasb | M::Scasw | M::Scasd | M::Scasq) {
                case.regs.gpr[0] = 0x5a5a_5a5a_5a5a_5a5a;
            }
        }
        M::Cmpxchg if random.once_in(2) => put(operand, &case.regs.gpr[0].to_le_bytes()),
        M::Cmpxchg8b | M::Cmpxchg16b if random.once_in(2) => {
            let half = if code.mnemonic() == M::Cmpxchg8b {
                4
            } else {
                8
            };
            put(operand, &case.regs.gpr[0].to_le_bytes()[..half]);
            put(
                operand + half as u64,
                &case.regs.gpr[2].to_le_bytes()[..half],
            );
        }
        _ => {}
    }
    case.memory
        .retain(|(addr, bytes)| world.zone_of(*addr, bytes.len() as u64).is_some());
    case
}
