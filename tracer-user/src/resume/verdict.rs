//! What to do about a signal: whose it is, and what becomes of it.
//!
//! ```text
//!  under a step ─► ours (END_CALL) ─► access to the native view ─► native code's handler
//!    ─► the interpreter's, from before ─► fatal: ends the call, or goes to who was there before
//! ```
//! The first that applies is the verdict. Nothing is changed here but a counter.

use std::sync::atomic::Ordering;

use super::{
    actions::{Actions, SignalAction},
    block::Block,
    engine::{CallKey, Engine, Recording},
    frame::Frame,
    guard::{Guard, Reason},
    install,
    safe::Safe,
    signal_calls::bit,
    signals::{ERROR_FETCH, LET_GO, Raised},
    thread,
};

/// `si_code` of a SIGSEGV by protection.
pub(super) const SEGV_ACCERR: i32 = 2;

/// What to do about a signal.
pub(super) enum Verdict {
    /// Native code touched the native view.
    Access(u64),
    /// The stepped instruction is done.
    StepDone,
    /// End this thread's native call.
    End(*mut Guard, Reason),
    /// Another thread of native code is lost; end the call that is under way.
    EndOther(CallKey),
    /// Another thread of native code is lost, and no call is under way; the next one is told.
    Lost,
    /// Native code handles it.
    Deliver(SignalAction),
    /// Native code believes to have blocked it: it stays for later.
    Hold,
    /// What was set for it has changed meanwhile: the kernel is to decide.
    Again,
    /// Nothing to do.
    Ignore,
    /// Not ours.
    Chain,
}

pub(super) fn judge(safe: Safe, engine: &Engine, frame: &Frame<'_>, raised: &Raised) -> Verdict {
    let Raised {
        signal, code, addr, ..
    } = *raised;
    let (guard, stepping) = thread::state(safe, |state| (state.guard.get(), state.stepping.get()));
    if signal == libc::SIGTRAP && stepping {
        return Verdict::StepDone;
    }
    if raised.ours {
        let asked = !guard.is_null() && engine.at_home(safe);
        let reason = asked.then(|| engine.end_asked_of(guard)).flatten();
        return reason.map_or(Verdict::Ignore, |reason| Verdict::End(guard, reason));
    }
    let recorded = matches!(engine.recording(), Recording::Handler | Recording::Kernel);
    if signal == libc::SIGSEGV
        && code == SEGV_ACCERR
        && recorded
        && !stepping
        && frame.error() & ERROR_FETCH == 0
        && engine.session().is_native(addr)
        && engine.code.find(frame.ip()).is_none()
    {
        return Verdict::Access(addr);
    }
    if let Some(verdict) = believed(safe, raised) {
        return verdict;
    }
    if !install::OURS.contains(&signal) {
        return match install::previous(signal) {
            Some(_) => Verdict::Chain,
            None => Verdict::Again,
        };
    }
    if signal == LET_GO {
        // The supervisor that it was meant for is gone.
        return Verdict::Ignore;
    }
    if signal == libc::SIGSEGV && engine.session().is_native(addr) && !engine.at_home(safe) {
        engine.foreign.fetch_add(1, Ordering::Relaxed);
    }
    fatal(safe, engine)
}

/// What native code wants of the signal, if it wants anything that can be had.
fn believed(safe: Safe, raised: &Raised) -> Option<Verdict> {
    let block = thread::block(safe);
    let hidden = block.map_or(0, |block| block.hidden.get()) & bit(raised.signal) != 0;
    if raised.by_instruction() && (hidden || !block.is_some_and(Block::in_native)) {
        // The kernel ends a process that blocks what an instruction raises. What is not native
        // code's own is nothing that it has to know of.
        return None;
    }
    let action = block
        .map_or_else(Actions::of_process, Block::actions)
        .get(raised.signal);
    if hidden {
        return Some(Verdict::Hold);
    }
    // It might call back, in the middle of what the interpreter does.
    let outside = thread::state(safe, |state| state.outside.get());
    match action {
        Some(action) if action.is_handler() && outside && block.is_some() => Some(Verdict::Hold),
        Some(action) if action.is_handler() => Some(Verdict::Deliver(action)),
        Some(action) if action.ignores() && !raised.by_instruction() => Some(Verdict::Ignore),
        _ => None,
    }
}

/// Whether native code has started this thread.
fn is_native_codes(safe: Safe) -> bool {
    thread::block(safe).is_some_and(|block| !block.interpreters.get())
}

/// What becomes of a signal that nobody handles.
pub(super) fn fatal(safe: Safe, engine: &Engine) -> Verdict {
    let (guard, ours) = thread::state(safe, |state| {
        (state.guard.get(), state.ours.get() || state.outside.get())
    });
    if !engine.at_home(safe) || thread::block(safe).is_some_and(|block| block.guest.get()) {
        return Verdict::Chain;
    }
    if !guard.is_null() {
        return Verdict::End(guard, Reason::Signal);
    }
    match engine.current_call() {
        Some(key) if !ours => Verdict::EndOther(key),
        None if !ours && is_native_codes(safe) => Verdict::Lost,
        _ => Verdict::Chain,
    }
}
