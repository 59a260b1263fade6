//! The interrupted thread, as its signal frame shows it.
//!
//! # Safety
//! A `Frame` is made only from the third argument of a handler installed with `SA_SIGINFO`, and
//! lives no longer than the handler runs. The kernel built the frame and reads it back at
//! `sigreturn` (arch/x86/kernel/signal.c), so changing it changes what the thread goes on with.
#![allow(unsafe_code)]

use std::arch::x86_64::__cpuid_count;

use tracer_ebpf::Regs;

/// Index in `gregs` of each register, in the order of the x86 encoding.
const GPR: [i32; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

/// Number of rax in the x86 register encoding.
pub const RAX: usize = 0;
/// Number of rcx.
pub const RCX: usize = 1;
/// Number of rsp.
pub const RSP: usize = 4;
/// Number of rsi.
pub const RSI: usize = 6;
/// Number of rdi.
pub const RDI: usize = 7;

/// Trap flag: the processor traps after the next instruction.
pub const TRAP_FLAG: u64 = 1 << 8;

/// `magic1` in the software-reserved bytes of an fxsave area that an xsave area follows
/// (arch/x86/include/uapi/asm/sigcontext.h).
const XSTATE_MAGIC: u32 = 0x4650_5853;
/// Offset of the software-reserved bytes in the fxsave area.
const SOFTWARE_BYTES: usize = 464;
/// Offset of `XSTATE_BV`, directly behind the fxsave area.
const XSTATE_BV: usize = 512;
/// Bit in `XSTATE_BV`, and CPUID leaf 0xD sub-leaf, of the mask registers k0–k7.
const OPMASK: u32 = 5;

/// Offset of k0–k7 in a standard-format xsave area, or 0 where the CPU has no mask registers
/// (Intel SDM volume 1, 13.4.3). Constant for the life of the machine; ask once.
pub fn mask_offset() -> usize {
    let leaf = __cpuid_count(0xd, OPMASK);
    if leaf.eax == 64 { leaf.ebx as usize } else { 0 }
}

/// Reads k0–k7 from a standard-format xsave area. Zero where the area is too short or the
/// registers are in their initial state.
pub fn masks_of(area: &[u8], offset: usize) -> [u64; 8] {
    let word = |at: usize| -> Option<u64> {
        Some(u64::from_ne_bytes(area.get(at..at + 8)?.try_into().ok()?))
    };
    let mut masks = [0; 8];
    if offset != 0 && word(XSTATE_BV).is_some_and(|bits| bits & (1 << OPMASK) != 0) {
        for (index, mask) in masks.iter_mut().enumerate() {
            *mask = word(offset + 8 * index).unwrap_or(0);
        }
    }
    masks
}

/// The signal frame of the handler that is running.
pub struct Frame<'a> {
    context: &'a mut libc::ucontext_t,
}

impl Frame<'_> {
    /// # Safety
    /// `context` is the third argument of a running `SA_SIGINFO` handler.
    pub unsafe fn new<'a>(context: *mut libc::c_void) -> Frame<'a> {
        let context = context.cast::<libc::ucontext_t>();
        // SAFETY: by the caller's promise this is the kernel's frame, which nobody else uses
        // until the handler returns.
        let context = unsafe { &mut *context };
        Frame { context }
    }

    fn get(&self, index: i32) -> u64 {
        self.context.uc_mcontext.gregs[index as usize] as u64
    }

    fn set(&mut self, index: i32, value: u64) {
        self.context.uc_mcontext.gregs[index as usize] = value as i64;
    }

    /// Address of the interrupted instruction.
    pub fn ip(&self) -> u64 {
        self.get(libc::REG_RIP)
    }

    /// Sends the thread to `ip` when the handler returns.
    pub fn set_ip(&mut self, ip: u64) {
        self.set(libc::REG_RIP, ip);
    }

    /// Register number `number` of the x86 encoding.
    pub fn register(&self, number: usize) -> u64 {
        self.get(GPR[number])
    }

    /// Changes register number `number`.
    pub fn set_register(&mut self, number: usize, value: u64) {
        self.set(GPR[number], value);
    }

    /// Flags.
    pub fn flags(&self) -> u64 {
        self.get(libc::REG_EFL)
    }

    /// Changes the flags.
    pub fn set_flags(&mut self, flags: u64) {
        self.set(libc::REG_EFL, flags);
    }

    /// Page-fault error code; meaningful only for a page fault.
    pub fn error(&self) -> u32 {
        self.get(libc::REG_ERR) as u32
    }

    /// All general registers, rip and flags.
    pub fn regs(&self) -> Regs {
        Regs {
            gpr: GPR.map(|index| self.get(index)),
            rip: self.ip(),
            rflags: self.flags(),
        }
    }

    /// The signal mask that the thread goes on with: the kernel's 64 bits of it.
    pub fn mask(&self) -> u64 {
        // SAFETY: `sigset_t` is at least 8 bytes; the kernel uses its first 8.
        unsafe {
            (&raw const self.context.uc_sigmask)
                .cast::<u64>()
                .read_unaligned()
        }
    }

    /// Changes the signal mask that the thread goes on with.
    pub fn set_mask(&mut self, mask: u64) {
        // SAFETY: as in `mask`.
        unsafe {
            (&raw mut self.context.uc_sigmask)
                .cast::<u64>()
                .write_unaligned(mask)
        };
    }

    /// Mask registers k0–k7, from the frame's xsave area at `offset` (see [`mask_offset`]).
    pub fn masks(&self, offset: usize) -> [u64; 8] {
        let area = self.context.uc_mcontext.fpregs.cast::<u8>().cast_const();
        if area.is_null() || offset == 0 {
            return [0; 8];
        }
        // SAFETY: the kernel put at least an fxsave area (512 bytes) there; the software-
        // reserved bytes say whether an xsave area of `size` bytes follows, and if so that many
        // bytes are there in all.
        unsafe {
            let software = area.add(SOFTWARE_BYTES).cast::<u32>();
            if software.read_unaligned() != XSTATE_MAGIC {
                return [0; 8];
            }
            let size = software.add(4).read_unaligned() as usize;
            masks_of(std::slice::from_raw_parts(area, size), offset)
        }
    }
}
