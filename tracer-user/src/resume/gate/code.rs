//! The code of the gate.
//!
//! # Safety
//! The code is only run where `gate.rs` has copied it, by the functions there.
#![allow(unsafe_code)]

use std::{arch::global_asm, mem::offset_of};

/// What an interruptible call is made with. Its address is in r12 while the call is under way.
#[repr(C)]
pub(in crate::resume) struct Request {
    /// `rax`.
    pub(in crate::resume) number: u64,
    /// `rdi`, `rsi`, `rdx`, `r10`, `r8`, `r9`.
    pub(in crate::resume) args: [u64; 6],
    /// Signal mask during the call.
    pub(in crate::resume) mask: u64,
    /// Signal mask after it: all.
    full: u64,
}

impl Request {
    pub(in crate::resume) fn new(number: u64, args: [u64; 6], mask: u64) -> Request {
        Request {
            number,
            args,
            mask,
            full: u64::MAX,
        }
    }
}

/// What a new thread starts with. Its address is in r12 when the thread begins.
#[repr(C)]
pub(in crate::resume) struct Launch {
    /// Stack pointer of the thread's first function, 16-aligned.
    pub(in crate::resume) stack: u64,
    /// The thread's first function, which does not return.
    pub(in crate::resume) function: unsafe extern "C" fn(*mut Launch) -> !,
}

global_asm!(
    ".pushsection .text.ffitrace_gate,\"ax\",@progbits",
    // Known to the rest of the program, and to nobody else.
    ".globl ffitrace_gate_begin",
    ".hidden ffitrace_gate_begin",
    ".globl ffitrace_gate_marker",
    ".hidden ffitrace_gate_marker",
    ".globl ffitrace_gate_marked",
    ".hidden ffitrace_gate_marked",
    ".globl ffitrace_gate_restorer",
    ".hidden ffitrace_gate_restorer",
    ".globl ffitrace_gate_interruptible",
    ".hidden ffitrace_gate_interruptible",
    ".globl ffitrace_gate_unmasked",
    ".hidden ffitrace_gate_unmasked",
    ".globl ffitrace_gate_blocking",
    ".hidden ffitrace_gate_blocking",
    ".globl ffitrace_gate_returned",
    ".hidden ffitrace_gate_returned",
    ".globl ffitrace_gate_kept",
    ".hidden ffitrace_gate_kept",
    ".globl ffitrace_gate_masked",
    ".hidden ffitrace_gate_masked",
    ".globl ffitrace_gate_launch",
    ".hidden ffitrace_gate_launch",
    ".globl ffitrace_gate_exit",
    ".hidden ffitrace_gate_exit",
    ".globl ffitrace_gate_end",
    ".hidden ffitrace_gate_end",
    ".balign 16",
    "ffitrace_gate_begin:",
    // Any system call, all registers set.
    "syscall",
    "ret",
    ".balign 16",
    // The same, for the call by which a touch is recorded.
    "ffitrace_gate_marker:",
    "syscall",
    "ffitrace_gate_marked:",
    "ret",
    ".balign 16",
    // Exactly the bytes by which libgcc and gdb know a signal frame.
    "ffitrace_gate_restorer:",
    ".byte 0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05",
    ".balign 16",
    // rdi: a Request. Changes the signal mask, makes the call, blocks all signals again.
    "ffitrace_gate_interruptible:",
    "push rbx",
    "push r12",
    "mov r12, rdi",
    "mov eax, {sigprocmask}",
    "mov edi, {setmask}",
    "lea rsi, [r12 + {mask}]",
    "xor edx, edx",
    "mov r10d, 8",
    "syscall",
    "ffitrace_gate_unmasked:",
    "mov rdi, [r12 + {args}]",
    "mov rsi, [r12 + {args} + 8]",
    "mov rdx, [r12 + {args} + 16]",
    "mov r10, [r12 + {args} + 24]",
    "mov r8, [r12 + {args} + 32]",
    "mov r9, [r12 + {args} + 40]",
    "mov rax, [r12 + {number}]",
    "ffitrace_gate_blocking:",
    "syscall",
    "ffitrace_gate_returned:",
    "mov rbx, rax",
    "ffitrace_gate_kept:",
    "mov eax, {sigprocmask}",
    "mov edi, {setmask}",
    "lea rsi, [r12 + {full}]",
    "xor edx, edx",
    "mov r10d, 8",
    "syscall",
    "ffitrace_gate_masked:",
    "mov rax, rbx",
    "pop r12",
    "pop rbx",
    "ret",
    ".balign 16",
    // All registers set, r12: a Launch. The child begins on a stack of its own.
    "ffitrace_gate_launch:",
    "syscall",
    "test rax, rax",
    "jz 2f",
    "ret",
    "2:",
    "xor ebp, ebp",
    "mov rsp, [r12 + {stack}]",
    "mov rdi, r12",
    "call [r12 + {function}]",
    "ud2",
    ".balign 16",
    // Unmaps [rdi, rdi + rsi), which may hold the stack, and ends the thread with status r12.
    "ffitrace_gate_exit:",
    "mov eax, {munmap}",
    "syscall",
    "mov rdi, r12",
    "mov eax, {exit}",
    "syscall",
    "ud2",
    "ffitrace_gate_end:",
    ".popsection",
    sigprocmask = const libc::SYS_rt_sigprocmask,
    setmask = const libc::SIG_SETMASK,
    munmap = const libc::SYS_munmap,
    exit = const libc::SYS_exit,
    number = const offset_of!(Request, number),
    args = const offset_of!(Request, args),
    mask = const offset_of!(Request, mask),
    full = const offset_of!(Request, full),
    stack = const offset_of!(Launch, stack),
    function = const offset_of!(Launch, function),
);

unsafe extern "C" {
    pub(super) static ffitrace_gate_begin: u8;
    pub(super) static ffitrace_gate_marker: u8;
    pub(super) static ffitrace_gate_marked: u8;
    pub(super) static ffitrace_gate_restorer: u8;
    pub(super) static ffitrace_gate_interruptible: u8;
    pub(super) static ffitrace_gate_unmasked: u8;
    pub(super) static ffitrace_gate_blocking: u8;
    pub(super) static ffitrace_gate_returned: u8;
    pub(super) static ffitrace_gate_kept: u8;
    pub(super) static ffitrace_gate_masked: u8;
    pub(super) static ffitrace_gate_launch: u8;
    pub(super) static ffitrace_gate_exit: u8;
    pub(super) static ffitrace_gate_end: u8;
}
