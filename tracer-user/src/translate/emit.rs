//! Code with marks: what is emitted, and what each point of it stands for.

use iced_x86::{Code, Encoder, Instruction, MemoryOperand, Register};

use super::{
    asm::{Assembler, Gpr, Label, RAX, RSP},
    log::slot,
    region::{Mark, Resume, State, saved_slot},
};

/// See the module.
pub(super) struct Emitter {
    pub(super) asm: Assembler,
    marks: Vec<Mark>,
    state: State,
    /// Where the current instruction begins.
    begin: u32,
    /// Registers that are saved from the entries on.
    held: u16,
    /// The one of them that the log pointer is in.
    pointer: Option<Gpr>,
}

impl Emitter {
    /// Nothing yet, at this address.
    pub(super) fn new(base: u64) -> Emitter {
        Emitter {
            asm: Assembler::new(base),
            marks: Vec::new(),
            state: State::at(0),
            begin: 0,
            held: 0,
            pointer: None,
        }
    }

    /// Has these registers be saved in all of the region, and the log pointer be in one of them.
    pub(super) fn hold(&mut self, held: u16, pointer: Option<Gpr>) {
        self.held = held;
        self.pointer = pointer;
    }

    /// Registers that are saved in all of the region, but for that with the log pointer.
    pub(super) fn free(&self) -> u16 {
        self.held & !self.pointer.map_or(0, |number| 1 << number)
    }

    /// The register with the log pointer.
    pub(super) fn pointer(&self) -> Option<Gpr> {
        self.pointer
    }

    /// What holds where the instruction at `ip` is about to be run.
    pub(super) fn at(&self, ip: u64) -> State {
        State {
            saved: self.held,
            pointer: self.pointer,
            ..State::at(ip)
        }
    }

    /// All marks, in order.
    pub(super) fn into_marks(self) -> Box<[Mark]> {
        self.marks.into()
    }

    /// What holds here.
    pub(super) fn state(&self) -> State {
        self.state
    }

    /// The translation of the instruction at `ip` begins here.
    pub(super) fn begin(&mut self, ip: u64) {
        self.begin = self.asm.offset();
        self.set(self.at(ip));
    }

    /// Where the translation of the current instruction begins.
    pub(super) fn beginning(&self) -> u32 {
        self.begin
    }

    /// What follows belongs to the translation that begins there, and this holds. Whoever is sent
    /// back to the beginning goes through all that leads here once more.
    pub(super) fn belongs_to(&mut self, beginning: u32, state: State) {
        self.begin = beginning;
        self.set(state);
    }

    /// As [`begin`](Self::begin), where nothing is saved.
    pub(super) fn begin_outside(&mut self, ip: u64) {
        self.begin = self.asm.offset();
        self.set(State::at(ip));
    }

    /// Saves what is held, after [`begin_outside`](Self::begin_outside).
    pub(super) fn come_in(&mut self) {
        for register in 0..16 {
            if self.held & 1 << register != 0 {
                self.save(register);
            }
        }
        if let Some(pointer) = self.pointer {
            self.asm.load_slot(pointer, slot::LOG);
            self.change(|state| state.pointer = Some(pointer));
        }
    }

    /// From here on this holds.
    pub(super) fn set(&mut self, state: State) {
        self.state = state;
        let mark = Mark {
            offset: self.asm.offset(),
            begin: self.begin,
            state,
        };
        match self.marks.last_mut() {
            Some(last) if last.offset == mark.offset => *last = mark,
            Some(last) if last.state == mark.state && last.begin == mark.begin => {}
            _ => self.marks.push(mark),
        }
    }

    fn change(&mut self, change: impl FnOnce(&mut State)) {
        let mut state = self.state;
        change(&mut state);
        self.set(state);
    }

    /// Saves a register, whose place may be used from here on, unless it is saved already.
    pub(super) fn save(&mut self, register: Gpr) {
        if self.state.saved & 1 << register != 0 {
            return;
        }
        self.asm.store_slot(saved_slot(register), register);
        self.change(|state| state.saved |= 1 << register);
    }

    /// Gives a register its value back.
    pub(super) fn restore(&mut self, register: Gpr) {
        self.asm.load_slot(register, saved_slot(register));
        self.change(|state| state.saved &= !(1 << register));
    }

    /// Gives all registers their values back but those that are held.
    pub(super) fn restore_own(&mut self) {
        self.restore_some(!self.held);
    }

    /// Gives all registers their values back, and publishes the log.
    pub(super) fn restore_all(&mut self) {
        if let Some(pointer) = self.state.pointer {
            self.asm.store_slot(slot::LOG, pointer);
            self.change(|state| state.pointer = None);
        }
        self.restore_some(u16::MAX);
    }

    fn restore_some(&mut self, which: u16) {
        for register in 0..16 {
            if self.state.saved & which & 1 << register != 0 {
                self.restore(register);
            }
        }
    }

    /// Original code goes on there from here on.
    pub(super) fn resume(&mut self, resume: Resume) {
        self.change(|state| state.resume = resume);
    }

    /// So many entries have happened and are not published.
    pub(super) fn unpublished(&mut self, count: u8) {
        self.change(|state| state.unpublished = count);
    }

    /// Puts the flags aside. `scratch` are registers whose values count for the code that follows
    /// only.
    pub(super) fn put_flags_aside(&mut self, scratch: &[Gpr]) {
        let kept = self.keep_rax(scratch);
        self.asm.flags_to_ax();
        self.asm.store_slot(slot::FLAGS, RAX);
        self.change(|state| state.flags = true);
        self.let_rax_go(kept);
    }

    /// Puts the flags in force again.
    pub(super) fn take_flags_back(&mut self, scratch: &[Gpr]) {
        let kept = self.keep_rax(scratch);
        self.asm.load_slot(RAX, slot::FLAGS);
        self.asm.overflow_from_al();
        self.asm.sahf();
        self.change(|state| state.flags = false);
        self.let_rax_go(kept);
    }

    fn keep_rax(&mut self, scratch: &[Gpr]) -> Kept {
        if scratch.contains(&RAX) || self.pointer == Some(RAX) {
            self.asm.store_slot(slot::NEXT, RAX);
            Kept::Scratch
        } else if self.state.saved & 1 << RAX != 0 {
            Kept::Free
        } else {
            self.save(RAX);
            Kept::Saved
        }
    }

    fn let_rax_go(&mut self, kept: Kept) {
        match kept {
            Kept::Scratch => self.asm.load_slot(RAX, slot::NEXT),
            Kept::Saved => self.restore(RAX),
            Kept::Free => {}
        }
    }

    /// A label.
    pub(super) fn label(&mut self) -> Label {
        self.asm.label()
    }

    /// Jumps back to original code, where it goes on.
    pub(super) fn leave(&mut self) {
        self.restore_all();
        match self.state.resume {
            Resume::At(ip) => self.asm.jump_literal(ip),
            Resume::Target => self.asm.jump_slot(slot::TARGET),
        }
    }

    /// `lea to, operand`, of the explicit memory operand of an instruction.
    ///
    /// # Errors
    /// Where it cannot be encoded.
    pub(super) fn effective_address(
        &mut self,
        to: Gpr,
        instruction: &Instruction,
    ) -> Result<(), CannotEncode> {
        self.with_operand(Code::Lea_r64_m, to, instruction, Register::None)
    }

    /// `mov to, operand`, of the explicit memory operand of an instruction.
    ///
    /// # Errors
    /// Where it cannot be encoded, or does not reach.
    pub(super) fn load_operand(
        &mut self,
        to: Gpr,
        instruction: &Instruction,
    ) -> Result<(), CannotEncode> {
        let segment = instruction.segment_prefix();
        self.with_operand(Code::Mov_r64_rm64, to, instruction, segment)
    }

    fn with_operand(
        &mut self,
        code: Code,
        to: Gpr,
        from: &Instruction,
        segment: Register,
    ) -> Result<(), CannotEncode> {
        let operand = MemoryOperand::new(
            from.memory_base(),
            from.memory_index(),
            from.memory_index_scale(),
            from.memory_displacement64() as i64,
            from.memory_displ_size(),
            false,
            segment,
        );
        self.with_memory(code, to, operand)
    }

    /// `lea to, [base + index*scale + displacement]`.
    ///
    /// # Errors
    /// Where it cannot be encoded.
    pub(super) fn address_of(
        &mut self,
        to: Gpr,
        base: Register,
        index: Register,
        scale: u32,
        displacement: i64,
    ) -> Result<(), CannotEncode> {
        let none = Register::None;
        let operand = MemoryOperand::new(base, index, scale, displacement, 1, false, none);
        self.with_memory(Code::Lea_r64_m, to, operand)
    }

    fn with_memory(
        &mut self,
        code: Code,
        to: Gpr,
        operand: MemoryOperand,
    ) -> Result<(), CannotEncode> {
        let register = register(to);
        let instruction = Instruction::with2(code, register, operand).map_err(|_| CannotEncode)?;
        self.moved(&instruction)
    }

    /// An instruction encoded for this place.
    ///
    /// # Errors
    /// Where it cannot be, or does not reach.
    pub(super) fn moved(&mut self, instruction: &Instruction) -> Result<(), CannotEncode> {
        let mut encoder = Encoder::new(64);
        encoder
            .encode(instruction, self.asm.address())
            .map_err(|_| CannotEncode)?;
        self.asm.raw(&encoder.take_buffer());
        Ok(())
    }
}

/// How rax is kept while flags go through it.
#[derive(Clone, Copy)]
enum Kept {
    /// A scratch register, in a slot of its own meanwhile.
    Scratch,
    /// Saved for this.
    Saved,
    /// It holds nothing.
    Free,
}

/// An instruction cannot be encoded for another place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CannotEncode;

/// The 64-bit register of a number.
fn register(number: Gpr) -> Register {
    const ALL: [Register; 16] = [
        Register::RAX,
        Register::RCX,
        Register::RDX,
        Register::RBX,
        Register::RSP,
        Register::RBP,
        Register::RSI,
        Register::RDI,
        Register::R8,
        Register::R9,
        Register::R10,
        Register::R11,
        Register::R12,
        Register::R13,
        Register::R14,
        Register::R15,
    ];
    ALL[usize::from(number & 15)]
}

/// A register that is neither rsp nor among `taken`; one of those that are not needed, if there is
/// one. The second value says whether it is needed.
pub(super) fn borrow(taken: u16, needed: u16) -> Option<(Gpr, bool)> {
    let usable = |number: &u8| *number != RSP && taken & 1 << number == 0;
    let idle = (0..16u8)
        .rev()
        .filter(usable)
        .find(|number| needed & 1 << number == 0);
    match idle {
        Some(number) => Some((number, false)),
        None => (0..16u8).rev().find(usable).map(|number| (number, true)),
    }
}
