//! Why the kernel's recorder cannot be had, and what would mend it.

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

use aya::maps::MapError;
use aya::programs::ProgramError;
use thiserror::Error;
use tracer_ebpf::MAX_SESSIONS;

use crate::host::{bpf, facts, remedy};

/// How many lines of a verifier log an error carries: the last, which name the fault.
const LOG_LINES: usize = 12;

/// What kept the eBPF recorder from working. Each message names the cause and the remedy.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EbpfError {
    /// The process may not load programs.
    #[error(
        "this process lacks {missing}, which loading eBPF programs takes: {}",
        remedy::capabilities()
    )]
    Privilege {
        /// Names of the missing capabilities.
        missing: String,
    },
    /// The kernel lacks helpers that the programs use.
    #[error(
        "Linux {release} is too old for what the programs need (bpf_task_pt_regs, attach \
         cookies): {}",
        remedy::KERNEL
    )]
    KernelTooOld {
        /// Release of the running kernel.
        release: String,
    },
    /// The kernel does not describe its types.
    #[error(
        "the kernel's type information at /sys/kernel/btf/vmlinux cannot be used ({reason}): {}",
        remedy::BTF
    )]
    NoBtf {
        /// What reading it said.
        reason: String,
    },
    /// The kernel has no such tracepoint.
    #[error("the kernel has no tracepoint `{name}`: {}", remedy::TRACEPOINT)]
    NoTracepoint {
        /// Name of the tracepoint.
        name: &'static str,
    },
    /// Process ids here are not the kernel's.
    #[error(
        "this process is in a process-id namespace of its own (a container), so the kernel knows \
         it by another process id than it knows itself: {}",
        remedy::PID_NAMESPACE
    )]
    PidNamespace,
    /// Kernel lockdown forbids tracing.
    #[error(
        "kernel lockdown is in mode `confidentiality`, which forbids tracing programs: {}",
        remedy::LOCKDOWN
    )]
    Lockdown,
    /// The kernel refused though the capabilities are there.
    #[error("the kernel refused {call} ({source}) {}", denied_because(*.user_namespace))]
    Denied {
        /// What was refused.
        call: String,
        /// Whether the capabilities hold in a user namespace only.
        user_namespace: bool,
        /// The system call's error.
        source: io::Error,
    },
    /// The ring or another map found no memory.
    #[error("no memory for the eBPF map `{map}` ({source}): {}", remedy::MEMORY)]
    Memory {
        /// Name of the map.
        map: String,
        /// The system call's error.
        source: io::Error,
    },
    /// An agent was to record, and does not.
    #[error(transparent)]
    Agent(#[from] crate::agent::AgentError),
    /// No more sessions fit one set of programs.
    #[error("{MAX_SESSIONS} sessions are recorded already, which is all that one agent can")]
    Sessions,
    /// A session's memory could not be mapped.
    #[error("the session's {what} cannot be mapped ({source}): see `ulimit -v`")]
    Mapping {
        /// What of it.
        what: &'static str,
        /// The system call's error.
        source: io::Error,
    },
    /// There is no `bpf` system call.
    #[error(
        "the kernel has no bpf system call for this process ({source}): {}",
        remedy::NO_BPF
    )]
    NoBpf {
        /// The system call's error.
        source: io::Error,
    },
    /// The kernel does not know a kind of map.
    #[error(
        "the eBPF map `{map}` is of a kind that the kernel does not know ({source}): {}",
        remedy::MAP_KIND
    )]
    MapKind {
        /// Name of the map.
        map: String,
        /// The system call's error.
        source: io::Error,
    },
    /// The object file of `FFITRACE_BPF_OBJECT` cannot be read.
    #[error("FFITRACE_BPF_OBJECT names {}, which cannot be read ({source}): unset the variable to use the built-in programs", .path.display())]
    ObjectFile {
        /// The file.
        path: PathBuf,
        /// The error of reading it.
        source: io::Error,
    },
    /// The object is not one of this version.
    #[error(
        "the eBPF object is not one for this version ({reason}): rebuild it with `cargo xtask \
         build-ebpf`, or unset FFITRACE_BPF_OBJECT"
    )]
    Object {
        /// What is wrong with it.
        reason: String,
    },
    /// The verifier rejected a program.
    #[error(
        "the kernel's verifier rejected the program `{program}` ({source}): please report this \
         with the kernel's version and these last lines of its log:\n{log}"
    )]
    Rejected {
        /// Name of the program.
        program: String,
        /// The system call's error.
        source: io::Error,
        /// Last lines of the verifier's log.
        log: String,
    },
    /// A program loaded but did not attach.
    #[error("the eBPF program `{program}` cannot be attached ({reason}): see `ffitrace doctor`")]
    Attach {
        /// Name of the program.
        program: String,
        /// What the kernel said.
        reason: String,
    },
    /// A map operation failed that cannot fail on a sound kernel.
    #[error("the eBPF map `{map}` cannot be used ({reason}): see `ffitrace doctor`")]
    Map {
        /// Name of the map.
        map: String,
        /// What the kernel said.
        reason: String,
    },
    /// The function's first instruction must not be probed.
    #[error(
        "`{function}` begins with a 5-byte NOP, where a probe would corrupt the caller's stack on \
         Linux 6.18 (a kernel bug): its calls are not counted by the kernel; rebuild the library \
         without -fpatchable-function-entry or -pg to have them counted"
    )]
    ProbeOnNop {
        /// Name of the function.
        function: String,
    },
    /// The function's first instruction accesses memory.
    #[error(
        "`{function}` begins with a memory access, so it is not probed: its calls are not counted \
         by the kernel; its accesses are recorded all the same"
    )]
    ProbeOnMemory {
        /// Name of the function.
        function: String,
    },
    /// The library's code cannot be read.
    #[error("`{function}` cannot be probed: its file cannot be read at {offset:#x} ({source})")]
    ProbeFile {
        /// Name of the function.
        function: String,
        /// Offset of the function in the file.
        offset: u64,
        /// The error of reading it.
        source: io::Error,
    },
    /// There is no such library.
    #[error("`{function}` cannot be probed: {} cannot be opened ({source})", .library.display())]
    ProbeLibrary {
        /// Name of the function.
        function: String,
        /// The library.
        library: PathBuf,
        /// The error of opening it.
        source: io::Error,
    },
    /// Probes are not permitted.
    #[error(
        "the kernel refused the probe on `{function}` ({source}), as hardened ones do with \
         kernel.perf_event_paranoid above 2 (here it is {paranoid}): {}",
        remedy::PROBES
    )]
    ProbeDenied {
        /// Name of the function.
        function: String,
        /// The kernel's setting, or `unknown`.
        paranoid: String,
        /// The system call's error.
        source: io::Error,
    },
    /// Probes do not exist, or not at this instruction.
    #[error(
        "`{function}` cannot be probed ({reason}): the kernel needs CONFIG_UPROBE_EVENTS=y, and \
         the function must begin with an instruction that can be stepped"
    )]
    Probe {
        /// Name of the function.
        function: String,
        /// What the kernel said.
        reason: String,
    },
}

fn denied_because(user_namespace: bool) -> String {
    if user_namespace {
        format!(
            "because the capabilities hold only in a user namespace (a rootless container): {}",
            remedy::USER_NAMESPACE
        )
    } else {
        format!(
            "although this process has the capabilities: a seccomp filter or security module \
             stands in the way; {}",
            remedy::BPF_REFUSED
        )
    }
}

impl EbpfError {
    /// For a refusal, the most specific cause that can be made out.
    fn denied(call: impl Into<String>, source: io::Error) -> Self {
        if locked_down() {
            return EbpfError::Lockdown;
        }
        let user_namespace = !facts::in_initial_user_namespace();
        EbpfError::Denied {
            call: call.into(),
            user_namespace,
            source,
        }
    }

    /// For a failure to create the maps.
    pub(super) fn from_open(error: aya::EbpfError) -> Self {
        match error {
            aya::EbpfError::MapError(error @ MapError::CreateError { .. }) => {
                EbpfError::from_new_map(error)
            }
            // Where no program at all is loaded, the loader finds no feature of the kernel, and
            // takes the object for a wrong one.
            other => match bpf::plain_program() {
                Err(error) if is_refusal(&error) => EbpfError::denied("any program", error),
                _ => EbpfError::Object {
                    reason: chain(&other),
                },
            },
        }
    }

    /// For a failure to create a map.
    pub(super) fn from_new_map(error: MapError) -> Self {
        match error {
            MapError::CreateError { name, io_error } => EbpfError::not_created(name, io_error),
            other => EbpfError::Object {
                reason: chain(&other),
            },
        }
    }

    /// For a map that could not be created.
    pub(crate) fn not_created(map: String, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::ENOSYS) => EbpfError::NoBpf { source },
            Some(libc::EINVAL) => EbpfError::MapKind { map, source },
            // Up to 5.10 the limit on locked memory is told so.
            Some(libc::EPERM | libc::EACCES) if facts::kernel().0 >= (5, 11) => {
                EbpfError::denied(format!("the map `{map}`"), source)
            }
            Some(libc::ENOMEM | libc::EPERM | libc::EACCES) => EbpfError::Memory { map, source },
            _ => EbpfError::Map {
                map,
                reason: source.to_string(),
            },
        }
    }

    /// For a failure to load a program.
    pub(super) fn from_load(program: &'static str, error: ProgramError) -> Self {
        match error {
            ProgramError::LoadError {
                io_error,
                verifier_log,
            } => EbpfError::not_loaded(program, io_error, &verifier_log.to_string()),
            // The kernel's types have no `btf_trace_NAME`: there is no such tracepoint.
            ProgramError::Btf(aya::BtfError::UnknownBtfTypeName { .. }) => {
                EbpfError::NoTracepoint { name: program }
            }
            other => EbpfError::Attach {
                program: program.to_owned(),
                reason: chain(&other),
            },
        }
    }

    /// For a refused `BPF_PROG_LOAD`. A verifier that rejects says why in its log; where there is
    /// none, the kernel did not come to look at the program. Lockdown takes helpers away, which
    /// the verifier calls unknown.
    fn not_loaded(program: &'static str, source: io::Error, log: &str) -> Self {
        let no_helper = log.contains("unknown func") || log.contains("cannot use helper");
        if no_helper && locked_down() {
            return EbpfError::Lockdown;
        }
        if log.trim().is_empty() && is_refusal(&source) {
            return EbpfError::denied(format!("the program `{program}`"), source);
        }
        EbpfError::Rejected {
            program: program.to_owned(),
            source,
            log: tail(log),
        }
    }

    /// For a failure to attach a program to its tracepoint.
    pub(super) fn from_attach(program: &'static str, error: ProgramError) -> Self {
        match error {
            ProgramError::SyscallError(error) if is_refusal(&error.io_error) => {
                EbpfError::denied(format!("attaching `{program}`"), error.io_error)
            }
            other => EbpfError::Attach {
                program: program.to_owned(),
                reason: chain(&other),
            },
        }
    }

    /// For a failure to attach a probe to a function.
    pub(super) fn from_probe(function: &str, error: ProgramError) -> Self {
        let function = function.to_owned();
        match error {
            ProgramError::SyscallError(error) if is_refusal(&error.io_error) => {
                let paranoid = facts::sysctl("kernel.perf_event_paranoid")
                    .map_or_else(|| "unknown".to_owned(), |level| level.to_string());
                EbpfError::ProbeDenied {
                    function,
                    paranoid,
                    source: error.io_error,
                }
            }
            other => EbpfError::Probe {
                function,
                reason: chain(&other),
            },
        }
    }

    /// For a failed operation on a map that exists.
    pub(super) fn from_map(map: &'static str, error: MapError) -> Self {
        EbpfError::Map {
            map: map.to_owned(),
            reason: chain(&error),
        }
    }
}

fn locked_down() -> bool {
    facts::lockdown().as_deref() == Some("confidentiality")
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES))
}

/// An error and all its sources, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let line = error.to_string();
        // Some layers repeat their source in their own message.
        if !text.contains(&line) {
            let _ = write!(text, ": {line}");
        }
        source = error.source();
    }
    text
}

/// The last lines of a log.
fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

#[cfg(test)]
mod tests;
