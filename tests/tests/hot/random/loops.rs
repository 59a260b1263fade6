//! Loops of every kind: what counts, which instruction goes back, and where they are entered and
//! left.

use super::flow::{BUDGET, Program};
use super::state::{ALL, CF, Reg, ZF, name};

impl Program {
    fn body(&mut self, depth: usize, times: u32) {
        self.state.defined = 0;
        self.times *= times;
        self.some(4);
        if self.state.rng.one_in(2) {
            self.item(depth + 1);
        }
        self.times /= times;
    }

    /// A loop of some kind, of at most `spare` iterations.
    pub(super) fn repeat(&mut self, depth: usize, spare: u32) {
        let times = 2 + self.state.rng.below(spare.min(BUDGET) - 2);
        let kind = self.state.rng.below(9);
        if kind < 3 {
            return self.by_rcx(depth, times, kind);
        }
        if self.loops == self.state.counters.len() {
            return self.some(4);
        }
        let counter = self.state.counters[self.loops];
        self.loops += 1;
        if kind == 3 && !self.walking && self.helper.is_none() {
            self.walk(depth, times, counter);
        } else {
            // The counter is an index too: it is small.
            self.state.index.push(counter);
            match kind {
                4 => self.carry_chain(times, counter),
                5 => self.entered_in_the_middle(depth, times, counter),
                _ => self.counted(depth, times, counter),
            }
            self.state.index.pop();
        }
        self.loops -= 1;
    }

    fn counted(&mut self, depth: usize, times: u32, counter: Reg) {
        let head = self.state.fresh();
        let (short, long) = (name(counter, 4), name(counter, 8));
        match self.state.rng.below(4) {
            0 => {
                self.state.op(format!("mov {short}, {times}"));
                self.state.place(&head);
                self.body(depth, times);
                self.state.op(format!("dec {long}"));
                self.loads();
                self.state.op(format!("jnz {head}"));
                self.state.defined = ALL & !CF;
            }
            1 => {
                self.state.op(format!("mov {short}, {}", times - 1));
                self.state.place(&head);
                self.body(depth, times);
                self.state.op(format!("sub {long}, 1"));
                self.loads();
                self.state.op(format!("jns {head}"));
                self.state.op(format!("mov {short}, 3"));
                self.state.defined = ALL;
            }
            2 => {
                self.state.op(format!("xor {short}, {short}"));
                self.state.place(&head);
                self.body(depth, times);
                self.state.op(format!("inc {short}"));
                self.state.op(format!(
                    "cmp {short}, dword ptr [rip+hot_limits+{}]",
                    times * 4
                ));
                self.loads();
                let back = self.state.rng.pick(&["jl", "jb", "jne"]);
                self.state.op(format!("{back} {head}"));
                self.state.defined = ALL;
            }
            _ => {
                // Left in the middle.
                let out = self.state.fresh();
                self.state.op(format!("mov {short}, 0"));
                self.state.place(&head);
                self.state.op(format!("cmp {long}, {times}"));
                self.state.op(format!("jae {out}"));
                self.body(depth, times);
                self.state.op(format!("lea {long}, [{long}+1]"));
                self.state.op(format!("jmp {head}"));
                self.state.place(&out);
                self.state.defined = ALL;
            }
        }
    }

    /// Flags live across these.
    fn loads(&mut self) {
        for _ in 0..self.state.rng.below(3) {
            let (reg, mem) = (self.state.reg(), self.state.mem(8));
            self.state
                .op(format!("mov {}, qword ptr {mem}", name(reg, 8)));
        }
    }

    /// `loop`, `loopne` and `jrcxz`.
    fn by_rcx(&mut self, depth: usize, times: u32, kind: u32) {
        let (head, out) = (self.state.fresh(), self.state.fresh());
        self.state.op("push rcx");
        self.state.op(format!("mov ecx, {times}"));
        self.state.place(&head);
        if kind == 0 {
            // It reaches 128 bytes only.
            let (near, on) = (self.state.fresh(), self.state.fresh());
            self.state.op(format!("jrcxz {near}"));
            self.state.op(format!("jmp {on}"));
            self.state.place(&near);
            self.state.op(format!("jmp {out}"));
            self.state.place(&on);
            self.state.op("lea rcx, [rcx-1]");
        }
        self.state.op("push rcx");
        let outer = self.state.pushed;
        self.state.pushed += 16;
        // The body sees its own value of rcx, whatever that is for.
        self.state.op("mov rcx, qword ptr [rsp+8]");
        let next = self.state.fresh();
        self.body(depth, times);
        self.state.op("mov qword ptr [rsp+8], rcx");
        self.state.pushed = outer;
        if kind == 2 {
            self.state.pushed += 16;
            self.state.need(ZF);
            self.state.op("mov qword ptr [rsp+8], rcx");
            self.state.pushed = outer;
        }
        self.state.op("pop rcx");
        match kind {
            0 => self.state.op(format!("jmp {head}")),
            1 => self.near_loop("loop", &head, &next),
            _ => self.near_loop("loopne", &head, &next),
        }
        self.state.place(&out);
        self.state.op("pop rcx");
        self.state.defined = 0;
    }

    /// `loop` reaches 128 bytes only.
    fn near_loop(&mut self, what: &str, head: &str, next: &str) {
        let done = self.state.fresh();
        self.state.op(format!("{what} {next}"));
        self.state.op(format!("jmp {done}"));
        self.state.place(next);
        self.state.op(format!("jmp {head}"));
        self.state.place(&done);
    }

    /// A pointer that runs until it meets another.
    fn walk(&mut self, depth: usize, times: u32, end: Reg) {
        let head = self.state.fresh();
        let (arena, walk) = (name(self.state.arena, 8), name(self.state.walk, 8));
        let step = self.state.rng.pick(&[1, 2, 4, 8, 16, 24, 48]);
        let start = self.state.rng.within(-512, 512);
        let end = name(end, 8);
        self.state.op(format!("lea {walk}, [{arena}{start:+}]"));
        self.state
            .op(format!("lea {end}, [{walk}+{}]", step * times as i32));
        self.state.place(&head);
        self.walking = true;
        self.body(depth, times);
        self.walking = false;
        self.state.op(format!("add {walk}, {step}"));
        self.state.op(format!("cmp {walk}, {end}"));
        self.loads();
        let back = self.state.rng.pick(&["jb", "jne"]);
        self.state.op(format!("{back} {head}"));
        self.state.defined = 0;
    }

    /// A carry that goes round the loop.
    fn carry_chain(&mut self, times: u32, counter: Reg) {
        let head = self.state.fresh();
        let (arena, long) = (name(self.state.arena, 8), name(counter, 8));
        let (sum, bits) = (self.state.reg(), self.state.reg());
        let (sum, bits) = (name(sum, 8), name(bits, 8));
        let at = self.state.rng.within(-2500, 2500);
        self.state.op(format!("mov {}, {times}", name(counter, 4)));
        self.state.op("stc");
        self.state.place(&head);
        self.state
            .op(format!("mov {sum}, qword ptr [{arena}+{long}*8{at:+}]"));
        let mem = self.state.mem(8);
        self.state.op(format!("adc {sum}, qword ptr {mem}"));
        self.state
            .op(format!("mov qword ptr [{arena}+{long}*8{at:+}], {sum}"));
        self.state.op(format!("rcr {bits}, 1"));
        self.state.op(format!("rcl qword ptr [{arena}{at:+}], 1"));
        self.state.op(format!("dec {long}"));
        self.state.op(format!("jnz {head}"));
        self.state.defined = 0;
    }

    /// A loop that is entered in the middle.
    fn entered_in_the_middle(&mut self, depth: usize, times: u32, counter: Reg) {
        let (head, middle) = (self.state.fresh(), self.state.fresh());
        let short = name(counter, 4);
        self.state.op(format!("mov {short}, {times}"));
        self.state.op(format!("jmp {middle}"));
        self.state.place(&head);
        self.body(depth, times);
        self.state.place(&middle);
        self.state.defined = 0;
        self.some(2);
        self.state.op(format!("sub {short}, 1"));
        self.state.op(format!("jg {head}"));
        self.state.defined = ALL;
    }
}
