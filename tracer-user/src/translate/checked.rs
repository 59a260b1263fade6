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
//! Where an access was never seen to touch the arena, the way of private memory is the straight one, and
//! the rest lies apart. What leaves is run in original code and faults there: what looks wrong to the
//! shadow is recorded by its fault, with the stack that a report wants.

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
    /// Whether that way is the one of private memory.
    private_first: bool,
    /// Where the other way begins.
    other: Label,
    close: Label,
    entry: Label,
    next: Label,
    /// What holds once the segment is looked up.
    state: State,
    beginning: u32,
    borrowed: Borrowed,
    touched: u16,
    keep_flags: bool,
    insn: Insn,
    checked: Checked,
    /// Number of its place.
    place: u32,
}

/// Emits an access; what lies apart is to be emitted after the code that is mostly run.
/// `private_first` guesses that it is to private memory.
pub(super) fn access(
    emitter: &mut Emitter,
    tables: &Tables,
    insn: &Insn,
    checked: &Checked,
    live: &Live,
    place: u32,
    private_first: bool,
) -> Result<Apart, CannotEncode> {
    let keep_flags = live.before.flags != 0;
    let borrowed = borrow_three(emitter, live, keep_flags)?;
    let (other, close, entry, next) = (
        emitter.label(),
        emitter.label(),
        emitter.label(),
        emitter.label(),
    );
    emitter.effective_address(borrowed.address, &insn.instruction)?;
    // rcx is tested by `jrcxz`, so it is borrowed even where the instruction uses it.
    if keep_flags && live.touched & 1 << RCX != 0 {
        emitter.save(RCX);
    }
    let found = borrowed.found;
    let asm = &mut emitter.asm;
    asm.rotate_right(found, borrowed.address, SEGMENT_BITS);
    asm.mov32(found, found);
    asm.load_table(found, found, tables.segments());
    let apart = Apart {
        private_first,
        other,
        close,
        entry,
        next,
        state: emitter.state(),
        beginning: emitter.beginning(),
        borrowed,
        touched: live.touched,
        keep_flags,
        insn: insn.clone(),
        checked: checked.clone(),
        place,
    };
    if private_first {
        apart.private_inline(emitter);
    } else {
        apart.recorded_inline(emitter, tables);
    }
    Ok(apart)
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
    /// On with the instruction as it was; what touches the arena lies apart.
    fn private_inline(&self, emitter: &mut Emitter) {
        if self.keep_flags {
            let near_private = emitter.label();
            emitter.asm.jump_if_rcx_zero(near_private);
            emitter.asm.jump(self.other);
            emitter.asm.bind(near_private);
        } else {
            emitter.asm.test(self.borrowed.found);
            emitter.asm.jump_if(Condition::NotEqual, self.other);
        }
        self.private(emitter);
        emitter.asm.bind(self.next);
    }

    /// On with the entry; private memory lies apart.
    fn recorded_inline(&self, emitter: &mut Emitter, tables: &Tables) {
        let near_private = emitter.label();
        if self.keep_flags {
            emitter.asm.jump_if_rcx_zero(near_private);
        } else {
            emitter.asm.test(self.borrowed.found);
            emitter.asm.jump_if(Condition::Equal, self.other);
        }
        let near_close = self.recorded(emitter, tables);
        if self.keep_flags {
            emitter.asm.jump_short(self.next);
            emitter.asm.bind(near_private);
            emitter.asm.jump(self.other);
            emitter.asm.bind(near_close);
            emitter.asm.jump(self.close);
        }
        emitter.asm.bind(self.next);
    }

    /// Emits what lies apart.
    pub(super) fn emit(self, emitter: &mut Emitter, tables: &Tables) -> Result<(), CannotEncode> {
        emitter.belongs_to(self.beginning, self.state);
        emitter.asm.bind(self.other);
        if self.private_first {
            let near_close = self.recorded(emitter, tables);
            emitter.asm.jump(self.next);
            if self.keep_flags {
                emitter.asm.bind(near_close);
                emitter.asm.jump(self.close);
            }
        } else {
            self.private(emitter);
            emitter.asm.jump(self.next);
        }
        self.close_look(emitter, tables);
        Ok(())
    }

    /// Memory of native code's own: the instruction as it was.
    fn private(&self, emitter: &mut Emitter) {
        emitter.restore_own();
        emitter.asm.raw(self.insn.code());
        emitter.set(emitter.at(self.insn.next()));
    }

    /// Memory of the arena: the shadow is asked, the entry written, the host view used. Where flags
    /// are needed, what leads to the close look is a label that must be near.
    fn recorded(&self, emitter: &mut Emitter, tables: &Tables) -> Label {
        let Borrowed {
            address,
            granule,
            found,
        } = self.borrowed;
        let checked = &self.checked;
        let near_close = emitter.label();
        let asm = &mut emitter.asm;
        if self.keep_flags {
            asm.mov_imm(granule, GRANULE.trailing_zeros());
            asm.shift_right_by(granule, address, granule);
            asm.load_byte(found, found, granule);
            asm.load_table_byte(found, found, tables.clear(checked.len, checked.write));
            asm.jump_if_rcx_zero(near_close);
        } else {
            asm.mov(granule, address);
            asm.shift_right(granule, GRANULE.trailing_zeros() as u8);
            asm.compare_byte(found, granule, (tables::needed(checked.len) << 1) as u8);
            asm.jump_if(Condition::Below, self.close);
            if checked.write {
                asm.test_byte(found, granule, WRITABLE);
                asm.jump_if(Condition::Equal, self.close);
            }
        }
        emitter.asm.bind(self.entry);
        let pointer = emitter.pointer();
        let log = pointer.unwrap_or(granule);
        if pointer.is_none() {
            emitter.asm.load_slot(log, slot::LOG);
        }
        emitter.asm.store(log, 0, address);
        emitter.asm.store_imm(log, 5, self.place);
        if self.touched & 1 << found != 0 {
            emitter.restore(found);
        }
        emitter.asm.raw(&checked.host);
        emitter.resume(Resume::At(self.insn.next()));
        emitter.unpublished(1);
        emitter.asm.add_lea(log, 8);
        if pointer.is_none() {
            emitter.asm.store_slot(slot::LOG, log);
        }
        emitter.unpublished(0);
        emitter.restore_own();
        near_close
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
        emitter.belongs_to(self.beginning, self.state);
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
