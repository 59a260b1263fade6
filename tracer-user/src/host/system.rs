//! Checks of the machine and of what any process may do on it.

use super::facts::{self, Capabilities, cap};
use super::trials;
use super::{Check, Recorder};

/// Recorders that trace in the process itself and need an arena.
const ARENA: &[Recorder] = &[Recorder::Ebpf, Recorder::Inproc, Recorder::Ptrace];

/// Recorders that need the kernel's eBPF or what goes with them.
const TRACING: &[Recorder] = &[Recorder::Ebpf, Recorder::Inproc, Recorder::Ptrace];

const PTRACE: &[Recorder] = &[Recorder::Ptrace];

/// Address space that the arena reserves, in bytes.
const ARENA_BYTES: u64 = 64 << 30;

/// The checks, causes before effects.
pub(super) fn checks() -> Vec<Check> {
    vec![
        architecture(),
        kernel(),
        processor(),
        address_space_limit(),
        overcommit(),
        arena(),
        memfd(),
        syscall_user_dispatch(),
        ptrace_scope(),
        ptrace(),
    ]
}

fn architecture() -> Check {
    let check = Check::ok("architecture", &Recorder::ALL, std::env::consts::ARCH);
    if cfg!(target_arch = "x86_64") {
        check
    } else {
        check.missing(Some("run it on an x86-64 machine"))
    }
}

fn kernel() -> Check {
    let (version, release) = facts::kernel();
    let check = Check::ok("kernel", &[Recorder::Ebpf], format!("Linux {release}"));
    if version >= (5, 15) {
        check
    } else {
        check.missing(Some("boot Linux 5.15 or newer"))
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
    let check = Check::ok("processor", ARENA, list.join(", "));
    if found.first().is_some_and(|(_, xsave)| *xsave) {
        check
    } else {
        // The signal frame then shows no vector state, and without AVX no instruction needs it.
        check.degraded(None)
    }
}

fn address_space_limit() -> Check {
    let limit = rustix::process::getrlimit(rustix::process::Resource::As).current;
    let detail = limit.map_or_else(|| "unlimited".to_owned(), |limit| format!("{limit} bytes"));
    let check = Check::ok("address_space_limit", ARENA, detail);
    match limit {
        Some(limit) if limit < ARENA_BYTES => Check {
            detail: format!("{limit} bytes (ulimit -v); the arena reserves {ARENA_BYTES}"),
            ..check
        }
        .missing(Some("ulimit -v unlimited")),
        _ => check,
    }
}

fn overcommit() -> Check {
    match facts::sysctl("vm.overcommit_memory") {
        Some(2) => Check::ok(
            "overcommit",
            ARENA,
            "vm.overcommit_memory is 2: memory of allocations is refused beyond the commit limit",
        )
        .degraded(Some("sysctl vm.overcommit_memory=0")),
        Some(mode) => Check::ok(
            "overcommit",
            ARENA,
            format!("vm.overcommit_memory is {mode}"),
        ),
        None => Check::ok("overcommit", ARENA, "not told by /proc"),
    }
}

fn arena() -> Check {
    match trials::reserve(ARENA_BYTES) {
        Ok(()) => Check::ok("arena", ARENA, "64 GiB of address space can be reserved"),
        Err(error) => Check::ok(
            "arena",
            ARENA,
            format!("64 GiB of address space cannot be reserved ({error})"),
        )
        .missing(Some("ulimit -v unlimited")),
    }
}

fn memfd() -> Check {
    match trials::memfd() {
        Ok(()) => Check::ok("memfd", ARENA, "memory can be mapped twice"),
        Err(error) => Check::ok("memfd", ARENA, format!("memfd_create failed ({error})")).missing(
            Some("allow memfd_create in the seccomp filter of the container"),
        ),
    }
}

fn syscall_user_dispatch() -> Check {
    match trials::syscall_user_dispatch() {
        Ok(()) => Check::ok(
            "syscall_user_dispatch",
            TRACING,
            "system calls of native code on buffers are made and recorded",
        ),
        Err(error) => Check::ok(
            "syscall_user_dispatch",
            TRACING,
            format!(
                "not available ({error}): system calls of native code on buffers fail with EFAULT; \
                 signal handlers of native code may take the place of the recorder's"
            ),
        )
        .degraded(Some(
            "boot Linux 5.11 or newer on x86-64; in a container, allow \
             prctl(PR_SET_SYSCALL_USER_DISPATCH) in its seccomp profile",
        )),
    }
}

fn ptrace_scope() -> Check {
    let privileged = Capabilities::effective().has(cap::SYS_PTRACE);
    let name = "ptrace_scope";
    match facts::sysctl("kernel.yama.ptrace_scope") {
        None => Check::ok(name, PTRACE, "no Yama: unrestricted"),
        Some(3) => Check::ok(
            name,
            PTRACE,
            "kernel.yama.ptrace_scope is 3: nobody may trace",
        )
        .missing(Some(
            "reboot: the setting cannot be lowered, so remove it from sysctl.d first",
        )),
        Some(2) if !privileged => Check::ok(
            name,
            PTRACE,
            "kernel.yama.ptrace_scope is 2: only CAP_SYS_PTRACE may trace",
        )
        .missing(Some(
            "run it with sudo, or `sysctl kernel.yama.ptrace_scope=1`",
        )),
        Some(scope) => Check::ok(name, PTRACE, format!("kernel.yama.ptrace_scope is {scope}")),
    }
}

fn ptrace() -> Check {
    match trials::ptrace() {
        Ok(()) => Check::ok("ptrace", PTRACE, "a child process was traced"),
        Err(error) => Check::ok(
            "ptrace",
            PTRACE,
            format!("a child process cannot be traced ({error})"),
        )
        .missing(Some("in a container, run it with `--cap-add SYS_PTRACE`")),
    }
}
