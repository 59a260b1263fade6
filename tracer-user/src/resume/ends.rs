//! Requests to end native calls: asked by any thread, taken by the thread whose call it is.
//!
//! ```text
//!  timeout, exit, crash of another thread ─► ask(guard, reason) ─► signal to the call's thread
//!  its handler: the innermost call, or one around it? ─► the innermost ends; a request for one
//!               around it stays, and is looked at again when native code of that call goes on
//! ```
//! A request is one word, the guard's address and the reason in the bits that its alignment
//! leaves, so that nobody sees half of one.

use std::sync::atomic::{AtomicU64, Ordering};

use super::guard::{Guard, Reason};

/// Calls that may be asked to end at the same time: one inside the other, or of other threads.
const SLOTS: usize = 16;
const REASON: u64 = 7;
const _: () = assert!(align_of::<Guard>() > REASON as usize);

/// See the module. All functions are async-signal-safe.
pub(super) struct EndRequests {
    slots: [AtomicU64; SLOTS],
}

impl EndRequests {
    pub(super) const fn new() -> EndRequests {
        EndRequests {
            slots: [const { AtomicU64::new(0) }; SLOTS],
        }
    }

    /// Asks for the end of the call that `guard` began; a later reason replaces an earlier one.
    pub(super) fn ask(&self, guard: *mut Guard, reason: Reason) {
        let word = guard as u64 | reason as u64;
        for slot in &self.slots {
            let mut known = slot.load(Ordering::Acquire);
            while known == 0 || known & !REASON == guard as u64 {
                match slot.compare_exchange(known, word, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => return,
                    Err(now) => known = now,
                }
            }
        }
        // Who is turned away here is a timeout that is asked again, or a process that ends.
        self.slots[0].store(word, Ordering::Release);
    }

    /// Why the call that `guard` began is to end, if it is.
    pub(super) fn asked(&self, guard: *mut Guard) -> Option<Reason> {
        self.slots.iter().find_map(|slot| {
            let word = slot.load(Ordering::Acquire);
            (word != 0 && word & !REASON == guard as u64).then(|| reason(word))
        })
    }

    /// The same, and forgets it: the call ends.
    pub(super) fn take(&self, guard: *mut Guard) -> Option<Reason> {
        let asked = self.asked(guard);
        if asked.is_some() {
            self.forget(guard);
        }
        asked
    }

    /// Forgets requests for a call that has ended.
    pub(super) fn forget(&self, guard: *mut Guard) {
        for slot in &self.slots {
            let word = slot.load(Ordering::Relaxed);
            if word != 0 && word & !REASON == guard as u64 {
                let _ = slot.compare_exchange(word, 0, Ordering::AcqRel, Ordering::Relaxed);
            }
        }
    }
}

fn reason(word: u64) -> Reason {
    const REASONS: [Reason; 4] = [
        Reason::OtherThread,
        Reason::Exit,
        Reason::Interpreter,
        Reason::Timeout,
    ];
    let known = REASONS
        .into_iter()
        .find(|known| *known as u64 == word & REASON);
    known.unwrap_or(Reason::Timeout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart() {
        let ends = EndRequests::new();
        let (one, other) = (0x1000 as *mut Guard, 0x2000 as *mut Guard);
        ends.ask(one, Reason::Timeout);
        ends.ask(other, Reason::Exit);
        ends.ask(one, Reason::OtherThread);
        assert_eq!(ends.asked(one), Some(Reason::OtherThread));
        assert_eq!(ends.take(one), Some(Reason::OtherThread));
        assert_eq!(ends.asked(one), None);
        assert_eq!(ends.asked(other), Some(Reason::Exit));
        ends.forget(other);
        assert_eq!(ends.take(other), None);
    }

    #[test]
    fn every_reason_survives() {
        let ends = EndRequests::new();
        let guard = 0x1000 as *mut Guard;
        for reason in [
            Reason::OtherThread,
            Reason::Timeout,
            Reason::Exit,
            Reason::Interpreter,
        ] {
            ends.ask(guard, reason);
            assert_eq!(ends.take(guard), Some(reason));
        }
    }

    #[test]
    fn more_calls_than_slots_lose_no_new_request() {
        let ends = EndRequests::new();
        for index in 1..=SLOTS as u64 + 1 {
            let guard = (index << 12) as *mut Guard;
            ends.ask(guard, Reason::Timeout);
            assert_eq!(ends.asked(guard), Some(Reason::Timeout));
        }
    }
}
