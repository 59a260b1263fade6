//! The agent: a privileged service that lets processes without privileges have `ebpf`.
//!
//! ```text
//!  $FFITRACE_AGENT, or /run/ffitrace/agent.sock
//!    └─ connect ─► nothing there, refused, nobody listens
//!             └──► greeting ─► serves this process, or says why not
//! ```

use std::io;
use std::path::{Path, PathBuf};

use super::{Check, Recorder, State};
use crate::agent::{
    AgentError, Connection, DEFAULT_SOCKET as DEFAULT, Reply, SOCKET_VARIABLE as VARIABLE,
};

const EBPF: &[Recorder] = &[Recorder::Ebpf];

/// What became of looking for an agent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It serves this process, and says this of itself.
    Serves(String),
    /// It does not serve this process, for this reason.
    Declines(String),
    /// There is no socket.
    Absent,
    /// There is one, which this process may not connect to.
    Forbidden,
    /// Connecting to it failed otherwise.
    Fails(String),
}

/// The agent that this process would use.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Agent {
    path: PathBuf,
    found: Found,
}

impl Agent {
    /// Looks for it where clients do.
    pub(super) fn look() -> Self {
        let path = std::env::var_os(VARIABLE).filter(|path| !path.is_empty());
        Self::look_at(&path.map_or_else(|| DEFAULT.into(), PathBuf::from))
    }

    fn look_at(path: &Path) -> Self {
        let found = match Connection::to(path).and_then(|agent| agent.status()) {
            Ok(Reply::Status { sessions, .. }) => Found::Serves(match sessions {
                1 => "1 session".to_owned(),
                count => format!("{count} sessions"),
            }),
            Ok(other) => Found::Declines(format!("{other:?}")),
            Err(AgentError::Denied { .. }) => Found::Forbidden,
            Err(AgentError::Absent { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Found::Absent
            }
            Err(AgentError::Absent { source, .. }) => Found::Fails(source.to_string()),
            Err(error) => Found::Declines(error.to_string()),
        };
        Agent {
            path: path.to_owned(),
            found,
        }
    }

    #[cfg(test)]
    pub(super) fn found(found: Found) -> Self {
        Agent {
            path: DEFAULT.into(),
            found,
        }
    }

    /// Whether this process can have `ebpf` through it.
    pub(super) fn serves(&self) -> bool {
        matches!(self.found, Found::Serves(_))
    }

    /// The check of it. A process that loads the programs itself does without.
    pub(super) fn check(&self, privileged: bool) -> Check {
        let path = self.path.display();
        let name = "agent";
        let not_needed = || {
            Check::ok(
                name,
                EBPF,
                "none, and none needed: this process has privileges",
            )
        };
        let without = "a process without privileges records with inproc";
        let (detail, remedy) = match &self.found {
            Found::Serves(about) => {
                return Check::ok(
                    name,
                    EBPF,
                    format!("serves this process at {path}: {about}"),
                );
            }
            Found::Absent if privileged => return not_needed(),
            Found::Absent => (
                format!("none: there is no {path}"),
                format!(
                    "have root run `ffitrace agent`; set {VARIABLE} if its socket is elsewhere"
                ),
            ),
            Found::Forbidden => (
                format!("this process may not connect to {path}"),
                "join the group that owns the socket, or have root give it another".to_owned(),
            ),
            Found::Declines(reason) => (
                format!("the one at {path} does not serve this process: {reason}"),
                "look at what `ffitrace agent` says at its start and in its log".to_owned(),
            ),
            Found::Fails(error) => (
                format!("nobody answers at {path} ({error})"),
                format!("start `ffitrace agent` again, or have {VARIABLE} name its socket"),
            ),
        };
        Check::ok(name, EBPF, detail).degraded(remedy, without)
    }

    /// What an agent that serves this process makes up for is no longer in the way.
    pub(super) fn makes_up_for(&self, mut check: Check) -> Check {
        if self.serves() && matches!(check.state, State::Missing | State::Untried) {
            check.state = State::Degraded;
            check.fallback = Some("the agent does it".to_owned());
        }
        check
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn what_stands_at_the_path_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.sock");
        let absent = Agent::look_at(&path);
        assert_eq!(absent.found, Found::Absent);
        let check = absent.check(false);
        assert_eq!(check.state, State::Degraded);
        assert!(check.remedy.unwrap().contains("ffitrace agent"));
        assert_eq!(absent.check(true).state, State::Ok);

        // Something else than an agent, whose socket outlives it.
        drop(UnixListener::bind(&path).unwrap());
        let fails = Agent::look_at(&path);
        assert!(matches!(fails.found, Found::Fails(_)), "{fails:?}");
        assert!(!fails.serves());
        let serves = Agent::found(Found::Serves("2 sessions".to_owned()));
        assert!(serves.check(false).detail.contains("2 sessions"));
        let declines = Agent::found(Found::Declines("not you".to_owned()));
        assert_eq!(declines.check(true).state, State::Degraded);
    }

    #[test]
    fn only_an_agent_that_serves_makes_up_for_anything() {
        let missing = || Check::ok("privileges", EBPF, "none").missing(None, "inproc");
        let kept = Agent::found(Found::Forbidden).makes_up_for(missing());
        assert_eq!(kept, missing());
        let made_up = Agent::found(Found::Serves(String::new())).makes_up_for(missing());
        assert_eq!(made_up.state, State::Degraded);
    }
}
