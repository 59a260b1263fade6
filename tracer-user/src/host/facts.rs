//! Single facts about this host and process, read and not judged.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Bits of Linux capabilities (`linux/capability.h`).
pub(crate) mod cap {
    pub(crate) const SYS_PTRACE: u32 = 19;
    pub(crate) const SYS_ADMIN: u32 = 21;
    pub(crate) const PERFMON: u32 = 38;
    pub(crate) const BPF: u32 = 39;
}

/// Inode of the initial process-id namespace (`PROC_PID_INIT_INO`).
const INITIAL_PID_NAMESPACE: u64 = 0xeffffffc;

/// What `/proc/self/status` says of what this process may do. What it does not say is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// Capabilities in effect.
    pub(crate) effective: Capabilities,
    /// Capabilities that it could ever have.
    pub(crate) bounding: Capabilities,
    /// Whether what it executes gains nothing, be it setuid or have file capabilities.
    pub(crate) no_new_privs: bool,
    /// Seccomp mode: 0 for none, 1 for the strict one, 2 for a filter.
    pub(crate) seccomp: u64,
    /// Number of its seccomp filters.
    pub(crate) filters: u64,
}

impl Status {
    /// That of this process.
    pub(crate) fn own() -> Self {
        Self::parse(&fs::read_to_string("/proc/self/status").unwrap_or_default())
    }

    fn parse(status: &str) -> Self {
        let field = |name: &str, radix| {
            let mut lines = status.lines();
            let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value
                .and_then(|value| u64::from_str_radix(value.trim(), radix).ok())
                .unwrap_or(0)
        };
        Status {
            effective: Capabilities(field("CapEff", 16)),
            bounding: Capabilities(field("CapBnd", 16)),
            no_new_privs: field("NoNewPrivs", 10) != 0,
            seccomp: field("Seccomp", 10),
            filters: field("Seccomp_filters", 10),
        }
    }
}

/// Capabilities, as a set of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Capabilities(u64);

impl Capabilities {
    /// Those in effect for this process; none if they cannot be read.
    pub(crate) fn effective() -> Self {
        Status::own().effective
    }

    /// Whether the capability with this bit number is there.
    pub(crate) fn has(self, bit: u32) -> bool {
        self.0 & (1 << bit) != 0
    }

    /// Names of what loading the programs takes and is not there. Empty if they may be loaded.
    pub(crate) fn missing_for_ebpf(self) -> Vec<&'static str> {
        if self.has(cap::SYS_ADMIN) {
            return Vec::new();
        }
        let needed = [(cap::BPF, "CAP_BPF"), (cap::PERFMON, "CAP_PERFMON")];
        needed
            .iter()
            .filter(|(bit, _)| !self.has(*bit))
            .map(|(_, name)| *name)
            .collect()
    }
}

/// Version of the running kernel, as (major, minor), with its full release name.
pub(crate) fn kernel() -> ((u32, u32), String) {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    (parse_release(&release), release)
}

fn parse_release(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse().ok());
    let mut next = || numbers.next().flatten().unwrap_or(0);
    (next(), next())
}

/// Whether process ids here are those that the kernel itself uses.
pub(crate) fn in_initial_pid_namespace() -> io::Result<bool> {
    Ok(fs::metadata("/proc/self/ns/pid")?.ino() == INITIAL_PID_NAMESPACE)
}

/// Whether user ids here are those of the host: else capabilities hold in a namespace only.
pub(crate) fn in_initial_user_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let mut fields = map.split_whitespace();
    map.lines().count() == 1
        && fields.next() == Some("0")
        && fields.next() == Some("0")
        && fields.next() == Some("4294967295")
}

/// The kernel's lockdown mode: `none`, `integrity` or `confidentiality`. `None` if it is not told,
/// because the kernel has no lockdown or securityfs is not mounted.
pub(crate) fn lockdown() -> Option<String> {
    bracketed(&fs::read_to_string("/sys/kernel/security/lockdown").ok()?)
}

/// The chosen word of a list such as `none [integrity] confidentiality`.
fn bracketed(list: &str) -> Option<String> {
    let (_, rest) = list.split_once('[')?;
    rest.split_once(']').map(|(word, _)| word.to_owned())
}

/// A numeric kernel setting, by its name (`kernel.perf_event_paranoid`).
pub(crate) fn sysctl(name: &str) -> Option<i64> {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The lowest memory limit of the control groups that this process is in, in bytes, and the file
/// that says so. `None` if there is none, or none that can be read.
pub(crate) fn memory_limit() -> Option<(u64, PathBuf)> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let limits = groups.lines().flat_map(limit_files);
    limits
        .filter_map(|file| {
            let limit = fs::read_to_string(&file).ok()?.trim().parse().ok()?;
            // Version 1 says "none" by the largest number of whole pages.
            (limit < 1 << 62).then_some((limit, file))
        })
        .min()
}

/// The files that may limit the memory of a group, given its line of `/proc/self/cgroup`, those of
/// the groups around it included.
fn limit_files(line: &str) -> Vec<PathBuf> {
    let mut fields = line.splitn(3, ':');
    let (Some(_), Some(controllers), Some(group)) = (fields.next(), fields.next(), fields.next())
    else {
        return Vec::new();
    };
    let (root, name) = if controllers.is_empty() {
        ("/sys/fs/cgroup", "memory.max")
    } else if controllers.split(',').any(|one| one == "memory") {
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
    } else {
        return Vec::new();
    };
    let group = Path::new(group.trim_start_matches('/'));
    group
        .ancestors()
        .map(|group| Path::new(root).join(group).join(name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_parsed_and_named() {
        let status = |bits: u64| format!("Name:\tx\nCapEff:\t{bits:016x}\nCapBnd:\t0\n");
        let missing = |bits| Status::parse(&status(bits)).effective.missing_for_ebpf();
        assert_eq!(missing(0), ["CAP_BPF", "CAP_PERFMON"]);
        assert_eq!(missing(1 << 39), ["CAP_PERFMON"]);
        assert!(missing(1 << 39 | 1 << 38).is_empty());
        assert!(missing(1 << 21).is_empty());
        for unreadable in ["CapEff:\tzz\n", ""] {
            assert_eq!(Status::parse(unreadable), Status::default());
        }
    }

    #[test]
    fn status_is_parsed() {
        let text = "CapEff:\t0000000000000000\nCapBnd:\t0000008000000000\nNoNewPrivs:\t1\n\
                    Seccomp:\t2\nSeccomp_filters:\t3\n";
        let status = Status::parse(text);
        assert_eq!(status.effective, Capabilities(0));
        assert_eq!(status.bounding.missing_for_ebpf(), ["CAP_PERFMON"]);
        assert!(status.no_new_privs);
        assert_eq!((status.seccomp, status.filters), (2, 3));
    }

    #[test]
    fn limits_of_groups_are_found_with_those_around_them() {
        let files = |line| -> Vec<String> {
            let files = limit_files(line).into_iter();
            files.map(|file| file.display().to_string()).collect()
        };
        assert_eq!(
            files("0::/a/b"),
            [
                "/sys/fs/cgroup/a/b/memory.max",
                "/sys/fs/cgroup/a/memory.max",
                "/sys/fs/cgroup/memory.max"
            ]
        );
        assert_eq!(
            files("4:cpu,memory:/x"),
            [
                "/sys/fs/cgroup/memory/x/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes"
            ]
        );
        assert!(files("3:cpuset:/").is_empty() && files("").is_empty());
    }

    #[test]
    fn releases_are_parsed() {
        assert_eq!(parse_release("6.18.44-fc-v669"), (6, 18));
        assert_eq!(parse_release("5.15.0-91-generic"), (5, 15));
        assert_eq!(parse_release("7.1"), (7, 1));
        assert_eq!(parse_release(""), (0, 0));
    }

    #[test]
    fn lockdown_modes_are_parsed() {
        assert_eq!(
            bracketed("none [integrity] confidentiality\n").as_deref(),
            Some("integrity")
        );
        assert_eq!(
            bracketed("[none] integrity confidentiality\n").as_deref(),
            Some("none")
        );
        assert_eq!(bracketed("none"), None);
    }
}
