//! What hot code must leave as it was: flags, the red zone, the thread's own block; and instructions
//! whose memory operand is no access.

use super::state::{AF, ALL, CF, OF, PF, RAX, SF, State, ZF, name, ptr};

impl State {
    pub(super) fn flags(&mut self) {
        let reg = self.reg();
        let reg = name(reg, 8);
        match self.rng.below(4) {
            0 => {
                self.need(ALL);
                self.op("pushfq");
                self.op(format!("pop {reg}"));
            }
            1 => {
                self.op(format!("and {reg}, {ALL}"));
                self.op(format!("push {reg}"));
                self.op("popfq");
                self.defined = ALL;
            }
            2 if self.is_data(&[RAX]) => {
                self.need(CF | PF | AF | ZF | SF);
                let mem = self.mem(8);
                self.op(format!("mov {reg}, qword ptr {mem}"));
                self.op("lahf");
            }
            3 if self.is_data(&[RAX]) => {
                self.op("sahf");
                self.defined |= CF | PF | AF | ZF | SF;
            }
            _ => {
                let what = self.rng.pick(&["stc", "clc"]);
                self.op(what);
                self.defined |= CF;
                self.op(format!("mov {reg}, {reg}"));
                self.op("cmc");
            }
        }
    }

    pub(super) fn counting(&mut self) {
        let (size, reg) = (self.rng.pick(&[4, 8]), self.reg());
        let mem = self.mem(size);
        let (to, ptr) = (name(reg, size), ptr(size));
        match self.rng.below(6) {
            0 => {
                self.op(format!("popcnt {to}, {ptr}{mem}"));
                self.defined = ALL;
            }
            1 if self.wide => {
                let what = self.rng.pick(&["lzcnt", "tzcnt"]);
                self.op(format!("{what} {to}, {ptr}{mem}"));
                self.defined = CF | ZF;
            }
            2 if self.wide => {
                let by = self.reg();
                let what = self.rng.pick(&["shlx", "shrx", "sarx", "bextr"]);
                self.op(format!("{what} {to}, {ptr}{mem}, {}", name(by, size)));
                if what == "bextr" {
                    self.defined = CF | ZF | OF;
                }
            }
            3 if self.wide => {
                let by = self.reg();
                let what = self.rng.pick(&["andn", "pdep", "pext"]);
                self.op(format!("{what} {to}, {}, {ptr}{mem}", name(by, size)));
                if what == "andn" {
                    self.defined = CF | ZF | SF | OF;
                }
            }
            4 if self.wide => self.op(format!("rorx {to}, {ptr}{mem}, 13")),
            _ => self.op(format!("crc32 {}, {ptr}{mem}", name(reg, size))),
        }
    }

    /// Carries that live on over loads and stores.
    pub(super) fn carries(&mut self) {
        self.need(CF | OF);
        let (left, right) = (self.reg(), self.reg());
        let (left, right) = (name(left, 8), name(right, 8));
        for _ in 0..self.rng.within(2, 4) {
            let mem = self.mem(8);
            match self.rng.below(4) {
                0 if self.wide => self.op(format!("adcx {left}, qword ptr {mem}")),
                1 if self.wide => self.op(format!("adox {right}, qword ptr {mem}")),
                2 => {
                    self.op(format!("adc {left}, qword ptr {mem}"));
                    self.defined = ALL;
                }
                _ => self.op(format!("mov {right}, qword ptr {mem}")),
            }
        }
        let mem = self.mem(1);
        self.op(format!("setb byte ptr {mem}"));
    }

    /// Memory operands that are no access.
    pub(super) fn no_access(&mut self) {
        let mem = self.in_arena(8);
        let (to, from) = (self.reg(), self.reg());
        match self.rng.below(5) {
            0 => self.op(format!("nop dword ptr {mem}")),
            1 => self.op(format!("nop word ptr {mem}")),
            2 => self.op(format!("prefetcht0 {mem}")),
            3 => self.op(".nops 9"),
            _ => self.op(format!(
                "lea {}, [{}+{}*4+0x1234]",
                name(to, 4),
                name(from, 8),
                name(to, 8)
            )),
        }
    }

    /// What a leaf function keeps below its stack pointer.
    pub(super) fn red_zone(&mut self) {
        let (from, to) = (self.reg(), self.reg());
        let slot = self.rng.within(1, 16) * 8;
        self.op(format!("mov qword ptr [rsp-{slot}], {}", name(from, 8)));
        for _ in 0..self.rng.within(1, 3) {
            self.load();
        }
        self.op(format!("mov {}, qword ptr [rsp-{slot}]", name(to, 8)));
    }

    /// The thread's own block: its address is at 0 and at 16.
    pub(super) fn own_thread(&mut self) {
        let reg = self.reg();
        let reg = name(reg, 8);
        self.op(format!("mov {reg}, qword ptr fs:[0]"));
        self.op(format!("sub {reg}, qword ptr fs:[16]"));
        self.defined = ALL;
    }

    pub(super) fn new_index(&mut self) {
        let reg = self.rng.pick(&[0, 1]);
        let reg = self.index[reg];
        match self.rng.below(4) {
            0 => {
                let value = self.rng.within(-255, 255);
                self.op(format!("mov {}, {value}", name(reg, 8)));
            }
            1 => {
                let mem = self.mem(1);
                self.op(format!("movsx {}, byte ptr {mem}", name(reg, 8)));
            }
            2 => {
                let from = self.reg();
                self.op(format!("movzx {}, {}", name(reg, 4), name(from, 1)));
            }
            _ => {
                let mem = self.mem(1);
                self.op(format!("movzx {}, byte ptr {mem}", name(reg, 4)));
            }
        }
    }
}
