//! Hosts that refuse system calls, as a program sees them.
//!
//! # Safety
//! Filters are made before the fork; between fork and exec only system calls are made, on memory
//! that was prepared before it. Nothing but a filter is installed, in the child alone.
#![allow(unsafe_code)]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use libc::sock_filter;

use crate::host;

/// Offset of the call's number in `struct seccomp_data`.
pub(crate) const NUMBER: u32 = 0;

/// Instructions of filters.
pub(crate) const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
pub(crate) const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
pub(crate) const END: u32 = libc::BPF_RET | libc::BPF_K;

/// One instruction of a filter: what to do with `k`, and how many to skip if it is so, and if not.
pub(crate) fn statement(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    }
}

/// Has the program's calls of `number` fail with `errno`.
pub fn deny(command: &mut Command, number: libc::c_long, errno: i32) {
    let refused = libc::SECCOMP_RET_ERRNO | errno.unsigned_abs();
    filter(command, one_call(number, refused));
}

/// The filter that ends calls of `number` with `action` and allows all others.
pub(crate) fn one_call(number: libc::c_long, action: u32) -> Vec<sock_filter> {
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    vec![
        statement(LOAD, NUMBER, 0, 0),
        statement(EQUAL, number, 0, 1),
        statement(END, action, 0, 0),
        statement(END, libc::SECCOMP_RET_ALLOW, 0, 0),
    ]
}

/// Runs the program under this filter.
pub(crate) fn filter(command: &mut Command, filter: Vec<sock_filter>) {
    let apply = move || install(&filter, 0).map(drop);
    // SAFETY: `apply` makes system calls only.
    unsafe { command.pre_exec(apply) };
}

/// Installs a filter for this process, and returns what the kernel does. Async-signal-safe.
pub(crate) fn install(filter: &[sock_filter], flags: libc::c_ulong) -> io::Result<libc::c_long> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).unwrap_or(0),
        filter: filter.as_ptr().cast_mut(),
    };
    if !host::is_root() {
        // An ordinary process may filter what it executes only where that cannot gain privileges.
        // SAFETY: no memory is named.
        let given_up = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1u64, 0u64, 0u64, 0u64) };
        if given_up != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // SAFETY: the filter outlives the call, in which the kernel copies it.
    let installed = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    };
    if installed < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(installed)
}
