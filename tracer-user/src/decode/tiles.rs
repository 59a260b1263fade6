//! Loads and stores of tile registers: one access for each row.
//!
//! `tileloadd tmm1, [rax+rbx*2]` reads row r of the tile at rax + 2 * r * rbx. How many rows of
//! how many bytes a tile has is in the tile configuration (Intel SDM volume 2, TILELOADD and
//! LDTILECFG), as is the row at which an interrupted instruction goes on.

use iced_x86::{Instruction, Register};
use tracer_ebpf::{AuxRecord, Regs};

use super::address::Address;
use crate::access::{Access, AccessKind};

/// Tile registers of palette 1, the only one there is.
const TILES: usize = 8;

/// A load or store of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tiles {
    /// Address of row 0.
    base: Address,
    /// Number of the register that holds the distance between rows; none for 0.
    stride: Option<usize>,
    scale: u64,
    tile: usize,
    kind: AccessKind,
}

impl Tiles {
    /// `None` if the operands are not understood.
    pub(super) fn of(instruction: &Instruction, kind: AccessKind) -> Option<Tiles> {
        let tile = match kind {
            AccessKind::Read => instruction.op0_register(),
            AccessKind::Write => instruction.op1_register(),
        };
        let stride = match instruction.memory_index() {
            Register::None => None,
            index if index.is_gpr64() => Some(index.number()),
            // The stride of 32-bit addresses is truncated with the sum.
            index if index.is_gpr32() => Some(index.number()),
            _ => return None,
        };
        (tile.is_tmm() && tile.number() < TILES).then_some(Tiles {
            base: Address::without_index(instruction)?,
            stride,
            scale: u64::from(instruction.memory_index_scale()),
            tile: tile.number(),
            kind,
        })
    }

    /// Appends the accesses of the rows that are still to be done; the error says what is in
    /// the way.
    pub(super) fn accesses(
        &self,
        regs: &Regs,
        aux: &AuxRecord,
        out: &mut Vec<Access>,
    ) -> Result<(), &'static str> {
        let config = &aux.vectors[0];
        let bytes = u16::from_le_bytes([config[16 + 2 * self.tile], config[17 + 2 * self.tile]]);
        let (first, rows) = (config[1], config[48 + self.tile]);
        if config[0] != 1 || bytes == 0 {
            return Err("its tile is not configured");
        }
        let stride = self.stride.map_or(0, |number| regs.gpr[number & 15]);
        for row in u64::from(first)..u64::from(rows) {
            let distance = stride.wrapping_mul(self.scale).wrapping_mul(row);
            out.push(Access {
                kind: self.kind,
                certain: true,
                addr: self
                    .base
                    .plus(distance)
                    .resolve(regs, Some(aux))
                    .ok_or("the base of its segment was not recorded")?,
                len: u64::from(bytes),
            });
        }
        Ok(())
    }
}
