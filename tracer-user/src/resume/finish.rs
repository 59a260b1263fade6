//! Signals that find a thread in a displaced copy, its access recorded and not made.
//!
//! ```text
//!  signal ─► sent once more, all others blocked ─► the copy is stepped to its end ─► mask as before,
//!                                                  back in original code ─► there the signal comes
//! ```
//! A handler that never comes back, but jumps out, would leave a record of what did not happen; and
//! whoever looks at its registers would find the thread in code that nobody knows.

use super::{
    engine::Engine,
    frame::{Frame, TRAP_FLAG},
    safe::{self, Safe},
    signal_calls::bit,
    signals::{END_CALL, LET_GO, SYNCHRONOUS},
    thread,
};

/// Whether the signal is left for when the copy is done, or is the trap by which that is known.
/// Async-signal-safe.
pub(super) fn first(
    safe: Safe,
    engine: &Engine,
    frame: &mut Frame<'_>,
    signal: i32,
    info: *const libc::siginfo_t,
) -> bool {
    let (finishing, stepping) =
        thread::state(safe, |state| (state.finishing.get(), state.stepping.get()));
    if finishing {
        return goes_on(safe, engine, frame, signal);
    }
    let own = thread::block(safe).is_some_and(|block| block.in_native() && block.depth.get() == 0);
    if !own || stepping || [END_CALL, LET_GO].contains(&signal) || SYNCHRONOUS.contains(&signal) {
        return false;
    }
    let pending = engine.code.find(frame.ip());
    if !pending.is_some_and(|(copy, offset)| copy.is_pending(offset)) {
        return false;
    }
    if !safe::signal_again(safe, thread::id(safe), signal, info) {
        return false;
    }
    let mask = frame.mask();
    thread::state(safe, |state| {
        state.finishing.set(true);
        state.mask.set(mask);
    });
    // What the instruction itself raises must not be blocked.
    let open = SYNCHRONOUS
        .iter()
        .fold(0, |open, signal| open | bit(*signal));
    frame.set_mask(!open);
    frame.set_flags(frame.flags() | TRAP_FLAG);
    true
}

/// A signal while the copy is stepped: the trap after each step, or what the instruction raised.
fn goes_on(safe: Safe, engine: &Engine, frame: &mut Frame<'_>, signal: i32) -> bool {
    let place = engine.code.find(frame.ip());
    if signal == libc::SIGTRAP && place.is_some_and(|(copy, offset)| copy.is_pending(offset)) {
        return true;
    }
    let mask = thread::state(safe, |state| {
        state.finishing.set(false);
        state.mask.get()
    });
    frame.set_mask(mask);
    frame.set_flags(frame.flags() & !TRAP_FLAG);
    if signal == libc::SIGTRAP
        && let Some((copy, offset)) = place
    {
        let mut regs = frame.regs();
        copy.to_original(offset, &mut regs);
        frame.set_regs(&regs);
    }
    signal == libc::SIGTRAP
}
