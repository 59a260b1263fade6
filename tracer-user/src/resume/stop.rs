//! Stopping native code at its first violation, before it makes the access.
//!
//! ```text
//!  access ─► recorded ─► looks wrong? ──no──► goes on
//!                             │ yes
//!                  asks for a drain, waits ─► agent: drains, sink judges ─► wanted?
//!                             │◄───────────────────────────────────────────────┘
//!              wanted: the call ends here   not wanted: goes on; it has cost time alone
//! ```
//! Who judges is the sink, which allocates and locks; the handler only waits until a drain that
//! began after its record was written has ended. What looks wrong is decided widely: what the
//! shadow does not clear, and each instruction with more than one operand or with state that a
//! page fault does not show, since only the first of its accesses has faulted.
//!
//! Drains are numbered. The handler's record is in the ring before it reads the number of the
//! last drain that began; it does so by a read-modify-write, as who drains does before it looks at
//! the ring. So either that drain finds the record, or its number is no larger than the one read,
//! and the handler waits for the next.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::{
    ending,
    engine::Engine,
    frame::Frame,
    guard::Reason,
    safe::{self, Safe},
    signals::Raised,
    site::{Action, Site},
    thread,
    verdict::Verdict,
};

/// How often, about a millisecond apart, a handler looks whether its access has been judged. Who
/// judges may be held up by what the interpreter holds, and native code by that in turn: then the
/// access is made, and reported at the end of the call as without this mode.
const PATIENCE: u32 = 2000;

/// See the module.
pub(crate) struct Stop {
    armed: AtomicBool,
    wanted: AtomicBool,
    /// Number of the drain that began last.
    begun: AtomicU32,
    /// Number of the last drain after which nothing was left to judge.
    judged: AtomicU32,
    /// Threads that wait to be judged. One whose call ended meanwhile may be counted for ever.
    waiting: AtomicU32,
}

impl Stop {
    pub(super) const fn new() -> Stop {
        Stop {
            armed: AtomicBool::new(false),
            wanted: AtomicBool::new(false),
            begun: AtomicU32::new(0),
            judged: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
        }
    }

    /// Whether the next call is to be stopped. No other call may be under way.
    pub(crate) fn arm(&self, on: bool) {
        self.wanted.store(false, Ordering::Relaxed);
        self.armed.store(on, Ordering::Release);
    }

    /// Whether the call is to be stopped at its first violation.
    pub(crate) fn is_armed(&self) -> bool {
        self.armed.load(Ordering::Acquire)
    }

    /// Called by who drains, before it looks at the rings: the drain's number. One drains at a
    /// time.
    pub(crate) fn drain_begins(&self) -> u32 {
        self.begun.fetch_add(1, Ordering::SeqCst).wrapping_add(1)
    }

    /// Called by who drains, when everything up to here has been judged; `wanted` says whether
    /// something was wrong.
    pub(crate) fn drain_judged(&self, safe: Safe, number: u32, wanted: bool) {
        if wanted {
            self.wanted.store(true, Ordering::Relaxed);
        }
        // Either who waits sees the number, or is seen here.
        self.judged.store(number, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            safe::wake(safe, &self.judged);
        }
    }

    /// Waits until all that this thread has recorded is judged, and says whether the call is to
    /// be stopped. Async-signal-safe.
    fn wait(&self, safe: Safe, engine: &Engine) -> bool {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let stop = self.judgement(safe, engine);
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        stop
    }

    fn judgement(&self, safe: Safe, engine: &Engine) -> bool {
        let begun = self.begun.fetch_add(0, Ordering::SeqCst);
        for _ in 0..PATIENCE {
            let judged = self.judged.load(Ordering::SeqCst);
            if judged.wrapping_sub(begun) as i32 > 0 {
                return self.wanted.load(Ordering::Relaxed);
            }
            engine.ask_for_drain(safe);
            safe::wait(safe, &self.judged, judged);
        }
        false
    }
}

/// Whether an access that was recorded may turn out to be wrong, so that it must be judged before
/// it is made. Async-signal-safe.
pub(super) fn is_open(engine: &Engine, site: &Site, looks_wrong: bool) -> bool {
    engine.stop.is_armed()
        && (looks_wrong
            || site.needs.any()
            || site.touches_stack
            || !matches!(site.action, Action::Operand { .. }))
}

/// Waits for the verdict on what this thread has recorded; where it is wrong, ends the call at
/// the instruction in the frame and returns true. Async-signal-safe.
pub(super) fn judge(safe: Safe, engine: &Engine, frame: &mut Frame<'_>) -> bool {
    // A process that native code made has no part in the call, or its maker waits for it. Code of
    // the interpreter, in a callback, is not to be stopped.
    if thread::state(safe, |state| state.outside.get()) {
        return false;
    }
    if !engine.at_home(safe) || thread::block(safe).is_some_and(|block| block.guest.get()) {
        return false;
    }
    if !engine.stop.wait(safe, engine) {
        return false;
    }
    if ending::end_own_call(safe, engine, frame, Reason::Stopped) {
        return true;
    }
    let Some(key) = engine.current_call() else {
        return false;
    };
    let nothing = Raised::nothing();
    let regs = frame.regs();
    ending::end(safe, engine, frame, Verdict::EndOther(key), &regs, &nothing);
    true
}
