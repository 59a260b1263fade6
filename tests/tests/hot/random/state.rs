//! What the generator knows while it writes a program: what each register is for, which flags have
//! a value that the manual defines, and how its memory operands stay in bounds.
//!
//! ```text
//!   arena  12 KiB  |---- page ----|---- page ----|---- page ----|      -6144 … +6144 from `arena`
//!                                        ▲ `arena` (and `half` * 2)
//!   private 8 KiB            |---- page ----|---- page ----|           -4096 … +4096 from `private`
//!                    the last 272 bytes of the buffer are for addresses of code
//!   index registers  -255 … 255, times a scale of at most 8
//! ```
//!
//! Data registers never hold an address when a program is done, so that what a run computes does not
//! depend on where its memory lies.

use std::fmt::Write as _;

use super::rng::Rng;

/// Number of a general-purpose register, as encoded.
pub(super) type Reg = usize;
pub(super) const RAX: Reg = 0;
pub(super) const RCX: Reg = 1;
pub(super) const RDX: Reg = 2;
pub(super) const RBX: Reg = 3;
pub(super) const RSP: Reg = 4;

const NAMES: [[&str; 16]; 4] = [
    [
        "al", "cl", "dl", "bl", "spl", "bpl", "sil", "dil", "r8b", "r9b", "r10b", "r11b", "r12b",
        "r13b", "r14b", "r15b",
    ],
    [
        "ax", "cx", "dx", "bx", "sp", "bp", "si", "di", "r8w", "r9w", "r10w", "r11w", "r12w",
        "r13w", "r14w", "r15w",
    ],
    [
        "eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "r8d", "r9d", "r10d", "r11d",
        "r12d", "r13d", "r14d", "r15d",
    ],
    [
        "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12",
        "r13", "r14", "r15",
    ],
];

/// Name of `reg` when `size` bytes of it are meant.
pub(super) fn name(reg: Reg, size: u32) -> &'static str {
    NAMES[size.trailing_zeros() as usize][reg]
}

/// `byte`, `word`, … as the assembler wants it before a memory operand.
pub(super) fn ptr(size: u32) -> &'static str {
    match size {
        1 => "byte ptr ",
        2 => "word ptr ",
        4 => "dword ptr ",
        8 => "qword ptr ",
        16 => "xmmword ptr ",
        _ => "ymmword ptr ",
    }
}

pub(super) const CF: u32 = 0x1;
pub(super) const PF: u32 = 0x4;
pub(super) const AF: u32 = 0x10;
pub(super) const ZF: u32 = 0x40;
pub(super) const SF: u32 = 0x80;
pub(super) const OF: u32 = 0x800;
/// The six arithmetic flags.
pub(super) const ALL: u32 = CF | PF | AF | ZF | SF | OF;

/// Condition codes and the flags that they look at.
pub(super) const CONDITIONS: [(&str, u32); 16] = [
    ("o", OF),
    ("no", OF),
    ("b", CF),
    ("ae", CF),
    ("e", ZF),
    ("ne", ZF),
    ("be", CF | ZF),
    ("a", CF | ZF),
    ("s", SF),
    ("ns", SF),
    ("p", PF),
    ("np", PF),
    ("l", SF | OF),
    ("ge", SF | OF),
    ("le", ZF | SF | OF),
    ("g", ZF | SF | OF),
];

/// Bytes of the frame that a program's own function has, below its return address.
pub(super) const FRAME: i32 = 136;
/// Of these, the ones at the bottom that are set before use.
const SLOTS: i32 = 64;

/// A program while it is written.
pub(super) struct State {
    pub(super) rng: Rng,
    pub(super) text: String,
    pub(super) program: usize,
    label: u32,
    /// Middle of the buffer in the arena.
    pub(super) arena: Reg,
    /// Half of that.
    pub(super) half: Reg,
    /// Somewhere in the buffer; loops move it.
    pub(super) walk: Reg,
    /// Middle of the library's own memory.
    pub(super) private: Reg,
    /// Values from -255 to 255.
    pub(super) index: Vec<Reg>,
    pub(super) counters: [Reg; 2],
    /// Addresses of code.
    pub(super) code: Reg,
    pub(super) data: Vec<Reg>,
    /// Flags with a defined value here.
    pub(super) defined: u32,
    /// Bytes pushed since the frame was made.
    pub(super) pushed: i32,
    /// Whether the frame's slots can be reached through `rsp`.
    pub(super) framed: bool,
    pub(super) wide: bool,
}

impl State {
    pub(super) fn new(seed: u64, program: usize, wide: bool) -> State {
        let mut rng = Rng::new(seed ^ (program as u64).wrapping_mul(0xd134_2543_de82_ef95));
        let mut regs: Vec<Reg> = (0..16).filter(|&reg| reg != RSP).collect();
        rng.shuffle(&mut regs);
        // Many instructions have rax, rcx or rdx as an operand that cannot be chosen.
        for (likely, place) in [(RAX, 14), (RDX, 13), (RCX, 12)] {
            if !rng.one_in(4) {
                let at = regs.iter().position(|&reg| reg == likely).unwrap_or(place);
                regs.swap(at, place);
            }
        }
        State {
            rng,
            text: String::new(),
            program,
            label: 0,
            arena: regs[0],
            half: regs[1],
            walk: regs[2],
            private: regs[3],
            index: regs[4..6].to_vec(),
            counters: [regs[6], regs[7]],
            code: regs[8],
            data: regs[9..].to_vec(),
            defined: 0,
            pushed: 0,
            framed: true,
            wide,
        }
    }

    /// One line of assembly.
    pub(super) fn op(&mut self, line: impl AsRef<str>) {
        let _ = writeln!(self.text, "\t{}", line.as_ref());
    }

    /// A label of this program that was not used before.
    pub(super) fn fresh(&mut self) -> String {
        self.label += 1;
        format!(".L{}_{}", self.program, self.label)
    }

    pub(super) fn place(&mut self, label: &str) {
        let _ = writeln!(self.text, "{label}:");
    }

    /// A data register.
    pub(super) fn reg(&mut self) -> Reg {
        self.rng.pick(&self.data.clone())
    }

    pub(super) fn is_data(&self, regs: &[Reg]) -> bool {
        regs.iter().all(|reg| self.data.contains(reg))
    }

    pub(super) fn size(&mut self) -> u32 {
        self.rng.pick(&[1, 2, 4, 4, 8, 8])
    }

    pub(super) fn imm(&mut self, size: u32) -> i32 {
        let near = self.rng.within(-128, 127);
        match size {
            1 => near,
            _ if self.rng.one_in(2) => near,
            2 => self.rng.within(-32768, 32767),
            _ => self.rng.next() as i32,
        }
    }

    /// Makes sure that these flags have a defined value.
    pub(super) fn need(&mut self, flags: u32) {
        if self.defined & flags == flags {
            return;
        }
        let (left, right) = (self.reg(), self.reg());
        let size = self.size();
        let (left, right) = (name(left, size), name(right, size));
        match self.rng.below(4) {
            0 => self.op(format!("add {left}, {right}")),
            1 => {
                let mem = self.mem(size);
                self.op(format!("cmp {left}, {}{mem}", ptr(size)));
            }
            2 => {
                let (mem, imm) = (self.mem(size), self.imm(size));
                self.op(format!("sub {}{mem}, {imm}", ptr(size)));
            }
            _ => self.op(format!("cmp {left}, {right}")),
        }
        self.defined = ALL;
    }

    /// A condition and the flags for it.
    pub(super) fn condition(&mut self) -> &'static str {
        let (name, flags) = self.rng.pick(&CONDITIONS);
        self.need(flags);
        name
    }

    /// A displacement such that `size` bytes there are within `reach` of the base, often across the
    /// border of a granule, a cache line or a page.
    fn disp(&mut self, size: u32, reach: i32) -> i32 {
        let back = self.rng.below(size) as i32;
        match self.rng.below(8) {
            0 => 0,
            1 | 2 => self.rng.within(-128, 127),
            3 => self.rng.pick(&[-2048, 2048]).clamp(-reach, reach) - back,
            4 => self.rng.within(-8, 8) * 64 - back,
            5 => self.rng.within(-30, 30) * 16 - back,
            _ => self.rng.within(-reach, reach),
        }
    }

    /// A base or nothing, and an index.
    fn indexed(&mut self, base: Reg, reach: i32, size: u32) -> String {
        let disp = self.disp(size, reach);
        let index = self.rng.pick(&self.index.clone());
        let (base, index) = (name(base, 8), name(index, 8));
        match self.rng.below(4) {
            0 => format!("[{index}+{base}*1{disp:+}]"),
            _ => format!("[{base}+{index}*{}{disp:+}]", self.rng.pick(&[1, 2, 4, 8])),
        }
    }

    /// An operand of `size` bytes in the arena.
    pub(super) fn in_arena(&mut self, size: u32) -> String {
        match self.rng.below(10) {
            0..4 => {
                let disp = self.disp(size, 3500);
                format!("[{}{disp:+}]", name(self.arena, 8))
            }
            4..7 => self.indexed(self.arena, 3500, size),
            7 => {
                let disp = self.rng.within(-128, 127);
                format!("[{}{disp:+}]", name(self.walk, 8))
            }
            8 => {
                let disp = self.disp(size, 3500);
                format!("[{}*2{disp:+}]", name(self.half, 8))
            }
            _ => {
                let disp = self.disp(size, 3500);
                let index = self.rng.pick(&self.index.clone());
                format!("[{}+{}*2{disp:+}]", name(index, 8), name(self.half, 8))
            }
        }
    }

    /// An operand of `size` bytes in memory of the library or of the stack.
    pub(super) fn in_private(&mut self, size: u32) -> String {
        match self.rng.below(4) {
            0 => {
                let at = self.rng.within(0, 8192 - 32);
                format!("[rip+hot_private+{at}]")
            }
            1 if self.framed => {
                let at = self.pushed + self.rng.within(0, SLOTS - 32);
                format!("[rsp+{at}]")
            }
            2 => self.indexed(self.private, 1900, size),
            _ => {
                let disp = self.disp(size, 1900);
                format!("[{}{disp:+}]", name(self.private, 8))
            }
        }
    }

    /// An operand of `size` bytes.
    pub(super) fn mem(&mut self, size: u32) -> String {
        if self.rng.below(100) < 68 {
            self.in_arena(size)
        } else {
            self.in_private(size)
        }
    }

    /// An operand at a multiple of its size: a locked access must not cross a cache line.
    pub(super) fn aligned(&mut self, size: u32) -> String {
        let base = if self.rng.one_in(4) {
            self.private
        } else {
            self.arena
        };
        let disp = self.rng.within(-1900 / size as i32, 1900 / size as i32) * size as i32;
        if size <= 8 && self.rng.one_in(2) {
            let index = self.rng.pick(&self.index.clone());
            return format!("[{}+{}*{size}{disp:+}]", name(base, 8), name(index, 8));
        }
        format!("[{}{disp:+}]", name(base, 8))
    }

    /// Four places for addresses of code in the arena, which no other operand reaches.
    pub(super) fn for_code(&mut self) -> i32 {
        5872 + 8 * self.rng.within(0, 29)
    }

    /// Sets up what every program has: its pointers, indexes, counters and frame.
    pub(super) fn enter(&mut self) {
        let (arena, half) = (name(self.arena, 8), name(self.half, 8));
        let (walk, private) = (name(self.walk, 8), name(self.private, 8));
        self.op(format!("mov {arena}, qword ptr [rip+hot_arena]"));
        self.op(format!("mov {half}, {arena}"));
        self.op(format!("shr {half}, 1"));
        let start = self.rng.within(-512, 512);
        self.op(format!("lea {walk}, [{arena}{start:+}]"));
        self.op(format!("lea {private}, [rip+hot_private+4096]"));
        for reg in self.index.clone() {
            let value = self.rng.within(-255, 255);
            self.op(format!("mov {}, {value}", name(reg, 8)));
        }
        for reg in [self.counters[0], self.counters[1], self.code] {
            self.op(format!("mov {}, 0", name(reg, 4)));
        }
        match self.rng.below(2) {
            0 => self.op(format!("sub rsp, {FRAME}")),
            _ => self.op(format!("lea rsp, [rsp-{FRAME}]")),
        }
        for slot in 0..SLOTS / 8 {
            let value = self.rng.next() as i32;
            self.op(format!("mov qword ptr [rsp+{}], {value}", slot * 8));
        }
        self.defined = 0;
    }

    /// Forgets addresses, and leaves the flags alone.
    pub(super) fn leave(&mut self) {
        self.need(ALL);
        if self.rng.one_in(2) {
            let (reg, mem) = (self.reg(), self.in_arena(8));
            self.op(format!("mov {}, qword ptr {mem}", name(reg, 8)));
        }
        let pointers = [self.arena, self.half, self.walk, self.private, self.code];
        for reg in pointers.into_iter().chain(self.counters) {
            self.op(format!("mov {}, {}", name(reg, 4), reg));
        }
        self.op(format!("lea rsp, [rsp+{FRAME}]"));
        self.op("ret");
    }
}
