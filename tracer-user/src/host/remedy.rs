//! What mends what a host lacks: said the same by a check and by the error of a recorder.

use super::facts::Status;
use crate::shadow;

pub(crate) const SUDO: &str = "run it with sudo, or give the program the capabilities with \
                               `setcap cap_bpf,cap_perfmon+ep`";
pub(crate) const BOUNDING_SET: &str = "start the container or service with CAP_BPF and \
                                       CAP_PERFMON (`docker run --cap-add BPF --cap-add \
                                       PERFMON`): its bounding set lacks them, so not even root \
                                       has them";
pub(crate) const KERNEL: &str = "boot Linux 5.15 or newer";
pub(crate) const BTF: &str = "boot a kernel built with CONFIG_DEBUG_INFO_BTF=y, as \
                              distributions' kernels are; in a container, mount /sys";
pub(crate) const TRACEPOINT: &str = "boot an x86-64 kernel built with CONFIG_TRACEPOINTS=y";
pub(crate) const PID_NAMESPACE: &str =
    "run it in the host's process-id namespace (`docker run --pid=host`)";
pub(crate) const LOCKDOWN: &str = "boot with lockdown=integrity or less";
pub(crate) const USER_NAMESPACE: &str = "run it as root of the host";
pub(crate) const BPF_REFUSED: &str = "in a container, run it with `--privileged` or a seccomp \
                                      profile that allows bpf and perf_event_open";
pub(crate) const PROBES: &str = "run it as root, or set `sysctl kernel.perf_event_paranoid=2`; in \
                                 a container, use a seccomp profile that allows perf_event_open";
pub(crate) const NO_BPF: &str = "boot a kernel built with CONFIG_BPF_SYSCALL=y; in a container, \
                                 use a seccomp profile that allows bpf";
pub(crate) const MAP_KIND: &str =
    "boot Linux 5.15 or newer (ring buffers came with 5.8, mapped arrays with 5.5)";
pub(crate) const MEMORY: &str = "raise the memory limit of the control group (the limit on \
                                 locked memory plays no part since Linux 5.11)";
pub(crate) const MEMFD: &str =
    "allow memfd_create in the seccomp profile of the container or service";

pub(crate) const UPROBES: &str =
    "boot a kernel built with CONFIG_UPROBE_EVENTS=y; in a container, mount /sys";

pub(crate) const FILE_SIZE: &str = "raise the limit with `ulimit -f unlimited`";

/// What records where the kernel cannot.
pub(crate) const INPROC: &str = "--backend auto takes inproc, which sees the same accesses";

/// Those that errors end with.
const ALL: [&str; 16] = [
    SUDO,
    BOUNDING_SET,
    KERNEL,
    BTF,
    TRACEPOINT,
    PID_NAMESPACE,
    LOCKDOWN,
    USER_NAMESPACE,
    BPF_REFUSED,
    NO_BPF,
    MAP_KIND,
    MEMORY,
    MEMFD,
    UPROBES,
    PROBES,
    FILE_SIZE,
];

/// What gives this process the capabilities that it lacks.
pub(crate) fn capabilities() -> &'static str {
    if Status::own().bounding.missing_for_ebpf().is_empty() {
        SUDO
    } else {
        BOUNDING_SET
    }
}

/// What mends a failed call that was to make memory, as the end of a message.
pub(crate) fn of_memory(call: &str) -> String {
    match call {
        "memfd_create" => format!(": {MEMFD}"),
        shadow::FILE_SIZE => format!(": {FILE_SIZE}"),
        _ => String::new(),
    }
}

/// The message of a recorder's error as cause and remedy. The cause is the whole message where
/// its end is none of the remedies above.
pub(crate) fn split(message: &str) -> (String, Option<String>) {
    let found = ALL
        .iter()
        .find_map(|remedy| Some((message.strip_suffix(remedy)?, *remedy)));
    match found {
        Some((cause, remedy)) => {
            let cause = cause.trim_end_matches([':', ';', ' ']).to_owned();
            (cause, Some(remedy.to_owned()))
        }
        None => (message.to_owned(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::ebpf::EbpfError;

    #[test]
    fn messages_are_split_where_the_remedy_begins() {
        let (cause, remedy) = split(&EbpfError::PidNamespace.to_string());
        assert!(cause.ends_with("than it knows itself"), "{cause}");
        assert_eq!(remedy.as_deref(), Some(PID_NAMESPACE));
        let whole = "something else: try again";
        assert_eq!(split(whole), (whole.to_owned(), None));
    }
}
