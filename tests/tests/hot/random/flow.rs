//! Programs: branches, calls and jumps through tables. The loops are in `loops`.

use super::state::{ALL, CF, State, name};

/// How often an instruction may run in one call of a program, about.
pub(super) const BUDGET: u32 = 40;

/// How often a helper is called, as its own loops assume.
const HELPER: u32 = 5;

/// A function that a program calls.
#[derive(Clone)]
struct Helper {
    name: String,
    /// Whether others may put another in its place, so that calls go through the PLT.
    global: bool,
}

/// One program with the functions that it calls.
pub(super) struct Program {
    pub(super) state: State,
    /// Functions whose bodies follow the program's.
    helpers: Vec<Helper>,
    /// Repetitions of what is written now.
    pub(super) times: u32,
    pub(super) loops: usize,
    pub(super) walking: bool,
    pub(super) helper: Option<usize>,
}

impl Program {
    /// The assembly of program number `number`.
    pub(super) fn write(seed: u64, number: usize, wide: bool) -> String {
        let mut state = State::new(seed, number, wide);
        let helpers = (0..state.rng.below(4))
            .map(|k| Helper {
                name: format!("prog_{number}_h{k}"),
                global: state.rng.one_in(3),
            })
            .collect();
        let mut program = Program {
            state,
            helpers,
            times: 1,
            loops: 0,
            walking: false,
            helper: None,
        };
        program.whole(number);
        program.state.text
    }

    fn whole(&mut self, number: usize) {
        let name = format!("prog_{number}");
        let described = !self.state.rng.one_in(5);
        self.open(&name, described);
        if self.state.rng.one_in(3) {
            self.state.op("endbr64");
        }
        self.state.enter();
        for _ in 0..self.state.rng.within(3, 5) {
            self.item(0);
        }
        self.state.leave();
        self.close(&name, described);
        for k in 0..self.helpers.len() {
            self.helper_body(k);
        }
        // Data in the text, between one function and the next.
        self.state.op(".p2align 3");
        self.state.place(&format!(".Lpool{number}"));
        for _ in 0..8 {
            let value = self.state.rng.next();
            self.state.op(format!(".quad {value:#x}"));
        }
    }

    /// Some functions have neither a size nor a row in `.eh_frame`.
    fn open(&mut self, name: &str, described: bool) {
        let align = self.state.rng.pick(&[0, 1, 4, 4, 6]);
        self.state.op(format!(".p2align {align}"));
        self.state.op(format!(".type {name}, @function"));
        self.state.place(name);
        if described {
            self.state.op(".cfi_startproc");
        }
    }

    fn close(&mut self, name: &str, described: bool) {
        if described {
            self.state.op(".cfi_endproc");
            self.state.op(format!(".size {name}, .-{name}"));
        }
    }

    fn plain(&mut self) {
        match self.state.rng.below(20) {
            0..13 => self.state.integer(),
            13..18 => self.state.vector(),
            _ => self.state.implied(),
        }
    }

    pub(super) fn some(&mut self, most: i32) {
        for _ in 0..self.state.rng.within(1, most) {
            self.plain();
        }
    }

    pub(super) fn item(&mut self, depth: usize) {
        let spare = BUDGET / self.times.max(1);
        match self.state.rng.below(10) {
            0..4 if spare > 3 && depth < 3 => self.repeat(depth, spare),
            4 | 5 => self.branch(depth),
            6 => self.call(),
            7 => self.switch(),
            8 => self.jumps(),
            _ => self.some(3),
        }
    }

    fn branch(&mut self, depth: usize) {
        let condition = self.state.condition();
        let (other, end) = (self.state.fresh(), self.state.fresh());
        let far = if self.state.rng.one_in(3) {
            "{disp32} "
        } else {
            ""
        };
        self.state.op(format!("{far}j{condition} {other}"));
        let before = self.state.defined;
        self.some(2);
        if depth < 3 && self.state.rng.one_in(3) {
            self.item(depth + 1);
        }
        let mut after = self.state.defined;
        if self.state.rng.one_in(2) {
            self.state.op(format!("jmp {end}"));
            self.state.place(&other);
            self.state.defined = before;
            self.some(2);
            after &= self.state.defined;
            self.state.place(&end);
            self.state.defined = after;
        } else {
            self.state.place(&other);
            self.state.defined = before & after;
        }
    }

    /// A jump through a table of offsets or of addresses, which may lie in the arena.
    fn switch(&mut self) {
        let labels: Vec<String> = (0..4).map(|_| self.state.fresh()).collect();
        let (table, end) = (self.state.fresh(), self.state.fresh());
        let mut regs = self.state.data.clone();
        self.state.rng.shuffle(&mut regs);
        let (code, to, which) = (name(self.state.code, 8), name(regs[0], 8), regs[1]);
        self.state.op(format!("and {}, 3", name(which, 4)));
        let which = name(which, 8);
        match self.state.rng.below(4) {
            0 => {
                let arena = name(self.state.arena, 8);
                let at = self.state.for_code();
                for (k, label) in labels.iter().enumerate() {
                    let slot = at + 8 * k as i32;
                    self.state.op(format!("lea {code}, [rip+{label}]"));
                    self.state
                        .op(format!("mov qword ptr [{arena}{slot:+}], {code}"));
                }
                self.state
                    .op(format!("jmp qword ptr [{arena}+{which}*8{at:+}]"));
                self.cases(&labels, &end);
                for k in 0..4 {
                    let slot = at + 8 * k;
                    self.state
                        .op(format!("mov qword ptr [{arena}{slot:+}], {k}"));
                }
            }
            1 => {
                self.state.op(format!("lea {code}, [rip+{table}]"));
                self.state.op(format!("jmp qword ptr [{code}+{which}*8]"));
                self.addresses(&table, &labels, true);
                self.cases(&labels, &end);
            }
            _ => {
                let notrack = self.state.rng.one_in(4);
                self.state.op(format!("lea {code}, [rip+{table}]"));
                self.state
                    .op(format!("movsxd {to}, dword ptr [{code}+{which}*4]"));
                self.state.op(format!("add {code}, {to}"));
                let notrack = if notrack { "notrack " } else { "" };
                self.state.op(format!("{notrack}jmp {code}"));
                self.addresses(&table, &labels, false);
                self.cases(&labels, &end);
            }
        }
        self.state.defined = 0;
    }

    fn addresses(&mut self, table: &str, labels: &[String], full: bool) {
        // Addresses need relocations, so they cannot be in the text.
        self.state.op(if full {
            ".section .data.rel.ro, \"aw\""
        } else {
            ".section .rodata"
        });
        self.state.op(".p2align 3");
        self.state.place(table);
        for label in labels {
            self.state.op(if full {
                format!(".quad {label}")
            } else {
                format!(".long {label}-{table}")
            });
        }
        self.state.op(".text");
    }

    fn cases(&mut self, labels: &[String], end: &str) {
        for label in labels {
            self.state.place(label);
            self.state.defined = 0;
            self.some(2);
            self.state.op(format!("jmp {end}"));
        }
        self.state.place(end);
    }

    /// Which helper may be called from here: only later ones, so that it ends.
    fn callee(&mut self) -> Option<Helper> {
        let first = self.helper.map_or(0, |k| k + 1);
        let left = self.helpers.len().checked_sub(first)?;
        let left = u32::try_from(left).ok().filter(|&left| left > 0)?;
        Some(self.helpers[first + self.state.rng.below(left) as usize].clone())
    }

    /// Puts the address of `helper` into the register for that.
    fn address_of(&mut self, helper: &Helper) -> &'static str {
        let (code, callee) = (name(self.state.code, 8), &helper.name);
        self.state.op(if helper.global {
            format!("mov {code}, qword ptr [rip+{callee}@GOTPCREL]")
        } else {
            format!("lea {code}, [rip+{callee}]")
        });
        code
    }

    fn call(&mut self) {
        if self.helper.is_some() && self.times > HELPER {
            return self.jumps();
        }
        let Some(callee) = self.callee() else {
            return self.jumps();
        };
        match self.state.rng.below(6) {
            0 => {
                let code = self.address_of(&callee);
                self.state.op(format!("call {code}"));
            }
            1 => {
                let place = self.state.fresh();
                self.state.op(format!("call qword ptr [rip+{place}]"));
                self.addresses(&place, &[callee.name], true);
            }
            2 => {
                let arena = name(self.state.arena, 8);
                let at = self.state.for_code();
                let code = self.address_of(&callee);
                self.state
                    .op(format!("mov qword ptr [{arena}{at:+}], {code}"));
                self.state.op(format!("call qword ptr [{arena}{at:+}]"));
                self.state.op(format!("mov qword ptr [{arena}{at:+}], 7"));
            }
            _ => self.state.op(format!("call {}@PLT", callee.name)),
        }
        self.state.defined = 0;
    }

    /// Calls and returns that are no calls of a function.
    fn jumps(&mut self) {
        let label = self.state.fresh();
        let (code, reg) = (name(self.state.code, 8), self.state.reg());
        match self.state.rng.below(4) {
            0 => {
                // Its own address, which is the original one.
                self.state.op(format!("call {label}"));
                self.state.place(&label);
                self.state.op(format!("lea {code}, [rip+{label}]"));
                self.state.op(format!("cmp {code}, qword ptr [rsp]"));
                self.state.op(format!("pop {code}"));
                let mem = self.state.in_arena(1);
                self.state.op(format!("sete byte ptr {mem}"));
                self.state.defined = ALL;
            }
            1 => {
                self.state.op(format!("lea {code}, [rip+{label}]"));
                self.state.op(format!("push {code}"));
                self.state.op("ret");
                self.state.op("ud2");
                self.state.place(&label);
            }
            2 => {
                // Over the prefix, as glibc did where there is one thread.
                let condition = self.state.condition();
                let mem = self.state.aligned(4);
                self.state.op(format!("j{condition} {label}+1"));
                self.state.place(&label);
                self.state
                    .op(format!("lock add dword ptr {mem}, {}", name(reg, 4)));
                self.state.defined = ALL;
            }
            _ => {
                self.state.op(format!("lea {code}, [rip+{label}]"));
                self.state.op(format!("jmp {code}"));
                self.state.op(".byte 0x0f, 0x0b, 0x66");
                self.state.place(&label);
            }
        }
    }

    fn helper_body(&mut self, k: usize) {
        self.helper = Some(k);
        self.state.framed = false;
        self.state.pushed = 0;
        self.state.defined = 0;
        self.times = HELPER;
        let Helper {
            name: name_of,
            global,
        } = self.helpers[k].clone();
        let described = !self.state.rng.one_in(4);
        if global {
            self.state.op(format!(".globl {name_of}"));
        }
        self.open(&name_of, described);
        let saved = self.state.counters;
        let popped = self.state.rng.one_in(4);
        if popped {
            // Takes its arguments with it: called through a stub that pushes two.
            let inner = self.state.fresh();
            let reg = name(self.state.reg(), 8);
            self.state.op(format!("push {reg}"));
            self.state.op("push 11");
            self.state.op(format!("call {inner}"));
            self.state.op("ret");
            self.state.place(&inner);
            self.state.op(format!("mov {reg}, qword ptr [rsp+16]"));
            self.state.op(format!("add {reg}, qword ptr [rsp+8]"));
        }
        for reg in saved {
            self.state.op(format!("push {}", name(reg, 8)));
        }
        self.some(3);
        if !self.state.rng.one_in(3) {
            self.item(2);
        }
        if self.state.rng.one_in(4) {
            self.recursive();
        }
        for reg in saved.into_iter().rev() {
            self.state.op(format!("pop {}", name(reg, 8)));
        }
        match self.callee() {
            _ if popped => self.state.op("ret 16"),
            Some(next) if self.state.rng.one_in(2) => {
                self.state.op(format!("jmp {}@PLT", next.name))
            }
            _ => self.state.op("ret"),
        }
        self.close(&name_of, described);
    }

    /// A function in the function that calls itself.
    fn recursive(&mut self) {
        let (again, over, done) = (self.state.fresh(), self.state.fresh(), self.state.fresh());
        let counter = name(self.state.counters[0], 4);
        let depth = self.state.rng.within(2, 5);
        self.state.op(format!("mov {counter}, {depth}"));
        self.state.op(format!("call {again}"));
        self.state.op(format!("jmp {over}"));
        self.state.place(&again);
        self.state.op(format!("dec {counter}"));
        self.state.op(format!("js {done}"));
        self.state.defined = ALL & !CF;
        self.some(2);
        self.state.op(format!("call {again}"));
        self.state.defined = 0;
        self.some(2);
        self.state.place(&done);
        self.state.op("ret");
        self.state.place(&over);
        self.state.defined = 0;
    }
}
