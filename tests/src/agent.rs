//! `ffitrace agent` as a process under test: on a socket of its own, watched from outside.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::packets::Client;
use crate::process::{self, Finished, Running, wait_for};
use crate::{binary, check};

/// How long an agent may take for anything on a loaded machine.
const LIMIT: Duration = Duration::from_secs(60);

/// What `ffitrace agent --status --format json` prints.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Status {
    /// Version of the format.
    pub schema: u32,
    /// Sessions of all users.
    pub sessions: usize,
    /// Those of who asks.
    pub own_sessions: usize,
    /// Whether the programs are attached.
    pub attached: bool,
}

/// What a kernel object is, and its id.
pub type Object = (&'static str, u32);

/// A running agent, killed at the end unless it was stopped.
#[derive(Debug)]
pub struct Agent {
    running: Running,
    socket: PathBuf,
    /// The log of who was here before, where it was not the first at its socket.
    _dir: Option<tempfile::TempDir>,
}

/// A directory that everybody may write to, as for the files of a gate.
///
/// # Errors
/// Fails if it cannot be made.
pub fn public_dir() -> Result<tempfile::TempDir> {
    let dir = tempfile::Builder::new()
        .prefix("ffitrace-test-")
        .tempdir()?;
    fs::set_permissions(dir.path(), Permissions::from_mode(0o777))?;
    Ok(dir)
}

impl Agent {
    /// Starts one at a new socket, for everybody unless the options say otherwise, and waits until it is ready.
    ///
    /// # Errors
    /// Fails if it does not get ready.
    pub fn start(options: &[&str]) -> Result<Agent> {
        let dir = tempfile::Builder::new()
            .prefix("ffitrace-test-")
            .tempdir()?;
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755))?;
        let mut agent = Agent::at(&dir.path().join("agent.sock"), options)?;
        agent._dir = Some(dir);
        Ok(agent)
    }

    /// Starts one at this socket, and waits until it is ready.
    ///
    /// # Errors
    /// Fails if it does not get ready.
    pub fn at(socket: &Path, options: &[&str]) -> Result<Agent> {
        let mut command = Agent::command(socket)?;
        if !options.contains(&"--mode") {
            command.args(["--mode", "666"]);
        }
        command.args(options);
        Agent::run(command, socket)
    }

    /// The command line of one at this socket, for root.
    ///
    /// # Errors
    /// Fails if there is no program.
    pub fn command(socket: &Path) -> Result<Command> {
        let mut command = Command::new(binary::ffitrace()?);
        command.args(["agent", "--socket"]).arg(socket);
        command.stdin(Stdio::null()).env_remove("NOTIFY_SOCKET");
        Ok(command)
    }

    /// Starts this command line, and waits until it serves at `socket`.
    ///
    /// # Errors
    /// Fails if it does not.
    pub fn run(mut command: Command, socket: &Path) -> Result<Agent> {
        let running = Running::start_with_input(&mut command)?;
        let mut agent = Agent {
            running,
            socket: socket.to_owned(),
            _dir: None,
        };
        let ready = wait_for("an agent that serves", LIMIT, || {
            check!(agent.running.is_running()?, "the agent has ended");
            // Who made the socket beforehand may have connections wait, so the log is looked at.
            Ok(
                (agent.log()?.contains("listening at") && Client::greet(socket).is_ok())
                    .then_some(()),
            )
        });
        ready.with_context(|| format!("{command:?}\nlog: {}", agent.log().unwrap_or_default()))?;
        Ok(agent)
    }

    /// Its socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        self.running.pid()
    }

    /// Its log by now.
    ///
    /// # Errors
    /// Fails if that cannot be read.
    pub fn log(&self) -> Result<String> {
        self.running.errors()
    }

    /// Waits for words in its log.
    ///
    /// # Errors
    /// Fails if they do not come.
    pub fn wait_for_log(&self, words: &str) -> Result<()> {
        let found = wait_for(words, LIMIT, || {
            Ok(self.log()?.contains(words).then_some(()))
        });
        found.with_context(|| format!("the agent's log: {}", self.log().unwrap_or_default()))
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// Fails if it does not answer.
    pub fn status(&self) -> Result<Status> {
        let mut command = Command::new(binary::ffitrace()?);
        command.args(["agent", "--status", "--format", "json", "--socket"]);
        command.arg(&self.socket);
        let finished = process::run(&mut command, LIMIT)?;
        check!(
            finished.code == Some(0),
            "--status: {:?}, {}\nthe agent's log: {}",
            finished.code,
            finished.stderr,
            self.log()?
        );
        serde_json::from_str(&finished.stdout)
            .with_context(|| format!("--status printed {:?}", finished.stdout))
    }

    /// Waits until it has so many sessions.
    ///
    /// # Errors
    /// Fails if it does not come to that.
    pub fn wait_for_sessions(&self, count: usize) -> Result<Status> {
        let mut last = None;
        let found = wait_for(&format!("{count} sessions"), LIMIT, || {
            let status = self.status()?;
            last = Some(status.clone());
            Ok((status.sessions == count).then_some(status))
        });
        found.with_context(|| format!("{last:?}\nlog: {}", self.log().unwrap_or_default()))
    }

    /// How many descriptors it has.
    ///
    /// # Errors
    /// Fails if it is not there.
    pub fn descriptors(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.pid()))?.count())
    }

    /// Waits until it has no more than so many descriptors.
    ///
    /// # Errors
    /// Fails if it keeps more.
    pub fn wait_for_descriptors(&self, most: usize) -> Result<()> {
        let mut last = 0;
        let found = wait_for(&format!("{most} descriptors"), LIMIT, || {
            last = self.descriptors()?;
            Ok((last <= most).then_some(()))
        });
        found.with_context(|| format!("the agent has {last} descriptors"))
    }

    /// How many links to the kernel's events it has: none while its programs are detached.
    ///
    /// # Errors
    /// Fails if it is not there.
    pub fn links(&self) -> Result<usize> {
        let objects = self.objects()?;
        Ok(objects.iter().filter(|(kind, _)| *kind == "link").count())
    }

    /// The programs, maps and links that it has descriptors of.
    ///
    /// # Errors
    /// Fails if it is not there.
    pub fn objects(&self) -> Result<BTreeSet<Object>> {
        let mut found = BTreeSet::new();
        for entry in fs::read_dir(format!("/proc/{}/fdinfo", self.pid()))? {
            // Closed meanwhile, if it cannot be read.
            let Ok(text) = fs::read_to_string(entry?.path()) else {
                continue;
            };
            for line in text.lines() {
                let kinds = [
                    ("link_id:", "link"),
                    ("map_id:", "map"),
                    ("prog_id:", "program"),
                ];
                for (prefix, kind) in kinds {
                    if let Some(id) = line.strip_prefix(prefix) {
                        found.insert((kind, id.trim().parse()?));
                    }
                }
            }
        }
        Ok(found)
    }

    /// Its memory: resident, in KiB, and the number of mappings.
    ///
    /// # Errors
    /// Fails if it is not there.
    pub fn memory(&self) -> Result<(u64, usize)> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.split_whitespace().next())
            .context("no VmRSS")?
            .parse()?;
        let maps = fs::read_to_string(format!("/proc/{}/maps", self.pid()))?;
        Ok((resident, maps.lines().count()))
    }

    /// Sends it a signal.
    pub fn signal(&mut self, signal: i32) {
        self.running.signal(signal);
    }

    /// Whether it is still there.
    ///
    /// # Errors
    /// Fails if that cannot be found out.
    pub fn is_running(&mut self) -> Result<bool> {
        self.running.is_running()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Fails if it does not end.
    pub fn wait(self) -> Result<Finished> {
        let finished = self.running.wait(LIMIT)?;
        crate::call::no_panic(&finished).with_context(|| finished.stderr.clone())?;
        Ok(finished)
    }

    /// Ends it as a service manager does.
    ///
    /// # Errors
    /// Fails unless it ends well.
    pub fn stop(mut self) -> Result<()> {
        self.signal(libc::SIGTERM);
        let finished = self.wait()?;
        check!(
            finished.code == Some(0),
            "the agent ended with {:?}, signal {:?}: {}",
            finished.code,
            finished.signal,
            finished.stderr
        );
        Ok(())
    }
}
