//! Gathers and scatters: one address for each lane.
//!
//! ```text
//!  vgatherdps ymm0, [rax + ymm1*4], ymm2     lane i: rax + 4 * ymm1[i], if ymm2[i] is negative
//!  vscatterdps [rax + zmm1*4]{k1}, zmm0      lane i: rax + 4 * zmm1[i], if k1[i] is set
//! ```
//! A lane that is done is taken out of the mask before a fault on a later one is delivered (Intel
//! SDM volume 2, VGATHERDPS: "the destination register and the mask register are partially
//! updated"), so the mask at a fault shows exactly the lanes that are still to come.

use iced_x86::{Instruction, OpAccess, OpKind, Register};
use tracer_ebpf::{AuxRecord, Regs, Session};

use super::address::Address;
use crate::access::{Access, AccessKind};

/// What selects lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Select {
    /// A mask register, by number.
    Mask(u8),
    /// The sign bits of a vector of elements of this many bytes.
    Signs(usize),
}

/// A gather or a scatter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lanes {
    /// The address without the index, before it is truncated to the address size.
    base: Address,
    scale: u64,
    /// Whether indices have 64 bits, not 32.
    wide: bool,
    /// Bytes of an element in memory.
    element: u64,
    count: usize,
    select: Select,
    kind: AccessKind,
}

impl Lanes {
    /// The lanes of an instruction with a vector index; `None` if they are not understood.
    /// `access` is what the instruction does to memory.
    pub(super) fn of(instruction: &Instruction, access: OpAccess) -> Option<Lanes> {
        let element = instruction.memory_size().size() as u64;
        if !matches!(element, 4 | 8) {
            return None;
        }
        let (kind, data) = match access {
            OpAccess::Read | OpAccess::CondRead => (AccessKind::Read, instruction.op0_register()),
            OpAccess::Write | OpAccess::CondWrite => {
                (AccessKind::Write, instruction.op1_register())
            }
            _ => return None,
        };
        let mask = instruction.op_mask();
        let select = if mask != Register::None {
            Select::Mask(mask.number() as u8)
        } else if kind == AccessKind::Read && instruction.op2_kind() == OpKind::Register {
            Select::Signs(element as usize)
        } else {
            return None;
        };
        let wide = instruction.is_vsib64();
        let indices = instruction.memory_index().size() / if wide { 8 } else { 4 };
        Some(Lanes {
            base: Address::without_index(instruction)?,
            scale: u64::from(instruction.memory_index_scale()),
            wide,
            element,
            count: indices.min(data.size() / element as usize),
            select,
            kind,
        })
    }

    /// Addresses of the lanes that are still to be done, lowest lane first; `None` in the place
    /// of each if the segment's base was not recorded.
    fn active<'a>(
        &'a self,
        regs: &'a Regs,
        aux: &'a AuxRecord,
    ) -> impl Iterator<Item = Option<u64>> + 'a {
        let [index, mask] = &aux.vectors;
        (0..self.count)
            .filter(move |&lane| match self.select {
                Select::Mask(register) => {
                    aux.masks[usize::from(register & 7)] >> (lane & 63) & 1 == 1
                }
                Select::Signs(size) => mask
                    .get(lane * size + size - 1)
                    .is_some_and(|byte| byte & 0x80 != 0),
            })
            .map(move |lane| {
                let index = if self.wide {
                    le(index, lane * 8, 8)
                } else {
                    le(index, lane * 4, 4) as i32 as i64 as u64
                };
                self.base
                    .plus(index.wrapping_mul(self.scale))
                    .resolve(regs, Some(aux))
            })
    }

    /// Appends the accesses of the lanes that are still to be done; false if they are not known.
    pub(super) fn accesses(&self, regs: &Regs, aux: &AuxRecord, out: &mut Vec<Access>) -> bool {
        for addr in self.active(regs, aux) {
            let Some(addr) = addr else { return false };
            out.push(Access {
                kind: self.kind,
                certain: true,
                addr,
                len: self.element,
            });
        }
        true
    }

    /// Whether all lanes that are still to be done lie in the native view, so that a copy of the
    /// instruction with the host view as base does the same. Async-signal-safe.
    pub fn all_native(&self, regs: &Regs, aux: &AuxRecord, session: &Session) -> bool {
        self.active(regs, aux).all(|addr| {
            addr.is_some_and(|addr| {
                session.is_native(addr) && session.is_native(addr.wrapping_add(self.element - 1))
            })
        })
    }
}

/// A little-endian number of `size` bytes, 0 beyond the end.
fn le(bytes: &[u8], at: usize, size: usize) -> u64 {
    let mut word = [0; 8];
    if let Some(from) = bytes.get(at..at + size) {
        word[..size].copy_from_slice(from);
    }
    u64::from_le_bytes(word)
}
