//! Checks of the machine, and of what confines this process as a whole.

use super::facts::{self, Status, cap};
use super::remedy;
use super::trials;
use super::{Check, Recorder};

/// Recorders that see accesses.
const TRACING: &[Recorder] = &[Recorder::Ebpf, Recorder::Inproc, Recorder::Ptrace];

/// Recorders that translate hot code.
const TRANSLATING: &[Recorder] = &[Recorder::Ebpf, Recorder::Inproc];

const EBPF: &[Recorder] = &[Recorder::Ebpf];
const PTRACE: &[Recorder] = &[Recorder::Ptrace];

const NO_PTRACE: &str = "the other recorders, which need no supervisor";

/// The checks, causes before effects.
pub(super) fn checks() -> Vec<Check> {
    vec![
        architecture(),
        kernel(),
        processor(),
        bmi2(),
        seccomp(),
        no_new_privs(),
    ]
}

/// The checks of what a process may do with itself and its children.
pub(super) fn own_checks() -> Vec<Check> {
    vec![syscall_user_dispatch(), ptrace_scope(), ptrace()]
}

fn architecture() -> Check {
    let check = Check::ok("architecture", &Recorder::ALL, std::env::consts::ARCH);
    if cfg!(target_arch = "x86_64") {
        check
    } else {
        let remedy = "run it on an x86-64 machine".to_owned();
        check.missing(remedy, "nothing: only x86-64 instructions are decoded")
    }
}

fn kernel() -> Check {
    let (version, release) = facts::kernel();
    let check = Check::ok("kernel", EBPF, format!("Linux {release}"));
    if version >= (5, 15) {
        check
    } else {
        check.missing(remedy::KERNEL.to_owned(), remedy::INPROC)
    }
}

/// Vector extensions decide what a record must hold, not whether there can be one.
fn processor() -> Check {
    #[cfg(target_arch = "x86_64")]
    let found = [
        ("xsave", std::arch::is_x86_feature_detected!("xsave")),
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
    ];
    #[cfg(not(target_arch = "x86_64"))]
    let found: [(&str, bool); 0] = [];
    let list: Vec<_> = found
        .iter()
        .map(|(name, there)| format!("{}{name}", if *there { "" } else { "no " }))
        .collect();
    let check = Check::ok("processor", TRACING, list.join(", "));
    if found.first().is_some_and(|(_, xsave)| *xsave) {
        check
    } else {
        // Without AVX no instruction needs the state that signal frames then lack.
        check.degraded(
            None,
            "signal frames show no vector state, and nothing needs it",
        )
    }
}

fn bmi2() -> Check {
    #[cfg(target_arch = "x86_64")]
    let there = std::arch::is_x86_feature_detected!("bmi2");
    #[cfg(not(target_arch = "x86_64"))]
    let there = false;
    if there {
        return Check::ok("bmi2", TRANSLATING, "hot code can be translated");
    }
    Check::ok(
        "bmi2",
        TRANSLATING,
        "the processor has no BMI2 instructions",
    )
    .degraded(
        "use a processor from 2013 or later; give a virtual machine the host's (`-cpu host`)"
            .to_owned(),
        "nothing is translated: every access faults, at some microseconds each",
    )
}

fn seccomp() -> Check {
    let status = Status::own();
    let detail = match (status.seccomp, status.filters) {
        (0, _) => "no filter of system calls".to_owned(),
        (_, 1) => "a filter decides on system calls; what it refuses is told below".to_owned(),
        (_, n) => format!("{n} filters decide on system calls; what they refuse is told below"),
    };
    Check::ok("seccomp", &Recorder::ALL, detail)
}

/// Matters only to who would have to gain privileges.
fn no_new_privs() -> Check {
    let status = Status::own();
    let name = "no_new_privs";
    if !status.no_new_privs {
        return Check::ok(name, EBPF, "not set: sudo and file capabilities work");
    }
    if status.effective.missing_for_ebpf().is_empty() {
        return Check::ok(name, EBPF, "set; this process has its privileges already");
    }
    let detail = "set: programs started from here gain no privileges, with sudo or without";
    Check::ok(name, EBPF, detail).degraded(
        "start it outside of what sets it: `no-new-privileges` of a container, \
         NoNewPrivileges= of a service"
            .to_owned(),
        "privileges that are missing cannot be had",
    )
}

fn syscall_user_dispatch() -> Check {
    let name = "syscall_user_dispatch";
    match trials::syscall_user_dispatch() {
        Ok(()) => Check::ok(
            name,
            TRACING,
            "native code's system calls on buffers are recorded",
        ),
        Err(error) => Check::ok(name, TRACING, format!("not available ({error})")).degraded(
            "boot Linux 5.11 or newer on x86-64; in a container, allow \
             prctl(PR_SET_SYSCALL_USER_DISPATCH) in its seccomp profile"
                .to_owned(),
            "system calls of native code on buffers fail with EFAULT, and its signal handlers may \
             take the place of the recorder's",
        ),
    }
}

fn ptrace_scope() -> Check {
    let privileged = Status::own().effective.has(cap::SYS_PTRACE);
    let name = "ptrace_scope";
    let (detail, remedy) = match facts::sysctl("kernel.yama.ptrace_scope") {
        None => return Check::ok(name, PTRACE, "no Yama: unrestricted"),
        Some(3) => (
            "kernel.yama.ptrace_scope is 3: nobody may trace",
            "reboot: the setting cannot be lowered, so remove it from sysctl.d first",
        ),
        Some(2) if !privileged => (
            "kernel.yama.ptrace_scope is 2: only CAP_SYS_PTRACE may trace",
            "run it with sudo, or `sysctl kernel.yama.ptrace_scope=1`",
        ),
        Some(scope) => {
            return Check::ok(name, PTRACE, format!("kernel.yama.ptrace_scope is {scope}"));
        }
    };
    Check::ok(name, PTRACE, detail).missing(remedy.to_owned(), NO_PTRACE)
}

fn ptrace() -> Check {
    match trials::ptrace() {
        Ok(()) => Check::ok("ptrace", PTRACE, "a child process was traced"),
        Err(error) => Check::ok(
            "ptrace",
            PTRACE,
            format!("a child process cannot be traced ({error})"),
        )
        .missing(
            "in a container, run it with `--cap-add SYS_PTRACE`, or a seccomp profile that \
             allows ptrace"
                .to_owned(),
            NO_PTRACE,
        ),
    }
}
