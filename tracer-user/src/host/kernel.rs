//! Checks of the kernel's tracing that any process can make by reading.

use std::fs;
use std::io;

use tracer_ebpf::names;

use super::facts;
use super::remedy;
use super::trials;
use super::{Check, Recorder};

const EBPF: &[Recorder] = &[Recorder::Ebpf];

/// Where the kernel describes its types.
const TYPES: &str = "/sys/kernel/btf/vmlinux";

/// Where it describes its probes of functions in programs.
const UPROBES: &str = "/sys/bus/event_source/devices/uprobe/type";

const NO_PROBES: &str = "accesses are recorded all the same; the kernel counts no calls of the \
                         function";

/// Tracing programs need privileges whatever this is set to; it is told because people look here.
pub(super) fn unprivileged_bpf() -> Check {
    let detail = match facts::sysctl("kernel.unprivileged_bpf_disabled") {
        Some(value) => format!("{value}: of no matter, tracing always needs privileges"),
        None => "not told by /proc".to_owned(),
    };
    Check::ok("unprivileged_bpf_disabled", EBPF, detail)
}

/// `loads`: whether the programs did, where that was tried. Lockdown forbids some of what tracing
/// programs may use and not tracing programs as such, so what was tried is right.
pub(super) fn lockdown(loads: Option<bool>) -> Check {
    let name = "lockdown";
    let Some(mode) = facts::lockdown() else {
        let detail = "not told: no lockdown, or no securityfs mounted";
        return Check::ok(name, EBPF, detail);
    };
    let remedy = remedy::LOCKDOWN.to_owned();
    match loads {
        _ if mode != "confidentiality" => Check::ok(name, EBPF, mode),
        Some(true) => Check::ok(name, EBPF, format!("{mode}, but the programs load")),
        Some(false) => Check::ok(name, EBPF, format!("{mode}: forbids tracing programs"))
            .missing(remedy, remedy::INPROC),
        None => Check::ok(name, EBPF, format!("{mode}: may forbid tracing programs"))
            .degraded(remedy, remedy::INPROC),
    }
}

/// The kernel's types, and whether the programs' tracepoints are among them.
pub(super) fn types() -> Vec<Check> {
    let types = match fs::read(TYPES) {
        Ok(types) if types.starts_with(&[0x9f, 0xeb]) => types,
        Ok(_) => return no_types(format!("{TYPES} is not type information")),
        Err(error) => return no_types(format!("no {TYPES} ({error})")),
    };
    let found = format!("{TYPES}, {} KiB", types.len() >> 10);
    vec![Check::ok("btf", EBPF, found), tracepoints(&types)]
}

fn no_types(detail: String) -> Vec<Check> {
    vec![
        Check::ok("btf", EBPF, detail).missing(remedy::BTF.to_owned(), remedy::INPROC),
        Check::ok("tracepoints", EBPF, "not looked for: no type information").untried(),
    ]
}

/// The strings of the type information end in a NUL each.
fn tracepoints(types: &[u8]) -> Check {
    let name = "tracepoints";
    let wanted = [names::PAGE_FAULT_USER, names::PAGE_FAULT_KERNEL];
    let mut lacking: Vec<_> = wanted.to_vec();
    for string in types.split(|byte| *byte == 0) {
        if let Some(tracepoint) = string.strip_prefix(b"btf_trace_") {
            lacking.retain(|wanted| wanted.as_bytes() != tracepoint);
        }
    }
    if lacking.is_empty() {
        return Check::ok(name, EBPF, wanted.join(", "));
    }
    Check::ok(
        name,
        EBPF,
        format!("the kernel has no {}", lacking.join(", ")),
    )
    .missing(remedy::TRACEPOINT.to_owned(), remedy::INPROC)
}

pub(super) fn jit() -> Check {
    let name = "bpf_jit";
    match facts::sysctl("net.core.bpf_jit_enable") {
        Some(0) => Check::ok(name, EBPF, "net.core.bpf_jit_enable is 0").degraded(
            "sysctl net.core.bpf_jit_enable=1".to_owned(),
            "the programs are interpreted: each fault takes longer",
        ),
        Some(value) => Check::ok(name, EBPF, format!("net.core.bpf_jit_enable is {value}")),
        // The setting is the initial network namespace's, and has one value where the kernel was
        // built to do without an interpreter.
        None => Check::ok(name, EBPF, "not told by /proc"),
    }
}

pub(super) fn perf_event_paranoid() -> Check {
    let detail = match facts::sysctl("kernel.perf_event_paranoid") {
        Some(level) => format!("{level}: matters for probes of functions only"),
        None => "not told by /proc".to_owned(),
    };
    Check::ok("perf_event_paranoid", EBPF, detail)
}

/// Whether functions can be probed at all. `privileged`: whether a refusal means more than that
/// the process is an ordinary one.
pub(super) fn uprobes(privileged: bool) -> Check {
    let name = "uprobes";
    if let Err(error) = fs::metadata(UPROBES) {
        return Check::ok(name, EBPF, format!("no {UPROBES} ({error})"))
            .degraded(remedy::UPROBES.to_owned(), NO_PROBES);
    }
    match trials::perf_event() {
        Ok(()) => Check::ok(name, EBPF, "perf_event_open works"),
        Err(error) if !privileged && is_refusal(&error) => Check::ok(
            name,
            EBPF,
            "perf_event_open not tried, for want of privileges",
        )
        .untried(),
        Err(error) => Check::ok(name, EBPF, format!("perf_event_open failed ({error})"))
            .degraded(remedy::PROBES.to_owned(), NO_PROBES),
    }
}

/// What a probe of a function said that was tried.
pub(super) fn function_probes(tried: Result<(), String>) -> Check {
    let name = "function_probes";
    match tried {
        Ok(()) => Check::ok(name, EBPF, "a call and its return were counted"),
        Err(error) => {
            let (cause, remedy) = remedy::split(&error);
            Check::ok(name, EBPF, cause).degraded(remedy, NO_PROBES)
        }
    }
}

/// Of use to the agent alone, which confines itself with it.
pub(super) fn landlock() -> Check {
    let name = "landlock";
    match trials::landlock() {
        Ok(version) => Check::ok(name, EBPF, format!("version {version}")),
        Err(error) => Check::ok(name, EBPF, format!("not available ({error})")).degraded(
            "boot a kernel built with CONFIG_SECURITY_LANDLOCK=y, with landlock in lsm=".to_owned(),
            "an `ffitrace agent` on this host does not confine itself to its files",
        ),
    }
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::State;

    #[test]
    fn tracepoints_are_found_by_their_whole_name() {
        let there = b"\0int\0btf_trace_page_fault_kernel\0btf_trace_page_fault_user\0";
        assert_eq!(tracepoints(there).state, State::Ok);
        let almost =
            b"\0btf_trace_page_fault_kernel\0btf_trace_page_fault_users\0page_fault_user\0";
        let check = tracepoints(almost);
        assert_eq!(check.state, State::Missing);
        assert!(check.detail.ends_with("no page_fault_user"), "{check:?}");
    }

    #[test]
    fn this_kernels_types_have_them_if_it_has_types() {
        let checks = types();
        let types_there = checks[0].state == State::Ok;
        assert_eq!(checks[1].state == State::Ok, types_there, "{checks:?}");
    }
}
