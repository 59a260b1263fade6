//! What this host offers to each recorder, found out by trying rather than by guessing.
//!
//! [`probe`] makes a list of [`Check`]s. Each names the recorders that it bears on, so which
//! recorder is usable, and why not, follows from the list alone ([`Host::usable`]); checks are
//! ordered with causes before their effects, so the first one missing is the one to mend.
//!
//! ```text
//!   facts (read)   ─┐
//!   trials (tried) ─┼─► Host { checks } ─► usable(recorder) ─► Ok, or reason and remedy
//!   agent (asked)  ─┘
//! ```
//!
//! Where a fact forbids something and the trial of it works, the trial is right.

mod agent;
pub(crate) mod bpf;
pub(crate) mod facts;
mod kernel;
mod limits;
pub(crate) mod remedy;
mod system;
mod tracing_checks;
mod trials;

use std::fmt;

use serde::Serialize;

/// A way to record accesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Recorder {
    /// eBPF programs in the kernel.
    Ebpf,
    /// The process's own signal handler.
    Inproc,
    /// A supervisor process.
    Ptrace,
    /// None: calls only.
    None,
}

impl Recorder {
    /// All of them, the best first.
    pub const ALL: [Recorder; 4] = [
        Recorder::Ebpf,
        Recorder::Inproc,
        Recorder::Ptrace,
        Recorder::None,
    ];
}

impl fmt::Display for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Recorder::Ebpf => "ebpf",
            Recorder::Inproc => "inproc",
            Recorder::Ptrace => "ptrace",
            Recorder::None => "none",
        })
    }
}

/// Outcome of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// There, or not in the way.
    Ok,
    /// Not there: the recorders that it affects do not work.
    Missing,
    /// Not there, but what it affects works without, as the fallback says.
    Degraded,
    /// Not looked at, since something before it is missing.
    Untried,
}

/// One thing that a recorder needs or profits from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Short name, unique in a [`Host`].
    pub name: &'static str,
    /// Outcome.
    pub state: State,
    /// What was found.
    pub detail: String,
    /// What would mend it, unless it is [`State::Ok`] or nothing would.
    pub remedy: Option<String>,
    /// What happens as long as it is not mended, unless it is [`State::Ok`].
    pub fallback: Option<String>,
    /// The recorders that it bears on.
    pub affects: Vec<Recorder>,
}

impl Check {
    /// A check that found what it looked for.
    fn ok(name: &'static str, affects: &[Recorder], detail: impl Into<String>) -> Self {
        let affects = affects.to_vec();
        Check {
            name,
            state: State::Ok,
            detail: detail.into(),
            remedy: None,
            fallback: None,
            affects,
        }
    }

    /// Whether what it affects does not work. What was not looked at is no more there than what
    /// is missing.
    fn is_in_the_way(&self) -> bool {
        matches!(self.state, State::Missing | State::Untried)
    }

    /// The same check, missing: what would mend it, and what happens without.
    fn missing(self, remedy: impl Into<Option<String>>, fallback: &str) -> Self {
        self.lacking(State::Missing, remedy.into(), fallback)
    }

    /// The same check, degraded: what would mend it, and what happens without.
    fn degraded(self, remedy: impl Into<Option<String>>, fallback: &str) -> Self {
        self.lacking(State::Degraded, remedy.into(), fallback)
    }

    /// The same check, not looked at.
    fn untried(self) -> Self {
        self.lacking(State::Untried, None, "what it depends on decides")
    }

    fn lacking(mut self, state: State, remedy: Option<String>, fallback: &str) -> Self {
        self.state = state;
        self.remedy = remedy;
        self.fallback = Some(fallback.to_owned());
        self
    }
}

/// Why a recorder cannot be used here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unusable {
    /// Name of the check that it fails.
    pub check: &'static str,
    /// What is missing.
    pub reason: String,
    /// What would mend it, if anything would.
    pub remedy: Option<String>,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.check, self.reason)?;
        match &self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Unusable {}

/// What this host offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Host {
    /// Everything that was looked at, causes before effects.
    pub checks: Vec<Check>,
}

impl Host {
    /// The check of this name.
    pub fn check(&self, name: &str) -> Option<&Check> {
        self.checks.iter().find(|check| check.name == name)
    }

    /// Whether the recorder works here.
    ///
    /// # Errors
    ///
    /// The first thing that it lacks.
    pub fn usable(&self, recorder: Recorder) -> Result<(), Unusable> {
        let lacking = self
            .checks
            .iter()
            .find(|check| check.is_in_the_way() && check.affects.contains(&recorder));
        match lacking {
            None => Ok(()),
            Some(check) => Err(Unusable {
                check: check.name,
                reason: check.detail.clone(),
                remedy: check.remedy.clone(),
            }),
        }
    }
}

/// Looks at this host, from this process. Takes under a second, for the trials of the kernel.
///
/// What this process lacks itself and an agent that serves it makes up for does not keep it from
/// `ebpf`.
pub fn probe() -> Host {
    let mut checks = system::checks();
    checks.extend(limits::checks());
    checks.extend(system::own_checks());
    checks.extend(tracing_checks::checks());
    Host { checks }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EBPF: &[Recorder] = &[Recorder::Ebpf];

    #[test]
    fn the_first_missing_check_decides() {
        let host = Host {
            checks: vec![
                Check::ok("a", &Recorder::ALL, "fine"),
                Check::ok("b", EBPF, "slow").degraded(None, "it is slow"),
                Check::ok("c", EBPF, "no c").missing("get c".to_owned(), "there is no c"),
                Check::ok("d", EBPF, "no d, for want of c").untried(),
            ],
        };
        let why = host.usable(Recorder::Ebpf).unwrap_err();
        assert_eq!(why.to_string(), "c: no c; get c");
        assert_eq!(host.usable(Recorder::Inproc), Ok(()));
    }

    #[test]
    fn this_host_is_described_in_full() {
        let host = probe();
        let mut names: Vec<_> = host.checks.iter().map(|check| check.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count, "names are unique: {names:?}");
        for check in &host.checks {
            assert!(
                !check.detail.is_empty() && !check.affects.is_empty(),
                "{check:?}"
            );
            let ok = check.state == State::Ok;
            assert!(!ok || check.remedy.is_none(), "{check:?}");
            assert_eq!(check.fallback.is_none(), ok, "{check:?}");
        }
        // Nothing that a test machine lacks keeps a plain call from working.
        assert_eq!(host.usable(Recorder::None), Ok(()));
        // Whether or not this process is privileged, the two must agree.
        let privileged = facts::Capabilities::effective()
            .missing_for_ebpf()
            .is_empty();
        if !privileged {
            let why = host.usable(Recorder::Ebpf).unwrap_err();
            assert!(why.remedy.is_some(), "{why:?}");
        }
    }
}
