//! The roster: which threads are in a handler, and how to get the others into one.
//!
//! An instruction that has no displaced copy is executed in place, with the native view open.
//! What another thread of native code did to it meanwhile would go unseen, so all of them are
//! brought into a handler first, and stay there until the native view is closed:
//!
//! ```text
//!  stepping thread                        any other thread
//!    step_owner := me                       runs native code
//!    for each thread of the process:
//!      inside its handler? ── yes ─► next   (it looks at step_owner before it leaves)
//!      else send END_CALL ───────────────►  enters the handler: inside := 1
//!      wait for inside                      leaves it: inside := 0; step_owner set? then
//!    open, step, close                        inside := 1 and wait for the end of the step
//!    step_owner := 0, wake ────────────────►  goes on
//! ```
//! Store of `inside`, load of `step_owner` on one side, store of `step_owner`, load of `inside` on
//! the other, all sequentially consistent: at least one of the two sees the other. A system call
//! of native code is made inside a handler, so a thread that waits in one is not disturbed.
//!
//! # Safety
//! Slots lie in a mapping that lives as long as the process and consist of atomics only.
#![allow(unsafe_code)]

use std::{
    io,
    sync::atomic::{AtomicU32, Ordering::SeqCst},
};

use super::{
    safe::{self, Safe},
    signals, thread,
};
use crate::mapping::Mapping;

/// Threads that have a slot at the same time.
const SLOTS: usize = 4096;
/// How often a thread is looked at, a millisecond apart, before it counts as out of reach: it
/// blocks the signal.
const PATIENCE: u32 = 100;

/// What is known of one thread. All zeros: no thread.
#[repr(C)]
pub(super) struct Slot {
    tid: AtomicU32,
    /// 1 while the thread runs a handler, or waits in one.
    inside: AtomicU32,
    /// 1 where the thread never runs native code.
    ours: AtomicU32,
}

/// See the module.
pub(super) struct Roster {
    slots: Mapping,
}

impl Roster {
    /// An empty roster.
    ///
    /// # Errors
    /// What `mmap(2)` says.
    pub(super) fn new() -> io::Result<Roster> {
        Ok(Roster {
            slots: Mapping::private(SLOTS * size_of::<Slot>())?,
        })
    }

    fn slot(&self, index: usize) -> &'static Slot {
        // SAFETY: the mapping holds SLOTS zeroed slots, the index is kept below that, and the
        // engine, which owns the roster, is never dropped once handlers can reach it.
        unsafe { &*self.slots.as_ptr().cast::<Slot>().add(index % SLOTS) }
    }

    /// The slots in the order in which thread `tid` looks for its own.
    fn places(&self, tid: u32) -> impl Iterator<Item = &'static Slot> {
        let start = tid as usize;
        (0..SLOTS).map(move |step| self.slot(start + step))
    }

    fn find(&self, tid: u32) -> Option<&'static Slot> {
        self.places(tid)
            .take_while(|slot| slot.tid.load(SeqCst) != 0)
            .find(|slot| slot.tid.load(SeqCst) == tid)
    }

    /// The slot of the calling thread, taken at its first use; none where all are taken.
    /// Async-signal-safe.
    fn own(&self, safe: Safe) -> Option<&'static Slot> {
        thread::state(safe, |state| {
            if let Some(slot) = state.slot.get() {
                return Some(slot);
            }
            let tid = thread::id(safe);
            let take = |slot: &&'static Slot| loop {
                let holder = slot.tid.load(SeqCst);
                if holder == tid {
                    return true;
                }
                // A slot that held a thread once is never empty again, so that look-ups, which
                // end at the first empty one, stay right; a dead holder is replaced.
                if holder != 0 && safe::thread_exists(safe, holder) {
                    return false;
                }
                if slot
                    .tid
                    .compare_exchange(holder, tid, SeqCst, SeqCst)
                    .is_ok()
                {
                    slot.ours.store(0, SeqCst);
                    return true;
                }
            };
            let slot = self.find(tid).or_else(|| self.places(tid).find(take))?;
            state.slot.set(Some(slot));
            Some(slot)
        })
    }

    /// Says that the calling thread never runs native code. Async-signal-safe.
    pub(super) fn mark_ours(&self, safe: Safe) {
        if let Some(slot) = self.own(safe) {
            slot.ours.store(1, SeqCst);
        }
    }

    /// The calling thread enters a handler. Async-signal-safe.
    pub(super) fn enter(&self, safe: Safe, step_owner: &AtomicU32) {
        if let Some(slot) = self.own(safe) {
            slot.inside.store(1, SeqCst);
            if step_owner.load(SeqCst) != 0 {
                safe::wake(safe, &slot.inside);
            }
        }
    }

    /// The calling thread is about to leave its handler: waits while another thread has the
    /// native view open. Async-signal-safe.
    pub(super) fn leave(&self, safe: Safe, step_owner: &AtomicU32) {
        let Some(slot) = self.own(safe) else { return };
        loop {
            slot.inside.store(0, SeqCst);
            let owner = step_owner.load(SeqCst);
            // In a forked process the word is a copy, and its owner was left behind.
            if owner == 0 || owner == thread::id(safe) || !safe::thread_exists(safe, owner) {
                return;
            }
            slot.inside.store(1, SeqCst);
            safe::wake(safe, &slot.inside);
            safe::wait(safe, step_owner, owner);
        }
    }

    /// Brings every other thread that may run native code into a handler; `step_owner` names
    /// the calling thread already. False where one could not be reached. Async-signal-safe.
    pub(super) fn halt_others(&self, safe: Safe) -> bool {
        let me = thread::id(safe);
        let mut reached = true;
        // A thread that was on its way into being when the list was made is on the next one.
        loop {
            let mut halted = false;
            let complete = safe::each_thread(safe, &mut |tid| {
                if tid != me && !self.is_inside(tid) {
                    halted = true;
                    reached &= self.halt(safe, tid);
                }
            });
            if !halted || !reached || !complete {
                return reached && complete;
            }
        }
    }

    pub(super) fn is_inside(&self, tid: u32) -> bool {
        self.find(tid)
            .is_some_and(|slot| slot.ours.load(SeqCst) != 0 || slot.inside.load(SeqCst) != 0)
    }

    fn halt(&self, safe: Safe, tid: u32) -> bool {
        let nobody = AtomicU32::new(0);
        signals::send_end_call(safe, tid);
        for _ in 0..PATIENCE {
            if self.is_inside(tid) || !safe::thread_exists(safe, tid) {
                return true;
            }
            // Without a slot yet, there is nothing to be woken at.
            let word = self.find(tid).map_or(&nobody, |slot| &slot.inside);
            safe::wait(safe, word, 0);
        }
        false
    }
}
