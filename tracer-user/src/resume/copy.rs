//! A displaced copy and how it is put together: code, and what each point in it stands for.

use tracer_ebpf::Regs;

use crate::decode::Decoded;

const RCX: u8 = 1;
const RSP: u8 = 4;
pub(super) const ZERO_FLAG: u64 = 1 << 6;

/// A copy: position-independent code that ends in a jump out of it.
#[derive(Clone, Debug)]
pub struct CodeCopy {
    /// The machine code.
    pub code: Vec<u8>,
    /// Offset of the copied instruction itself: a fault of the copy is a fault at this offset.
    pub insn_offset: usize,
    marks: Vec<Mark>,
    ip: u64,
    next: u64,
}

/// What holds at an instruction boundary of a copy.
#[derive(Clone, Debug)]
struct Mark {
    offset: usize,
    progress: Progress,
    /// What must be added to registers.
    add: [i64; 16],
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Progress {
    /// The original has not been executed (or, a repeated one, not to the end).
    Before,
    /// It has.
    After,
    /// One iteration has, and whether there is another depends on rcx, from which so much is
    /// still to be taken, and on the zero flag being as given.
    Iterated { pending: u64, while_equal: bool },
}

/// The state of the original code that a state inside a copy stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginalState {
    /// Address in original code.
    pub rip: u64,
    /// What must be added to each register, in the order of `Regs::gpr`.
    pub add: [i64; 16],
}

impl OriginalState {
    /// Turns the registers of a thread inside the copy into those of the original.
    pub fn apply(&self, regs: &mut Regs) {
        regs.rip = self.rip;
        for (register, add) in regs.gpr.iter_mut().zip(self.add) {
            *register = register.wrapping_add_signed(add);
        }
    }
}

impl CodeCopy {
    /// The original state of a thread whose rip is `offset` bytes into the copy, with these
    /// registers (of which only rcx and the flags count, after an iteration of `cmps` or
    /// `scas`). `None` if no instruction of the copy begins there. Does not allocate.
    pub fn original_state(&self, offset: usize, regs: &Regs) -> Option<OriginalState> {
        let mark = self.marks.iter().find(|mark| mark.offset == offset)?;
        let rip = match mark.progress {
            Progress::Before => self.ip,
            Progress::After => self.next,
            Progress::Iterated {
                pending,
                while_equal,
            } => {
                let left = regs.gpr[usize::from(RCX)].wrapping_sub(pending);
                let equal = regs.rflags & ZERO_FLAG != 0;
                if left != 0 && equal == while_equal {
                    self.ip
                } else {
                    self.next
                }
            }
        };
        Some(OriginalState { rip, add: mark.add })
    }

    /// Whether the original has not been executed yet at an offset. Does not allocate.
    pub fn is_pending(&self, offset: usize) -> bool {
        let mark = self.marks.iter().find(|mark| mark.offset == offset);
        mark.is_some_and(|mark| matches!(mark.progress, Progress::Before))
    }

    /// Offsets at which an instruction of the copy begins.
    pub fn boundaries(&self) -> impl Iterator<Item = usize> + '_ {
        self.marks.iter().map(|mark| mark.offset)
    }
}

/// Puts a copy together, with a mark at each instruction.
pub(super) struct Builder {
    pub(super) code: Vec<u8>,
    insn_offset: usize,
    marks: Vec<Mark>,
    pub(super) progress: Progress,
    pub(super) add: [i64; 16],
    ip: u64,
    pub(super) next: u64,
}

impl Builder {
    pub(super) fn new(decoded: &Decoded) -> Builder {
        Builder {
            code: Vec::new(),
            insn_offset: 0,
            marks: Vec::new(),
            progress: Progress::Before,
            add: [0; 16],
            ip: decoded.ip(),
            next: decoded.ip().wrapping_add(decoded.len() as u64),
        }
    }

    /// The next instruction begins here.
    pub(super) fn mark(&mut self, progress: Progress) {
        self.progress = progress;
        self.marks.push(Mark {
            offset: self.code.len(),
            progress,
            add: self.add,
        });
    }

    /// The copied instruction.
    pub(super) fn original(&mut self, code: &[u8]) {
        self.insn_offset = self.code.len();
        self.mark(Progress::Before);
        self.code.extend_from_slice(code);
        self.progress = Progress::After;
    }

    /// `lea register, [register + distance]`, which leaves the flags alone.
    pub(super) fn shift(&mut self, register: u8, distance: i64) {
        self.mark(self.progress);
        let displacement = distance as i32;
        self.code
            .extend([0x48, 0x8d, 0x80 | register << 3 | register]);
        if register == RSP {
            self.code.push(0x24); // A base of rsp takes a second byte.
        }
        self.code.extend(displacement.to_le_bytes());
        self.add[usize::from(register)] -= distance;
    }

    /// Jump to the instruction after the original.
    pub(super) fn leave_to_next(&mut self) {
        self.mark(Progress::After);
        self.jump(self.next);
    }

    /// `jmp [rip+0]` and the address.
    pub(super) fn jump(&mut self, target: u64) {
        self.code.extend([0xff, 0x25, 0, 0, 0, 0]);
        self.code.extend(target.to_le_bytes());
    }

    /// The end of an iteration of `repe` (`while_equal`) or `repne`.
    pub(super) fn one_more_or_next(&mut self, while_equal: bool) {
        const JUMP_LEN: u8 = 14;
        self.mark(self.progress);
        self.code.extend([0x48, 0x8d, 0x49, 0xff]); // lea rcx, [rcx-1]
        self.add[usize::from(RCX)] = 0;
        self.mark(Progress::Iterated {
            pending: 0,
            while_equal,
        });
        self.code.extend([0xe3, 2 + JUMP_LEN]); // jrcxz done
        self.mark(Progress::Iterated {
            pending: 0,
            while_equal,
        });
        let unless = if while_equal { 0x75 } else { 0x74 };
        self.code.extend([unless, JUMP_LEN]); // jne or je done
        self.mark(Progress::Before);
        self.jump(self.ip);
        self.leave_to_next();
    }

    pub(super) fn finish(self) -> CodeCopy {
        let Builder {
            code,
            insn_offset,
            marks,
            ip,
            next,
            ..
        } = self;
        CodeCopy {
            code,
            insn_offset,
            marks,
            ip,
            next,
        }
    }
}
