//! A host without Syscall User Dispatch, as a program sees it.

use std::process::Command;

use crate::seccomp::{END, EQUAL, LOAD, NUMBER, filter, statement};

/// `PR_SET_SYSCALL_USER_DISPATCH`.
const DISPATCH: u32 = 59;
/// Offset in `struct seccomp_data`: the low half of the call's first argument.
const FIRST: u32 = 16;

/// Has `prctl(PR_SET_SYSCALL_USER_DISPATCH)` fail with EINVAL, as it does on a kernel that does not
/// know it.
pub fn deny(command: &mut Command) {
    let instructions = vec![
        statement(LOAD, NUMBER, 0, 0),
        statement(EQUAL, libc::SYS_prctl as u32, 0, 3),
        statement(LOAD, FIRST, 0, 0),
        statement(EQUAL, DISPATCH, 0, 1),
        statement(END, libc::SECCOMP_RET_ERRNO | libc::EINVAL as u32, 0, 0),
        statement(END, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    filter(command, instructions);
}
