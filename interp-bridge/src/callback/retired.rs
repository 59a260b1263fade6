//! Code and records of freed callbacks, kept for a while.
//!
//! libffi's memory for closures is reused at once. A call of a callback that was just freed would
//! then run another one, so the last [`QUARANTINE`] closures are kept. Those of typed callbacks
//! are too, for the threads of native code that are in them already.
//!
//! # Safety
//! A closure is freed once, by its only owner, before the record that it points to.
#![allow(unsafe_code)]

use std::{
    any::Any,
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use libffi::low::{closure_free, ffi_closure};

use super::QUARANTINE;

/// A closure, and what it points to.
pub(super) struct Retired {
    closure: *mut ffi_closure,
    _record: Arc<dyn Any + Send + Sync>,
}

// SAFETY: the closure is memory of the process, freed by whoever owns this.
unsafe impl Send for Retired {}

impl Retired {
    /// Takes over a closure that libffi has allocated.
    pub(super) fn new(closure: *mut ffi_closure, record: Arc<dyn Any + Send + Sync>) -> Retired {
        Retired {
            closure,
            _record: record,
        }
    }
}

impl Drop for Retired {
    fn drop(&mut self) {
        // SAFETY: allocated by libffi, and nobody else's.
        unsafe { closure_free(self.closure) };
    }
}

/// What a callback's code finds of it.
pub(super) trait Disarm {
    /// Takes the body away.
    fn disarm(&self);
}

static KEPT: Mutex<VecDeque<Box<dyn Send>>> = Mutex::new(VecDeque::new());

/// Keeps what a callback's code needs until [`QUARANTINE`] others came after it.
pub(super) fn keep(retired: Box<dyn Send>) {
    let oldest = {
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back(retired);
        if kept.len() > QUARANTINE {
            kept.pop_front()
        } else {
            None
        }
    };
    drop(oldest);
}
