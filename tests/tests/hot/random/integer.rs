//! Integer instructions with a memory operand.

use super::state::{AF, ALL, CF, OF, PF, RAX, RBX, RCX, RDX, Reg, SF, State, ZF, name, ptr};

impl State {
    /// One instruction, or a few that belong together.
    pub(super) fn integer(&mut self) {
        match self.rng.below(27) {
            0..3 => self.load(),
            3..5 => self.store(),
            5..10 => self.arithmetic(),
            10 => self.unary(),
            11 | 12 => self.shift(),
            13 => self.multiply(),
            14 => self.divide(),
            15 => self.bits(),
            16 => self.exchange(),
            17 => self.compare_exchange(),
            18 => self.conditional(),
            19 => self.stack(),
            20 => self.flags(),
            21 => self.counting(),
            22 => self.carries(),
            23 => self.no_access(),
            24 => self.red_zone(),
            25 => self.own_thread(),
            _ => self.new_index(),
        }
    }

    /// A register's name for `size` bytes; with one byte, sometimes ah to dh where that can be
    /// encoded.
    fn part(&mut self, reg: Reg, size: u32, other: &str) -> String {
        let extended = other.contains("r8")
            || other.contains("r9")
            || other.contains("r1")
            || ["sil", "dil", "bpl", "spl"]
                .iter()
                .any(|low| other.contains(low));
        if size == 1 && reg < 4 && !extended && !self.rng.one_in(3) {
            return ["ah", "ch", "dh", "bh"][reg].into();
        }
        name(reg, size).into()
    }

    pub(super) fn load(&mut self) {
        let (size, reg) = (self.size(), self.reg());
        let mem = self.mem(size);
        match (self.rng.below(3), size) {
            (0, 1 | 2) => {
                let how = self.rng.pick(&["movzx", "movsx"]);
                let to = name(reg, self.rng.pick(&[4, 8]));
                self.op(format!("{how} {to}, {}{mem}", ptr(size)));
            }
            (0, 4) => self.op(format!("movsxd {}, dword ptr {mem}", name(reg, 8))),
            (1, 4 | 8) if self.wide => {
                self.op(format!("movbe {}, {}{mem}", name(reg, size), ptr(size)))
            }
            _ => {
                let to = self.part(reg, size, &mem);
                self.op(format!("mov {to}, {}{mem}", ptr(size)));
            }
        }
    }

    fn store(&mut self) {
        let (size, reg) = (self.size(), self.reg());
        let mem = self.mem(size);
        match self.rng.below(5) {
            0 => {
                let imm = self.imm(size);
                self.op(format!("mov {}{mem}, {imm}", ptr(size)));
            }
            1 if size >= 4 => {
                self.op(format!("movnti {}{mem}, {}", ptr(size), name(reg, size)));
            }
            2 if size >= 2 && self.wide => {
                self.op(format!("movbe {}{mem}, {}", ptr(size), name(reg, size)))
            }
            _ => {
                let from = self.part(reg, size, &mem);
                self.op(format!("mov {}{mem}, {from}", ptr(size)));
            }
        }
    }

    fn arithmetic(&mut self) {
        let what = self.rng.pick(&[
            "add", "sub", "adc", "sbb", "and", "or", "xor", "cmp", "test",
        ]);
        if matches!(what, "adc" | "sbb") {
            self.need(CF);
        }
        let (size, reg) = (self.size(), self.reg());
        let writes = !matches!(what, "cmp" | "test");
        match self.rng.below(4) {
            0 | 1 if what != "test" => {
                let mem = self.mem(size);
                let reg = self.part(reg, size, &mem);
                self.op(format!("{what} {reg}, {}{mem}", ptr(size)));
            }
            2 => {
                let imm = self.imm(size);
                let mem = self.mem(size);
                self.op(format!("{what} {}{mem}, {imm}", ptr(size)));
            }
            form => {
                let lock = writes && form == 3;
                let mem = if lock {
                    self.aligned(size)
                } else {
                    self.mem(size)
                };
                let reg = self.part(reg, size, &mem);
                let lock = if lock { "lock " } else { "" };
                self.op(format!("{lock}{what} {}{mem}, {reg}", ptr(size)));
            }
        }
        let logic = matches!(what, "and" | "or" | "xor" | "test");
        self.defined = if logic { ALL & !AF } else { ALL };
    }

    fn unary(&mut self) {
        let what = self.rng.pick(&["inc", "dec", "neg", "not"]);
        let size = self.size();
        let lock = self.rng.one_in(3);
        let mem = if lock {
            self.aligned(size)
        } else {
            self.mem(size)
        };
        let lock = if lock { "lock " } else { "" };
        self.op(format!("{lock}{what} {}{mem}", ptr(size)));
        match what {
            "neg" => self.defined = ALL,
            "not" => {}
            // The carry stays.
            _ => self.defined |= ALL & !CF,
        }
    }

    fn shift(&mut self) {
        let size = self.size();
        if size > 1 && self.rng.one_in(4) {
            let (what, reg) = (self.rng.pick(&["shld", "shrd"]), self.reg());
            let count = self.rng.within(1, 15);
            let mem = self.mem(size);
            self.op(format!(
                "{what} {}{mem}, {}, {count}",
                ptr(size),
                name(reg, size)
            ));
            self.defined = CF | ZF | SF | PF;
            return;
        }
        let what = self
            .rng
            .pick(&["rol", "ror", "rcl", "rcr", "shl", "shr", "sar"]);
        let rotates = what.starts_with('r');
        if what.starts_with("rc") {
            self.need(CF);
        }
        let mem = self.mem(size);
        match self.rng.below(3) {
            0 => {
                self.op(format!("{what} {}{mem}, 1", ptr(size)));
                self.defined = if rotates {
                    self.defined | CF | OF
                } else {
                    ALL & !AF
                };
            }
            1 => {
                let count = self.rng.within(2, 7);
                self.op(format!("{what} {}{mem}, {count}", ptr(size)));
                self.defined = if rotates {
                    (self.defined & !OF) | CF
                } else {
                    ALL & !AF & !OF
                };
            }
            _ => {
                // A count of nothing leaves the flags as they are, so that they must be known.
                self.op(format!("{what} {}{mem}, cl", ptr(size)));
                self.defined = 0;
            }
        }
    }

    fn multiply(&mut self) {
        let (size, reg) = (self.rng.pick(&[2, 4, 8]), self.reg());
        let (mem, imm) = (self.mem(size), self.imm(size));
        let (reg, ptr) = (name(reg, size), ptr(size));
        match self.rng.below(3) {
            0 => self.op(format!("imul {reg}, {ptr}{mem}")),
            1 => self.op(format!("imul {reg}, {ptr}{mem}, {imm}")),
            _ if self.is_data(&[RAX, RDX]) => {
                let what = self.rng.pick(&["mul", "imul"]);
                self.op(format!("{what} {ptr}{mem}"));
            }
            _ => return,
        }
        self.defined = CF | OF;
    }

    fn divide(&mut self) {
        if !self.is_data(&[RAX, RDX]) {
            return self.multiply();
        }
        let size = self.rng.pick(&[4, 8]);
        let (mem, by) = (self.mem(size), self.imm(4) | 1);
        self.op(format!("mov {}{mem}, {by}", ptr(size)));
        self.op("mov edx, 0");
        self.op(format!("div {}{mem}", ptr(size)));
        self.defined = 0;
    }

    fn bits(&mut self) {
        let what = self.rng.pick(&["bt", "bts", "btr", "btc"]);
        let size = self.rng.pick(&[2, 4, 8]);
        match self.rng.below(3) {
            0 => {
                let (mem, bit) = (self.mem(size), self.rng.within(0, 63));
                self.op(format!("{what} {}{mem}, {bit}", ptr(size)));
            }
            1 if what != "bt" => {
                let (mem, bit) = (self.aligned(size), self.rng.within(0, 63));
                self.op(format!("lock {what} {}{mem}, {bit}", ptr(size)));
            }
            _ => {
                // Bits beyond the operand, on either side.
                let bit = self.rng.pick(&self.index.clone());
                let mem = self.in_arena(size);
                self.op(format!("{what} {}{mem}, {}", ptr(size), name(bit, size)));
            }
        }
        self.defined = CF | (self.defined & ZF);
    }

    fn exchange(&mut self) {
        let (size, reg) = (self.size(), self.reg());
        let lock = self.rng.one_in(2);
        match self.rng.below(3) {
            0 => {
                let mem = self.aligned(size);
                let reg = self.part(reg, size, &mem);
                self.op(format!("xchg {}{mem}, {reg}", ptr(size)));
            }
            _ => {
                let mem = if lock {
                    self.aligned(size)
                } else {
                    self.mem(size)
                };
                let lock = if lock { "lock " } else { "" };
                self.op(format!(
                    "{lock}xadd {}{mem}, {}",
                    ptr(size),
                    name(reg, size)
                ));
                self.defined = ALL;
            }
        }
    }

    fn compare_exchange(&mut self) {
        if !self.is_data(&[RAX]) {
            return self.exchange();
        }
        let lock = if self.rng.one_in(2) { "lock " } else { "" };
        if self.is_data(&[RAX, RBX, RCX, RDX]) {
            let mem = self.aligned(16);
            self.op(format!("{lock}cmpxchg16b xmmword ptr {mem}"));
            self.defined |= ZF;
            return;
        }
        let (size, reg) = (self.size(), self.reg());
        let mem = self.aligned(size);
        if self.rng.one_in(3) {
            // So that it is equal.
            self.op(format!("mov {}, {}{mem}", name(RAX, size), ptr(size)));
        }
        self.op(format!(
            "{lock}cmpxchg {}{mem}, {}",
            ptr(size),
            name(reg, size)
        ));
        self.defined = ALL;
    }

    fn conditional(&mut self) {
        let condition = self.condition();
        if self.rng.one_in(2) {
            let mem = self.mem(1);
            self.op(format!("set{condition} byte ptr {mem}"));
        } else {
            let (size, reg) = (self.rng.pick(&[2, 4, 8]), self.reg());
            let mem = self.mem(size);
            self.op(format!(
                "cmov{condition} {}, {}{mem}",
                name(reg, size),
                ptr(size)
            ));
        }
    }

    fn stack(&mut self) {
        let size = self.rng.pick(&[2, 8, 8]);
        match self.rng.below(3) {
            0 => {
                let reg = self.reg();
                self.op(format!("push {}", name(reg, size)));
            }
            1 => {
                let mem = self.mem(size);
                self.op(format!("push {}{mem}", ptr(size)));
            }
            _ => {
                let imm = self.imm(1);
                self.op(format!("push{} {imm}", if size == 2 { "w" } else { "" }));
            }
        }
        self.pushed += size as i32;
        if self.rng.one_in(2) {
            self.load();
        }
        self.pushed -= size as i32;
        if self.rng.one_in(2) {
            let reg = self.reg();
            self.op(format!("pop {}", name(reg, size)));
        } else {
            let mem = self.mem(size);
            self.op(format!("pop {}{mem}", ptr(size)));
        }
    }
}
