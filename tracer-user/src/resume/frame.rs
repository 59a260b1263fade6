//! The interrupted thread, as its signal frame shows it.
//!
//! # Safety
//! A `Frame` is made only from the third argument of a handler installed with `SA_SIGINFO`, and
//! lives no longer than the handler runs. The kernel built the frame and reads it back at
//! `sigreturn` (arch/x86/kernel/signal.c), so changing it changes what the thread goes on with.
#![allow(unsafe_code)]

use tracer_ebpf::Regs;

use super::block::NativeStack;

/// Index in `gregs` of each register, in the order of the x86 encoding.
pub const GPR: [i32; 16] = [
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
/// Number of rdx.
pub const RDX: usize = 2;
/// Number of rbx.
pub const RBX: usize = 3;
/// Number of rsp.
pub const RSP: usize = 4;
/// Number of rsi.
pub const RSI: usize = 6;
/// Number of rdi.
pub const RDI: usize = 7;

/// Number of r8.
pub const R8: usize = 8;
/// Number of r9.
pub const R9: usize = 9;
/// Number of r10.
pub const R10: usize = 10;
/// Number of r12.
pub const R12: usize = 12;

/// Trap flag: the processor traps after the next instruction.
pub const TRAP_FLAG: u64 = 1 << 8;

/// `magic1` in the software-reserved bytes of an fxsave area that an xsave area follows
/// (arch/x86/include/uapi/asm/sigcontext.h).
const XSTATE_MAGIC: u32 = 0x4650_5853;
/// Offset of the software-reserved bytes in the fxsave area.
const SOFTWARE_BYTES: usize = 464;
/// Flags that the kernel clears for a handler (arch/x86/kernel/signal.c, handle_signal).
const HANDLER_CLEARS: u64 = TRAP_FLAG | 1 << 10 | 1 << 16;
/// Bytes of an fxsave area, which is what there is where no xsave area is.
const FXSAVE: usize = 512;

/// The kernel's `struct ucontext` (arch/x86/include/uapi/asm/{ucontext,sigcontext}.h), which is
/// shorter than the C library's.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    pub(super) flags: u64,
    pub(super) link: u64,
    pub(super) stack: NativeStack,
    /// In the order of `REG_*`.
    gregs: [u64; 23],
    /// Address of the vector state, or 0 for its initial state.
    pub(super) vectors: u64,
    reserved: [u64; 8],
    pub(super) mask: u64,
}

const _: () = assert!(size_of::<Context>() == 304);

impl Context {
    pub(super) fn from_bytes(bytes: &[u8; size_of::<Context>()]) -> Context {
        // SAFETY: any bytes are valid integers; the read is unaligned.
        unsafe { bytes.as_ptr().cast::<Context>().read_unaligned() }
    }

    pub(super) fn ip(&self) -> u64 {
        self.gregs[libc::REG_RIP as usize]
    }

    pub(super) fn set_ip(&mut self, ip: u64) {
        self.gregs[libc::REG_RIP as usize] = ip;
    }

    pub(super) fn register(&self, number: usize) -> u64 {
        self.gregs[GPR[number] as usize]
    }

    pub(super) fn set_register(&mut self, number: usize, value: u64) {
        self.gregs[GPR[number] as usize] = value;
    }

    /// All general registers, rip and flags.
    pub(super) fn regs(&self) -> Regs {
        Regs {
            gpr: GPR.map(|index| self.gregs[index as usize]),
            rip: self.ip(),
            rflags: self.gregs[libc::REG_EFL as usize],
        }
    }

    /// Takes over all general registers, rip and flags.
    pub(super) fn set_regs(&mut self, regs: &Regs) {
        for (index, value) in GPR.iter().zip(regs.gpr) {
            self.gregs[*index as usize] = value;
        }
        self.set_ip(regs.rip);
        self.gregs[libc::REG_EFL as usize] = regs.rflags;
    }

    /// Flags as a handler begins with them.
    pub(super) fn clear_handler_flags(&mut self) {
        self.gregs[libc::REG_EFL as usize] &= !HANDLER_CLEARS;
    }

    /// Bytes of the vector state at `vectors`.
    ///
    /// # Safety
    /// `vectors` is 0 or the address of a state that the kernel wrote.
    pub(super) unsafe fn vectors_len(&self) -> usize {
        if self.vectors == 0 {
            return 0;
        }
        // SAFETY: at least an fxsave area is there, whose software-reserved bytes say how long
        // the state is in all, with the mark at its end.
        unsafe {
            let software = (self.vectors as usize + SOFTWARE_BYTES) as *const u32;
            if software.read_unaligned() == XSTATE_MAGIC {
                software.add(1).read_unaligned() as usize
            } else {
                FXSAVE
            }
        }
    }
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

    /// Where it is.
    pub(super) fn address(&self) -> *mut Context {
        std::ptr::from_ref(self.context).cast_mut().cast()
    }

    /// What it says.
    pub(super) fn read(&self) -> Context {
        // SAFETY: the kernel's structure is the beginning of the C library's.
        unsafe { self.address().read() }
    }

    /// Makes the thread go on with all of this.
    pub(super) fn write(&mut self, context: &Context) {
        let to = std::ptr::from_mut(self.context).cast::<Context>();
        // SAFETY: as in `read`.
        unsafe { to.write(*context) }
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

    /// Takes over all general registers, rip and flags.
    pub(super) fn set_regs(&mut self, regs: &Regs) {
        let mut context = self.read();
        context.set_regs(regs);
        self.write(&context);
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

    /// The frame's xsave area; only the fxsave area where the kernel put no more there, nothing
    /// where it saved no state at all.
    pub fn area(&self) -> &[u8] {
        /// Bytes of an fxsave area.
        const FXSAVE: usize = 512;
        let area = self.context.uc_mcontext.fpregs.cast::<u8>().cast_const();
        if area.is_null() {
            return &[];
        }
        // SAFETY: the kernel put at least an fxsave area there; the software-reserved bytes say
        // whether an xsave area of `size` bytes follows, and if so that many bytes are there in
        // all. They stay as they are while the handler runs.
        unsafe {
            let software = area.add(SOFTWARE_BYTES).cast::<u32>();
            let size = if software.read_unaligned() == XSTATE_MAGIC {
                software.add(4).read_unaligned() as usize
            } else {
                FXSAVE
            };
            std::slice::from_raw_parts(area, size)
        }
    }
}
