//! Ending a native call from a handler.
//!
//! ```text
//!  crash, exit, request ─► describe: registers of original code, stack ─► guard's landing
//! ```
//!
//! # Safety
//! A `Guard` is written only on the thread whose call it is, while the call runs.
#![allow(unsafe_code)]

use tracer_ebpf::Regs;

use super::{
    engine::Engine,
    exit,
    frame::{Frame, RDI, RSP, TRAP_FLAG},
    gate,
    guard::{Crash, Guard, Reason},
    hot,
    safe::{self, Safe},
    signals::Raised,
    thread,
    verdict::Verdict,
};

/// Direction flag.
const DIRECTION_FLAG: u64 = 1 << 10;

/// What there is to say about a signal that ends a call, in terms of original code.
fn describe(
    safe: Safe,
    engine: &Engine,
    frame: &Frame<'_>,
    reason: Reason,
    mut regs: Regs,
    raised: &Raised,
) -> Crash {
    let Raised {
        signal, code, addr, ..
    } = *raised;
    if let Some((displaced, offset)) = engine.code.find(regs.rip) {
        displaced.to_original(offset, &mut regs);
    }
    regs = hot::original(engine, regs);
    if gate::is_call(regs.rip) {
        // It has no unwind information; its caller, ours, has.
        let mut caller = [0; 8];
        let process = safe::process_id(safe);
        if safe::read_memory(safe, process, regs.gpr[RSP], &mut caller) == caller.len() {
            regs.rip = u64::from_ne_bytes(caller);
            regs.gpr[RSP] += 8;
        }
    }
    let tid = thread::id(safe);
    engine.stacks.take_own(safe, addr, &regs);
    Crash {
        reason,
        signal,
        code,
        addr,
        error: frame.error(),
        tid,
        regs,
    }
}

fn end_call(frame: &mut Frame<'_>, guard: *mut Guard, crash: Crash) {
    // SAFETY: the guard is this thread's innermost, and its call is under way.
    let guard_ref = unsafe { &mut *guard };
    guard_ref.crash = Some(crash);
    if guard_ref.end_early() {
        return;
    }
    frame.set_ip(guard_ref.landing());
    frame.set_register(RSP, guard_ref.stack_pointer());
    frame.set_register(RDI, guard as u64);
    frame.set_flags(frame.flags() & !(TRAP_FLAG | DIRECTION_FLAG));
    frame.set_mask(guard_ref.mask);
}

/// Ends the call that the verdict is about. The thread of another call stays here until the
/// process ends: its state is lost, and its stack may be needed by the report.
pub(super) fn end(
    safe: Safe,
    engine: &Engine,
    frame: &mut Frame<'_>,
    verdict: Verdict,
    regs: &Regs,
    raised: &Raised,
) {
    match verdict {
        Verdict::End(guard, reason) => {
            let crash = describe(safe, engine, frame, reason, *regs, raised);
            end_call(frame, guard, crash);
        }
        Verdict::EndOther(key) => {
            let reason = Reason::OtherThread;
            let crash = describe(safe, engine, frame, reason, *regs, raised);
            engine.other_crash.put(crash);
            engine.request_end(safe, key, reason);
            exit::park(safe);
        }
        Verdict::Lost => {
            let crash = describe(safe, engine, frame, Reason::OtherThread, *regs, raised);
            engine.other_crash.put(crash);
            exit::park(safe);
        }
        _ => {}
    }
}

/// Ends this thread's native call, if it is in one.
pub(super) fn end_own_call(
    safe: Safe,
    engine: &Engine,
    frame: &mut Frame<'_>,
    reason: Reason,
) -> bool {
    let guard = thread::state(safe, |state| state.guard.get());
    if guard.is_null() {
        return false;
    }
    let nothing = Raised::nothing();
    let crash = describe(safe, engine, frame, reason, frame.regs(), &nothing);
    end_call(frame, guard, crash);
    true
}
