//! Calls by signature and values.
//!
//! # Safety
//! The trampoline's frame owns nothing (see `ffi/call.rs`), and the call it makes is borrowed
//! until it is over.
#![allow(unsafe_code)]

use super::{Bridge, BridgeError, CallOptions, CallOutcome};
use crate::{
    callback,
    ffi::{CallError, Lease, NativeCall, Pointer, Value},
    memory::{AllocId, InterpreterMemory, Memory, MemoryError},
};

/// After so many calls that faulted, the function is translated for them.
const FAULTING_CALLS: u32 = 64;

/// A call that was made by values.
#[derive(Debug)]
pub struct Invoked {
    /// What it returned, checked against its type; `None` where it did not return.
    pub value: Option<Result<Value, CallError>>,
    /// How it ended and what it cost.
    pub outcome: CallOutcome,
}

/// Tells a library when it goes that native code was left in the middle: its frames are gone, but
/// not what it did, the locks it holds, the threads it started. A panic of a callback comes here,
/// too.
struct Midway<'a>(Option<&'a Lease>);

impl Drop for Midway<'_> {
    fn drop(&mut self) {
        if let Some(lease) = self.0 {
            lease.left_midway();
        }
    }
}

impl<M: InterpreterMemory + 'static> Bridge<M> {
    /// Makes a call whose arguments are set.
    ///
    /// # Errors
    /// Where the recorder cannot follow this thread; nothing was called then.
    ///
    /// # Panics
    /// As [`Bridge::call`].
    ///
    /// # Safety
    /// The function must have the call's signature and accept its arguments.
    pub unsafe fn run(
        &self,
        call: &mut NativeCall,
        options: CallOptions,
    ) -> Result<CallOutcome, BridgeError> {
        let entry = self.session().entry(call.address());
        let data = call.as_ptr_at(entry);
        let mut midway = Midway(call.lease());
        // SAFETY: by the caller's promise; see the module for the trampoline.
        let outcome = unsafe { self.call(NativeCall::trampoline(), data, options) };
        if !matches!(&outcome, Ok(outcome) if !outcome.returned) {
            midway.0 = None;
        }
        drop(midway);
        if entry == call.address()
            && let Ok(outcome) = &outcome
            && outcome.stats.faults > 0
        {
            call.faulted = call.faulted.saturating_add(1);
            if call.faulted == FAULTING_CALLS {
                self.session().translate_for_calls(entry);
            }
        }
        outcome
    }
}

impl Bridge<Memory> {
    /// A pointer into an allocation, as an argument.
    ///
    /// # Errors
    /// Where there is no such allocation.
    pub fn pointer(&self, id: AllocId, offset: u64) -> Result<Value, MemoryError> {
        Ok(Value::Pointer(Pointer {
            addr: self.address(id)?.wrapping_add(offset),
            allocation: Some(id),
        }))
    }

    /// Calls a function with these values, and exposes the allocations that they point to: native
    /// code has their addresses from now on.
    ///
    /// # Errors
    /// [`BridgeError::Call`] for values that do not suit the signature, or as [`Bridge::run`];
    /// nothing was called then.
    ///
    /// # Panics
    /// As [`Bridge::call`].
    ///
    /// # Safety
    /// The function must have the call's signature and accept the values.
    pub unsafe fn invoke(
        &self,
        call: &mut NativeCall,
        values: &[Value],
        options: CallOptions,
    ) -> Result<Invoked, BridgeError> {
        call.set_values(values)?;
        for value in values {
            for id in value.exposed() {
                self.memory().expose(id)?;
            }
            if let (Some(lease), Some(address)) = (call.lease(), value.as_address()) {
                callback::passed(address, lease);
            }
        }
        // SAFETY: by the caller's promise.
        let outcome = unsafe { self.run(call, options) }?;
        let value = outcome.returned.then(|| call.value());
        Ok(Invoked { value, outcome })
    }
}
