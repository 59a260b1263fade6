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
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// What a finished process left behind.
#[derive(Clone, Debug)]
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

/// Runs `command` to its end, in a process group of its own.
///
/// # Errors
/// Fails if it cannot be started, or is not done after `limit` (see [`patience`]); then its group is
/// killed.
pub fn run(command: &mut Command, limit: Duration) -> Result<Finished> {
    let limit = patience(limit)?;
    // Files, not pipes: a process left behind by the program must not keep us waiting.
    let mut out = tempfile::tempfile()?;
    let mut err = tempfile::tempfile()?;
    command
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(err.try_clone()?)
        .process_group(0);
    let start = Instant::now();
    let child = command
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))?;
    let pid = i32::try_from(child.id()).context("process id")?;
    let (status, max_rss_kib) = loop {
        if let Some(ended) = try_wait(pid)? {
            break ended;
        }
        if start.elapsed() > limit {
            // SAFETY: `pid` is our child, not waited for yet, and leads its own group.
            unsafe { libc::kill(-pid, libc::SIGKILL) };
            while try_wait(pid)?.is_none() {
                std::thread::sleep(Duration::from_millis(5));
            }
            bail!(
                "not done after {} s\nstdout:\n{}\nstderr:\n{}",
                limit.as_secs(),
                content(&mut out)?,
                content(&mut err)?
            );
        }
        std::thread::sleep(Duration::from_millis(3));
    };
    Ok(Finished {
        code: status.code(),
        signal: status.signal(),
        stdout: content(&mut out)?,
        stderr: content(&mut err)?,
        max_rss_kib,
        elapsed: start.elapsed(),
    })
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
