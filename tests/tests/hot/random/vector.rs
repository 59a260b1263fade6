//! SSE, AVX, AVX2 and the x87, all on integers or on bytes whatever they mean.

use super::state::{ALL, State, name, ptr};

impl State {
    pub(super) fn vector(&mut self) {
        match self.rng.below(10) {
            0..3 => self.moves(),
            3..6 => self.packed(),
            6 => self.elements(),
            7 => self.compares(),
            8 if self.wide => self.masked(),
            _ => self.floating(),
        }
    }

    fn lane(&mut self) -> u32 {
        self.rng.below(16)
    }

    fn moves(&mut self) {
        let reg = self.lane();
        let both = self.rng.one_in(2);
        let order = |mem: &str, reg: String| {
            if both {
                format!("{mem}, {reg}")
            } else {
                format!("{reg}, {mem}")
            }
        };
        if self.wide && self.rng.one_in(2) {
            let wide = self.rng.one_in(2);
            let (size, bank) = if wide { (32, "ymm") } else { (16, "xmm") };
            let (what, mem) = match self.rng.below(4) {
                0 => (self.rng.pick(&["vmovdqa", "vmovaps"]), self.aligned(size)),
                _ => (self.rng.pick(&["vmovdqu", "vmovups"]), self.mem(size)),
            };
            let mem = format!("{}{mem}", ptr(size));
            return self.op(format!("{what} {}", order(&mem, format!("{bank}{reg}"))));
        }
        let (what, size, aligned) = self.rng.pick(&[
            ("movups", 16, false),
            ("movdqu", 16, false),
            ("movaps", 16, true),
            ("movdqa", 16, true),
            ("movq", 8, false),
            ("movd", 4, false),
            ("movss", 4, false),
            ("movsd", 8, false),
            ("movlps", 8, false),
            ("movhps", 8, false),
        ]);
        let mem = if aligned {
            self.aligned(size)
        } else {
            self.mem(size)
        };
        let mem = format!("{}{mem}", ptr(size));
        self.op(format!("{what} {}", order(&mem, format!("xmm{reg}"))));
    }

    fn packed(&mut self) {
        let (to, from) = (self.lane(), self.lane());
        let what = self.rng.pick(&[
            "paddd",
            "psubq",
            "pxor",
            "por",
            "pand",
            "pandn",
            "pshufb",
            "pmulld",
            "pmaddwd",
            "punpcklbw",
            "packuswb",
            "pcmpeqb",
            "pminub",
            "pavgb",
            "psadbw",
        ]);
        if self.wide {
            let (size, bank) = self.rng.pick(&[(16, "xmm"), (32, "ymm")]);
            let mem = self.mem(size);
            self.op(format!(
                "v{what} {bank}{to}, {bank}{from}, {}{mem}",
                ptr(size)
            ));
        } else {
            let mem = self.aligned(16);
            self.op(format!("{what} xmm{to}, xmmword ptr {mem}"));
        }
    }

    fn elements(&mut self) {
        let lane = self.lane();
        let (what, size) = self.rng.pick(&[("b", 1), ("w", 2), ("d", 4), ("q", 8)]);
        let mem = self.mem(size);
        let at = self.rng.below(16 / size);
        match self.rng.below(4) {
            0 => self.op(format!("pinsr{what} xmm{lane}, {}{mem}, {at}", ptr(size))),
            1 => self.op(format!("pextr{what} {}{mem}, xmm{lane}, {at}", ptr(size))),
            2 if self.wide => self.op(format!("vpbroadcast{what} ymm{lane}, {}{mem}", ptr(size))),
            _ if self.wide => {
                let mem = self.mem(16);
                if self.rng.one_in(2) {
                    self.op(format!("vextracti128 xmmword ptr {mem}, ymm{lane}, 1"));
                } else {
                    self.op(format!(
                        "vinserti128 ymm{lane}, ymm{lane}, xmmword ptr {mem}, 1"
                    ));
                }
            }
            _ => {
                let mem = self.mem(8);
                self.op(format!("pmovzxbw xmm{lane}, qword ptr {mem}"));
            }
        }
    }

    /// Flags that come out of memory.
    fn compares(&mut self) {
        let lane = self.lane();
        match self.rng.below(3) {
            0 => {
                let mem = self.aligned(16);
                self.op(format!("ptest xmm{lane}, xmmword ptr {mem}"));
            }
            1 => {
                let mem = self.mem(8);
                self.op(format!("ucomisd xmm{lane}, qword ptr {mem}"));
            }
            _ => {
                let mem = self.mem(4);
                self.op(format!("comiss xmm{lane}, dword ptr {mem}"));
            }
        }
        self.defined = ALL;
    }

    /// Lanes that a register chooses.
    fn masked(&mut self) {
        let lane = self.rng.below(12);
        let mem = self.mem(32);
        match self.rng.below(5) {
            0 => self.op(format!("vpmaskmovd ymm{lane}, ymm13, ymmword ptr {mem}")),
            1 => self.op(format!("vpmaskmovd ymmword ptr {mem}, ymm13, ymm{lane}")),
            2 => self.op(format!("vmaskmovpd ymmword ptr {mem}, ymm{lane}, ymm14")),
            3 => {
                let base = name(self.arena, 8);
                self.op("vmovdqu ymm15, ymmword ptr [rip+hot_lanes]");
                let mask = self.rng.pick(&[13, 14]);
                let scale = self.rng.pick(&[1, 2, 4, 8]);
                self.op(format!(
                    "vpgatherdd ymm{lane}, [{base}+ymm15*{scale}+24], ymm{mask}"
                ));
                let mem = self.mem(32);
                self.op(format!("vmovdqu ymm{mask}, ymmword ptr {mem}"));
            }
            _ => {
                // The operand is at rdi.
                let arena = name(self.arena, 8);
                self.op("push rdi");
                self.op(format!("lea rdi, [{arena}+77]"));
                self.op(format!("maskmovdqu xmm{lane}, xmm13"));
                self.op("pop rdi");
            }
        }
    }

    fn floating(&mut self) {
        let lane = self.lane();
        match self.rng.below(5) {
            0 => {
                let (from, to) = (self.mem(4), self.mem(8));
                self.op(format!("fild dword ptr {from}"));
                self.op(format!("fistp qword ptr {to}"));
            }
            1 => {
                let (from, to) = (self.mem(8), self.mem(8));
                self.op(format!("fild qword ptr {from}"));
                self.op(format!("fstp qword ptr {to}"));
            }
            2 => {
                let mem = self.mem(8);
                self.op(format!("cvtsi2sd xmm{lane}, qword ptr {mem}"));
            }
            3 => {
                let mem = self.mem(4);
                self.op(format!("cvtdq2pd xmm{lane}, xmm{lane}"));
                self.op(format!("cvtsi2ss xmm{lane}, dword ptr {mem}"));
            }
            _ => {
                let mem = self.mem(32);
                self.op("fld tbyte ptr [rip+hot_ten]");
                self.op(format!("fstp tbyte ptr {mem}"));
            }
        }
    }
}
