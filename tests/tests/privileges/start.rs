//! The ways in which ffitrace is started.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ffitrace_tests::call::no_panic;
use ffitrace_tests::fixture::Lib;
use ffitrace_tests::host::Need;
use ffitrace_tests::process::{self, Finished};
use ffitrace_tests::report::Report;
use ffitrace_tests::{binary, check};

/// User and group of nobody.
pub(crate) const NOBODY: u32 = 65534;
/// An id that no user has.
pub(crate) const UNKNOWN: u32 = 3_123_456_789;
/// The owner of what is neither root's nor the user's.
pub(crate) const OTHER: u32 = 3_123_456_700;

const MINUTE: Duration = Duration::from_secs(60);

/// What `--backend` is given.
#[derive(Clone, Copy)]
pub(crate) struct Recorder {
    pub(crate) name: &'static str,
    pub(crate) needs: Option<Need>,
}

impl Recorder {
    /// Whether some process keeps the privileges meanwhile.
    pub(crate) fn is_kept(self) -> bool {
        matches!(self.name, "auto" | "ebpf")
    }
}

/// All that there are, with and without tracing.
pub(crate) fn recorders() -> impl Iterator<Item = Recorder> {
    let all = [
        ("auto", None),
        ("ebpf", Some(Need::Bpf)),
        ("inproc", None),
        ("ptrace", Some(Need::Ptrace)),
        ("none", None),
    ];
    all.into_iter()
        .map(|(name, needs)| Recorder { name, needs })
}

/// Who starts it, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// As sudo does for nobody.
    Sudo,
    /// As sudo does for a user whom nobody knows.
    SudoUnknown,
    /// As root, with `--user nobody`.
    User,
    /// As root.
    RootShell,
    /// As root, with `--as-root`.
    AsRoot,
    /// As nobody, with the capabilities that loading eBPF programs takes.
    Capable,
}

impl Start {
    pub(crate) const ALL: [Start; 6] = [
        Start::Sudo,
        Start::SudoUnknown,
        Start::User,
        Start::RootShell,
        Start::AsRoot,
        Start::Capable,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Start::Sudo => "sudo",
            Start::SudoUnknown => "sudo_unknown",
            Start::User => "user",
            Start::RootShell => "root_shell",
            Start::AsRoot => "as_root",
            Start::Capable => "capable",
        }
    }

    /// User and group of native code.
    pub(crate) fn ids(self) -> (u32, u32) {
        match self {
            Start::Sudo | Start::User | Start::Capable => (NOBODY, NOBODY),
            Start::SudoUnknown => (UNKNOWN, 77),
            Start::RootShell | Start::AsRoot => (0, 0),
        }
    }

    /// The program without arguments.
    pub(crate) fn program(self) -> Result<Command> {
        let program = binary::ffitrace()?;
        let mut command = match self {
            Start::Capable => {
                let mut command = Command::new("setpriv");
                command
                    .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
                    .args(["--inh-caps=+bpf,+perfmon", "--ambient-caps=+bpf,+perfmon"])
                    .arg(program);
                command
            }
            _ => Command::new(program),
        };
        for variable in binary::BY_OTHERS {
            command.env_remove(variable);
        }
        let unknown = UNKNOWN.to_string();
        match self {
            Start::Sudo => command.envs([
                ("SUDO_UID", "65534"),
                ("SUDO_GID", "65534"),
                ("SUDO_USER", "nobody"),
            ]),
            Start::SudoUnknown => command.envs([
                ("SUDO_UID", unknown.as_str()),
                ("SUDO_GID", "77"),
                ("SUDO_USER", "gone"),
            ]),
            _ => &mut command,
        };
        command
            .current_dir("/")
            .envs([("HOME", "/root"), ("USER", "root"), ("LOGNAME", "root")]);
        Ok(command)
    }

    /// What goes behind the other arguments.
    pub(crate) fn options(self) -> &'static [&'static str] {
        match self {
            Start::User => &["--user", "nobody"],
            Start::AsRoot => &["--as-root"],
            _ => &[],
        }
    }

    /// `ffitrace call` of a function of the fixtures in `place`.
    pub(crate) fn call(
        self,
        place: &Place,
        recorder: Recorder,
        prototype: &str,
        bindings: &[String],
    ) -> Result<Command> {
        let mut command = self.program()?;
        command
            .arg("call")
            .arg(&place.library)
            .arg(prototype)
            .args(bindings)
            .args(["--backend", recorder.name])
            .args(self.options())
            .env(Place::MARK, &place.mark);
        Ok(command)
    }
}

/// A directory that everybody may read, with the fixtures, and a mark by which processes that were
/// started for it are found.
pub(crate) struct Place {
    dir: tempfile::TempDir,
    pub(crate) library: PathBuf,
    mark: String,
}

impl Place {
    const MARK: &str = "FFITRACE_TEST_OF_PRIVILEGES";

    pub(crate) fn new() -> Result<Place> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let dir = tempfile::Builder::new()
            .prefix("ffitrace-test-")
            .tempdir()?;
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755))?;
        let library = dir.path().join("lib.so");
        fs::copy(Lib::O2.path(), &library)?;
        fs::set_permissions(&library, Permissions::from_mode(0o755))?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{}-{number}", std::process::id());
        Ok(Place { dir, library, mark })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes a file of this owner.
    pub(crate) fn file(&self, name: &str, owner: u32, mode: u32) -> Result<PathBuf> {
        let path = self.path(name);
        fs::write(&path, "content")?;
        self.give(name, owner, mode)
    }

    /// Makes a directory of this owner.
    pub(crate) fn directory(&self, name: &str, owner: u32, mode: u32) -> Result<PathBuf> {
        fs::create_dir(self.path(name))?;
        self.give(name, owner, mode)
    }

    /// Gives a file or directory to this owner.
    pub(crate) fn give(&self, name: &str, owner: u32, mode: u32) -> Result<PathBuf> {
        let path = self.path(name);
        chown(&path, Some(owner), Some(owner))?;
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
        Ok(path)
    }

    /// Runs it to its end, after which nothing of it may be left.
    pub(crate) fn run(&self, command: &mut Command) -> Result<Finished> {
        let finished = process::run(command, MINUTE)?;
        no_panic(&finished)?;
        self.only_left(0)?;
        Ok(finished)
    }

    /// Waits until so many of its processes are left, which are returned: one that was killed takes
    /// a moment to be gone.
    pub(crate) fn only_left(&self, count: usize) -> Result<Vec<u32>> {
        let start = Instant::now();
        loop {
            let left = self.processes()?;
            if left.len() == count {
                return Ok(left);
            }
            check!(
                start.elapsed() < Duration::from_secs(10),
                "not {count} processes are left, but {left:?}"
            );
            sleep(Duration::from_millis(10));
        }
    }

    /// Runs it, for a report.
    pub(crate) fn report(&self, command: &mut Command) -> Result<(Finished, Report)> {
        let finished = self.run(command.args(["--format", "json"]))?;
        let report = serde_json::from_str(&finished.stdout)
            .with_context(|| format!("{command:?}: {finished:?}"))?;
        Ok((finished, report))
    }

    /// The processes that were started for this place, and live.
    pub(crate) fn processes(&self) -> Result<Vec<u32>> {
        let wanted = format!("{}={}", Place::MARK, self.mark);
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // Of what has ended there is none, and of what ends meanwhile no file.
            let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
            let mut variables = environment.split(|byte| *byte == 0);
            if variables.any(|variable| variable == wanted.as_bytes()) {
                found.push(id);
            }
        }
        found.sort_unstable();
        Ok(found)
    }
}

/// A binding of a string.
pub(crate) fn text(name: &str, value: impl AsRef<OsStr>) -> String {
    format!("{name}=str:{}", value.as_ref().to_string_lossy())
}
