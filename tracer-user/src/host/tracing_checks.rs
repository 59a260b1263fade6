//! Checks of the kernel's tracing, for the eBPF recorder.

use std::fs;

use tracer_ebpf::{RING_BYTES, Session};

use super::facts::{self, Capabilities};
use super::trials;
use super::{Check, Recorder};
use crate::backend::ebpf::Ebpf;

const EBPF: &[Recorder] = &[Recorder::Ebpf];

const NOT_TRIED: &str = "not tried, for want of privileges";

/// The checks, causes before effects.
pub(super) fn checks() -> Vec<Check> {
    let mut checks = vec![
        privileges(),
        unprivileged_bpf(),
        lockdown(),
        pid_namespace(),
        types(),
        perf_event_paranoid(),
        memlock(),
    ];
    checks.extend(programs());
    checks
}

fn privileges() -> Check {
    let missing = Capabilities::effective().missing_for_ebpf();
    if missing.is_empty() && !facts::in_initial_user_namespace() {
        let detail = "capabilities hold in a user namespace only (a rootless container)";
        return Check::ok("privileges", EBPF, detail).missing(Some("run it as root of the host"));
    }
    if missing.is_empty() {
        return Check::ok("privileges", EBPF, "may load tracing programs");
    }
    let detail = format!("{} missing", missing.join(" and "));
    Check::ok("privileges", EBPF, detail).missing(Some(
        "run it with sudo, or `setcap cap_bpf,cap_perfmon+ep` the program",
    ))
}

/// Tracing programs need privileges whatever this is set to; it is told because people look here.
fn unprivileged_bpf() -> Check {
    let detail = match facts::sysctl("kernel.unprivileged_bpf_disabled") {
        Some(value) => format!("{value}: of no matter, tracing programs always need privileges"),
        None => "not told by /proc".to_owned(),
    };
    Check::ok("unprivileged_bpf_disabled", EBPF, detail)
}

fn lockdown() -> Check {
    match facts::lockdown() {
        Some(mode) if mode == "confidentiality" => Check::ok(
            "lockdown",
            EBPF,
            "confidentiality: forbids tracing programs",
        )
        .missing(Some("boot with lockdown=integrity or less")),
        Some(mode) => Check::ok("lockdown", EBPF, mode),
        None => Check::ok(
            "lockdown",
            EBPF,
            "not told: no lockdown, or no securityfs mounted",
        ),
    }
}

fn pid_namespace() -> Check {
    match facts::in_initial_pid_namespace() {
        Ok(true) => Check::ok("pid_namespace", EBPF, "the host's"),
        Ok(false) => Check::ok("pid_namespace", EBPF, "one of its own (a container)").missing(
            Some("run it in the host's, as `docker run --pid=host` does"),
        ),
        Err(error) => Check::ok("pid_namespace", EBPF, format!("not known ({error})"))
            .missing(Some("mount /proc")),
    }
}

fn types() -> Check {
    let path = "/sys/kernel/btf/vmlinux";
    match fs::metadata(path) {
        Ok(file) => Check::ok("btf", EBPF, format!("{path}, {} bytes", file.len())),
        Err(error) => Check::ok("btf", EBPF, format!("no {path} ({error})")).missing(Some(
            "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y; in a container, mount /sys",
        )),
    }
}

fn perf_event_paranoid() -> Check {
    let detail = match facts::sysctl("kernel.perf_event_paranoid") {
        Some(level) => format!("{level}: matters for probes of functions only"),
        None => "not told by /proc".to_owned(),
    };
    Check::ok("perf_event_paranoid", EBPF, detail)
}

/// From 5.11 the kernel charges eBPF memory to the control group instead.
fn memlock() -> Check {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
    let detail = limit.map_or_else(|| "unlimited".to_owned(), |limit| format!("{limit} bytes"));
    let check = Check::ok("memlock", EBPF, detail);
    match limit {
        Some(limit) if facts::kernel().0 < (5, 11) && limit < 2 * u64::from(RING_BYTES) => {
            check.missing(Some("ulimit -l unlimited"))
        }
        _ => check,
    }
}

/// Loads and attaches everything, and calls a probed function.
fn programs() -> Vec<Check> {
    if !Capabilities::effective().missing_for_ebpf().is_empty() {
        return ["page_fault_program", "ring_buffer", "function_probes"]
            .map(|name| Check::ok(name, EBPF, NOT_TRIED).missing(Some("run it with sudo")))
            .to_vec();
    }
    // An arena of no bytes: the programs run at every fault of this process and record none.
    let mut ebpf = match Ebpf::open(Session {
        arena_base: 0,
        arena_len: 0,
    }) {
        Ok(ebpf) => ebpf,
        Err(error) => {
            // The error's message has its own remedy.
            let not_tried = "not tried, since the programs do not load";
            return vec![
                Check::ok("page_fault_program", EBPF, error.to_string()).missing(None),
                Check::ok("ring_buffer", EBPF, not_tried).missing(None),
                Check::ok("function_probes", EBPF, not_tried).degraded(None),
            ];
        }
    };
    vec![
        Check::ok("page_fault_program", EBPF, "loaded and attached"),
        Check::ok(
            "ring_buffer",
            EBPF,
            format!("{} bytes, mapped", ebpf.ring_view().size()),
        ),
        match trials::function_probe(&mut ebpf) {
            Ok(()) => Check::ok(
                "function_probes",
                EBPF,
                "a call and its return were counted",
            ),
            Err(error) => Check::ok(
                "function_probes",
                EBPF,
                format!("{error}. Accesses are recorded, but the kernel counts no calls"),
            )
            .degraded(None),
        },
    ]
}
