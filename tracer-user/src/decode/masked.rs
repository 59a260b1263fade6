//! Masks: which bytes of a contiguous memory operand the active lanes touch.
//!
//! ```text
//!  vmovdqu8 [rax]{k1}, zmm0     k1 = ...0111_0011   ──► [rax, rax+2), [rax+4, rax+7)
//!  vpcompressd [rax]{k1}, zmm0  k1 = ...0111_0011   ──► [rax, rax+20)
//! ```
//! Which rule holds for which mnemonic is a table, `tables/masked.txt`. What it does not name is
//! refused.

use std::collections::HashMap;
use std::sync::LazyLock;

use iced_x86::{Instruction, Mnemonic, OpKind};

use crate::access::{Access, AccessKind};

/// A section of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// Lane by lane; a lane is so many elements.
    Lane(u32),
    Shift,
    Whole,
    Packed,
    Fold,
    Full,
}

static TABLE: LazyLock<HashMap<Mnemonic, Rule>> =
    LazyLock::new(|| read_table(include_str!("tables/masked.txt")));

fn read_table(text: &str) -> HashMap<Mnemonic, Rule> {
    let names: HashMap<String, Mnemonic> = Mnemonic::values()
        .map(|mnemonic| (format!("{mnemonic:?}").to_ascii_lowercase(), mnemonic))
        .collect();
    let mut rule = None;
    let mut table = HashMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        rule = match line {
            "[lane]" => Some(Rule::Lane(1)),
            "[lane2]" => Some(Rule::Lane(2)),
            "[lane4]" => Some(Rule::Lane(4)),
            "[shift]" => Some(Rule::Shift),
            "[whole]" => Some(Rule::Whole),
            "[packed]" => Some(Rule::Packed),
            "[fold]" => Some(Rule::Fold),
            "[full]" => Some(Rule::Full),
            _ => {
                for word in line.split_whitespace() {
                    // An unknown word or section is left out, and so refused; a test checks
                    // that there is none.
                    if let (Some(mnemonic), Some(rule)) = (names.get(word), rule) {
                        table.insert(*mnemonic, rule);
                    }
                }
                rule
            }
        };
    }
    table
}

/// How active lanes lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// Element i for lane i.
    Spread,
    /// One element for each active lane, contiguous.
    Packed,
    /// So many elements, again and again.
    Repeated(u32),
}

/// The masked memory operand of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Masked {
    /// Number of the mask register, 1 to 7.
    pub(super) register: u8,
    shape: Shape,
    /// Bytes of memory for a lane.
    unit: u64,
    /// Number of lanes, 1 to 64.
    lanes: u32,
    /// Whether the processor checks the whole operand for faults.
    pub(super) checked: bool,
}

/// What the table says of an instruction with a mask.
pub(super) enum Verdict {
    /// The mask does not matter: the whole operand is touched.
    Whole,
    /// It does.
    Masked(Masked),
    /// Not in the table.
    Refused,
}

impl Masked {
    /// Looks an EVEX instruction with a mask and a memory operand up.
    pub(super) fn of(instruction: &Instruction) -> Verdict {
        let Some(rule) = TABLE.get(&instruction.mnemonic()) else {
            return Verdict::Refused;
        };
        let size = instruction.memory_size();
        let last = instruction.op_count().saturating_sub(1);
        let (elements_a_lane, shape) = match rule {
            Rule::Whole => return Verdict::Whole,
            Rule::Shift if instruction.op_kind(last) != OpKind::Immediate8 => {
                return Verdict::Whole;
            }
            Rule::Shift => (1, Shape::Spread),
            Rule::Lane(elements) => (*elements, Shape::Spread),
            Rule::Packed => (1, Shape::Packed),
            Rule::Full => (1, Shape::Spread),
            Rule::Fold => (1, Shape::Repeated(size.element_count() as u32)),
        };
        // An embedded broadcast reads one element on behalf of all lanes.
        let (full_size, shape) = if instruction.is_broadcast() {
            (instruction.op_code().memory_size(), Shape::Repeated(1))
        } else {
            (size, shape)
        };
        let unit = (full_size.element_size() as u64) * u64::from(elements_a_lane);
        let bytes = match rule {
            // Lanes are those of the destination register.
            Rule::Fold => instruction.op0_register().size() as u64,
            _ => full_size.size() as u64,
        };
        let register = instruction.op_mask().number();
        if unit == 0 || bytes % unit != 0 || !(1..=7).contains(&register) {
            return Verdict::Refused;
        }
        let lanes = bytes / unit;
        if !(1..=64).contains(&lanes) {
            return Verdict::Refused;
        }
        Verdict::Masked(Masked {
            register: register as u8,
            shape,
            unit,
            lanes: lanes as u32,
            checked: *rule == Rule::Full,
        })
    }

    /// Appends the accesses of the active lanes at `addr`.
    pub(super) fn accesses(&self, addr: u64, mask: u64, kind: AccessKind, out: &mut Vec<Access>) {
        let all = u64::MAX >> (64 - self.lanes);
        let mut active = mask & all;
        match self.shape {
            Shape::Spread => {}
            Shape::Packed => {
                let count = active.count_ones();
                active = all & u64::MAX.checked_shr(64 - count).unwrap_or(0);
            }
            Shape::Repeated(elements) => {
                let mut folded = 0;
                let chunk = u64::MAX >> (64 - elements.clamp(1, 64));
                while active != 0 {
                    folded |= active & chunk;
                    active = active.checked_shr(elements).unwrap_or(0);
                }
                active = folded;
            }
        }
        runs(addr, active, self.unit, kind, out);
    }
}

/// A contiguous operand whose elements are selected by the sign bits of a vector register, as
/// those of `vmaskmovps` and `maskmovdqu` are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Signs {
    /// Bytes of an element, in memory and in the vector.
    pub(super) unit: u64,
    /// Number of elements, at most 16.
    pub(super) lanes: u32,
}

impl Signs {
    /// Appends the accesses of the selected elements at `addr`.
    pub(super) fn accesses(
        &self,
        addr: u64,
        vector: &[u8; 64],
        kind: AccessKind,
        out: &mut Vec<Access>,
    ) {
        let unit = self.unit as usize;
        let selected = |lane: &u32| {
            let last = *lane as usize * unit + unit - 1;
            vector.get(last).is_some_and(|byte| byte & 0x80 != 0)
        };
        let active = (0..self.lanes)
            .filter(selected)
            .fold(0, |active, lane| active | 1 << lane);
        runs(addr, active, self.unit, kind, out);
    }
}

/// Appends one access for each run of active lanes of `unit` bytes.
fn runs(addr: u64, mut active: u64, unit: u64, kind: AccessKind, out: &mut Vec<Access>) {
    while active != 0 {
        let first = active.trailing_zeros();
        let run = (active >> first).trailing_ones();
        out.push(Access {
            kind,
            certain: true,
            addr: addr.wrapping_add(u64::from(first) * unit),
            len: u64::from(run) * unit,
        });
        active &= u64::MAX.checked_shl(first + run).unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_the_table_is_a_mnemonic_named_once() {
        let text = include_str!("tables/masked.txt");
        let words: Vec<&str> = text
            .lines()
            .filter(|line| !line.starts_with(['#', '[']))
            .flat_map(str::split_whitespace)
            .collect();
        assert_eq!(words.len(), TABLE.len());
    }
}
