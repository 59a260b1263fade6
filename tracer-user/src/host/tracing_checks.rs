//! Checks of the kernel's tracing, for the eBPF recorder.

use std::io;

use tracer_ebpf::Session;

use super::agent::Agent;
use super::bpf;
use super::facts::{self, Capabilities};
use super::kernel;
use super::remedy;
use super::trials;
use super::{Check, Recorder, State};
use crate::backend::ebpf::{Ebpf, EbpfError};

const EBPF: &[Recorder] = &[Recorder::Ebpf];

const NOT_TRIED: &str = "not tried, for want of privileges";

/// The checks, causes before effects.
pub(super) fn checks() -> Vec<Check> {
    let privileged = Capabilities::effective().missing_for_ebpf().is_empty();
    checks_with(&Agent::look(), privileged)
}

/// `privileged`: whether this process may try to load programs.
fn checks_with(agent: &Agent, privileged: bool) -> Vec<Check> {
    let tried = privileged.then(try_programs);
    let loads = tried.as_ref().map(|tried| tried[0].state == State::Ok);
    let user_namespace = user_namespace(loads);
    // Whether a refusal means more than that the process is an ordinary one.
    let privileged = privileged && user_namespace.state == State::Ok;

    // What is this process's alone comes before what is the whole host's: an agent makes up for
    // the first.
    let mut checks = vec![
        agent.makes_up_for(user_namespace),
        agent.makes_up_for(privileges()),
        agent.makes_up_for(pid_namespace()),
        agent.makes_up_for(system_call(privileged)),
        kernel::unprivileged_bpf(),
        kernel::lockdown(loads),
    ];
    checks.extend(kernel::types());
    checks.push(kernel::jit());
    checks.extend(kinds_of_maps(privileged).map(|check| agent.makes_up_for(check)));
    let programs = tried.unwrap_or_else(|| {
        ["page_fault_program", "function_probes"]
            .map(|name| Check::ok(name, EBPF, NOT_TRIED).untried())
    });
    let [page_fault, functions] = programs.map(|check| agent.makes_up_for(check));
    checks.extend([
        page_fault,
        kernel::perf_event_paranoid(),
        agent.makes_up_for(kernel::uprobes(privileged)),
        functions,
        kernel::landlock(),
        agent.check(privileged),
    ]);
    checks
}

/// Capabilities that hold in a user namespace only are none to eBPF, whatever their number.
fn user_namespace(loads: Option<bool>) -> Check {
    let name = "user_namespace";
    if facts::in_initial_user_namespace() {
        return Check::ok(name, EBPF, "the host's");
    }
    if loads == Some(true) {
        return Check::ok(name, EBPF, "one of its own, but the programs load");
    }
    let detail = "this process is in a user namespace of its own, as in a rootless container, where \
                  capabilities do not count for eBPF";
    Check::ok(name, EBPF, detail).missing(remedy::USER_NAMESPACE.to_owned(), remedy::INPROC)
}

fn privileges() -> Check {
    let missing = Capabilities::effective().missing_for_ebpf();
    if missing.is_empty() {
        return Check::ok("privileges", EBPF, "may load tracing programs");
    }
    let detail = format!("this process lacks {}", missing.join(" and "));
    Check::ok("privileges", EBPF, detail).missing(remedy::capabilities().to_owned(), remedy::INPROC)
}

fn pid_namespace() -> Check {
    let name = "pid_namespace";
    match facts::in_initial_pid_namespace() {
        Ok(true) => Check::ok(name, EBPF, "the host's"),
        Ok(false) => {
            let detail = "this process is in a process-id namespace of its own, as in a container, so the \
                 kernel knows it by another id";
            Check::ok(name, EBPF, detail).missing(remedy::PID_NAMESPACE.to_owned(), remedy::INPROC)
        }
        Err(error) => Check::ok(name, EBPF, format!("not known ({error})"))
            .missing("mount /proc".to_owned(), remedy::INPROC),
    }
}

/// An ordinary process may be refused by a setting, which is no fault of the system call.
fn system_call(privileged: bool) -> Check {
    let name = "bpf_syscall";
    match bpf::system_call() {
        Ok(()) => Check::ok(name, EBPF, "bpf is there, and may be called"),
        Err(error) if !privileged && error.raw_os_error() == Some(libc::EPERM) => {
            Check::ok(name, EBPF, "refused, as it may be for want of privileges").untried()
        }
        Err(error) => not_created(name, "of any kind", error),
    }
}

/// The kinds of maps that the programs need, each made by itself: what then keeps the programs
/// from loading is something else.
fn kinds_of_maps(privileged: bool) -> impl Iterator<Item = Check> {
    type Trial = fn() -> io::Result<()>;
    let kinds: [(&str, &str, Trial); 3] = [
        ("ring_buffer", "ring buffer", bpf::ring_buffer),
        ("ring_maps", "map of ring buffers", bpf::ring_maps),
        ("mapped_arrays", "mapped array", bpf::mapped_array),
    ];
    kinds.into_iter().map(move |(name, kind, trial)| {
        if !privileged {
            return Check::ok(name, EBPF, NOT_TRIED).untried();
        }
        match trial() {
            Ok(()) => Check::ok(name, EBPF, format!("a {kind} was made")),
            Err(error) => not_created(name, kind, error),
        }
    })
}

/// As the recorder would say it of a map of its own.
fn not_created(name: &'static str, kind: &str, error: io::Error) -> Check {
    let message = EbpfError::not_created(kind.to_owned(), error).to_string();
    let (cause, remedy) = remedy::split(&message);
    Check::ok(name, EBPF, cause).missing(remedy, remedy::INPROC)
}

/// Loads and attaches everything, and calls a probed function.
fn try_programs() -> [Check; 2] {
    // An arena of no bytes: the programs run at every fault of this process and record none.
    let opened = Ebpf::open(Session {
        arena_base: 0,
        arena_len: 0,
    });
    let name = "page_fault_program";
    match opened {
        Ok(mut ebpf) => {
            let ring = ebpf.ring_view().size() >> 20;
            let detail = format!("loaded and attached, with a ring of {ring} MiB");
            [
                Check::ok(name, EBPF, detail),
                kernel::function_probes(trials::function_probe(&mut ebpf)),
            ]
        }
        Err(error) => {
            let (cause, remedy) = remedy::split(&error.to_string());
            [
                Check::ok(name, EBPF, cause).missing(remedy, remedy::INPROC),
                Check::ok(
                    "function_probes",
                    EBPF,
                    "not tried, since the programs do not load",
                )
                .untried(),
            ]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::agent::Found;

    #[test]
    fn what_a_process_lacks_is_in_the_way_unless_an_agent_makes_up_for_it() {
        let in_the_way = |found| -> Vec<&str> {
            let checks = checks_with(&Agent::found(found), false);
            let lacking = checks.iter().filter(|check| check.is_in_the_way());
            lacking.map(|check| check.name).collect()
        };
        let own = [
            "user_namespace",
            "privileges",
            "pid_namespace",
            "bpf_syscall",
            "ring_buffer",
            "ring_maps",
            "mapped_arrays",
            "page_fault_program",
            "uprobes",
            "function_probes",
        ];
        let alone = in_the_way(Found::Forbidden);
        for name in ["ring_buffer", "page_fault_program", "function_probes"] {
            assert!(alone.contains(&name), "{name}: {alone:?}");
        }
        let served = in_the_way(Found::Serves("version 1".to_owned()));
        assert!(served.iter().all(|name| !own.contains(name)), "{served:?}");
        // What remains is the kernel's, which is the same for an agent.
        assert!(served.iter().all(|name| alone.contains(name)), "{served:?}");
    }
}
