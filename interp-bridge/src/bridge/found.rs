//! What one call was found to do wrong, beside the memory's log of all calls.
//!
//! ```text
//!  begin(stop) ─► findings, refusals, a crash ─► end: how many, which one stopped it
//!                                                 any: the interpreter is asked where it was
//! ```
//! The interpreter stands still while native code runs, so its call stack can be asked for at the
//! end of the call, and only where something was found: a call without violations does not pay.

use std::sync::Arc;

use crate::memory::Finding;

/// Tells the interpreter's own call stack, innermost frame first.
pub type CallStackProvider = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// When a call ends for what native code does wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StopAt {
    /// When it returns: all violations are collected, up to the log's limit, and counted.
    #[default]
    Never,
    /// Before it makes the first access that is a violation. What that access would have read or
    /// written is in the memory's account of the call, as if it had been made; the bytes are as
    /// they were. What a system call does wrong ends the call when the system call is over.
    First,
}

/// See the module.
#[derive(Default)]
pub(super) struct Found {
    stop: StopAt,
    first: Option<Finding>,
    count: u64,
}

impl Found {
    /// Begins a call; returns what the call around it, if there is one, found so far.
    pub(super) fn begin(&mut self, stop: StopAt) -> Found {
        let fresh = Found {
            stop,
            ..Found::default()
        };
        std::mem::replace(self, fresh)
    }

    /// Goes back to the call around, and returns what this one found.
    pub(super) fn end(&mut self, around: Found) -> Found {
        std::mem::replace(self, around)
    }

    pub(super) fn finding(&mut self, finding: &Finding) {
        self.count += 1;
        self.first.get_or_insert(*finding);
    }

    /// Something that is not about an access: it does not stop a call.
    pub(super) fn other(&mut self) {
        self.count += 1;
    }

    /// Whether native code is to be stopped now.
    pub(super) fn stop(&self) -> bool {
        self.stop == StopAt::First && self.first.is_some()
    }

    /// How many violations there were.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The first one, in a call that ends with it.
    pub(super) fn first(&self) -> Option<Finding> {
        self.first.filter(|_| self.stop == StopAt::First)
    }

    /// When this call ends.
    pub(super) fn stop_at(&self) -> StopAt {
        self.stop
    }
}
