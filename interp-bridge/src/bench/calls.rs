//! What a call costs, and a call that breaks a rule.
//!
//! ```text
//!  "an empty call"         the same libffi call: without a session (`none`), and under a recorder
//!  "failing calls"         each makes one violation, which the interpreter gets with its message
//! ```
//! A machine that does other work makes each round longer, never shorter: the best of many short
//! rounds is what the call costs.
//!
//! # Safety
//! The functions called are those of this file; each gets the address that it expects, or one
//! that is wrong on purpose and stays in the arena or at null, where the session ends the call.
#![allow(unsafe_code)]

use std::{
    ffi::c_void,
    time::{Duration, Instant},
};

use tracer_user::backend::Backend;

use super::{
    BenchError, memory,
    question::{Answer, Figure, Question, Setup, Terms, broken},
};
use crate::{
    bridge::{Bridge, BridgeError, CallOptions},
    ffi::{Function, NativeCall},
    memory::{AllocKind, AllocRequest, Init, ViolationKind},
    prototype::Prototype,
    report::bench::Unit,
};

/// Calls in one round.
const ROUND: u32 = 200;

/// How the calls of a question go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Not at all.
    None,
    /// A read behind an allocation.
    ReadBeyond,
    /// A write behind an allocation.
    WriteBeyond,
    /// A write to what is read-only.
    ReadOnly,
    /// A read of what was freed.
    Freed,
    /// A read at address 0, which crashes.
    Null,
}

/// A question about calls.
#[derive(Clone, Copy)]
pub(super) struct CallQuestion {
    pub(super) text: &'static str,
    failure: Failure,
    /// Bytes of live allocations.
    live: u64,
}

pub(super) const QUESTIONS: [CallQuestion; 8] = [
    CallQuestion {
        text: "an empty call, 1 MiB live",
        failure: Failure::None,
        live: 1 << 20,
    },
    CallQuestion {
        text: "an empty call, 256 MiB live",
        failure: Failure::None,
        live: 256 << 20,
    },
    CallQuestion {
        text: "an empty call, 1 GiB live",
        failure: Failure::None,
        live: 1 << 30,
    },
    CallQuestion {
        text: "failing calls: a read out of bounds",
        failure: Failure::ReadBeyond,
        live: 1 << 20,
    },
    CallQuestion {
        text: "failing calls: a write out of bounds",
        failure: Failure::WriteBeyond,
        live: 1 << 20,
    },
    CallQuestion {
        text: "failing calls: a write to read-only memory",
        failure: Failure::ReadOnly,
        live: 1 << 20,
    },
    CallQuestion {
        text: "failing calls: a use after free",
        failure: Failure::Freed,
        live: 1 << 20,
    },
    CallQuestion {
        text: "failing calls: a null pointer, which crashes",
        failure: Failure::Null,
        live: 1 << 20,
    },
];

unsafe extern "C" fn empty() {}

unsafe extern "C" fn read_word(at: *const u32) -> u32 {
    // SAFETY: not sound where `at` is wrong on purpose: see the module.
    unsafe { at.read_volatile() }
}

unsafe extern "C" fn write_word(at: *mut u32) {
    // SAFETY: as in `read_word`.
    unsafe { at.write_volatile(7) }
}

impl Failure {
    fn kind(self) -> Option<ViolationKind> {
        Some(match self {
            Failure::None => return None,
            Failure::ReadBeyond | Failure::WriteBeyond => ViolationKind::OutOfBounds,
            Failure::ReadOnly => ViolationKind::WriteToReadOnly,
            Failure::Freed => ViolationKind::UseAfterFree,
            Failure::Null => ViolationKind::WildAccess,
        })
    }

    fn function(self) -> (&'static str, u64) {
        match self {
            Failure::None => ("void empty(void)", empty as *const () as u64),
            Failure::WriteBeyond | Failure::ReadOnly => (
                "void write_word(unsigned *at)",
                write_word as *const () as u64,
            ),
            Failure::ReadBeyond | Failure::Freed | Failure::Null => (
                "unsigned read_word(const unsigned *at)",
                read_word as *const () as u64,
            ),
        }
    }
}

impl Question for CallQuestion {
    fn text(&self) -> String {
        self.text.to_owned()
    }

    fn unit(&self) -> Unit {
        Unit::Call
    }

    fn ask(&self, setup: &Setup, terms: &Terms) -> Result<Answer, BenchError> {
        let found = measure(&setup.bridge()?, self, terms.each)?;
        Ok(found.map_or(Answer::Senseless, |(calls, ns)| {
            Figure::new(calls, ns).into()
        }))
    }
}

/// Measures one question for about `long_enough`, under the recorder of `bridge`: how many calls
/// were made, and the best round's nanoseconds for one of them. `none` calls without a session,
/// and has no answer to how long it takes to find what it does not look for.
fn measure(
    bridge: &Bridge,
    question: &CallQuestion,
    long_enough: Duration,
) -> Result<Option<(u64, f64)>, BenchError> {
    let broken = |backend, what| broken(question.text, backend, what);
    let backend = bridge.backend();
    let failure = question.failure;
    if backend == Backend::None && failure != Failure::None {
        return Ok(None);
    }
    let allocate = |size, mutable| {
        let id = bridge
            .memory()
            .allocate(&AllocRequest {
                kind: AllocKind::Heap,
                name: Some("buffer"),
                size,
                align: 64,
                init: Init::Zeroed,
                mutable,
            })
            .map_err(BridgeError::from)?;
        Ok::<_, BenchError>((id, bridge.address(id).map_err(BridgeError::from)?))
    };
    memory::live(bridge, question.live)?;
    let (bad, bad_at) = allocate(64, failure != Failure::ReadOnly)?;
    if failure == Failure::Freed {
        bridge.memory().free(bad).map_err(BridgeError::from)?;
    }
    let target = match failure {
        Failure::None | Failure::Null => 0,
        Failure::ReadBeyond | Failure::WriteBeyond => bad_at + 64,
        Failure::ReadOnly | Failure::Freed => bad_at,
    };
    let (text, address) = failure.function();
    let invalid = |what: String| broken(backend, what);
    let prototype = Prototype::parse(text, &[]).map_err(|error| invalid(error.to_string()))?;
    let function = Function {
        name: prototype.name.clone(),
        address,
        library: "ffitrace".into(),
        file_offset: 0,
        owner: Default::default(),
    };
    let mut call =
        NativeCall::prepare(&prototype, &function).map_err(|error| invalid(error.to_string()))?;
    let args: Vec<_> = (0..prototype.params.len())
        .map(|_| crate::binding::ArgValue::Scalar(target.into()))
        .collect();
    call.set_args(&args, &[])
        .map_err(|error| invalid(error.to_string()))?;

    let (mut calls, mut best) = (0, f64::MAX);
    let begun = Instant::now();
    while calls == 0 || begun.elapsed() < long_enough {
        let round_begun = Instant::now();
        for _ in 0..ROUND {
            if backend == Backend::None {
                // SAFETY: the call was prepared for this function, which is sound to call.
                unsafe { NativeCall::trampoline()(call.as_ptr()) };
                continue;
            }
            let found = traced(bridge, call.as_ptr())?;
            if found != failure.kind() {
                return Err(broken(backend, format!("{found:?} was found")));
            }
        }
        best = best.min(round_begun.elapsed().as_nanos() as f64 / f64::from(ROUND));
        calls += u64::from(ROUND);
    }
    Ok(Some((calls, best)))
}

/// One traced call, and the kind of the violation that it ended with or made.
fn traced(bridge: &Bridge, data: *mut c_void) -> Result<Option<ViolationKind>, BenchError> {
    // SAFETY: the call was prepared for the function; it owns nothing.
    let outcome = unsafe { bridge.call(NativeCall::trampoline(), data, CallOptions::default()) }?;
    if !outcome.stats.complete() {
        return Ok(Some(ViolationKind::Unsupported));
    }
    let mut memory = bridge.memory();
    if memory.violations().is_empty() {
        return Ok(None);
    }
    let found = memory.violations().entries()[0].violation.clone();
    std::hint::black_box(&found.message);
    memory.violations_mut().clear();
    Ok(Some(found.kind))
}
