//! Installing the handlers, and what they do with signals that are not theirs.
//!
//! # Safety
//! The handlers that were there before are kept once, before ours are in force, and only read
//! afterwards. Calling one does what the kernel would have done without us.
#![allow(unsafe_code)]

use std::{
    cell::UnsafeCell,
    io,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{
    actions::{SIGNALS, SignalAction},
    frame::{Context, Frame},
    safe::{self, Safe},
    signal_calls::{bit, kernel_action, ours_for},
    signals::{END_CALL, LET_GO},
    thread,
};

/// Signals that our handlers need: what an instruction or a system call raises, `abort`, and the
/// two that we send. Native code may set what it likes for them; the kernel does not get to know.
pub(super) const OURS: [i32; 9] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGSYS,
    END_CALL,
    LET_GO,
];

/// `SIGCANCEL` of glibc, whose handler unwinds the stack that it runs on: ours cannot be in it.
const CANCEL: i32 = 32;

/// What was there before us, by signal.
struct Previous {
    actions: UnsafeCell<[SignalAction; SIGNALS + 1]>,
    /// Bits of the signals that our handler is installed for.
    taken: AtomicU64,
}
// SAFETY: an action is written by `install` before its signal's bit is set, and only read
// afterwards.
unsafe impl Sync for Previous {}
static PREVIOUS: Previous = Previous {
    actions: UnsafeCell::new([SignalAction::DEFAULT; SIGNALS + 1]),
    taken: AtomicU64::new(0),
};

/// Installs the handlers, keeping those that were there to be chained. They return through the
/// gate, since what they return to may be native code.
///
/// Handlers that the program has for other signals are called by ours, too: one that blocks every
/// signal while it runs could not even return in the middle of native code, where its system
/// calls are dispatched.
///
/// # Errors
/// What `sigaction(2)` says.
pub(super) fn install() -> io::Result<()> {
    let safe = Safe::promise();
    for signal in 1..=SIGNALS as i32 {
        let previous = kernel_action(safe, signal, None);
        let ours = OURS.contains(&signal);
        if !ours && (!previous.is_handler() || signal == CANCEL) {
            continue;
        }
        // SAFETY: written before the handler for this signal is in force; this is called once,
        // under the lock of `Engine::start`.
        unsafe { (*PREVIOUS.actions.get())[signal as usize] = previous };
        PREVIOUS.taken.fetch_or(bit(signal), Ordering::Release);
        take(safe, signal);
        if kernel_action(safe, signal, None).handler != ours_for(0).handler {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
    }
    Ok(())
}

/// Puts our handler in force where the previous one of a signal is to be called by it.
/// Async-signal-safe.
pub(super) fn take(safe: Safe, signal: i32) {
    let mut action = ours_for(libc::SA_RESTART as u64);
    if let Some(previous) = previous(signal)
        && !OURS.contains(&signal)
    {
        action = ours_for(previous.flags);
        if !previous.has(libc::SA_ONSTACK) {
            // Its own thread's alternate stack, if that has one, may be a small one.
            action.flags &= !(libc::SA_ONSTACK as u64);
        }
    }
    kernel_action(safe, signal, Some(&action));
}

/// What was set before us for a signal that our handler is installed for. Async-signal-safe.
pub(super) fn previous(signal: i32) -> Option<SignalAction> {
    let taken = PREVIOUS.taken.load(Ordering::Acquire) & bit(signal) != 0;
    // SAFETY: written once, before the bit was set.
    taken.then(|| unsafe { (&(*PREVIOUS.actions.get()))[signal as usize] })
}

/// Does what would have happened without us: the previous handler, or the default action.
pub(super) fn chain(
    safe: Safe,
    signal: i32,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    let Some(previous) = previous(signal) else {
        return;
    };
    // What was there before us makes its system calls where it likes.
    let native = thread::block(safe).filter(|block| block.leave_native());
    match previous.handler as usize {
        libc::SIG_IGN => {}
        libc::SIG_DFL => {
            // Delivered when this handler returns.
            kernel_action(safe, signal, Some(&previous));
            // Not the id that was asked for once: a forked process has another one.
            safe::signal_thread(safe, safe::thread_id(safe), signal);
        }
        handler if previous.has(libc::SA_SIGINFO) => {
            // SAFETY: whoever installed the handler with SA_SIGINFO gave it this signature.
            let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) =
                unsafe { std::mem::transmute(handler) };
            handler(signal, info, context);
        }
        handler => {
            // SAFETY: without SA_SIGINFO a handler takes the signal number only.
            let handler: extern "C" fn(i32) = unsafe { std::mem::transmute(handler) };
            handler(signal);
        }
    }
    if let Some(block) = native {
        block.enter_native();
    }
}

/// Calls a handler of native code on a thread that has no block, where it interrupted the thread.
pub(super) fn call_in_place(
    safe: Safe,
    action: &SignalAction,
    signal: i32,
    info: *mut libc::siginfo_t,
    frame: &mut Frame<'_>,
) {
    let mut mask = frame.mask() | action.mask;
    if !action.has(libc::SA_NODEFER) {
        mask |= bit(signal);
    }
    let before = safe::set_mask(safe, mask);
    // SAFETY: native code gave the handler for this; one without SA_SIGINFO takes the first
    // argument only, which the calling convention allows.
    unsafe {
        let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut Context) =
            std::mem::transmute(action.handler as usize);
        handler(signal, info, frame.address());
    }
    safe::set_mask(safe, before);
}
