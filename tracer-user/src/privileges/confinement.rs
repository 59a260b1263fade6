//! What stays privileged keeps to the files that it needs.

use std::fmt;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, LandlockStatus, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

/// The rules that are asked for; older kernels enforce fewer.
const WANTED: ABI = ABI::V6;

/// What the kernel holds the process to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confinement {
    /// All that was asked for.
    Full,
    /// What this kernel knows of it.
    Partial,
    /// Nothing: this kernel has no Landlock.
    NotBuilt,
    /// Nothing: the kernel has Landlock, and was started without it.
    NotEnabled,
}

impl fmt::Display for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Confinement::Full => "confined by Landlock",
            Confinement::Partial => "confined by Landlock, as far as this kernel's goes",
            Confinement::NotBuilt => "not confined: the kernel has no Landlock",
            Confinement::NotEnabled => "not confined: Landlock is not among the kernel's `lsm=`",
        })
    }
}

/// Gives up, for the calling thread and what it starts from now on, all files but those at or
/// below these paths, all of TCP, and abstract sockets. Paths that do not exist are left out.
/// What is open stays open. `no_new_privs` is set with it.
///
/// To be called before other threads exist, which would not be confined, and after a fork of
/// anything that is not to be confined. A confined process cannot look into one that is not: no
/// `ptrace`, no `/proc/ID/mem`, no `/proc/ID/maps`. Signals, and `bpf` and `perf_event_open`, are
/// as before.
///
/// # Errors
/// The rules could not be made or put in force. That the kernel knows none is no error.
pub fn confine(read: &[&Path], write: &[&Path]) -> Result<Confinement, RulesetError> {
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(WANTED))?
        .handle_access(AccessNet::from_all(WANTED))?
        .scope(Scope::AbstractUnixSocket)?
        .create()?
        .add_rules(path_beneath_rules(read, AccessFs::from_read(WANTED)))?
        .add_rules(path_beneath_rules(write, AccessFs::from_all(WANTED)))?
        .restrict_self()?;
    Ok(match (status.ruleset, status.landlock) {
        (RulesetStatus::FullyEnforced, _) => Confinement::Full,
        (RulesetStatus::PartiallyEnforced, _) => Confinement::Partial,
        (RulesetStatus::NotEnforced, LandlockStatus::NotEnabled) => Confinement::NotEnabled,
        (RulesetStatus::NotEnforced, _) => Confinement::NotBuilt,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::ErrorKind;
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// In a thread of its own, which alone is confined.
    #[test]
    fn only_the_named_files_are_left() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("file"), "text").unwrap();
            path
        };
        let (read, write, neither) = (file("read"), file("write"), file("neither"));
        let confined = thread::spawn(move || {
            let missing = Path::new("/no/such/file");
            let answer = confine(&[&read, missing], &[&write]).unwrap();
            if matches!(answer, Confinement::NotBuilt | Confinement::NotEnabled) {
                println!("skipped: {answer}");
                assert!(fs::read(neither.join("file")).is_ok());
                return;
            }
            let denied = |error: std::io::Error| error.kind() == ErrorKind::PermissionDenied;
            assert_eq!(fs::read(read.join("file")).unwrap(), b"text");
            assert!(denied(fs::write(read.join("file"), "x").unwrap_err()));
            fs::write(write.join("new"), "x").unwrap();
            assert!(denied(fs::read(neither.join("file")).unwrap_err()));
            assert!(denied(fs::read("/etc/passwd").unwrap_err()));
            if answer == Confinement::Full {
                assert!(denied(TcpListener::bind("127.0.0.1:0").unwrap_err()));
            }
        });
        confined.join().unwrap();
        assert!(fs::read("/etc/passwd").is_ok(), "the others are not");
    }
}
