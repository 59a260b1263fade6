//! Calls, returns and jumps that leave a region.
//!
//! ```text
//!  to a constant address   through a cell: the translation there, once there is one
//!  to what a register,     looked up among what is known ─► translation
//!  memory or the stack     not known ─► a call or jump: help is asked for
//!  says                                 a return: original code; help at each eighth
//! ```
//! Return addresses on the stack are original ones, so whatever unwinds the stack finds what it knows.
//! Help is asked for by touching a page that nobody may touch: the handler has the code translated,
//! and the thread goes on there, or in original code.

use iced_x86::OpKind;

use super::{
    asm::{Gpr, Label, RAX, RCX, RSP},
    emit::{CannotEncode, Emitter},
    log::slot,
    region::Resume,
    scan::Insn,
    tables::Tables,
};

/// A constant address outside of the region that code goes to.
pub(super) struct Exit {
    target: u64,
    cell: Label,
    ask: Label,
    leave: Label,
}

/// An exit in finished code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExitAt {
    /// The original address that it goes to.
    pub(super) target: u64,
    /// Where it asks for help.
    pub(super) ask: u64,
    /// The cell that it goes through.
    pub(super) cell: u64,
    /// What the cell is to hold where there is no translation.
    pub(super) leave: u64,
}

/// The exits of a region.
#[derive(Default)]
pub(super) struct Exits(Vec<Exit>);

impl Exits {
    /// Goes to original address `target`, which is not of the region: what comes next is at it, with
    /// all registers as they were.
    pub(super) fn go(&mut self, emitter: &mut Emitter, target: u64) {
        let known = self.0.iter().find(|exit| exit.target == target);
        let cell = match known {
            Some(exit) => exit.cell,
            None => {
                let (ask, leave) = (emitter.label(), emitter.label());
                let cell = emitter.asm.cell(ask);
                self.0.push(Exit {
                    target,
                    cell,
                    ask,
                    leave,
                });
                cell
            }
        };
        emitter.asm.jump_cell(cell);
    }

    /// Emits what exits go to at first.
    pub(super) fn emit(&self, emitter: &mut Emitter, tables: &Tables) {
        for exit in &self.0 {
            emitter.begin_outside(exit.target);
            emitter.asm.bind(exit.ask);
            emitter.asm.touch(tables.trap());
            emitter.asm.bind(exit.leave);
            emitter.leave();
        }
    }

    /// Where they are, in finished code at `base`.
    pub(super) fn placed(&self, emitter: &Emitter, base: u64) -> Option<Box<[ExitAt]>> {
        let at = |label| Some(base + u64::from(emitter.asm.offset_of(label)?));
        let place = |exit: &Exit| {
            Some(ExitAt {
                target: exit.target,
                ask: at(exit.ask)?,
                cell: at(exit.cell)?,
                leave: at(exit.leave)?,
            })
        };
        self.0.iter().map(place).collect()
    }
}

/// `call` or `jmp` of a register or memory.
pub(super) fn indirect(
    emitter: &mut Emitter,
    tables: &Tables,
    insn: &Insn,
    call: bool,
) -> Result<(), CannotEncode> {
    let instruction = &insn.instruction;
    emitter.save(RAX);
    if instruction.op0_kind() == OpKind::Register {
        let number = instruction.op0_register().full_register().number() as Gpr;
        if number != RAX {
            emitter.asm.mov(RAX, number);
        }
    } else {
        emitter.load_operand(RAX, instruction)?;
    }
    emitter.asm.store_slot(slot::TARGET, RAX);
    if call {
        emitter.asm.push_literal(insn.next());
    }
    emitter.resume(Resume::Target);
    emitter.save(RCX);
    let known = |emitter: &mut Emitter| emitter.asm.jump_slot(slot::NEXT);
    look_up(emitter, tables, known, |emitter| {
        emitter.restore_all();
        emitter.asm.touch(tables.trap());
    });
    Ok(())
}

/// `ret`, which pops `beside` bytes more.
pub(super) fn ret(emitter: &mut Emitter, tables: &Tables, beside: u16) {
    let pop = |emitter: &mut Emitter| {
        emitter.asm.pop(8 + u32::from(beside));
        emitter.resume(Resume::Target);
    };
    emitter.save(RAX);
    emitter.asm.load(RAX, RSP, 0);
    emitter.save(RCX);
    emitter.asm.store_slot(slot::TARGET, RAX);
    let known = |emitter: &mut Emitter| {
        pop(emitter);
        emitter.asm.jump_slot(slot::NEXT);
    };
    look_up(emitter, tables, known, |emitter| {
        let asm = &mut emitter.asm;
        let ask = asm.label();
        asm.load_slot(RCX, slot::PATIENCE);
        asm.add_lea(RCX, -1);
        asm.store_slot(slot::PATIENCE, RCX);
        asm.jump_if_rcx_zero(ask);
        let before = emitter.state();
        emitter.restore_all();
        pop(emitter);
        emitter.asm.jump_slot(slot::TARGET);
        emitter.set(before);
        emitter.asm.bind(ask);
        emitter.restore_all();
        pop(emitter);
        emitter.asm.touch(tables.trap());
    });
}

/// Looks up the address in rax, with rax and rcx saved. Where it is known, goes on with `known`, with
/// all registers as they were, and where to in the slot for that; else with `unknown`, which gives
/// the registers back. Neither goes on behind it.
fn look_up(
    emitter: &mut Emitter,
    tables: &Tables,
    known: impl FnOnce(&mut Emitter),
    unknown: impl FnOnce(&mut Emitter),
) {
    let state = emitter.state();
    let asm = &mut emitter.asm;
    let [first, second] = [tables.known(0), tables.known(1)];
    let (in_first, in_second, found, not_first) =
        (asm.label(), asm.label(), asm.label(), asm.label());
    asm.low_word(RCX, RAX);
    asm.load_table(RCX, RCX, first.0);
    asm.sum(RCX, RCX, RAX);
    asm.jump_if_rcx_zero(in_first);
    asm.jump(not_first);
    asm.bind(in_first);
    asm.low_word(RCX, RAX);
    asm.load_table(RAX, RCX, first.1);
    asm.bind(found);
    asm.store_slot(slot::NEXT, RAX);
    emitter.restore_all();
    known(emitter);
    emitter.set(state);
    let asm = &mut emitter.asm;
    asm.bind(in_second);
    asm.rotate_right(RCX, RAX, 4);
    asm.low_word(RCX, RCX);
    asm.load_table(RAX, RCX, second.1);
    asm.jump(found);
    asm.bind(not_first);
    asm.rotate_right(RCX, RAX, 4);
    asm.low_word(RCX, RCX);
    asm.load_table(RCX, RCX, second.0);
    asm.sum(RCX, RCX, RAX);
    asm.jump_if_rcx_zero(in_second);
    unknown(emitter);
}
