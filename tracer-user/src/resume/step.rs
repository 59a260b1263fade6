//! Single steps: one instruction with the native view open, for what has no copy.
//!
//! ```text
//!  begin: view open, trap flag set, asynchronous signals blocked ─► the instruction ─► SIGTRAP
//!  end:   view closed, flag and mask as they were
//! ```

use std::sync::atomic::Ordering;

use super::{
    engine::Engine,
    frame::{Frame, TRAP_FLAG},
    safe::Safe,
    signals::SYNCHRONOUS,
    site::Site,
    thread,
};

/// Has the thread make its next instruction with the native view open.
pub(super) fn begin(safe: Safe, engine: &Engine, frame: &mut Frame<'_>, site: &Site) {
    engine.open(safe);
    site.steps.fetch_add(1, Ordering::Relaxed);
    let mut mask = u64::MAX;
    for signal in SYNCHRONOUS {
        mask &= !(1 << (signal - 1));
    }
    thread::state(safe, |state| {
        state.stepping.set(true);
        state
            .parts
            .set(if site.needs.in_parts() { site.ip } else { 0 });
        state.mask.set(frame.mask());
    });
    frame.set_mask(mask);
    frame.set_flags(frame.flags() | TRAP_FLAG);
}

/// Whether an instruction that is stepped in parts has some to go: see [`Needs::in_parts`].
///
/// [`Needs::in_parts`]: crate::decode::Needs::in_parts
pub(super) fn in_the_middle(safe: Safe, frame: &Frame<'_>) -> bool {
    thread::state(safe, |state| {
        state.stepping.get() && state.parts.get() == frame.ip() && frame.flags() & TRAP_FLAG != 0
    })
}

/// Closes the native view if this thread had it open, and puts flag and mask back.
pub(super) fn end(safe: Safe, engine: &Engine, frame: &mut Frame<'_>) {
    thread::state(safe, |state| {
        if state.stepping.replace(false) {
            engine.close(safe);
            frame.set_mask(state.mask.get());
            frame.set_flags(frame.flags() & !TRAP_FLAG);
        }
    });
}
