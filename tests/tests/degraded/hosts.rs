//! How a host comes to lack something.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use ffitrace_tests::answered_bpf::{Answering, Part};
use ffitrace_tests::call::no_panic;
use ffitrace_tests::process::Finished;
use ffitrace_tests::{binary, process, seccomp, without_dispatch};

/// A host that lacks something.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Host {
    /// This one, for a program that this command starts.
    Wrapped(&'static [&'static str]),
    /// This one, after these shell commands.
    Shell(&'static str),
    /// The same, in a mount namespace of its own.
    Mounts(&'static str),
    /// System calls of this number fail.
    Denied(libc::c_long, i32),
    /// A part of eBPF fails.
    Answered(Part, i32),
    /// The kernel is locked down: it says so, and refuses programs.
    LockedDown,
    /// There is no Syscall User Dispatch.
    WithoutDispatch,
}

/// A lockdown that only a kernel booted so has. Its refusal of programs is made up for apart.
const LOCKED_DOWN: &str = "mount -t tmpfs none /sys/kernel/security && \
                           echo 'none integrity [confidentiality]' > /sys/kernel/security/lockdown";

impl Host {
    /// Runs `ffitrace` there.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<Finished> {
        let mut command = match *self {
            Host::Wrapped(wrapper) => {
                let mut command = Command::new(wrapper[0]);
                command.args(&wrapper[1..]).arg(binary::ffitrace()?);
                command
            }
            Host::Shell(script) => shell(&["sh"], script)?,
            Host::Mounts(script) => shell(&["unshare", "-m", "sh"], script)?,
            Host::LockedDown => shell(&["unshare", "-m", "sh"], LOCKED_DOWN)?,
            Host::Denied(..) | Host::Answered(..) | Host::WithoutDispatch => {
                Command::new(binary::ffitrace()?)
            }
        };
        command
            .args(arguments)
            .env("FFITRACE_AGENT", "/nowhere/agent.sock");
        let answered = match *self {
            Host::Answered(part, errno) => Some((part, errno)),
            Host::LockedDown => Some((Part::Tracing, libc::EPERM)),
            _ => None,
        };
        match *self {
            Host::Denied(number, errno) => seccomp::deny(&mut command, number, errno),
            Host::WithoutDispatch => without_dispatch::deny(&mut command),
            _ => {}
        }
        let answering = answered
            .map(|(part, errno)| Answering::begin(&mut command, part, errno))
            .transpose()?;
        let finished = process::run(&mut command, Duration::from_secs(60))?;
        // A call that does not ask for ebpf need not try what is refused.
        let tries = !arguments.contains(&"inproc");
        if let Some(answering) = answering {
            let answered = answering.end(command);
            if tries {
                answered?;
            }
        }
        no_panic(&finished)?;
        Ok(finished)
    }
}

/// `ffitrace` after a script, which must succeed.
fn shell(shell: &[&str], script: &str) -> Result<Command> {
    let mut command = Command::new(shell[0]);
    command
        .args(&shell[1..])
        .args(["-c", &format!("{script} && exec \"$@\""), "sh"])
        .arg(binary::ffitrace()?);
    Ok(command)
}
