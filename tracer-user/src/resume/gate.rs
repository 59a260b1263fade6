//! The gate: the one place whose system calls are never dispatched.
//!
//! ```text
//!  0x7fffffffd000  gate       call · marker · restorer · interruptible call · new thread · exit
//!  0x7fffffffe000  [uprobes]  the kernel's page: a return probe makes a system call there
//!                  └────────── the range that Syscall User Dispatch lets through ──────────┘
//! ```
//! While native code runs, every system call of its thread from elsewhere raises SIGSYS. Our own
//! handlers run in such threads too, so all their system calls are made here.
//!
//! The range is one for both pages because the kernel takes one only. Where the upper page cannot
//! be had (an address space without randomisation has its stack there) the gate lies elsewhere,
//! and functions are not probed for their returns.
//!
//! # Safety
//! The code is position-independent, copied once before it is used, and never changed. It touches
//! no memory but the stack and what its callers hand it, as each of them says.
#![allow(unsafe_code)]

mod code;

use std::{
    arch::asm,
    io,
    sync::atomic::{AtomicU64, Ordering},
};

use super::safe::Safe;
use code::*;
pub(super) use code::{Launch, Request};

/// Where the gate is mapped if that can be had: below the page that the kernel asks for first for
/// its own (kernel/events/uprobes.c, xol_add_vma).
const PREFERRED: u64 = 0x7fff_ffff_d000;
/// First address that no mapping can have with four levels of page tables.
const FOUR_LEVELS: u64 = 1 << 47;
const PAGE: u64 = 4096;

/// Where the gate is mapped, or 0 before that: then the code is run where the program has it.
static BASE: AtomicU64 = AtomicU64::new(0);

/// The address at which a label's code runs.
macro_rules! label {
    ($name:ident) => {
        at(&raw const $name as u64)
    };
}

/// See [`label`]; from the address at which the program has the label.
#[inline(always)]
fn at(label: u64) -> u64 {
    match BASE.load(Ordering::Relaxed) {
        0 => label,
        base => base + (label - &raw const ffitrace_gate_begin as u64),
    }
}

/// Maps the gate, once for the process.
///
/// # Errors
/// What `mmap(2)` or `mprotect(2)` says.
pub(super) fn install() -> io::Result<()> {
    static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if BASE.load(Ordering::Relaxed) != 0 {
        return Ok(());
    }
    let base = match map(PREFERRED, libc::MAP_FIXED_NOREPLACE) {
        Ok(base) => base,
        Err(_) => map(0, 0)?,
    };
    // SAFETY: the page was just made and is larger than the code, which is read between its own
    // labels; nobody knows the page before BASE is set.
    unsafe {
        let begin = &raw const ffitrace_gate_begin;
        let len = &raw const ffitrace_gate_end as usize - begin as usize;
        assert!(len as u64 <= PAGE);
        std::ptr::copy_nonoverlapping(begin, base as *mut u8, len);
        let rights = libc::PROT_READ | libc::PROT_EXEC;
        if libc::mprotect(base as *mut libc::c_void, PAGE as usize, rights) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    BASE.store(base, Ordering::Release);
    Ok(())
}

/// A writable page at `addr`, or anywhere if that is 0.
fn map(addr: u64, flags: i32) -> io::Result<u64> {
    let rights = libc::PROT_READ | libc::PROT_WRITE;
    let flags = flags | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: the flags used here never replace a mapping.
    let base = unsafe {
        libc::mmap(
            addr as *mut libc::c_void,
            PAGE as usize,
            rights,
            flags,
            -1,
            0,
        )
    };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    if addr != 0 && base as u64 != addr {
        // A kernel before 4.17 takes the address for a hint.
        // SAFETY: unmaps the page just made.
        unsafe { libc::munmap(base, PAGE as usize) };
        return Err(io::Error::from_raw_os_error(libc::EEXIST));
    }
    Ok(base as u64)
}

/// The range that is not dispatched: first address and length.
pub(super) fn allowed() -> (u64, u64) {
    match BASE.load(Ordering::Acquire) {
        PREFERRED => (PREFERRED, 2 * PAGE),
        base => (base, PAGE),
    }
}

/// Whether the system call of the kernel's return probes is let through too.
pub(crate) fn covers_return_probes() -> bool {
    // With five levels of page tables the kernel's page is at another end of the address space.
    BASE.load(Ordering::Acquire) == PREFERRED
        && map(FOUR_LEVELS, libc::MAP_FIXED_NOREPLACE).is_err()
}

/// The address that the kernel shows for a touch's system call, 0 while there is no gate.
pub(crate) fn marked() -> u64 {
    match BASE.load(Ordering::Acquire) {
        0 => 0,
        _ => label!(ffitrace_gate_marked),
    }
}

/// The restorer of signal handlers.
pub(super) fn restorer() -> u64 {
    label!(ffitrace_gate_restorer)
}

/// Address of a `syscall` instruction.
pub(super) fn syscall_instruction() -> u64 {
    label!(ffitrace_gate_begin)
}

/// Whether `ip` is in [`call`], with the return address on top of the stack.
pub(super) fn is_call(ip: u64) -> bool {
    let begin = label!(ffitrace_gate_begin);
    (begin..begin + 3).contains(&ip)
}

/// Makes a system call: its result, or the negated error number. Does not change `errno`.
///
/// # Safety
/// The call and its arguments must be sound.
#[inline(always)]
pub(crate) unsafe fn call(_: Safe, number: i64, args: [u64; 6]) -> i64 {
    let result: i64;
    // SAFETY: the gate makes the call that the caller vouches for and returns; the kernel changes
    // rcx, r11 and rax only. The stack is used for the return address.
    unsafe {
        asm!(
            "call {gate}",
            gate = in(reg) label!(ffitrace_gate_begin),
            inlateout("rax") number => result,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            in("r9") args[5],
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

/// Has the kernel fault at `addr` once, with the registers that a touch is told by. Returns what
/// the call returned: `-EFAULT` if it faulted.
pub(super) fn mark(_: Safe, addr: u64, len: u64, ip: u64, what: u64, seq: u64) -> i64 {
    let result: i64;
    // SAFETY: rt_sigprocmask with an operation that does not exist reads eight bytes at `addr`,
    // fails, and changes nothing.
    unsafe {
        asm!(
            "call {gate}",
            gate = in(reg) label!(ffitrace_gate_marker),
            inlateout("rax") libc::SYS_rt_sigprocmask => result,
            in("rdi") i64::from(i32::MAX),
            in("rsi") addr,
            in("rdx") 0u64,
            in("r10") 8u64,
            in("r8") len,
            in("r9") ip,
            in("r12") what,
            in("r13") seq,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

/// Makes a system call with the signal mask of the request, which other handlers may interrupt.
/// All signals must be blocked, and are so again afterwards.
///
/// # Safety
/// The call and its arguments must be sound, and the caller's frames must be sound to abandon: a
/// handler that interrupts the call may never come back.
pub(super) unsafe fn interruptible(_: Safe, request: &Request) -> i64 {
    let result: i64;
    // SAFETY: as the caller promises; the code saves what the ABI has it save.
    unsafe {
        asm!(
            "call {gate}",
            gate = in(reg) label!(ffitrace_gate_interruptible),
            in("rdi") std::ptr::from_ref(request),
            lateout("rax") result,
            clobber_abi("C"),
        );
    }
    result
}

/// How far an interruptible call had come when it was interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It was not made, or is to be made again.
    NotMade,
    /// Made, with this result.
    Returned(i64),
}

/// What was interrupted at `ip`, with these values of rax and rbx; none outside of interruptible
/// calls.
pub(super) fn progress(ip: u64, rax: u64, rbx: u64) -> Option<Progress> {
    let unmasked = label!(ffitrace_gate_unmasked);
    if ip < unmasked || ip > label!(ffitrace_gate_masked) {
        None
    } else if ip <= label!(ffitrace_gate_blocking) {
        Some(Progress::NotMade)
    } else if ip == label!(ffitrace_gate_returned) {
        Some(Progress::Returned(rax as i64))
    } else {
        debug_assert!(ip >= label!(ffitrace_gate_kept));
        Some(Progress::Returned(rbx as i64))
    }
}

/// Makes a `clone`-like system call, whose child begins as `launch` says if it shares this
/// process's memory. Returns in the parent.
///
/// # Safety
/// The call must share the memory and its arguments be sound; `launch` must stay until the child
/// has begun.
pub(super) unsafe fn launch(_: Safe, number: u64, args: [u64; 6], launch: *mut Launch) -> i64 {
    let result: i64;
    // SAFETY: as in `call`; the child does not use this stack.
    unsafe {
        asm!(
            "call {gate}",
            gate = in(reg) label!(ffitrace_gate_launch),
            inlateout("rax") number => result,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            in("r9") args[5],
            in("r12") launch,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

/// Goes on as the signal frame says whose context is at `context`.
///
/// # Safety
/// There must be a context that the kernel accepts, and nothing on this stack that is needed.
pub(super) unsafe fn restore(_: Safe, context: u64) -> ! {
    // SAFETY: rt_sigreturn takes the context from where the stack pointer points.
    unsafe {
        asm!(
            "mov rsp, {context}",
            "jmp {gate}",
            context = in(reg) context,
            gate = in(reg) label!(ffitrace_gate_restorer),
            options(noreturn),
        )
    }
}

/// Unmaps `[addr, addr + len)`, which may hold this stack, and ends the thread.
///
/// # Safety
/// Nothing in the range may be needed any more, and all signals must be blocked.
pub(super) unsafe fn exit(_: Safe, addr: u64, len: u64, status: u64) -> ! {
    // SAFETY: as the caller promises; the code uses registers only.
    unsafe {
        asm!(
            "jmp {gate}",
            gate = in(reg) label!(ffitrace_gate_exit),
            in("rdi") addr,
            in("rsi") len,
            in("r12") status,
            options(noreturn),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_calls_before_and_after_it_is_mapped() {
        let safe = Safe::promise();
        // SAFETY: getpid takes nothing.
        let pid = || unsafe { call(safe, libc::SYS_getpid, [0; 6]) };
        assert_eq!(pid(), i64::from(std::process::id()));
        install().unwrap();
        assert_eq!(pid(), i64::from(std::process::id()));
        let (start, len) = allowed();
        assert!((start..start + len).contains(&marked()));
    }

    #[test]
    fn the_restorer_is_known_to_unwinders() {
        install().unwrap();
        // SAFETY: the gate is mapped and readable.
        let bytes = unsafe { std::slice::from_raw_parts(restorer() as *const u8, 9) };
        assert_eq!(bytes, [0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05]);
    }

    #[test]
    fn a_mark_on_memory_that_cannot_be_read_fails_and_changes_nothing() {
        let safe = Safe::promise();
        assert_eq!(mark(safe, 8, 1, 2, 3, 4), -i64::from(libc::EFAULT));
        let word = 0u64;
        let there = &raw const word as u64;
        assert_eq!(mark(safe, there, 1, 2, 3, 4), -i64::from(libc::EINVAL));
    }

    #[test]
    fn an_interruptible_call_restores_the_mask() {
        let safe = Safe::promise();
        let request = Request::new(libc::SYS_gettid as u64, [0; 6], 0);
        std::thread::spawn(move || {
            // SAFETY: gettid takes nothing, and no handler abandons this thread.
            let tid = unsafe { interruptible(safe, &request) };
            assert_eq!(tid, i64::from(crate::resume::safe::thread_id(safe)));
            let mut mask = 0u64;
            // SAFETY: the kernel writes eight bytes to `mask`.
            let done = unsafe {
                call(
                    safe,
                    libc::SYS_rt_sigprocmask,
                    [0, 0, &raw mut mask as u64, 8, 0, 0],
                )
            };
            assert_eq!(done, 0);
            // SIGKILL and SIGSTOP cannot be blocked.
            assert_eq!(mask, !(1 << 8 | 1 << 18));
        })
        .join()
        .unwrap();
    }
}
