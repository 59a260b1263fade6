//! Instructions whose memory operands are implied: string instructions, `xlat`, `enter`, and a stack
//! that lies in the arena.

use super::state::{AF, ALL, RAX, RBX, RCX, Reg, State, name};

const RBP: Reg = 5;
const RSI: Reg = 6;
const RDI: Reg = 7;

impl State {
    pub(super) fn implied(&mut self) {
        match self.rng.below(8) {
            0..4 => self.string(),
            4 => self.translate(),
            5 => self.frame(),
            6 => self.table(),
            _ => self.other_stack(),
        }
    }

    /// An address with at least 600 bytes on either side, in the arena or (`own`) in the library.
    fn address(&mut self, reg: Reg, own: bool) {
        let reg = name(reg, 8);
        if own {
            let at = self.rng.within(600, 8192 - 600);
            self.op(format!("lea {reg}, [rip+hot_private+{at}]"));
        } else {
            // Not from `arena` itself, which may be this register or another that is set already.
            let at = self.rng.within(-5300, 5300);
            self.op(format!("mov {reg}, qword ptr [rip+hot_arena]"));
            self.op(format!("lea {reg}, [{reg}{at:+}]"));
        }
    }

    fn string(&mut self) {
        let own = self.rng.below(4);
        let (what, flags) = self.rng.pick(&[
            ("movs", false),
            ("movs", false),
            ("stos", false),
            ("lods", false),
            ("scas", true),
            ("cmps", true),
        ]);
        if matches!(what, "lods" | "scas") && !self.is_data(&[RAX]) {
            return self.translate();
        }
        let unit = self.rng.pick(&["b", "w", "d", "q"]);
        let repeat = match (self.rng.below(3), flags) {
            (0, _) => "",
            (1, true) => "repne ",
            _ => "rep ",
        };
        let count = self.rng.pick(&[0, 1, 2, 3, 7, 8, 17, 40, 64]);
        for reg in ["rsi", "rdi", "rcx"] {
            self.op(format!("push {reg}"));
        }
        self.address(RSI, own == 1);
        self.address(RDI, own == 2);
        self.op(format!("mov ecx, {count}"));
        if what == "stos" && !self.is_data(&[RAX]) {
            // Must not store an address.
            self.op("push rax");
            self.op("mov eax, 0x12345678");
        }
        let back = self.rng.one_in(5);
        if back {
            self.op("std");
        }
        // Without an iteration the flags stay.
        self.op(format!("{repeat}{what}{unit}"));
        if back {
            self.op("cld");
        }
        if what == "stos" && !self.is_data(&[RAX]) {
            self.op("pop rax");
        }
        if self.rng.one_in(2) && self.is_data(&[RBX]) {
            // How far it came.
            self.op("mov rbx, rcx");
        }
        for reg in ["rcx", "rdi", "rsi"] {
            self.op(format!("pop {reg}"));
        }
        if flags && (repeat.is_empty() || count > 0) {
            self.defined = ALL;
        }
    }

    fn translate(&mut self) {
        if !self.is_data(&[RAX]) {
            return self.frame();
        }
        self.op("push rbx");
        let own = self.rng.one_in(4);
        self.address(RBX, own);
        self.op("xlatb");
        self.op("pop rbx");
    }

    /// A frame by `enter`, with `rbp` as the base of what is in it.
    fn frame(&mut self) {
        let (from, to) = (self.reg(), self.reg());
        let size = self.rng.within(2, 6) * 16;
        self.op("push rbp");
        if self.rng.one_in(2) {
            self.op(format!("enter {size}, 0"));
        } else {
            self.op("push rbp");
            self.op("mov rbp, rsp");
            self.op(format!("lea rsp, [rsp-{size}]"));
        }
        let uses = [from, to].iter().all(|&reg| reg != RBP);
        if uses {
            self.op(format!("mov qword ptr [rbp-{size}], {}", name(from, 8)));
            if self.arena != RBP && self.index[0] != RBP {
                let (arena, index) = (name(self.arena, 8), name(self.index[0], 8));
                self.op(format!(
                    "movzx {}, word ptr [{arena}+{index}*2]",
                    name(to, 4)
                ));
            }
            self.op(format!("mov {}, qword ptr [rbp-{size}]", name(to, 8)));
        }
        self.op("leave");
        self.op("pop rbp");
    }

    /// Constants between the functions, in the text.
    fn table(&mut self) {
        let (size, reg) = (self.rng.pick(&[4, 8]), self.reg());
        let at = self.rng.below(8) * 8;
        let program = self.program;
        let reg = name(reg, size);
        self.op(format!("xor {reg}, [rip+.Lpool{program}+{at}]"));
        self.defined = ALL & !AF;
    }

    /// The stack itself in the arena for a while.
    fn other_stack(&mut self) {
        let (from, to) = (self.reg(), self.reg());
        let (from, to) = (name(from, 8), name(to, 8));
        let arena = name(self.arena, 8);
        let at = self.rng.within(-400, 400) * 8;
        self.need(ALL);
        self.op("mov qword ptr [rip+hot_stack], rsp");
        self.op(format!("lea rsp, [{arena}{at:+}]"));
        self.op(format!("push {from}"));
        if self.rng.one_in(2) {
            self.op("pushfq");
            self.op(format!("pop {to}"));
        }
        self.op("push qword ptr [rsp+8]");
        self.op(format!("mov {to}, qword ptr [rsp-8]"));
        self.op(format!("add {to}, qword ptr [rsp]"));
        if self.is_data(&[RCX]) {
            self.op("mov dword ptr [rsp+4], ecx");
        }
        self.op("pop qword ptr [rsp+16]");
        self.op(format!("pop {to}"));
        self.op("mov rsp, qword ptr [rip+hot_stack]");
        self.defined = ALL;
    }
}
