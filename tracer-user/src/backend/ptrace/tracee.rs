//! Requests to a stopped thread.
//!
//! # Safety
//! Each function is one `ptrace(2)` or `wait4(2)` call with buffers of the size that the request
//! fills. Requests to a thread that is gone fail, which callers see.
#![allow(unsafe_code)]

use tracer_ebpf::Regs;

use crate::resume::safe::Safe;

/// Largest xsave area that is read: AMX state included it is some 11 KiB.
pub(super) const XSTATE_BYTES: usize = 16 << 10;
/// `NT_X86_XSTATE` of elf.h.
const NT_X86_XSTATE: u64 = 0x202;

/// A request failed: the thread is gone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gone;

/// How a thread was found by [`wait_for`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// It ended.
    Ended,
    /// Stopped before the delivery of this signal.
    Signal(i32),
    /// Stopped for a ptrace event: number, and the signal of a group stop.
    Event(i32, i32),
}

impl Stop {
    /// Reads a status of `wait4`.
    pub(super) fn from_status(status: i32) -> Stop {
        if !libc::WIFSTOPPED(status) {
            return Stop::Ended;
        }
        match (status >> 16, libc::WSTOPSIG(status)) {
            (0, signal) => Stop::Signal(signal),
            (event, signal) => Stop::Event(event, signal),
        }
    }
}

fn request(_: Safe, request: u32, tid: i32, addr: u64, data: u64) -> Result<(), Gone> {
    // SAFETY: the callers below pass buffers that fit the request; the kernel checks the rest.
    let result = unsafe { libc::syscall(libc::SYS_ptrace, request, tid, addr, data) };
    if result < 0 { Err(Gone) } else { Ok(()) }
}

/// Begins to trace a thread and, later, those it starts, and processes that share its memory while
/// it waits for them.
pub(super) fn seize(safe: Safe, tid: i32) -> Result<(), Gone> {
    let options = libc::PTRACE_O_TRACECLONE
        | libc::PTRACE_O_TRACEVFORK
        | libc::PTRACE_O_TRACEVFORKDONE
        | libc::PTRACE_O_TRACEEXEC;
    request(safe, libc::PTRACE_SEIZE, tid, 0, options as u64)
}

/// Lets the thread run, delivering `signal` (0 for none).
pub(super) fn resume(safe: Safe, tid: i32, signal: i32) -> Result<(), Gone> {
    request(safe, libc::PTRACE_CONT, tid, 0, signal as u64)
}

/// Lets the thread execute one instruction.
pub(super) fn step(safe: Safe, tid: i32) -> Result<(), Gone> {
    request(safe, libc::PTRACE_SINGLESTEP, tid, 0, 0)
}

/// Stops a running thread.
pub(super) fn interrupt(safe: Safe, tid: i32) -> Result<(), Gone> {
    request(safe, libc::PTRACE_INTERRUPT, tid, 0, 0)
}

/// Leaves a thread in its group stop until SIGCONT.
pub(super) fn listen(safe: Safe, tid: i32) -> Result<(), Gone> {
    request(safe, libc::PTRACE_LISTEN, tid, 0, 0)
}

/// Stops tracing a thread.
pub(super) fn detach(safe: Safe, tid: i32) -> Result<(), Gone> {
    request(safe, libc::PTRACE_DETACH, tid, 0, 0)
}

/// Thread id that a clone event is about.
pub(super) fn event_message(safe: Safe, tid: i32) -> Result<u64, Gone> {
    let mut message = 0u64;
    request(
        safe,
        libc::PTRACE_GETEVENTMSG,
        tid,
        0,
        &raw mut message as u64,
    )?;
    Ok(message)
}

/// Signal information of a signal stop.
pub(super) fn signal_info(safe: Safe, tid: i32) -> Result<libc::siginfo_t, Gone> {
    // SAFETY: zeroes are a valid siginfo.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    request(safe, libc::PTRACE_GETSIGINFO, tid, 0, &raw mut info as u64)?;
    Ok(info)
}

/// Sets the information that goes with the signal given to [`resume`].
pub(super) fn set_signal_info(safe: Safe, tid: i32, info: &libc::siginfo_t) -> Result<(), Gone> {
    request(
        safe,
        libc::PTRACE_SETSIGINFO,
        tid,
        0,
        std::ptr::from_ref(info) as u64,
    )
}

/// All user registers.
pub(super) fn registers(safe: Safe, tid: i32) -> Result<libc::user_regs_struct, Gone> {
    // SAFETY: zeroes are valid registers.
    let mut regs: libc::user_regs_struct = unsafe { std::mem::zeroed() };
    request(safe, libc::PTRACE_GETREGS, tid, 0, &raw mut regs as u64)?;
    Ok(regs)
}

/// Sets all user registers.
pub(super) fn set_registers(
    safe: Safe,
    tid: i32,
    regs: &libc::user_regs_struct,
) -> Result<(), Gone> {
    request(
        safe,
        libc::PTRACE_SETREGS,
        tid,
        0,
        std::ptr::from_ref(regs) as u64,
    )
}

/// Writes a word of the thread's memory.
pub(super) fn poke(safe: Safe, tid: i32, addr: u64, word: u64) -> Result<(), Gone> {
    request(safe, libc::PTRACE_POKEDATA, tid, addr, word)
}

/// Registers in the order of the record.
pub(super) fn record_regs(regs: &libc::user_regs_struct) -> Regs {
    Regs {
        gpr: [
            regs.rax, regs.rcx, regs.rdx, regs.rbx, regs.rsp, regs.rbp, regs.rsi, regs.rdi,
            regs.r8, regs.r9, regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15,
        ],
        rip: regs.rip,
        rflags: regs.eflags,
    }
}

/// Reads the xsave area of a stopped thread into `area` and returns how many bytes it has.
pub(super) fn xstate(safe: Safe, tid: i32, area: &mut [u8; XSTATE_BYTES]) -> Result<usize, Gone> {
    let mut vector = libc::iovec {
        iov_base: area.as_mut_ptr().cast(),
        iov_len: area.len(),
    };
    request(
        safe,
        libc::PTRACE_GETREGSET,
        tid,
        NT_X86_XSTATE,
        &raw mut vector as u64,
    )?;
    Ok(vector.iov_len.min(area.len()))
}

/// Waits for thread `tid` (-1: any) to stop or end. None where there is nothing left to wait for.
pub(super) fn wait_for(_: Safe, tid: i32) -> Option<(i32, Stop)> {
    loop {
        let mut status = 0i32;
        // SAFETY: the kernel writes the status; no usage is asked for.
        let found = unsafe {
            libc::syscall(
                libc::SYS_wait4,
                tid,
                &raw mut status,
                libc::__WALL,
                std::ptr::null_mut::<libc::rusage>(),
            )
        };
        if found > 0 {
            return Some((found as i32, Stop::from_status(status)));
        }
        // SAFETY: the location is this thread's own.
        if unsafe { *libc::__errno_location() } != libc::EINTR {
            return None;
        }
    }
}
