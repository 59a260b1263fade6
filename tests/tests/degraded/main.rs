//! Hosts that lack something, each made up by what a container, a filter or a kernel does there.
//!
//! ```text
//!  doctor               names the cause, what mends it, and what happens without
//!  call --backend ebpf  is refused with the same cause and remedy
//!  call --backend auto  works without, says why in a line, and sees the same accesses
//! ```

mod checks;
mod hosts;

use std::process::ExitCode;

use anyhow::Result;
use ffitrace_tests::answered_bpf::Part;
use ffitrace_tests::host::Need;
use ffitrace_tests::suite::Suite;

use checks::{Lacking, falls_back, probes_nothing, traces_nothing, traces_with_ebpf};
use hosts::Host;

/// Each needs a host that has all that is then taken away, and root to take it.
const NEEDS: [Need; 2] = [Need::Bpf, Need::Namespaces];

fn main() -> ExitCode {
    let mut suite = Suite::new();
    for (name, lacking) in without_ebpf() {
        suite.add(name, NEEDS, move || falls_back(&lacking));
    }
    suite.add("memfd", NEEDS, || {
        traces_nothing(&Lacking {
            host: Host::Denied(libc::SYS_memfd_create, libc::EPERM),
            check: "memfd",
            detail: "memfd_create failed",
            cause: "memfd_create failed",
            remedy: "seccomp profile",
        })
    });
    suite.add("address_space", NEEDS, || {
        traces_nothing(&Lacking {
            host: Host::Shell("ulimit -v 1500000"),
            check: "address_space_limit",
            detail: "1.4 GiB",
            cause: "address space limit",
            remedy: "ulimit -v unlimited",
        })
    });
    suite.add("file_size", NEEDS, || {
        traces_nothing(&Lacking {
            host: Host::Shell("ulimit -f 3000000"),
            check: "file_size_limit",
            detail: "1.4 GiB (ulimit -f), less than the 4 GiB",
            cause: "file size limit",
            remedy: "ulimit -f unlimited",
        })
    });
    suite.add("small_address_space", NEEDS, || {
        let host = Host::Shell("ulimit -v 7000000");
        traces_with_ebpf(&host, "arena", "ulimit -v", "more than 1 GiB", None)
    });
    suite.add("syscall_user_dispatch", NEEDS, || {
        traces_with_ebpf(
            &Host::WithoutDispatch,
            "syscall_user_dispatch",
            "PR_SET_SYSCALL_USER_DISPATCH",
            "EFAULT",
            Some("no Syscall User Dispatch here"),
        )
    });
    suite.add("perf_event_open_eperm", NEEDS, || no_probes(libc::EPERM));
    suite.add("perf_event_open_eacces", NEEDS, || no_probes(libc::EACCES));
    suite.run()
}

fn no_probes(errno: i32) -> Result<()> {
    let host = Host::Denied(libc::SYS_perf_event_open, errno);
    for check in ["uprobes", "function_probes"] {
        let remedy = "seccomp profile that allows perf_event_open";
        traces_with_ebpf(&host, check, remedy, "counts no calls", None)?;
    }
    probes_nothing(&host)
}

/// What keeps the kernel's recorder from working, and nothing else.
fn without_ebpf() -> Vec<(&'static str, Lacking)> {
    let refused = "seccomp profile that allows bpf";
    vec![
        (
            "btf",
            Lacking {
                host: Host::Mounts("mount -t tmpfs none /sys/kernel/btf"),
                check: "btf",
                detail: "No such file",
                cause: "/sys/kernel/btf/vmlinux",
                remedy: "CONFIG_DEBUG_INFO_BTF=y",
            },
        ),
        (
            "lockdown",
            Lacking {
                host: Host::LockedDown,
                check: "lockdown",
                detail: "forbids tracing programs",
                cause: "confidentiality",
                remedy: "lockdown=integrity",
            },
        ),
        (
            "cap_bpf",
            Lacking {
                host: Host::Wrapped(&["setpriv", "--bounding-set=-bpf,-sys_admin"]),
                check: "privileges",
                detail: "CAP_BPF",
                cause: "lacks CAP_BPF",
                remedy: "--cap-add BPF",
            },
        ),
        (
            "cap_perfmon",
            Lacking {
                host: Host::Wrapped(&["setpriv", "--bounding-set=-perfmon,-sys_admin"]),
                check: "privileges",
                detail: "CAP_PERFMON",
                cause: "lacks CAP_PERFMON",
                remedy: "--cap-add PERFMON",
            },
        ),
        (
            "pid_namespace",
            Lacking {
                host: Host::Wrapped(&["unshare", "-p", "-f", "--mount-proc"]),
                check: "pid_namespace",
                detail: "another id",
                cause: "process-id namespace of its own",
                remedy: "docker run --pid=host",
            },
        ),
        (
            "user_namespace",
            Lacking {
                host: Host::Wrapped(&["unshare", "-U", "-r"]),
                check: "user_namespace",
                detail: "capabilities do not count",
                cause: "user namespace",
                remedy: "root of the host",
            },
        ),
        (
            "bpf_eperm",
            Lacking {
                host: Host::Denied(libc::SYS_bpf, libc::EPERM),
                check: "bpf_syscall",
                detail: "Operation not permitted",
                cause: "seccomp filter",
                remedy: refused,
            },
        ),
        (
            "bpf_enosys",
            Lacking {
                host: Host::Denied(libc::SYS_bpf, libc::ENOSYS),
                check: "bpf_syscall",
                detail: "not implemented",
                cause: "no bpf system call",
                remedy: "CONFIG_BPF_SYSCALL=y",
            },
        ),
        (
            "ring_buffer",
            Lacking {
                host: Host::Answered(Part::RingBuffer, libc::EINVAL),
                check: "ring_buffer",
                detail: "`ring buffer`",
                cause: "a kind that the kernel does not know",
                remedy: "ring buffers came with 5.8",
            },
        ),
        (
            "map_memory",
            Lacking {
                host: Host::Answered(Part::RingBuffer, libc::ENOMEM),
                check: "ring_buffer",
                detail: "Cannot allocate memory",
                cause: "no memory for the eBPF map",
                remedy: "memory limit of the control group",
            },
        ),
        (
            "no_tracing_program",
            Lacking {
                host: Host::Answered(Part::Tracing, libc::EPERM),
                check: "page_fault_program",
                detail: "Operation not permitted",
                cause: "the kernel refused the program",
                remedy: refused,
            },
        ),
        (
            "no_program",
            Lacking {
                host: Host::Answered(Part::Program, libc::EPERM),
                check: "page_fault_program",
                detail: "Operation not permitted",
                cause: "the kernel refused any program",
                remedy: refused,
            },
        ),
    ]
}
