//! What a tiny call costs the way an interpreter makes it: by signature and values.
//!
//! ```text
//!  run      the arguments are set once, and the prepared call is made again and again
//!  invoke   the arguments are set each time, as values with provenance, and the result is taken
//! ```
//!
//! # Safety
//! The function called is that of this file, with its own signature and four words of the arena.
#![allow(unsafe_code)]

use std::time::{Duration, Instant};

use tracer_user::backend::Backend;

use super::{
    BenchError,
    loops::{FEW, sound},
    memory::allocate,
    question::{Answer, Figure, Question, Setup, Terms, broken},
    steady::steady,
};
use crate::{
    bridge::{Bridge, BridgeError, CallOptions, CallOutcome},
    ctype::CType,
    ffi::{NativeCall, Signature, Value},
    report::bench::Unit,
};

/// Words that the function reads.
const WORDS: u64 = 4;
/// Most calls of one round.
const MOST: u64 = 10_000_000;

/// How the call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tiny {
    /// By [`Bridge::run`].
    Run,
    /// By [`Bridge::invoke`].
    Invoke,
}

/// Both.
pub(super) const QUESTIONS: [Tiny; 2] = [Tiny::Run, Tiny::Invoke];

unsafe extern "C" fn sum(at: *const u64) -> u64 {
    // SAFETY: `at` has four words, see the module.
    unsafe {
        (0..WORDS as usize).fold(0u64, |sum, word| {
            sum.wrapping_add(at.add(word).read_volatile())
        })
    }
}

impl Question for Tiny {
    fn text(&self) -> String {
        match self {
            Tiny::Run => "a prepared call that reads four words",
            Tiny::Invoke => "a call by values that reads four words",
        }
        .to_owned()
    }

    fn unit(&self) -> Unit {
        Unit::Call
    }

    fn ask(&self, setup: &Setup, terms: &Terms) -> Result<Answer, BenchError> {
        let bridge = setup.bridge()?;
        let (id, address) = allocate(&bridge, 8 * WORDS)?;
        for word in 0..WORDS {
            let written = bridge.memory().write_scalar(id, 8 * word, word.into(), 8);
            written.map_err(BridgeError::from)?;
        }
        let values = [Value::pointer_to(address, id)];
        let signature = Signature::new([CType::ptr()], CType::u64());
        let function = sum as *const () as u64;
        let mut call = NativeCall::new(signature, function).map_err(BridgeError::from)?;
        call.set_values(&values).map_err(BridgeError::from)?;
        let (count, ns) = steady(terms.each, FEW, MOST, |calls| {
            self.round(&bridge, &mut call, &values, calls)
        })?;
        Ok(Figure::new(count, ns).into())
    }
}

impl Tiny {
    fn round(
        self,
        bridge: &Bridge,
        call: &mut NativeCall,
        values: &[Value],
        calls: u64,
    ) -> Result<Duration, BenchError> {
        let backend = bridge.backend();
        let wrong = |what| broken(self.text(), backend, what);
        let right = Value::from((0..WORDS).sum::<u64>());
        let begun = Instant::now();
        let mut events = 0;
        for _ in 0..calls {
            let outcome = match (self, backend) {
                (_, Backend::None) => {
                    // SAFETY: see the module.
                    let value = unsafe { self.plain(call, values) }?;
                    if value != right {
                        return Err(wrong(format!("{value:?} was returned")));
                    }
                    continue;
                }
                (Tiny::Run, _) => {
                    // SAFETY: see the module.
                    unsafe { bridge.run(call, CallOptions::default()) }?
                }
                (Tiny::Invoke, _) => {
                    // SAFETY: see the module.
                    let invoked = unsafe { bridge.invoke(call, values, CallOptions::default()) }?;
                    self.check(&right, invoked.value, invoked.outcome, &wrong)?
                }
            };
            if !sound(&outcome, backend) {
                return Err(wrong(format!("{:?}", outcome.stats)));
            }
            events += outcome.stats.events;
        }
        let elapsed = begun.elapsed();
        if backend != Backend::None && events != calls * WORDS {
            return Err(wrong(format!("{events} of {} accesses", calls * WORDS)));
        }
        Ok(elapsed)
    }

    /// The same without a session.
    unsafe fn plain(self, call: &mut NativeCall, values: &[Value]) -> Result<Value, BridgeError> {
        if self == Tiny::Invoke {
            call.set_values(values)?;
        }
        // SAFETY: see the module.
        Ok(unsafe { call.run() }?)
    }

    fn check(
        self,
        right: &Value,
        value: Option<Result<Value, crate::ffi::CallError>>,
        outcome: CallOutcome,
        wrong: &dyn Fn(String) -> BenchError,
    ) -> Result<CallOutcome, BenchError> {
        match value {
            Some(Ok(value)) if value == *right => Ok(outcome),
            other => Err(wrong(format!("{other:?} was returned"))),
        }
    }
}
