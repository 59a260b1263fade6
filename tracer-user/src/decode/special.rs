//! Instructions whose accesses follow from more than an address and a size: vector indices,
//! vectors that select bytes, state areas, tiles, cache lines.

use iced_x86::{Instruction, Mnemonic, OpAccess, OpKind};

use super::{
    address::{Address, RDI, Segment},
    lanes::Lanes,
    masked::Signs,
    plan::{Plan, Planned},
    tiles::Tiles,
    xsave::Form,
};
use crate::access::AccessKind;

/// The plan of such an instruction; `None` for all other instructions, an error where it is not understood.
/// `access` is what iced says of its explicit memory operand.
pub(super) fn plan(
    instruction: &Instruction,
    access: Option<OpAccess>,
) -> Option<Result<Planned, &'static str>> {
    let at = Address::of_operand(instruction);
    let area = |form: Form| {
        let at = at?;
        Some(Planned::plain(Plan::Xsave { at, form }, None))
    };
    let tiles = |kind| {
        let tiles = Tiles::of(instruction, kind)?;
        Some(Planned::plain(Plan::Tiles(tiles), None))
    };
    let found = match instruction.mnemonic() {
        _ if instruction.is_vsib() => {
            let lanes = Lanes::of(instruction, access?);
            lanes.map(|lanes| Planned::plain(Plan::Lanes(lanes), None))
        }
        Mnemonic::Maskmovq | Mnemonic::Maskmovdqu | Mnemonic::Vmaskmovdqu => {
            let lanes = if instruction.mnemonic() == Mnemonic::Maskmovq {
                8
            } else {
                16
            };
            let at = Address::register(RDI, 0);
            let narrow = instruction.op0_kind() == OpKind::MemorySegEDI;
            let at = if narrow { at.narrowed() } else { at };
            let at = at.within(Segment::of(instruction));
            let signs = Signs { unit: 1, lanes };
            let kind = AccessKind::Write;
            let checked = Some((at, u64::from(lanes)));
            Some(Planned::plain(Plan::Signs { at, signs, kind }, checked))
        }
        Mnemonic::Vmaskmovps
        | Mnemonic::Vmaskmovpd
        | Mnemonic::Vpmaskmovd
        | Mnemonic::Vpmaskmovq => {
            let size = instruction.memory_size();
            let signs = Signs {
                unit: size.element_size() as u64,
                lanes: size.element_count() as u32,
            };
            let kind = match access {
                Some(OpAccess::Read | OpAccess::CondRead) => Some(AccessKind::Read),
                Some(OpAccess::Write | OpAccess::CondWrite) => Some(AccessKind::Write),
                _ => None,
            };
            at.zip(kind)
                .map(|(at, kind)| Planned::plain(Plan::Signs { at, signs, kind }, None))
        }
        Mnemonic::Xsave | Mnemonic::Xsave64 => area(Form::Save),
        Mnemonic::Xsaveopt | Mnemonic::Xsaveopt64 => area(Form::SaveOptimized),
        Mnemonic::Xsavec | Mnemonic::Xsavec64 => area(Form::SaveCompacted),
        Mnemonic::Xrstor | Mnemonic::Xrstor64 => area(Form::Restore),
        Mnemonic::Tileloadd | Mnemonic::Tileloaddt1 => tiles(AccessKind::Read),
        Mnemonic::Tilestored => tiles(AccessKind::Write),
        Mnemonic::Clzero => {
            let at = Address::register(0, 0);
            let narrow = instruction.op0_register().is_gpr32();
            let at = if narrow { at.narrowed() } else { at };
            Some(Planned::plain(Plan::Line { at }, None))
        }
        _ => return None,
    };
    Some(found.ok_or("its memory operand is not understood"))
}
