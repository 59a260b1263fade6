//! A host without Syscall User Dispatch, as a program sees it.
//!
//! # Safety
//! The filter is made before the fork; between fork and exec only two system calls are made.
#![allow(unsafe_code)]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// `PR_SET_SYSCALL_USER_DISPATCH`.
const DISPATCH: u32 = 59;
/// Offsets in `struct seccomp_data`: the call's number, and the low half of its first argument.
const NUMBER: u32 = 0;
const FIRST: u32 = 16;

/// Has `prctl(PR_SET_SYSCALL_USER_DISPATCH)` fail with EINVAL, as it does on a kernel that does not
/// know it.
pub fn deny(command: &mut Command) {
    let statement = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let end = libc::BPF_RET | libc::BPF_K;
    let mut filter = [
        statement(load, NUMBER, 0, 0),
        statement(equal, libc::SYS_prctl as u32, 0, 3),
        statement(load, FIRST, 0, 0),
        statement(equal, DISPATCH, 0, 1),
        statement(end, libc::SECCOMP_RET_ERRNO | libc::EINVAL as u32, 0, 0),
        statement(end, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let apply = move || {
        let program = libc::sock_fprog {
            len: filter.len() as u16,
            filter: filter.as_mut_ptr(),
        };
        // SAFETY: the filter lives until the kernel has copied it.
        let denied = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1u64, 0u64, 0u64, 0u64) == 0
                && libc::prctl(
                    libc::PR_SET_SECCOMP,
                    u64::from(libc::SECCOMP_MODE_FILTER),
                    &raw const program,
                ) == 0
        };
        if denied {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    };
    // SAFETY: `apply` is async-signal-safe: two system calls.
    unsafe { command.pre_exec(apply) };
}
