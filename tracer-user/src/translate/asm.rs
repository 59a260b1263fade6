//! The few machine instructions that translated code consists of beside the original ones.
//!
//! Hand-encoded, since they are few and each is chosen for what it leaves alone: most leave the
//! flags as they are. (Intel SDM volume 2; registers by their number in the encoding.)

/// A general register, 0 to 15 in the x86 encoding.
pub(super) type Gpr = u8;

/// Number of rax.
pub(super) const RAX: Gpr = 0;
/// Number of rcx.
pub(super) const RCX: Gpr = 1;
/// Number of rsp.
pub(super) const RSP: Gpr = 4;

/// A condition, as the low four bits of a conditional jump's opcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// Below: carry set.
    Below = 2,
    /// Above or equal: carry clear.
    AboveOrEqual = 3,
    /// Equal: zero set.
    Equal = 4,
    /// Not equal: zero clear.
    NotEqual = 5,
    /// Above: carry and zero clear.
    Above = 7,
}

/// A place in the code that is not known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Label(u32);

/// Code under construction, at a known address.
pub(super) struct Assembler {
    base: u64,
    pub(super) code: Vec<u8>,
    /// Offset of each label, once it is bound.
    labels: Vec<Option<u32>>,
    /// Where the distance to a label is to be written: offset, bytes of it, label.
    fixups: Vec<(u32, u8, Label)>,
    /// Constants of eight bytes behind the code, by value.
    literals: Vec<(u64, Label)>,
    /// Words that may change, and what each holds the address of at first.
    cells: Vec<(Label, Label)>,
}

/// Why code cannot be finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooFar;

impl Assembler {
    /// Empty code, to be placed at `base`.
    pub(super) fn new(base: u64) -> Assembler {
        Assembler {
            base,
            code: Vec::with_capacity(4096),
            labels: Vec::new(),
            fixups: Vec::new(),
            literals: Vec::new(),
            cells: Vec::new(),
        }
    }

    /// Offset of what comes next.
    pub(super) fn offset(&self) -> u32 {
        self.code.len() as u32
    }

    /// Address of what comes next.
    pub(super) fn address(&self) -> u64 {
        self.base + self.code.len() as u64
    }

    /// A label that is not bound.
    pub(super) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() as u32 - 1)
    }

    /// The label is here.
    pub(super) fn bind(&mut self, label: Label) {
        self.labels[label.0 as usize] = Some(self.offset());
    }

    /// Offset of a label, if it is bound.
    pub(super) fn offset_of(&self, label: Label) -> Option<u32> {
        self.labels[label.0 as usize]
    }

    /// Bytes as they are.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.code.extend_from_slice(bytes);
    }

    /// `mov to, gs:[slot]`
    pub(super) fn load_slot(&mut self, to: Gpr, slot: u32) {
        self.slot(0x8b, to, slot);
    }

    /// `mov gs:[slot], from`
    pub(super) fn store_slot(&mut self, slot: u32, from: Gpr) {
        self.slot(0x89, from, slot);
    }

    fn slot(&mut self, opcode: u8, register: Gpr, slot: u32) {
        self.raw(&[
            0x65,
            0x48 | (register >> 3) << 2,
            opcode,
            (register & 7) << 3 | 4,
            0x25,
        ]);
        self.raw(&slot.to_le_bytes());
    }

    /// `jmp gs:[slot]`
    pub(super) fn jump_slot(&mut self, slot: u32) {
        self.raw(&[0x65, 0xff, 0x24, 0x25]);
        self.raw(&slot.to_le_bytes());
    }

    /// `mov to, from`, all 64 bits.
    pub(super) fn mov(&mut self, to: Gpr, from: Gpr) {
        self.two(0x48, 0x89, from, to);
    }

    /// `mov to, from`, the low 32 bits, the others cleared.
    pub(super) fn mov32(&mut self, to: Gpr, from: Gpr) {
        self.two(0x40, 0x89, from, to);
    }

    /// An instruction with two registers, `reg` and `rm`.
    fn two(&mut self, rex: u8, opcode: u8, reg: Gpr, rm: Gpr) {
        self.raw(&[
            rex | (reg >> 3) << 2 | rm >> 3,
            opcode,
            0xc0 | (reg & 7) << 3 | rm & 7,
        ]);
    }

    /// `movzx to, word of from`
    pub(super) fn low_word(&mut self, to: Gpr, from: Gpr) {
        self.raw(&[
            0x40 | (to >> 3) << 2 | from >> 3,
            0x0f,
            0xb7,
            0xc0 | (to & 7) << 3 | from & 7,
        ]);
    }

    /// `rorx to, from, bits` of 64 bits (BMI2).
    pub(super) fn rotate_right(&mut self, to: Gpr, from: Gpr, bits: u8) {
        self.raw(&[
            0xc4,
            (1 - (to >> 3)) << 7 | 1 << 6 | (1 - (from >> 3)) << 5 | 3,
            0xfb,
            0xf0,
            0xc0 | (to & 7) << 3 | from & 7,
            bits,
        ]);
    }

    /// `shrx to, from, count` of 64 bits (BMI2).
    pub(super) fn shift_right_by(&mut self, to: Gpr, from: Gpr, count: Gpr) {
        self.raw(&[
            0xc4,
            (1 - (to >> 3)) << 7 | 1 << 6 | (1 - (from >> 3)) << 5 | 2,
            0x80 | (15 - count) << 3 | 3,
            0xf7,
            0xc0 | (to & 7) << 3 | from & 7,
        ]);
    }

    /// `mov to, value` of 32 bits.
    pub(super) fn mov_imm(&mut self, to: Gpr, value: u32) {
        if to >= 8 {
            self.raw(&[0x41]);
        }
        self.raw(&[0xb8 | to & 7]);
        self.raw(&value.to_le_bytes());
    }

    /// `mov to, [index*8 + table]`, of a table below 2 GiB.
    pub(super) fn load_table(&mut self, to: Gpr, index: Gpr, table: u32) {
        self.with_table(0x8b, to, index, table);
    }

    /// `or to, [8 * index + table]`, of a table below 2 GiB.
    pub(super) fn or_table(&mut self, to: Gpr, index: Gpr, table: u32) {
        self.with_table(0x0b, to, index, table);
    }

    fn with_table(&mut self, opcode: u8, to: Gpr, index: Gpr, table: u32) {
        debug_assert!(index != RSP);
        self.raw(&[
            0x48 | (to >> 3) << 2 | (index >> 3) << 1,
            opcode,
            (to & 7) << 3 | 4,
            0xc0 | (index & 7) << 3 | 5,
        ]);
        self.raw(&table.to_le_bytes());
    }

    /// `movzx to, byte ptr [base + index]`
    pub(super) fn load_byte(&mut self, to: Gpr, base: Gpr, index: Gpr) {
        debug_assert!(index != RSP);
        // mod 01 with a displacement of 0: mod 00 would mean another thing for rbp and r13.
        self.raw(&[
            0x40 | (to >> 3) << 2 | (index >> 3) << 1 | base >> 3,
            0x0f,
            0xb6,
            0x44 | (to & 7) << 3,
            (index & 7) << 3 | base & 7,
            0,
        ]);
    }

    /// `movzx to, byte ptr [index + table]`, of a table below 2 GiB.
    pub(super) fn load_table_byte(&mut self, to: Gpr, index: Gpr, table: u32) {
        self.raw(&[
            0x40 | (to >> 3) << 2 | (index >> 3) << 1,
            0x0f,
            0xb6,
            (to & 7) << 3 | 4,
            (index & 7) << 3 | 5,
        ]);
        self.raw(&table.to_le_bytes());
    }

    /// `cmp byte ptr [base + index], value`
    pub(super) fn compare_byte(&mut self, base: Gpr, index: Gpr, value: u8) {
        self.byte_op(0x80, 7, base, index, value);
    }

    /// `test byte ptr [base + index], value`
    pub(super) fn test_byte(&mut self, base: Gpr, index: Gpr, value: u8) {
        self.byte_op(0xf6, 0, base, index, value);
    }

    fn byte_op(&mut self, opcode: u8, extension: u8, base: Gpr, index: Gpr, value: u8) {
        debug_assert!(index != RSP);
        self.raw(&[
            0x40 | (index >> 3) << 1 | base >> 3,
            opcode,
            0x44 | extension << 3,
            (index & 7) << 3 | base & 7,
            0,
            value,
        ]);
    }

    /// `test register, register`, all 64 bits.
    pub(super) fn test(&mut self, register: Gpr) {
        self.two(0x48, 0x85, register, register);
    }

    /// `cmp left, right` of 32 bits.
    pub(super) fn compare32(&mut self, left: Gpr, right: Gpr) {
        self.two(0x40, 0x39, right, left);
    }

    /// `shr register, bits` of 64 bits.
    pub(super) fn shift_right(&mut self, register: Gpr, bits: u8) {
        self.raw(&[0x48 | register >> 3, 0xc1, 0xe8 | register & 7, bits]);
    }

    /// `shr register, 1` of 32 bits: the bit shifted out becomes the carry.
    pub(super) fn halve32(&mut self, register: Gpr) {
        self.raw(&[0x40 | register >> 3, 0xd1, 0xe8 | register & 7]);
    }

    /// `and register, value` of 32 bits; `value` is at most 127.
    pub(super) fn and32(&mut self, register: Gpr, value: u8) {
        self.raw(&[0x40 | register >> 3, 0x83, 0xe0 | register & 7, value]);
    }

    /// `lea register, [register + value]` of 64 bits.
    pub(super) fn add_lea(&mut self, register: Gpr, value: i8) {
        self.lea(register, register, value);
    }

    /// `lea to, [from + value]`
    pub(super) fn lea(&mut self, to: Gpr, from: Gpr, value: i8) {
        self.base_op(0x8d, to, from, value);
    }

    /// `lea to, [left + right]`
    pub(super) fn sum(&mut self, to: Gpr, left: Gpr, right: Gpr) {
        debug_assert!(right != RSP);
        self.raw(&[
            0x48 | (to >> 3) << 2 | (right >> 3) << 1 | left >> 3,
            0x8d,
            0x44 | (to & 7) << 3,
            (right & 7) << 3 | left & 7,
            0,
        ]);
    }

    /// `lea rsp, [rsp + bytes]`
    pub(super) fn pop(&mut self, bytes: u32) {
        self.raw(&[0x48, 0x8d, 0xa4, 0x24]);
        self.raw(&bytes.to_le_bytes());
    }

    /// `mov [base + displacement], from`
    pub(super) fn store(&mut self, base: Gpr, displacement: i8, from: Gpr) {
        self.base_op(0x89, from, base, displacement);
    }

    /// `mov to, [base + displacement]`
    pub(super) fn load(&mut self, to: Gpr, base: Gpr, displacement: i8) {
        self.base_op(0x8b, to, base, displacement);
    }

    fn base_op(&mut self, opcode: u8, register: Gpr, base: Gpr, displacement: i8) {
        self.raw(&[
            0x48 | (register >> 3) << 2 | base >> 3,
            opcode,
            0x40 | (register & 7) << 3 | base & 7,
        ]);
        if base & 7 == RSP {
            self.raw(&[0x24]);
        }
        self.raw(&displacement.to_le_bytes());
    }

    /// `mov dword ptr [base + displacement], value`
    pub(super) fn store_imm(&mut self, base: Gpr, displacement: i8, value: u32) {
        self.raw(&[0x40 | base >> 3, 0xc7, 0x40 | base & 7]);
        if base & 7 == RSP {
            self.raw(&[0x24]);
        }
        self.raw(&displacement.to_le_bytes());
        self.raw(&value.to_le_bytes());
    }

    /// Flags into ah, and the overflow flag into al.
    pub(super) fn flags_to_ax(&mut self) {
        self.lahf();
        self.seto();
    }

    /// `lahf`
    pub(super) fn lahf(&mut self) {
        self.raw(&[0x9f]);
    }

    /// `seto al`
    pub(super) fn seto(&mut self) {
        self.raw(&[0x0f, 0x90, 0xc0]);
    }

    /// `add al, 0x7f`: overflows exactly if al is 1.
    pub(super) fn overflow_from_al(&mut self) {
        self.raw(&[0x04, 0x7f]);
    }

    /// `sahf`
    pub(super) fn sahf(&mut self) {
        self.raw(&[0x9e]);
    }

    /// `jrcxz label`, which must not be far.
    pub(super) fn jump_if_rcx_zero(&mut self, label: Label) {
        self.raw(&[0xe3, 0]);
        self.fixups.push((self.offset() - 1, 1, label));
    }

    /// `jmp label`
    pub(super) fn jump(&mut self, label: Label) {
        self.raw(&[0xe9, 0, 0, 0, 0]);
        self.fixups.push((self.offset() - 4, 4, label));
    }

    /// `jmp label`, which must not be far.
    pub(super) fn jump_short(&mut self, label: Label) {
        self.raw(&[0xeb, 0]);
        self.fixups.push((self.offset() - 1, 1, label));
    }

    /// A conditional jump.
    pub(super) fn jump_if(&mut self, condition: Condition, label: Label) {
        self.jump_if_code(condition as u8, label);
    }

    /// A conditional jump by the low four bits of its opcode.
    pub(super) fn jump_if_code(&mut self, code: u8, label: Label) {
        self.raw(&[0x0f, 0x80 | code, 0, 0, 0, 0]);
        self.fixups.push((self.offset() - 4, 4, label));
    }

    /// `push qword ptr [literal]`
    pub(super) fn push_literal(&mut self, value: u64) {
        self.raw(&[0xff, 0x35, 0, 0, 0, 0]);
        self.literal_here(value);
    }

    /// `jmp qword ptr [literal]`
    pub(super) fn jump_literal(&mut self, value: u64) {
        self.raw(&[0xff, 0x25, 0, 0, 0, 0]);
        self.literal_here(value);
    }

    fn literal_here(&mut self, value: u64) {
        let known = self
            .literals
            .iter()
            .rev()
            .take(64)
            .find(|(known, _)| *known == value);
        let label = match known {
            Some((_, label)) => *label,
            None => {
                let label = self.label();
                self.literals.push((value, label));
                label
            }
        };
        self.fixups.push((self.offset() - 4, 4, label));
    }

    /// `jmp qword ptr [cell]`
    pub(super) fn jump_cell(&mut self, cell: Label) {
        self.raw(&[0xff, 0x25, 0, 0, 0, 0]);
        self.fixups.push((self.offset() - 4, 4, cell));
    }

    /// A word behind the code that may be changed while it runs; holds the address of `to` at
    /// first.
    pub(super) fn cell(&mut self, to: Label) -> Label {
        let label = self.label();
        self.cells.push((label, to));
        label
    }

    /// `mov byte ptr [address], al`, of an address below 2 GiB.
    pub(super) fn touch(&mut self, address: u32) {
        self.raw(&[0x88, 0x04, 0x25]);
        self.raw(&address.to_le_bytes());
    }

    /// Puts the constants behind the code and fills in all distances.
    ///
    /// # Errors
    /// Where a short jump does not reach.
    pub(super) fn finish(&mut self) -> Result<(), TooFar> {
        while !self.code.len().is_multiple_of(8) {
            self.code.push(0xcc);
        }
        for (value, label) in std::mem::take(&mut self.literals) {
            self.bind(label);
            self.raw(&value.to_le_bytes());
        }
        // On lines of their own: what changes is no code that is being run.
        while !self.cells.is_empty() && !self.code.len().is_multiple_of(64) {
            self.code.push(0xcc);
        }
        for (label, to) in std::mem::take(&mut self.cells) {
            self.bind(label);
            let to = self.base + u64::from(self.offset_of(to).ok_or(TooFar)?);
            self.raw(&to.to_le_bytes());
        }
        for (at, bytes, label) in std::mem::take(&mut self.fixups) {
            let to = self.labels[label.0 as usize].ok_or(TooFar)?;
            let (at, end) = (at as usize, at as i64 + i64::from(bytes));
            let distance = i64::from(to) - end;
            if bytes == 1 {
                self.code[at] = i8::try_from(distance).map_err(|_| TooFar)? as u8;
            } else {
                let distance = i32::try_from(distance).map_err(|_| TooFar)?;
                self.code[at..at + 4].copy_from_slice(&distance.to_le_bytes());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "asm_tests.rs"]
mod tests;
