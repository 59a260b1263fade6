//! From whatever the process may do to what an ordinary user may, without a way back.
//!
//! ```text
//!  no session keyring of root's        what it holds, a possessor may read
//!  bounding set, securebits, ambient   while there is the capability to change them
//!  groups, group, user                 real, effective and saved
//!  no_new_privs                        set-user-id programs and file capabilities give nothing
//!  no capability in any set
//!  dumpable                            /proc/self and a tracing child as for any process
//!  proof                               each way back is tried, and must be closed
//! ```
//!
//! # Safety
//! All is done by a process with one thread, which is checked first: the kernel keeps ids and
//! capabilities by thread, and the environment may be changed only while nobody else reads it.
//! One system call is made by hand, with numbers and a null pointer, which it takes for "without
//! a name".
#![allow(unsafe_code)]

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::Path;

use nix::unistd::{getgroups, getresgid, getresuid};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Gid, Uid, getgid, getuid, set_dumpable_behavior};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, capabilities, capabilities_secure_bits,
    capability_is_in_bounding_set, clear_ambient_capability_set, no_new_privs,
    remove_capability_from_bounding_set, set_capabilities, set_capabilities_secure_bits,
    set_no_new_privs, set_thread_gid, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
    set_thread_uid,
};

use super::Identity;

/// Bits of a set of capabilities: more than there are.
const CAPABILITIES: u32 = 63;

/// Why privileges could not be given up. The process must not go on then.
#[derive(Debug, thiserror::Error)]
pub enum DropError {
    /// Other threads would keep theirs.
    #[error("privileges can be given up only before there are other threads, and there are {0}")]
    Threads(usize),
    /// The system refused.
    #[error("cannot give up privileges: {step}: {source}")]
    Step {
        /// What was tried.
        step: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// The system did as told, and it is not so.
    #[error("privileges are not given up for good: {0}")]
    NotGone(&'static str),
}

impl DropError {
    /// What mends it.
    pub fn help(&self) -> &'static str {
        "start ffitrace as an ordinary user, or with `--as-root` if native code may do what root may"
    }
}

/// Makes this process an ordinary one of this user, or of the real user that it has where there is
/// none, and makes sure that nothing leads back.
///
/// # Errors
/// It could not be done, or not be made sure of. Some of it may have been done.
pub fn drop_to(identity: Option<&Identity>) -> Result<(), DropError> {
    only_thread()?;
    let held = capabilities(None).map_err(step("read the capabilities"))?;
    let from_root = held.permitted != CapabilitySet::empty() && getuid().is_root();
    if from_root {
        leave_session_keyring()?;
    }
    // What a file's mode permits need not be in effect.
    let all = CapabilitySets {
        effective: held.permitted,
        ..held
    };
    set_capabilities(None, all).map_err(step("use the capabilities"))?;
    let may_bound = held.permitted.contains(CapabilitySet::SETPCAP);
    if may_bound {
        empty_bounding_set()?;
        lock_secure_bits()?;
    }
    clear_ambient_capability_set().map_err(step("clear the ambient capabilities"))?;

    let target = Target::of(identity);
    target.become_it()?;
    set_no_new_privs(true).map_err(step("set no_new_privs"))?;
    set_capabilities(None, NO_CAPABILITIES).map_err(step("clear the capabilities"))?;
    // Other ids made the process one whose memory is a secret, to itself as well.
    set_dumpable_behavior(DumpableBehavior::Dumpable).map_err(step("become dumpable"))?;

    target.prove(may_bound)?;
    if let Some(identity) = identity {
        adopt_environment(identity);
    }
    Ok(())
}

const NO_CAPABILITIES: CapabilitySets = CapabilitySets {
    effective: CapabilitySet::empty(),
    permitted: CapabilitySet::empty(),
    inheritable: CapabilitySet::empty(),
};

fn step<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> DropError {
    move |source| DropError::Step {
        step,
        source: source.into(),
    }
}

fn only_thread() -> Result<(), DropError> {
    let threads = fs::read_dir("/proc/self/task").map_err(step("count the threads in /proc"))?;
    match threads.count() {
        1 => Ok(()),
        several => Err(DropError::Threads(several)),
    }
}

/// What root's session keyring holds can be read by all processes that have it, whoever they are
/// by now. The new one is empty, and made while root, whose quota of keys is the larger one.
fn leave_session_keyring() -> Result<(), DropError> {
    let join = libc::KEYCTL_JOIN_SESSION_KEYRING;
    // SAFETY: no name is given, so the kernel reads no memory.
    let keyring = unsafe { libc::syscall(libc::SYS_keyctl, join, std::ptr::null::<u8>()) };
    if keyring >= 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        // No keyrings here, or (in a container) no way to use them, for native code neither.
        Some(libc::ENOSYS | libc::EPERM) => Ok(()),
        _ => Err(step("leave the session keyring")(error)),
    }
}

fn bounding_capabilities() -> impl Iterator<Item = CapabilitySet> {
    let all = (0..CAPABILITIES).map(|bit| CapabilitySet::from_bits_retain(1 << bit));
    // The kernel refuses to answer for those that it does not have.
    all.take_while(|one| capability_is_in_bounding_set(*one).is_ok())
}

fn empty_bounding_set() -> Result<(), DropError> {
    for one in bounding_capabilities() {
        remove_capability_from_bounding_set(one).map_err(step("empty the bounding set"))?;
    }
    Ok(())
}

/// From now on it is nothing special to have user id 0, neither at an exec nor at a change of ids.
/// Programs that native code starts inherit that.
fn lock_secure_bits() -> Result<(), DropError> {
    let wanted = CapabilitiesSecureBits::NO_ROOT
        | CapabilitiesSecureBits::NO_ROOT_LOCKED
        | CapabilitiesSecureBits::NO_SETUID_FIXUP
        | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
        | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED;
    let bits = capabilities_secure_bits().map_err(step("read the securebits"))?;
    let bits = bits.difference(CapabilitiesSecureBits::KEEP_CAPS) | wanted;
    set_capabilities_secure_bits(bits).map_err(step("lock the securebits"))
}

/// The ids that the process is to have.
struct Target {
    uid: Uid,
    gid: Gid,
    /// `None`: those that it has.
    groups: Option<Vec<u32>>,
}

impl Target {
    fn of(identity: Option<&Identity>) -> Target {
        match identity {
            Some(identity) => Target {
                uid: Uid::from_raw(identity.uid),
                gid: Gid::from_raw(identity.gid),
                groups: Some(sorted(identity.groups.iter().copied())),
            },
            None => Target {
                uid: getuid(),
                gid: getgid(),
                groups: None,
            },
        }
    }

    fn become_it(&self) -> Result<(), DropError> {
        if let Some(groups) = &self.groups
            && current_groups()? != *groups
        {
            let groups: Vec<Gid> = groups.iter().map(|id| Gid::from_raw(*id)).collect();
            set_thread_groups(&groups).map_err(step("set the groups"))?;
        }
        set_thread_res_gid(self.gid, self.gid, self.gid).map_err(step("set the group id"))?;
        set_thread_res_uid(self.uid, self.uid, self.uid).map_err(step("set the user id"))
    }

    /// Looks at what came of it, and tries what must fail.
    fn prove(&self, bounded: bool) -> Result<(), DropError> {
        let ensure = |holds: bool, what| match holds {
            true => Ok(()),
            false => Err(DropError::NotGone(what)),
        };
        let (uid, gid) = (self.uid.as_raw(), self.gid.as_raw());
        let ids = getresuid().map_err(step("read the user ids"))?;
        let users = [ids.real, ids.effective, ids.saved].map(|id| id.as_raw());
        ensure(users == [uid; 3], "a user id is still another one")?;
        let ids = getresgid().map_err(step("read the group ids"))?;
        let groups = [ids.real, ids.effective, ids.saved].map(|id| id.as_raw());
        ensure(groups == [gid; 3], "a group id is still another one")?;
        if let Some(groups) = &self.groups {
            ensure(current_groups()? == *groups, "there are other groups")?;
        }

        let left = capabilities(None).map_err(step("read the capabilities"))?;
        let none = left.effective | left.permitted | left.inheritable;
        ensure(none.is_empty(), "there are capabilities left")?;
        ensure(
            no_new_privs().is_ok_and(|set| set),
            "no_new_privs is not set",
        )?;
        let bound = |one| capability_is_in_bounding_set(one).unwrap_or(true);
        ensure(
            !bounded || !bounding_capabilities().any(bound),
            "there are capabilities in the bounding set",
        )?;

        let one = CapabilitySets {
            permitted: CapabilitySet::CHOWN,
            ..NO_CAPABILITIES
        };
        ensure(
            set_capabilities(None, one).is_err(),
            "a capability can be had again",
        )?;
        ensure(
            uid == 0 || set_thread_uid(Uid::ROOT) == Err(Errno::PERM),
            "root's user id can be had again",
        )?;
        ensure(
            gid == 0 || set_thread_gid(Gid::ROOT) == Err(Errno::PERM),
            "root's group id can be had again",
        )?;
        ensure(
            set_thread_groups(&[Gid::ROOT]) == Err(Errno::PERM),
            "the groups can be changed",
        )
    }
}

fn current_groups() -> Result<Vec<u32>, DropError> {
    let groups = getgroups().map_err(step("read the groups"))?;
    Ok(sorted(groups.into_iter().map(|id| id.as_raw())))
}

fn sorted(ids: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut ids: Vec<u32> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// What programs look at to find a user's own files, which are root's otherwise.
fn adopt_environment(identity: &Identity) {
    let home = identity.home.as_deref().unwrap_or(Path::new("/"));
    let set = |variable: &str, value: Option<&OsStr>| {
        // SAFETY: this is the only thread.
        unsafe {
            match value {
                Some(value) => env::set_var(variable, value),
                None => env::remove_var(variable),
            }
        }
    };
    set("HOME", Some(home.as_os_str()));
    let name = identity.name.as_deref().map(OsStr::new);
    set("USER", name);
    set("LOGNAME", name);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A test always has another thread beside it. What giving up does is tested from outside, on
    /// the program (`tests/tests/privileges.rs`).
    #[test]
    fn with_other_threads_nothing_is_done() {
        let before = capabilities(None).unwrap();
        assert!(matches!(drop_to(None), Err(DropError::Threads(2..))));
        assert_eq!(capabilities(None).unwrap(), before);
        assert!(!no_new_privs().unwrap());
    }

    #[test]
    fn groups_are_compared_as_sets() {
        assert_eq!(sorted([4, 0, 4, 27].into_iter()), [0, 4, 27]);
    }

    #[test]
    fn the_kernel_knows_some_capabilities_and_not_all_bits() {
        let known = bounding_capabilities().count();
        assert!((38..CAPABILITIES as usize).contains(&known), "{known}");
    }
}
