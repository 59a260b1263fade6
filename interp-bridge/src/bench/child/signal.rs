//! A bare SIGSEGV and back: what a fault costs before anybody records anything.
//!
//! ```text
//!  mov eax, [rdi]   rdi in a page without access ─► handler: rdi := a good address ─► again
//! ```
//! The handler makes no system call, and nothing else is in the way.
//!
//! # Safety
//! The handler is for this one instruction. It runs in a process that does nothing but this (see
//! [`child`](super)), and replaces the register by the address of a static, which may be read.
#![allow(unsafe_code)]

use std::{
    arch::asm,
    ffi::{c_int, c_void},
    io, mem, ptr,
    time::{Duration, Instant},
};

use rustix::mm::{MapFlags, ProtFlags};

/// Faults in one round.
const FAULTS: u64 = 1000;

/// What is read in the end.
static GOOD: u32 = 7;

extern "C" fn mend(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a `ucontext_t` to a handler with SA_SIGINFO, and the thread goes
    // on with what is left there.
    unsafe {
        let context = &mut *context.cast::<libc::ucontext_t>();
        context.uc_mcontext.gregs[libc::REG_RDI as usize] = (&raw const GOOD) as i64;
    }
}

/// Faults for so long. Returns how often, and the best round's nanoseconds for one.
pub(super) fn measure(time: Duration) -> io::Result<(u64, f64)> {
    // SAFETY: a fresh mapping that nobody can reach, and a handler with the signature that
    // SA_SIGINFO asks for; all of the action's fields are set or zero.
    let bad = unsafe {
        let (prot, flags) = (ProtFlags::empty(), MapFlags::PRIVATE);
        let bad = rustix::mm::mmap_anonymous(ptr::null_mut(), 4096, prot, flags)?;
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = mend as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        if libc::sigaction(libc::SIGSEGV, &raw const action, ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        bad
    };
    let begun = Instant::now();
    let (mut faults, mut best) = (0, f64::MAX);
    while faults == 0 || begun.elapsed() < time {
        let round = Instant::now();
        for _ in 0..FAULTS {
            let read: u32;
            // SAFETY: the load faults, and `mend` has it read `GOOD` instead.
            unsafe {
                asm!("mov {:e}, dword ptr [rdi]", out(reg) read, inout("rdi") bad => _,
                     options(readonly));
            }
            if read != GOOD {
                return Err(io::Error::other(format!("{read} was read")));
            }
        }
        best = best.min(round.elapsed().as_nanos() as f64 / FAULTS as f64);
        faults += FAULTS;
    }
    Ok((faults, best))
}
