//! Who keeps the privileges, and who gives them up.
//!
//! ```text
//!  sudo ffitrace call ── fork ──► child: becomes the user, without a capability
//!    keeper, as it was               │   reads files, loads the library, runs native code
//!      serves the child ◄── socket ──┘   (watch.rs forks it once more)
//!      passes signals on
//!      ends as the child ended
//! ```
//! Only recording with eBPF takes privileges after the start, so only then somebody keeps them.
//! Otherwise the process itself gives them up. Both come first, before a file is read that the
//! command line names: what the user may not read, ffitrace does not read for them.
//!
//! # Safety
//! As for `child.rs`. The handler makes one system call, which is async-signal-safe,
//! for a descriptor that stays open as long as the process lives.
#![allow(unsafe_code)]

use std::{
    env, io,
    os::fd::{AsRawFd, IntoRawFd, OwnedFd},
    sync::{
        OnceLock,
        atomic::{AtomicI32, Ordering},
    },
};

use clap::Parser;
use rustix::process::{DumpableBehavior, Pid, getpid, getuid, set_dumpable_behavior};
use tracer_user::agent::{self, Access, Limits, set_access};
use tracer_user::privileges::{self, DropError, Identity, IdentityError, Origin};

use super::{
    args::{Arguments, BackendChoice, Command, TraceArguments},
    child::{self, HeldBack, Side},
    failure::Failure,
};

/// The keeper's end of the socket, to be closed when the child has ended.
static DOOR: AtomicI32 = AtomicI32::new(-1);
static ENDED: AtomicI32 = AtomicI32::new(0);

/// Whose rights this process has, where they are not those that it was started with.
static LEFT_WITH: OnceLock<String> = OnceLock::new();

/// What is to become of privileges.
enum Plan {
    /// There are none, or native code is to have them.
    Stay,
    /// All go. With an identity, the process becomes that user.
    GiveUp(Option<Identity>),
}

/// Gives up privileges, if the command line runs native code and this process has any. Call it first in
/// `main`, before there are threads.
///
/// If the recorder may be the kernel, this returns in a child process, for whose sessions its parent
/// keeps the programs. The traced process may be a child of that child. Errors are told here, and end
/// the program.
pub fn split() {
    if let Err(failure) = try_split() {
        failure.tell();
        std::process::exit(failure.status.into());
    }
}

/// Whose rights these are, for messages about what they do not suffice for.
pub(super) fn left_with() -> Option<&'static str> {
    LEFT_WITH.get().map(String::as_str)
}

fn try_split() -> Result<(), Failure> {
    // What is wrong with it is told later, once, and nothing else is done then.
    let Ok(arguments) = Arguments::try_parse_from(env::args_os()) else {
        return Ok(());
    };
    let trace = match arguments.command {
        Command::Call(call) => call.trace,
        Command::Run(run) => run.trace,
        Command::Repl(repl) => repl.trace,
        Command::Bench(_) | Command::BenchWork(_) | Command::Doctor(_) | Command::Agent(_) => {
            return Ok(());
        }
    };
    let Plan::GiveUp(identity) = plan(&trace)? else {
        return Ok(());
    };
    match trace.backend {
        BackendChoice::Auto | BackendChoice::Ebpf => {}
        BackendChoice::Inproc | BackendChoice::Ptrace | BackendChoice::None => {
            return give_up(identity.as_ref());
        }
    }

    let failed = |what: &str, error: io::Error| {
        let help = "try again when fewer are open, or with `--backend inproc`";
        Failure::environment(
            format!("cannot make {what} for the privileges: {error}"),
            help,
        )
    };
    let pair = agent::pair().map_err(|error| failed("a socket", error))?;
    let (keeps, gives_up) = pair;
    let door = keeps
        .try_clone()
        .map_err(|error| failed("a socket", error))?;
    let parent = getpid();
    let held_back = HeldBack::begin();
    match child::fork().map_err(|error| failed("a process", error))? {
        Side::Parent(child) => {
            drop(gives_up);
            keep(keeps, door, child, held_back)
        }
        Side::Child => {
            drop((keeps, door));
            give_up(identity.as_ref())?;
            // A change of ids takes this back, so it comes after.
            child::end_with(parent).map_err(|error| failed("a bond to the keeper", error))?;
            drop(held_back);
            set_access(Access::Connected(gives_up));
            Ok(())
        }
    }
}

fn plan(trace: &TraceArguments) -> Result<Plan, Failure> {
    if trace.as_root {
        // The real id: what a program's file gives it is not for everybody's library.
        if !getuid().is_root() {
            return Err(Failure::environment(
                "--as-root: ffitrace was not started by root",
                "start it with sudo, or leave `--as-root` out",
            ));
        }
        return Ok(Plan::Stay);
    }
    if let Some(name) = &trace.user {
        return Ok(Plan::GiveUp(Some(Identity::named(name)?)));
    }
    match privileges::privileged() {
        true => Ok(Plan::GiveUp(Identity::invoking()?)),
        false => Ok(Plan::Stay),
    }
}

fn give_up(identity: Option<&Identity>) -> Result<(), Failure> {
    privileges::drop_to(identity)?;
    if let Some(who) = describe(identity) {
        // There is one call in a process.
        let _ = LEFT_WITH.set(who);
    }
    Ok(())
}

/// `None` for who has just the rights of their own.
fn describe(identity: Option<&Identity>) -> Option<String> {
    let Some(identity) = identity else {
        let root = getuid().is_root();
        return root.then(|| "root without capabilities".to_owned());
    };
    let by = match identity.origin {
        Origin::Sudo => "ffitrace was started with sudo",
        Origin::Doas => "ffitrace was started with doas",
        Origin::Pkexec => "ffitrace was started with pkexec",
        Origin::Chosen => "`--user`",
    };
    Some(format!("{identity} ({by})"))
}

/// The child has ended: whoever reads from it reads the end, even if a process that it left
/// behind has its socket still.
extern "C" fn close_door(_signal: i32) {
    ENDED.store(1, Ordering::Relaxed);
    // SAFETY: takes numbers only; the descriptor is never closed.
    unsafe { libc::shutdown(DOOR.load(Ordering::Relaxed), libc::SHUT_RDWR) };
}

/// Serves the child, and ends as it ends.
fn keep(socket: OwnedFd, door: OwnedFd, child: Pid, held_back: HeldBack) -> ! {
    // Nobody looks into this process, nor finds its memory in a file if it crashes. Where that
    // cannot be had, the capabilities protect it from who has none.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    DOOR.store(door.as_raw_fd(), Ordering::Relaxed);
    // It stays open for the handler.
    let _ = door.into_raw_fd();
    child::when_a_child_ends(close_door);
    child::pass_signals_on(child);
    drop(held_back);

    if let Err(error) = agent::serve_child(socket, child, Limits::for_one_child())
        && ENDED.load(Ordering::Relaxed) == 0
    {
        Failure::environment(format!("recording by the kernel ended: {error}"), "").tell();
    }
    let Some(status) = child::wait_for(child) else {
        std::process::exit(3)
    };
    match status.terminating_signal() {
        Some(signal) => child::end_by(signal),
        None => std::process::exit(status.exit_status().unwrap_or(3)),
    }
}

impl From<IdentityError> for Failure {
    fn from(error: IdentityError) -> Failure {
        let status = if error.is_usage() { 2 } else { 3 };
        Failure {
            status,
            what: error.to_string(),
            help: error.help(),
        }
    }
}

impl From<DropError> for Failure {
    fn from(error: DropError) -> Failure {
        Failure::environment(error.to_string(), error.help())
    }
}
