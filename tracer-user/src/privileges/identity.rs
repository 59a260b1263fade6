//! Who a process is to be.

use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, User, getgrouplist};
use rustix::process::getuid;

use super::privileged;

/// The group of a user that has none: what the kernel itself puts for ids that it cannot show.
const OVERFLOW_GROUP: u32 = 65534;

/// Where an [`Identity`] comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `SUDO_UID`.
    Sudo,
    /// `DOAS_USER`.
    Doas,
    /// `PKEXEC_UID`.
    Pkexec,
    /// Chosen by name.
    Chosen,
}

/// A user with all that the kernel looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Name; `None` for an id that no user has.
    pub name: Option<String>,
    /// Home directory; `None` as for the name.
    pub home: Option<PathBuf>,
    /// Where this comes from.
    pub origin: Origin,
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// No such user.
    #[error("there is no user `{name}`")]
    NoSuchUser {
        /// As asked for.
        name: String,
        /// By whom.
        origin: Origin,
    },
    /// A variable that holds no id.
    #[error("{variable}={value} is no id of a {kind}")]
    NoId {
        /// The variable.
        variable: &'static str,
        /// What it holds.
        value: String,
        /// `user` or `group`.
        kind: &'static str,
    },
    /// A user id without a group.
    #[error("{variable}={uid} is set, but no user has that id, so its group is not known")]
    NoGroup {
        /// The variable.
        variable: &'static str,
        /// The id.
        uid: u32,
    },
    /// Only root can become somebody else.
    #[error("only root can become user `{name}`")]
    NotRoot {
        /// As asked for.
        name: String,
    },
    /// The user database cannot be read.
    #[error("cannot look up user `{name}`: {source}")]
    Lookup {
        /// Who was looked up.
        name: String,
        /// The system's reason.
        source: io::Error,
    },
}

impl IdentityError {
    /// What mends it.
    pub fn help(&self) -> String {
        match self {
            IdentityError::NoSuchUser {
                origin: Origin::Chosen,
                ..
            } => "`getent passwd` lists the users; the id of one will do, too",
            IdentityError::NotRoot { .. } => "start ffitrace with sudo, or leave `--user` out",
            IdentityError::Lookup { .. } => "give the user's id in place of a name: `--user ID`",
            IdentityError::NoSuchUser { .. }
            | IdentityError::NoId { .. }
            | IdentityError::NoGroup { .. } => "choose the user with `--user NAME`",
        }
        .to_owned()
    }

    /// Whether a wrong name was given (wrong usage), not the environment at fault.
    pub fn is_usage(&self) -> bool {
        let chosen = Origin::Chosen;
        matches!(self, IdentityError::NoSuchUser { origin, .. } if *origin == chosen)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "user {name}"),
            None => write!(f, "user id {}", self.uid),
        }
    }
}

impl Identity {
    /// The user who started this process by way of `sudo`, `doas` or `pkexec`. `None` if it was
    /// root itself, or if this process is not root's: then these variables are anybody's claim.
    ///
    /// # Errors
    /// The variables do not name a user.
    pub fn invoking() -> Result<Option<Identity>, IdentityError> {
        if !getuid().is_root() {
            return Ok(None);
        }
        let found = Identity::claimed(|name| env::var_os(name))?;
        Ok(found.filter(|identity| identity.uid != 0))
    }

    /// The user with this name, or else with this id.
    ///
    /// # Errors
    /// There is none, or this process could not become that user.
    pub fn named(name: &str) -> Result<Identity, IdentityError> {
        // The real id: a program that is root's by its file's mode obeys whoever starts it.
        if !getuid().is_root() || !privileged() {
            let name = name.to_owned();
            return Err(IdentityError::NotRoot { name });
        }
        let id = parse_id(OsStr::new(name));
        match (user_by_name(name)?, id) {
            (Some(user), _) => Identity::of(&user, user.gid, Origin::Chosen),
            (None, Some(id)) => match user_by_id(id)? {
                Some(user) => Identity::of(&user, user.gid, Origin::Chosen),
                None => Ok(Identity::unnamed(id, overflow_group(), Origin::Chosen)),
            },
            (None, None) => Err(IdentityError::NoSuchUser {
                name: name.to_owned(),
                origin: Origin::Chosen,
            }),
        }
    }

    /// The user that these variables name, the first of them that is set.
    fn claimed(
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Option<Identity>, IdentityError> {
        let id = |name: &'static str, kind| match variable(name) {
            None => Ok(None),
            Some(value) => parse_id(&value).map(Some).ok_or(IdentityError::NoId {
                variable: name,
                value: value.to_string_lossy().into_owned(),
                kind,
            }),
        };
        if let Some(uid) = id("SUDO_UID", "user")? {
            let gid = id("SUDO_GID", "group")?;
            let name = variable("SUDO_USER");
            return Identity::with_id("SUDO_UID", uid, gid, name, Origin::Sudo).map(Some);
        }
        if let Some(name) = variable("DOAS_USER") {
            let name = name.to_string_lossy().into_owned();
            let user = user_by_name(&name)?.ok_or(IdentityError::NoSuchUser {
                name,
                origin: Origin::Doas,
            })?;
            return Identity::of(&user, user.gid, Origin::Doas).map(Some);
        }
        match id("PKEXEC_UID", "user")? {
            None => Ok(None),
            Some(uid) => Identity::with_id("PKEXEC_UID", uid, None, None, Origin::Pkexec).map(Some),
        }
    }

    /// The id decides. A name only tells users with one id apart: their groups may differ.
    fn with_id(
        variable: &'static str,
        uid: u32,
        gid: Option<u32>,
        name: Option<OsString>,
        origin: Origin,
    ) -> Result<Identity, IdentityError> {
        let user = match name.map(|name| name.to_string_lossy().into_owned()) {
            Some(name) => user_by_name(&name)?.filter(|user| user.uid.as_raw() == uid),
            None => None,
        };
        let user = match user {
            Some(user) => Some(user),
            None => user_by_id(uid)?,
        };
        match (user, gid) {
            (Some(user), gid) => Identity::of(&user, gid.map_or(user.gid, Gid::from_raw), origin),
            (None, Some(gid)) => Ok(Identity::unnamed(uid, gid, origin)),
            (None, None) => Err(IdentityError::NoGroup { variable, uid }),
        }
    }

    fn of(user: &User, gid: Gid, origin: Origin) -> Result<Identity, IdentityError> {
        let lookup = |source: Errno| IdentityError::Lookup {
            name: user.name.clone(),
            source: source.into(),
        };
        let name = CString::new(user.name.clone()).map_err(|_| lookup(Errno::EINVAL))?;
        let groups = getgrouplist(&name, gid).map_err(lookup)?;
        Ok(Identity {
            uid: user.uid.as_raw(),
            gid: gid.as_raw(),
            groups: groups.into_iter().map(Gid::as_raw).collect(),
            name: Some(user.name.clone()),
            home: Some(user.dir.clone()),
            origin,
        })
    }

    fn unnamed(uid: u32, gid: u32, origin: Origin) -> Identity {
        Identity {
            uid,
            gid,
            groups: vec![gid],
            name: None,
            home: None,
            origin,
        }
    }
}

/// An id; not -1, which system calls take for "as it is".
fn parse_id(text: &OsStr) -> Option<u32> {
    let text = text.to_str()?;
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let id = text.parse().ok().filter(|_| digits)?;
    (id != u32::MAX).then_some(id)
}

fn user_by_name(name: &str) -> Result<Option<User>, IdentityError> {
    found(name, User::from_name(name))
}

fn user_by_id(id: u32) -> Result<Option<User>, IdentityError> {
    found(&id.to_string(), User::from_uid(Uid::from_raw(id)))
}

/// Some systems say "no such user" with an error.
fn found(name: &str, answer: nix::Result<Option<User>>) -> Result<Option<User>, IdentityError> {
    match answer {
        Ok(user) => Ok(user),
        Err(Errno::ENOENT | Errno::ESRCH) => Ok(None),
        Err(source) => Err(IdentityError::Lookup {
            name: name.to_owned(),
            source: source.into(),
        }),
    }
}

fn overflow_group() -> u32 {
    let text = fs::read_to_string("/proc/sys/kernel/overflowgid").unwrap_or_default();
    text.trim().parse().unwrap_or(OVERFLOW_GROUP)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claimed(variables: &[(&str, &str)]) -> Result<Option<Identity>, IdentityError> {
        Identity::claimed(|name| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    /// An id that no user has here.
    fn free_id() -> u32 {
        (3_000_000_000..)
            .find(|id| user_by_id(*id).unwrap().is_none())
            .unwrap()
    }

    #[test]
    fn nothing_set_is_nobody() {
        assert_eq!(claimed(&[]).unwrap(), None);
    }

    #[test]
    fn sudo_names_a_user_by_id_and_groups_by_name() {
        let root = claimed(&[("SUDO_UID", "0"), ("SUDO_GID", "0"), ("SUDO_USER", "root")]);
        let root = root.unwrap().unwrap();
        assert_eq!((root.uid, root.gid, root.origin), (0, 0, Origin::Sudo));
        assert_eq!(root.name.as_deref(), Some("root"));
        assert!(root.groups.contains(&0), "{:?}", root.groups);
        assert_eq!(root.to_string(), "user root");

        // The name of somebody else brings neither name nor groups.
        let id = free_id();
        let uid = id.to_string();
        let other = claimed(&[
            ("SUDO_UID", uid.as_str()),
            ("SUDO_GID", "77"),
            ("SUDO_USER", "root"),
        ]);
        let other = other.unwrap().unwrap();
        assert_eq!((other.uid, other.gid), (id, 77));
        assert_eq!((other.name.clone(), other.groups.clone()), (None, vec![77]));
        assert_eq!(other.to_string(), format!("user id {id}"));
    }

    #[test]
    fn the_group_of_an_unknown_user_must_be_given() {
        let id = free_id().to_string();
        for variable in ["SUDO_UID", "PKEXEC_UID"] {
            let error = claimed(&[(variable, id.as_str())]).unwrap_err();
            assert!(error.to_string().contains(variable), "{error}");
            assert!(error.help().contains("--user"), "{}", error.help());
            assert!(!error.is_usage());
        }
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in ["", "-1", "+1", "4294967295", "4294967296", "1 ", "root"] {
            assert_eq!(parse_id(OsStr::new(text)), None, "{text:?}");
            let error = claimed(&[("SUDO_UID", text)]).unwrap_err();
            assert!(
                matches!(error, IdentityError::NoId { .. }),
                "{text:?}: {error}"
            );
            let error = claimed(&[("SUDO_UID", "0"), ("SUDO_GID", text)]).unwrap_err();
            assert!(error.to_string().contains("SUDO_GID"), "{text:?}: {error}");
        }
        assert_eq!(parse_id(OsStr::new("4294967294")), Some(u32::MAX - 1));
    }

    #[test]
    fn doas_and_pkexec_come_after_sudo() {
        let pkexec = claimed(&[("PKEXEC_UID", "0")]).unwrap().unwrap();
        assert_eq!((pkexec.uid, pkexec.origin), (0, Origin::Pkexec));
        let doas = claimed(&[("PKEXEC_UID", "1"), ("DOAS_USER", "root")]);
        let doas = doas.unwrap().unwrap();
        assert_eq!((doas.uid, doas.origin), (0, Origin::Doas));
        let error = claimed(&[("DOAS_USER", "no such user")]).unwrap_err();
        assert!(
            matches!(error, IdentityError::NoSuchUser { .. }) && !error.is_usage(),
            "{error}"
        );
    }

    #[test]
    fn a_chosen_user_exists_and_is_for_root_to_choose() {
        let unknown = Identity::named("no such user").unwrap_err();
        if !getuid().is_root() {
            assert!(
                matches!(unknown, IdentityError::NotRoot { .. }),
                "{unknown}"
            );
            return;
        }
        if privileged() {
            assert!(unknown.is_usage(), "{unknown}");
            assert_eq!(Identity::named("root").unwrap().uid, 0);
            let free = Identity::named(&free_id().to_string()).unwrap();
            assert_eq!(free.groups, [free.gid]);
            assert_eq!(free.gid, overflow_group());
        }
    }
}
