//! A parent process that outlives native code.
//!
//! ```text
//!  ffitrace call ── fork ──► child: loads, traces, calls, reports, exits
//!       │                       │ SIGKILL, _exit in native code
//!       └── waits ◄─────────────┘
//!           the child reported:     passes its status on
//!           it died in native code: reports that, exit status 1
//!           it is long overdue:     kills it and reports a timeout
//! ```
//! Most crashes end the call and not the process, and are reported with all that was traced. What
//! cannot be caught inside the process (`_exit`, `SIGKILL`, a handler of native code that lets
//! the process die) would otherwise look like a run without a finding.
//!
//! # Safety
//! The process is forked before any thread exists (see `child.rs`). Parent and child
//! share some pages: the child writes them, the parent reads them after the child has ended.
#![allow(unsafe_code)]

mod death;

use std::{
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    sync::{
        OnceLock,
        atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, getpid, kill_process, pidfd_open},
    time::{ClockId, clock_gettime},
};
use tracer_user::{agent, mapping::Mapping, modules};

use super::{
    args::Format,
    child::{self, HeldBack, Side},
};
use crate::{bridge::signal_name, report::ViolationKind};

/// Bytes of a name in the shared page.
const NAME: usize = 1024;

/// How long after its time a call may take to end by itself. Only one that blocks every signal,
/// or that the kernel does not let go, takes that long.
const GRACE: Duration = Duration::from_secs(5);
/// How often the parent looks whether a call is overdue.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 250_000_000,
};

/// Before the first native call, and after the last.
const OUTSIDE: u32 = 0;
/// In native code.
const INSIDE: u32 = 1;

/// Buffers that the parent knows the names of; of more, the first.
const PLACES: usize = 32;

/// A buffer.
#[repr(C)]
struct Place {
    base: u64,
    size: u64,
    name: [u8; 64],
}

/// Where code of a file is mapped.
#[repr(C)]
struct Code {
    start: u64,
    end: u64,
    offset: u64,
    path: [u8; NAME],
}

/// What the child tells its parent.
#[repr(C)]
struct Notice {
    stage: AtomicU32,
    json: AtomicU32,
    /// Accesses that were recorded before the first call.
    recorded: u64,
    /// Whether native code is waiting for who takes the accesses.
    stuck: AtomicU32,
    places_used: u32,
    places: [Place; PLACES],
    code: Code,
    /// When the parent has to end the call, in nanoseconds of the monotonic clock; 0 for never.
    deadline: AtomicU64,
    library: [u8; NAME],
    function: [u8; NAME],
    backend: [u8; 16],
}

static NOTICE: AtomicPtr<Notice> = AtomicPtr::new(std::ptr::null_mut());

/// The child's end of a socket to its parent.
static TO_PARENT: OnceLock<OwnedFd> = OnceLock::new();

/// Goes on in a child process, watched by this one. Call it first in `main`, before there are
/// threads. Where no process can be had, the program goes on unwatched.
pub fn split() {
    let (Ok(page), Ok((own, childs))) = (Mapping::shared(size_of::<Notice>()), agent::pair())
    else {
        return;
    };
    let parent = getpid();
    let held_back = HeldBack::begin();
    match child::fork() {
        Ok(Side::Child) => {
            // It must not run on unwatched.
            if child::end_with(parent).is_err() {
                std::process::exit(3);
            }
            let _ = TO_PARENT.set(childs);
            NOTICE.store(page.as_ptr().cast(), Ordering::Release);
            std::mem::forget(page);
        }
        Ok(Side::Parent(child)) => {
            drop(childs);
            watch(child, &page, &own, held_back)
        }
        Err(_) => {}
    }
}

/// What native code is called for.
pub(super) struct Beginning<'a> {
    pub(super) library: &'a Path,
    pub(super) function: &'a str,
    /// Where its code is mapped.
    pub(super) code: Option<&'a modules::Mapping>,
    pub(super) backend: &'a str,
    pub(super) format: Format,
    /// Accesses that the session has recorded before.
    pub(super) recorded: u64,
    /// Names, first addresses and sizes.
    pub(super) buffers: &'a [(&'a str, u64, u64)],
}

/// Hands the parent a copy of the connection to the agent, which tells there what this process left
/// if it is killed.
pub(super) fn hand_over(agent_socket: &OwnedFd) {
    if let Some(parent) = TO_PARENT.get()
        && let Err(error) = agent::hand_over(parent, agent_socket.as_fd())
    {
        tracing::debug!("the parent does not get the agent's socket: {error}");
    }
}

/// Tells the parent that who takes the accesses does not move, so that native code cannot.
pub(super) fn stuck() {
    // SAFETY: null, or the page, see `enter_native`.
    if let Some(notice) = unsafe { NOTICE.load(Ordering::Acquire).as_ref() } {
        notice.stuck.store(1, Ordering::Relaxed);
    }
}

/// Where code at an address is mapped.
pub(super) fn code_of(address: u64) -> Option<modules::Mapping> {
    let mappings = modules::mappings().unwrap_or_default();
    modules::find(&mappings, address).cloned()
}

/// Tells the parent that the function of the last time runs once more.
pub(super) fn enter_native_again() {
    let notice = NOTICE.load(Ordering::Acquire);
    // SAFETY: null, or the page, see `enter_native`.
    if let Some(notice) = unsafe { notice.as_ref() } {
        notice.stage.store(INSIDE, Ordering::Release);
    }
}

/// Tells the parent that native code runs from now on.
pub(super) fn enter_native(beginning: &Beginning<'_>) {
    let notice = NOTICE.load(Ordering::Acquire);
    if notice.is_null() {
        return;
    }
    // SAFETY: the page is as large as a `Notice`, and only this thread writes it; the parent
    // reads it when this process has ended.
    unsafe {
        write_name(
            &mut (*notice).library,
            &beginning.library.display().to_string(),
        );
        write_name(&mut (*notice).function, beginning.function);
        write_name(&mut (*notice).backend, beginning.backend);
        for (place, (name, base, size)) in (*notice).places.iter_mut().zip(beginning.buffers) {
            (place.base, place.size) = (*base, *size);
            write_name(&mut place.name, name);
        }
        (*notice).recorded = beginning.recorded;
        (*notice).places_used = beginning.buffers.len().min(PLACES) as u32;
        if let Some(mapping) = beginning.code {
            let code = &mut (*notice).code;
            (code.start, code.end) = (mapping.range.start, mapping.range.end);
            code.offset = mapping.offset;
            write_bytes(&mut code.path, mapping.path.as_os_str().as_bytes());
        }
        (*notice).json.store(
            u32::from(beginning.format == Format::Json),
            Ordering::Relaxed,
        );
        (*notice).stage.store(INSIDE, Ordering::Release);
    }
}

/// Tells the parent that a call begins which has this long.
pub(super) fn call_begins(timeout: Option<Duration>) {
    let notice = NOTICE.load(Ordering::Acquire);
    let deadline = timeout
        .and_then(|timeout| now().checked_add(timeout)?.checked_add(GRACE))
        .and_then(|deadline| u64::try_from(deadline.as_nanos()).ok());
    // SAFETY: null, or the page, see `enter_native`.
    if let Some(notice) = unsafe { notice.as_ref() } {
        notice
            .deadline
            .store(deadline.unwrap_or(0), Ordering::Relaxed);
    }
}

/// The monotonic clock, which all processes share.
fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(
        now.tv_sec.try_into().unwrap_or(0),
        now.tv_nsec.try_into().unwrap_or(0),
    )
}

/// Tells the parent that native code has come to an end.
pub(super) fn leave_native() {
    let notice = NOTICE.load(Ordering::Acquire);
    // SAFETY: null, or the page, see `enter_native`.
    if let Some(notice) = unsafe { notice.as_ref() } {
        notice.stage.store(OUTSIDE, Ordering::Release);
    }
}

fn write_name(to: &mut [u8], name: &str) {
    write_bytes(to, name.as_bytes());
}

fn write_bytes(to: &mut [u8], bytes: &[u8]) {
    let length = bytes.len().min(to.len() - 1);
    to[..length].copy_from_slice(&bytes[..length]);
    to[length] = 0;
}

fn read_bytes(from: &[u8]) -> &[u8] {
    from.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn read_name(from: &[u8]) -> String {
    String::from_utf8_lossy(read_bytes(from)).into_owned()
}

/// Waits for the child and ends as it did, or reports how native code ended it.
fn watch(child: Pid, page: &Mapping, from_child: &OwnedFd, held_back: HeldBack) -> ! {
    child::pass_signals_on(child);
    drop(held_back);
    // SAFETY: the page is as large as a `Notice`; until the child has ended only its atomics are
    // read here.
    let notice = unsafe { &*page.as_ptr().cast::<Notice>() };
    let overdue = end_if_overdue(child, notice);
    let Some(status) = child::wait_for(child) else {
        std::process::exit(3)
    };
    let inside = notice.stage.load(Ordering::Acquire) == INSIDE;
    let report_death = |kind, what: &str| death::report(notice, from_child, kind, what);
    let Some(signal) = status.terminating_signal() else {
        let code = status.exit_status().unwrap_or(3);
        if inside {
            report_death(
                ViolationKind::NativeCrash,
                &format!("native code ended the process with _exit({code})"),
            );
        }
        std::process::exit(code);
    };
    if overdue {
        let what = match notice.stuck.load(Ordering::Relaxed) {
            0 => {
                "still running long after its time, with every signal blocked; the process was killed"
            }
            _ => {
                "still waiting long after its time, because who takes the accesses does not; the \
                 process was killed"
            }
        };
        report_death(ViolationKind::Timeout, what);
    }
    if inside && child::passed_on() != signal {
        let why = match signal {
            // A fault kills a process whose handler cannot run, whatever its memory is.
            libc::SIGSEGV => {
                ": native code blocked the signal or replaced its handler, which every recorder \
                 but ptrace needs"
            }
            _ => "",
        };
        report_death(
            ViolationKind::NativeCrash,
            &format!("{} ended the process{why}", signal_name(signal)),
        );
    }
    child::end_by(signal)
}

/// Waits until the child has ended, or is overdue in native code: then it is killed, and true
/// returned. Where the system has no descriptors of processes it returns at once.
fn end_if_overdue(child: Pid, notice: &Notice) -> bool {
    let Ok(descriptor) = pidfd_open(child, PidfdFlags::empty()) else {
        return false;
    };
    loop {
        let mut ended = [PollFd::new(&descriptor, PollFlags::IN)];
        match poll(&mut ended, Some(&LOOK)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            _ => return false,
        }
        let deadline = notice.deadline.load(Ordering::Relaxed);
        let inside = notice.stage.load(Ordering::Acquire) == INSIDE;
        if inside && deadline != 0 && now() > Duration::from_nanos(deadline) {
            // It has not been waited for, so the id is its own. If it has ended, that is enough.
            let _ = kill_process(child, Signal::KILL);
            return true;
        }
    }
}
