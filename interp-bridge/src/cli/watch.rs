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
//! The process is forked before any thread exists (see [`child`](super::child)). Parent and child
//! share one page: the child writes it, the parent reads it after the child has ended.
#![allow(unsafe_code)]

use std::{
    io::{self, Write},
    sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, getpid, kill_process, pidfd_open},
    time::{ClockId, clock_gettime},
};
use tracer_user::mapping::Mapping;

use super::{
    args::Format,
    child::{self, HeldBack, Side},
};
use crate::{
    bridge::signal_name,
    report::{self, CallReport, Stats, Theme, Violation, ViolationKind, model::SCHEMA},
};

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

/// What the child tells its parent.
#[repr(C)]
struct Notice {
    stage: AtomicU32,
    json: AtomicU32,
    /// When the parent has to end the call, in nanoseconds of the monotonic clock; 0 for never.
    deadline: AtomicU64,
    library: [u8; NAME],
    function: [u8; NAME],
    backend: [u8; 16],
}

static NOTICE: AtomicPtr<Notice> = AtomicPtr::new(std::ptr::null_mut());

/// Goes on in a child process, watched by this one. Call it first in `main`, before there are
/// threads. Where no process can be had, the program goes on unwatched.
pub fn split() {
    let Ok(page) = Mapping::shared(size_of::<Notice>()) else {
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
            NOTICE.store(page.as_ptr().cast(), Ordering::Release);
            std::mem::forget(page);
        }
        Ok(Side::Parent(child)) => watch(child, &page, held_back),
        Err(_) => {}
    }
}

/// Tells the parent that native code runs from now on.
pub(super) fn enter_native(library: &str, function: &str, backend: &str, format: Format) {
    let notice = NOTICE.load(Ordering::Acquire);
    if notice.is_null() {
        return;
    }
    // SAFETY: the page is as large as a `Notice`, and only this thread writes it; the parent
    // reads it when this process has ended.
    unsafe {
        write_name(&mut (*notice).library, library);
        write_name(&mut (*notice).function, function);
        write_name(&mut (*notice).backend, backend);
        (*notice)
            .json
            .store(u32::from(format == Format::Json), Ordering::Relaxed);
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
    let length = name.len().min(to.len() - 1);
    to[..length].copy_from_slice(&name.as_bytes()[..length]);
    to[length] = 0;
}

fn read_name(from: &[u8]) -> String {
    let length = from
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(from.len());
    String::from_utf8_lossy(&from[..length]).into_owned()
}

/// Waits for the child and ends as it did, or reports how native code ended it.
fn watch(child: Pid, page: &Mapping, held_back: HeldBack) -> ! {
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
    let Some(signal) = status.terminating_signal() else {
        let code = status.exit_status().unwrap_or(3);
        if inside {
            report_death(
                notice,
                ViolationKind::NativeCrash,
                &format!("native code ended the process with _exit({code})"),
            );
        }
        std::process::exit(code);
    };
    if overdue {
        report_death(
            notice,
            ViolationKind::Timeout,
            "still running long after its time, with every signal blocked; the process was killed",
        );
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
            notice,
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

fn report_death(notice: &Notice, kind: ViolationKind, what: &str) -> ! {
    let report = CallReport {
        schema: SCHEMA,
        library: read_name(&notice.library),
        function: read_name(&notice.function),
        backend: read_name(&notice.backend),
        backend_note: None,
        ret: None,
        allocations: Vec::new(),
        overreads: Vec::new(),
        translations: Vec::new(),
        stepped: Vec::new(),
        native_heap: None,
        violations: vec![Violation {
            kind,
            access: None,
            certain: true,
            addr: None,
            size: None,
            allocation: None,
            offset: None,
            ip: None,
            symbol: None,
            source: None,
            instruction: None,
            message: format!("{what}; what was traced before is lost with it"),
            backtrace: Vec::new(),
            count: 1,
        }],
        stats: Stats {
            calls: 1,
            ..Stats::default()
        },
    };
    let mut stdout = io::stdout().lock();
    let written = if notice.json.load(Ordering::Relaxed) == 1 {
        report::json::write(&mut stdout, &report)
    } else {
        report::text::write(&mut stdout, &report, Theme::of(&io::stdout()), false)
    };
    // A reader that has gone away has seen enough.
    let _ = written.and_then(|()| stdout.flush());
    std::process::exit(i32::from(report.exit_status()))
}
