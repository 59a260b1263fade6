//! Installing the handlers, and what they do with signals that are not theirs.
//!
//! # Safety
//! The handlers that were there before are kept once, before ours are in force, and only read
//! afterwards. Calling one does what the kernel would have done without us.
#![allow(unsafe_code)]

use std::{cell::UnsafeCell, io};

use super::{
    safe::{self, Safe},
    signals::{END_CALL, on_signal},
};

/// Signals that are handled.
const SIGNALS: [i32; 8] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGSYS,
    END_CALL,
];

struct Previous(UnsafeCell<[Option<libc::sigaction>; 65]>);
// SAFETY: written by `install` before the handlers exist, only read afterwards.
unsafe impl Sync for Previous {}
static PREVIOUS: Previous = Previous(UnsafeCell::new([None; 65]));

/// Installs the handlers, keeping those that were there to be chained.
///
/// # Errors
/// What `sigaction(2)` says.
pub(super) fn install() -> io::Result<()> {
    for signal in SIGNALS {
        // SAFETY: `on_signal` has the signature that SA_SIGINFO asks for and keeps to the rules
        // of a handler. PREVIOUS is written before the handler for this signal is in force; it
        // is called once, under the lock of `Engine::start`.
        unsafe {
            let mut previous: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(signal, std::ptr::null(), &raw mut previous) != 0 {
                return Err(io::Error::last_os_error());
            }
            (*PREVIOUS.0.get())[signal as usize] = Some(previous);
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_signal as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
            libc::sigfillset(&raw mut action.sa_mask);
            if libc::sigaction(signal, &raw const action, std::ptr::null_mut()) != 0 {
                return Err(io::Error::last_os_error());
            }
        }
    }
    Ok(())
}

/// Does what would have happened without us: the previous handler, or the default action.
pub(super) fn chain(
    safe: Safe,
    signal: i32,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: written once, before the handlers were in force.
    let previous = unsafe { (&(*PREVIOUS.0.get()))[signal as usize] };
    let Some(previous) = previous else { return };
    match previous.sa_sigaction {
        libc::SIG_IGN => {}
        libc::SIG_DFL => {
            // SAFETY: puts the default action in force and sends the signal once more; it is
            // delivered when this handler returns.
            unsafe { libc::sigaction(signal, &raw const previous, std::ptr::null_mut()) };
            // Not the id that was asked for once: a forked process has another one.
            safe::signal_thread(safe, safe::thread_id(safe), signal);
        }
        handler if previous.sa_flags & libc::SA_SIGINFO != 0 => {
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
}
