//! A system call to be judged: arguments, blocks of memory, and what must stay open for it.
//!
//! # Safety
//! [`issue`] makes calls with numbers, and with addresses of slots or of local variables that
//! outlive it. [`opened`] owns a descriptor that the kernel has just made.
#![allow(unsafe_code)]

use std::any::Any;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use syscalls::Sysno;

/// An argument.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value {
    Number(u64),
    Block(usize),
}

/// Memory that the call is handed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Block {
    /// What is in it; `None` for bytes whose content does not matter.
    pub(crate) bytes: Vec<Option<u8>>,
    /// Addresses of other blocks in it.
    pub(crate) links: Vec<(usize, usize)>,
    /// Whether the call does not mind if it cannot touch all of it.
    pub(crate) soft: bool,
    /// Whether given content may be written to with the same value.
    pub(crate) rewritten: bool,
    /// Whether the kernel copies all of it, also what nothing comes of and is not told.
    pub(crate) whole: bool,
}

/// One system call.
pub(crate) struct Case {
    pub(crate) call: Sysno,
    pub(crate) args: Vec<Value>,
    pub(crate) blocks: Vec<Block>,
    /// The error that the call ends with.
    pub(crate) error: i32,
    /// Addresses that the call takes are multiples of this.
    pub(crate) step: u64,
    /// Send this thread a signal after some milliseconds.
    pub(crate) interrupted: bool,
    /// What the call needs.
    keep: Vec<Box<dyn Any>>,
}

impl Case {
    pub(crate) fn new(call: Sysno) -> Case {
        Case {
            call,
            args: Vec::new(),
            blocks: Vec::new(),
            error: 0,
            step: 1,
            interrupted: false,
            keep: Vec::new(),
        }
    }

    /// A number.
    pub(crate) fn num(mut self, number: impl TryInto<i64>) -> Case {
        let number = number.try_into().ok().expect("a number of 64 bits");
        self.args.push(Value::Number(number as u64));
        self
    }

    /// A descriptor, open as long as the case.
    pub(crate) fn fd(self, fd: impl AsRawFd + 'static) -> Case {
        let number = fd.as_raw_fd();
        self.num(number).keep(fd)
    }

    /// The directory that relative paths begin at.
    pub(crate) fn here(self) -> Case {
        self.num(libc::AT_FDCWD)
    }

    /// Memory that is read.
    pub(crate) fn input(self, bytes: &[u8]) -> Case {
        self.block(Block {
            bytes: bytes.iter().copied().map(Some).collect(),
            ..Block::default()
        })
    }

    /// Words that are read.
    pub(crate) fn words(self, words: &[u64]) -> Case {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.input(&bytes)
    }

    /// A string that is read, without more.
    pub(crate) fn text(self, text: &str) -> Case {
        self.input(format!("{text}\0").as_bytes())
    }

    /// Memory whose content does not matter.
    pub(crate) fn output(self, len: usize) -> Case {
        self.block(Block {
            bytes: vec![None; len],
            ..Block::default()
        })
    }

    /// A block as an argument.
    pub(crate) fn block(mut self, block: Block) -> Case {
        self.args.push(Value::Block(self.blocks.len()));
        self.blocks.push(block);
        self
    }

    /// A block that is no argument, to be linked to.
    pub(crate) fn aside(mut self, block: Block) -> Case {
        self.blocks.push(block);
        self
    }

    /// The call does not mind if it cannot touch all of the last block.
    pub(crate) fn soft(mut self) -> Case {
        self.blocks.last_mut().expect("a block").soft = true;
        self
    }

    /// Given content of the last block may be written to with the same value.
    pub(crate) fn rewritten(mut self) -> Case {
        self.blocks.last_mut().expect("a block").rewritten = true;
        self
    }

    /// Puts the address of block `to` at `offset` in the last block.
    pub(crate) fn link(mut self, offset: usize, to: usize) -> Case {
        let block = self.blocks.last_mut().expect("a block");
        block.links.push((offset, to));
        self
    }

    /// The call fails.
    pub(crate) fn fails(mut self, error: i32) -> Case {
        self.error = error;
        self
    }

    /// Addresses must be aligned.
    pub(crate) fn aligned(mut self, step: u64) -> Case {
        self.step = step;
        self
    }

    /// The call is interrupted by a signal.
    pub(crate) fn interrupted(mut self) -> Case {
        self.interrupted = true;
        self.fails(libc::EINTR)
    }

    /// Keeps something that the call needs.
    pub(crate) fn keep(mut self, what: impl Any) -> Case {
        self.keep.push(Box::new(what));
        self
    }
}

impl Block {
    /// Memory that is read.
    pub(crate) fn input(bytes: &[u8]) -> Block {
        Block {
            bytes: bytes.iter().copied().map(Some).collect(),
            ..Block::default()
        }
    }

    /// Memory whose content does not matter.
    pub(crate) fn output(len: usize) -> Block {
        Block {
            bytes: vec![None; len],
            ..Block::default()
        }
    }
}

/// Makes a system call; the result is what the kernel leaves in `rax`.
pub(crate) fn issue(number: u64, args: [u64; 6]) -> i64 {
    let [a, b, c, d, e, f] = args;
    // SAFETY: see the module's section; a bad address is an error, not a fault.
    let result = unsafe { libc::syscall(number as i64, a, b, c, d, e, f) };
    if result == -1 {
        // SAFETY: this thread's own.
        -i64::from(unsafe { *libc::__errno_location() })
    } else {
        result
    }
}

/// Makes a system call that opens a descriptor.
pub(crate) fn opened(call: Sysno, args: [u64; 6]) -> OwnedFd {
    let fd = issue(call as u64, args);
    assert!(fd >= 0, "{call}: {fd}");
    // SAFETY: a new descriptor, which nobody else has.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

/// A word that this test, or a plan that it holds, has in memory.
pub(crate) fn word(at: *const u64) -> u64 {
    // SAFETY: callers pass addresses of slots or of their scratch memory.
    unsafe { at.read_volatile() }
}
