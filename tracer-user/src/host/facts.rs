//! Single facts about this host and process, read and not judged.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;

/// Bits of Linux capabilities (`linux/capability.h`).
pub(crate) mod cap {
    pub(crate) const SYS_PTRACE: u32 = 19;
    pub(crate) const SYS_ADMIN: u32 = 21;
    pub(crate) const PERFMON: u32 = 38;
    pub(crate) const BPF: u32 = 39;
}

/// Inode of the initial process-id namespace (`PROC_PID_INIT_INO`).
const INITIAL_PID_NAMESPACE: u64 = 0xeffffffc;

/// The process's capabilities, as a set of bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capabilities(u64);

impl Capabilities {
    /// Those in effect for this process; none if they cannot be read.
    pub(crate) fn effective() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self::parse(&status).unwrap_or(Capabilities(0))
    }

    fn parse(status: &str) -> Option<Self> {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("CapEff:"))?;
        u64::from_str_radix(line.trim(), 16).ok().map(Capabilities)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_parsed_and_named() {
        let status = |bits: u64| format!("Name:\tx\nCapEff:\t{bits:016x}\nCapBnd:\t0\n");
        let missing = |bits| {
            Capabilities::parse(&status(bits))
                .unwrap()
                .missing_for_ebpf()
        };
        assert_eq!(missing(0), ["CAP_BPF", "CAP_PERFMON"]);
        assert_eq!(missing(1 << 39), ["CAP_PERFMON"]);
        assert!(missing(1 << 39 | 1 << 38).is_empty());
        assert!(missing(1 << 21).is_empty());
        assert_eq!(Capabilities::parse("CapEff:\tzz\n"), None);
        assert_eq!(Capabilities::parse(""), None);
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
