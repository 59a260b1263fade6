//! Whether being in translated code pays.
//!
//! A fault costs microseconds, and code that is translated runs some times slower than it would. So
//! a thread that touches the arena seldom is better off in original code:
//!
//! ```text
//!  every 5 ms, whoever drains: this thread went into translated code, and has told few accesses?
//!    ─► a signal: it is put back into original code, and stays there           (calm)
//!  calm: faults recorded one by one, until there are many in a short time ─► no longer calm
//!        or very many in any time: where a fault is dear, none follows closely on another
//!  a return into unknown code: translated if such returns follow closely on one another
//! ```
//!
//! # Safety
//! The time-stamp counter is only read.
#![allow(unsafe_code)]

use std::{
    cell::Cell,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

/// Entries in one period that make up for the slower code.
const ENOUGH: u64 = 1000;
/// Faults that are looked at together.
const WINDOW: u32 = 32;
/// Faults after which a calm thread is tried again in any case. It may have been busy with nothing but
/// accesses, and not been given a processor while it was looked at. Where faults do not follow closely,
/// so many take longer than 150 ms, and a try that does not pay some 5.
const TRY_AGAIN: u32 = 16_384;
/// Ticks of the time-stamp counter between two faults, or returns, that follow closely: some ten
/// microseconds.
const CLOSE: u64 = 30_000;

/// What a thread's handler knows.
pub(crate) struct Pace {
    calm: Cell<bool>,
    faults: Cell<u32>,
    since: Cell<u64>,
    returned: Cell<u64>,
}

/// What the handler and whoever drains share.
#[repr(C)]
pub(crate) struct Sampled {
    /// 1 where the thread went into translated code since the last look.
    entered: AtomicU32,
    /// 1 where it is to stay out of it.
    calm: AtomicU32,
    /// 1 where it runs the interpreter's code, since it was last in translated code.
    left: AtomicU32,
    /// Entries at the last look.
    entries: AtomicU64,
}

impl Pace {
    pub(crate) const fn new() -> Pace {
        Pace {
            calm: Cell::new(false),
            faults: Cell::new(0),
            since: Cell::new(0),
            returned: Cell::new(0),
        }
    }

    /// Whether this fault's thread may go into translated code. Async-signal-safe.
    pub(crate) fn may_enter(&self, sampled: &Sampled) -> bool {
        if sampled.calm.swap(0, Ordering::Relaxed) != 0 {
            self.calm.set(true);
            self.faults.set(0);
        }
        if self.calm.get() {
            let faults = self.faults.get();
            if faults.is_multiple_of(WINDOW) {
                self.since.set(now());
            }
            self.faults.set(faults + 1);
            if !(faults + 1).is_multiple_of(WINDOW) {
                return false;
            }
            let close = now() - self.since.get() <= u64::from(WINDOW) * CLOSE;
            if !close && faults + 1 < TRY_AGAIN {
                return false;
            }
            self.calm.set(false);
        }
        sampled.left.store(0, Ordering::Relaxed);
        sampled.entered.store(1, Ordering::Relaxed);
        true
    }

    /// Whether returns from translated into unknown code, of which this is one in
    /// [`PATIENCE`](super::log::PATIENCE), follow closely on one another. Async-signal-safe.
    pub(crate) fn returns_often(&self) -> bool {
        let now = now();
        now - self.returned.replace(now) < super::log::PATIENCE * CLOSE
    }
}

impl Sampled {
    /// The thread runs the interpreter's code now: it is not to be disturbed. Async-signal-safe.
    pub(crate) fn left(&self) {
        self.left.store(1, Ordering::Relaxed);
        self.entered.store(0, Ordering::Relaxed);
    }

    /// Whether it may be in translated code now, and may be disturbed.
    pub(super) fn is_there(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }

    /// Looks at a thread that has so many entries by now: whether it is active, and whether it is
    /// better off in original code, to be told so by a signal.
    pub(super) fn look(&self, entries: u64) -> (bool, bool) {
        let new = entries.saturating_sub(self.entries.swap(entries, Ordering::Relaxed));
        let entered = self.entered.swap(0, Ordering::Relaxed) != 0;
        let idle = entered && new < ENOUGH;
        if idle {
            self.calm.store(1, Ordering::Relaxed);
        }
        (entered || new > 0, idle)
    }
}

fn now() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, and Linux lets everybody use it.
    unsafe { std::arch::x86_64::_rdtsc() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampled() -> Sampled {
        Sampled {
            entered: AtomicU32::new(0),
            calm: AtomicU32::new(0),
            left: AtomicU32::new(0),
            entries: AtomicU64::new(0),
        }
    }

    #[test]
    fn who_tells_little_stays_out_until_faults_are_many() {
        let (pace, shared) = (Pace::new(), sampled());
        assert!(pace.may_enter(&shared));
        assert_eq!(shared.look(5), (true, true), "five entries in a period");
        // Faults of this loop follow as closely as can be.
        let refused = (0..WINDOW).take_while(|_| !pace.may_enter(&shared)).count();
        assert_eq!(refused as u32, WINDOW - 1);
        assert!(pace.may_enter(&shared));
    }

    #[test]
    fn who_tells_much_is_tried_again_where_faults_are_dear() {
        let (pace, shared) = (Pace::new(), sampled());
        assert!(pace.may_enter(&shared));
        assert_eq!(shared.look(5), (true, true));
        let refused = (0..2 * TRY_AGAIN).take_while(|_| {
            // The last window began long ago.
            pace.since.set(0);
            !pace.may_enter(&shared)
        });
        assert_eq!(refused.count() as u32, TRY_AGAIN - 1);
    }

    #[test]
    fn who_tells_much_goes_on() {
        let (pace, shared) = (Pace::new(), sampled());
        assert!(pace.may_enter(&shared));
        assert_eq!(shared.look(100_000), (true, false));
        assert!(pace.may_enter(&shared));
        assert_eq!(shared.look(200_000), (true, false));
        assert_eq!(shared.look(200_000), (false, false), "it did not come back");
    }
}
