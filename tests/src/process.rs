//! Runs a program with a time limit and takes its resource use.
//!
//! # Safety
//! `wait4` and `kill` are called by hand, for the child that this module started and has not yet
//! waited for, so that the process id cannot have been given to another process.
#![allow(unsafe_code)]

use std::env;
use std::fs::File;
use std::io::{Read, Seek};
use std::mem::MaybeUninit;
use std::os::unix::fs::FileExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// What a finished process left behind.
#[derive(Clone, Debug, Default)]
pub struct Finished {
    /// Exit status, if it ended by itself.
    pub code: Option<i32>,
    /// Signal that ended it.
    pub signal: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Largest resident set of it or of a child it waited for, in KiB.
    pub max_rss_kib: u64,
    /// Wall time.
    pub elapsed: Duration,
}

/// What takes this long at most on a processor may take so long here: `FFITRACE_TIME_FACTOR` times
/// that, if it is set, as where each instruction is emulated.
///
/// # Errors
/// Fails if the variable is no number.
pub fn patience(limit: Duration) -> Result<Duration> {
    match env::var("FFITRACE_TIME_FACTOR") {
        Ok(factor) => Ok(limit * factor.parse().context("FFITRACE_TIME_FACTOR")?),
        Err(_) => Ok(limit),
    }
}

/// A process that was started and not waited for yet. It leads a process group of its own, which is
/// killed if nobody waits for it.
#[derive(Debug)]
pub struct Running {
    pid: i32,
    out: File,
    err: File,
    start: Instant,
    ended: Option<(ExitStatus, u64)>,
}

impl Running {
    /// Starts `command`.
    ///
    /// # Errors
    /// Fails if it cannot be started.
    pub fn start(command: &mut Command) -> Result<Running> {
        command.stdin(Stdio::null());
        Running::start_with_input(command)
    }

    /// Starts `command`, with the standard input that it was given.
    ///
    /// # Errors
    /// Fails if it cannot be started.
    pub fn start_with_input(command: &mut Command) -> Result<Running> {
        // Files, not pipes: a process left behind by the program must not keep us waiting.
        let out = tempfile::tempfile()?;
        let err = tempfile::tempfile()?;
        command
            .stdout(out.try_clone()?)
            .stderr(err.try_clone()?)
            .process_group(0);
        let start = Instant::now();
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        Ok(Running {
            pid: i32::try_from(child.id()).context("process id")?,
            out,
            err,
            start,
            ended: None,
        })
    }

    /// Its id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it is still there.
    ///
    /// # Errors
    /// Fails if it cannot be waited for.
    pub fn is_running(&mut self) -> Result<bool> {
        if self.ended.is_none() {
            self.ended = try_wait(self.pid)?;
        }
        Ok(self.ended.is_none())
    }

    /// Sends it a signal, unless it has ended.
    pub fn signal(&mut self, signal: i32) {
        if self.is_running().is_ok_and(|running| running) {
            // SAFETY: `pid` is our child, not waited for yet.
            unsafe { libc::kill(self.pid, signal) };
        }
    }

    /// Kills it and all of its group, unless it has ended.
    pub fn kill_group(&mut self) {
        if self.is_running().is_ok_and(|running| running) {
            // SAFETY: `pid` is our child, not waited for yet, and leads its own group.
            unsafe { libc::kill(-self.pid, libc::SIGKILL) };
        }
    }

    /// What it wrote to its standard error by now.
    ///
    /// # Errors
    /// Fails if that cannot be read.
    pub fn errors(&self) -> Result<String> {
        let length = self.err.metadata()?.len();
        let mut bytes = vec![0; usize::try_from(length)?];
        // Elsewhere than at the offset, which the process shares.
        self.err.read_exact_at(&mut bytes, 0)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Fails if it is not done after `limit`; then its group is killed.
    pub fn wait(mut self, limit: Duration) -> Result<Finished> {
        let since = Instant::now();
        while self.is_running()? {
            if since.elapsed() > limit {
                self.kill_group();
                while self.is_running()? {
                    std::thread::sleep(Duration::from_millis(5));
                }
                bail!(
                    "not done after {} s\nstdout:\n{}\nstderr:\n{}",
                    limit.as_secs(),
                    content(&mut self.out)?,
                    content(&mut self.err)?
                );
            }
            std::thread::sleep(Duration::from_millis(3));
        }
        let elapsed = self.start.elapsed();
        let (status, max_rss_kib) = self.ended.context("not ended")?;
        Ok(Finished {
            code: status.code(),
            signal: status.signal(),
            stdout: content(&mut self.out)?,
            stderr: content(&mut self.err)?,
            max_rss_kib,
            elapsed,
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill_group();
        while self.is_running().is_ok_and(|running| running) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Runs `command` to its end, in a process group of its own.
///
/// # Errors
/// Fails if it cannot be started, or is not done after `limit` (see [`patience`]); then its group is
/// killed.
pub fn run(command: &mut Command, limit: Duration) -> Result<Finished> {
    Running::start(command)?.wait(patience(limit)?)
}

/// The processes that `parent` started and that are still there.
///
/// # Errors
/// Fails if the list of processes cannot be read.
pub fn children(parent: i32) -> Result<Vec<i32>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        // `pid (name) state parent …`, where the name may contain anything.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
        if after.split_whitespace().nth(1) == Some(&parent.to_string()) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Asks until `what` answers.
///
/// # Errors
/// Fails if it fails, or does not answer within `limit`.
pub fn wait_for<T>(
    name: &str,
    limit: Duration,
    mut what: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let since = Instant::now();
    loop {
        if let Some(answer) = what()? {
            return Ok(answer);
        }
        if since.elapsed() > limit {
            bail!("not within {} s: {name}", limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn try_wait(pid: i32) -> Result<Option<(ExitStatus, u64)>> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers are to live, writable objects of the right type.
    let got = unsafe { libc::wait4(pid, &raw mut status, libc::WNOHANG, usage.as_mut_ptr()) };
    if got == -1 {
        return Err(std::io::Error::last_os_error()).context("wait4");
    }
    if got == 0 {
        return Ok(None);
    }
    // SAFETY: all-zero is a valid rusage, and wait4 has filled it.
    let usage = unsafe { usage.assume_init() };
    let rss = u64::try_from(usage.ru_maxrss).unwrap_or(0);
    Ok(Some((ExitStatus::from_raw(status), rss)))
}

fn content(file: &mut File) -> Result<String> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
