//! An access with its check, in translated code.
//!
//! ```text
//!       address of the operand
//!       segment of the arena? ──no──────────► the instruction as it was             (private)
//!       shadow: right wherever in its granule it begins? ──no──► exactly there? ──no──► leave
//!       entry: place, address                              ◄──yes──┘              (close look)
//!       the instruction, its operand in the host view
//!       entry published
//! ```
//! Where flags are needed, everything before the close look is done without touching them, by `jrcxz`.
//! What leaves is run in original code and faults there: what looks wrong to the shadow is recorded by
//! its fault, with the stack that a report wants.

use super::{
    asm::{Condition, Gpr, Label, RCX},
    emit::{CannotEncode, Emitter, borrow},
    live::Live,
    log::slot,
    region::{Resume, State},
    scan::{Checked, Insn},
    tables::{self, SEGMENT_BITS, Tables},
};
use crate::shadow::{GRANULE, WRITABLE};

/// Registers that an access borrows.
#[derive(Clone, Copy)]
struct Borrowed {
    /// The address.
    address: Gpr,
    /// The address in granules, later the log pointer.
    granule: Gpr,
    /// What tables say.
    found: Gpr,
}

/// The parts of an access that lie apart from the way that is mostly taken.
pub(super) struct Apart {
    private: Label,
    close: Label,
    entry: Label,
    next: Label,
    state: State,
    begin: u64,
    borrowed: Borrowed,
    keep_flags: bool,
    insn: Insn,
    checked: Checked,
}

/// Emits an access; what lies apart is to be emitted after the code that is mostly run.
pub(super) fn access(
    emitter: &mut Emitter,
    tables: &Tables,
    insn: &Insn,
    checked: &Checked,
    live: &Live,
    place: u32,
) -> Result<Apart, CannotEncode> {
    let keep_flags = live.before.flags != 0;
    let borrowed = borrow_three(emitter, live, keep_flags)?;
    let Borrowed {
        address,
        granule,
        found,
    } = borrowed;
    // rcx is tested by `jrcxz`, so it is borrowed even where the instruction uses it.
    let (private, close, entry, next) = (
        emitter.label(),
        emitter.label(),
        emitter.label(),
        emitter.label(),
    );
    emitter.effective_address(address, &insn.instruction)?;
    if keep_flags && live.touched & 1 << RCX != 0 {
        emitter.save(RCX);
    }
    let asm = &mut emitter.asm;
    asm.rotate_right(found, address, SEGMENT_BITS);
    asm.mov32(found, found);
    asm.load_table(found, found, tables.segments());
    let (near_private, near_close) = (asm.label(), asm.label());
    if keep_flags {
        asm.jump_if_rcx_zero(near_private);
        asm.mov_imm(granule, GRANULE.trailing_zeros());
        asm.shift_right_by(granule, address, granule);
        asm.load_byte(found, found, granule);
        asm.load_table_byte(found, found, tables.clear(checked.len, checked.write));
        asm.jump_if_rcx_zero(near_close);
    } else {
        asm.test(found);
        asm.jump_if(Condition::Equal, private);
        asm.mov(granule, address);
        asm.shift_right(granule, GRANULE.trailing_zeros() as u8);
        asm.compare_byte(found, granule, (tables::needed(checked.len) << 1) as u8);
        asm.jump_if(Condition::Below, close);
        if checked.write {
            asm.test_byte(found, granule, WRITABLE);
            asm.jump_if(Condition::Equal, close);
        }
    }
    let state = emitter.state();
    emitter.asm.bind(entry);
    let pointer = emitter.pointer();
    let log = pointer.unwrap_or(granule);
    if pointer.is_none() {
        emitter.asm.load_slot(log, slot::LOG);
    }
    emitter.asm.store(log, 0, address);
    emitter.asm.store_imm(log, 5, place);
    if live.touched & 1 << found != 0 {
        emitter.restore(found);
    }
    emitter.asm.raw(&checked.host);
    emitter.resume(Resume::At(insn.next()));
    emitter.unpublished(1);
    emitter.asm.add_lea(log, 8);
    if pointer.is_none() {
        emitter.asm.store_slot(slot::LOG, log);
    }
    emitter.unpublished(0);
    emitter.restore_own();
    if keep_flags {
        emitter.asm.jump_short(next);
        emitter.asm.bind(near_private);
        emitter.asm.jump(private);
        emitter.asm.bind(near_close);
        emitter.asm.jump(close);
    }
    emitter.asm.bind(next);
    Ok(Apart {
        private,
        close,
        entry,
        next,
        state,
        begin: insn.ip(),
        borrowed,
        keep_flags,
        insn: insn.clone(),
        checked: checked.clone(),
    })
}

/// Borrows registers, and saves what is needed of them; rcx for tests without flags.
fn borrow_three(
    emitter: &mut Emitter,
    live: &Live,
    keep_flags: bool,
) -> Result<Borrowed, CannotEncode> {
    let pointer = emitter.pointer().map_or(0, |number| 1u16 << number);
    let mut taken = live.touched | pointer;
    if keep_flags {
        taken |= 1 << RCX;
    }
    let after = live.after.registers & !emitter.free();
    let mut one = || {
        let (register, needed) = borrow(taken, after).ok_or(CannotEncode)?;
        taken |= 1 << register;
        Ok((register, needed))
    };
    let address = one()?;
    let granule = one()?;
    let rcx_is_needed = (after | live.touched) & 1 << RCX != 0;
    let found = if keep_flags {
        (RCX, rcx_is_needed)
    } else {
        one()?
    };
    for (register, needed) in [address, granule, found] {
        // rcx is saved later where the operand needs it.
        if needed && !(register == RCX && keep_flags && live.touched & 1 << RCX != 0) {
            emitter.save(register);
        }
    }
    Ok(Borrowed {
        address: address.0,
        granule: granule.0,
        found: found.0,
    })
}

impl Apart {
    /// Emits what lies apart.
    pub(super) fn emit(self, emitter: &mut Emitter, tables: &Tables) -> Result<(), CannotEncode> {
        self.private(emitter)?;
        self.close_look(emitter, tables);
        Ok(())
    }

    /// Memory of native code's own: the instruction as it was.
    fn private(&self, emitter: &mut Emitter) -> Result<(), CannotEncode> {
        emitter.begin(self.begin);
        emitter.set(self.state);
        emitter.asm.bind(self.private);
        emitter.restore_own();
        emitter.asm.raw(self.insn.code());
        emitter.set(emitter.at(self.insn.next()));
        emitter.asm.jump(self.next);
        Ok(())
    }

    /// A byte of the shadow that does not clear all of its granule.
    fn close_look(&self, emitter: &mut Emitter, tables: &Tables) {
        let Borrowed {
            address,
            granule,
            found,
        } = self.borrowed;
        let scratch = [address, granule, found];
        let leave = emitter.label();
        emitter.begin(self.begin);
        emitter.set(self.state);
        emitter.asm.bind(self.close);
        if self.keep_flags {
            emitter.put_flags_aside(&scratch);
            let asm = &mut emitter.asm;
            // What was found is gone by now.
            asm.rotate_right(found, address, SEGMENT_BITS);
            asm.mov32(found, found);
            asm.load_table(found, found, tables.segments());
        }
        let asm = &mut emitter.asm;
        asm.load_byte(found, found, granule);
        asm.halve32(found);
        if self.checked.write {
            // The bit shifted out: whether it may be written.
            asm.jump_if(Condition::AboveOrEqual, leave);
        }
        asm.mov32(granule, address);
        asm.and32(granule, (GRANULE - 1) as u8);
        asm.add_lea(granule, self.checked.len as i8);
        asm.compare32(granule, found);
        asm.jump_if(Condition::Above, leave);
        let looking = emitter.state();
        if self.keep_flags {
            emitter.take_flags_back(&scratch);
        }
        emitter.asm.jump(self.entry);
        emitter.asm.bind(leave);
        emitter.set(looking);
        if self.keep_flags {
            emitter.take_flags_back(&scratch);
        }
        emitter.leave();
    }
}
