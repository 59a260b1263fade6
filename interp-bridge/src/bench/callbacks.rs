//! What a callback costs: a native loop that calls a function of the interpreter.
//!
//! # Safety
//! The loop is that of this file, and is given a callback with its own signature.
#![allow(unsafe_code)]

use std::{
    ffi::c_void,
    time::{Duration, Instant},
};

use super::{
    BenchError,
    question::{Answer, Figure, Question, Setup, Terms, broken},
};
use crate::{
    bridge::{Bridge, CallOptions},
    report::bench::Unit,
};

const TEXT: &str = "a callback, in one native call";

/// See the module.
pub(super) struct Callback;

/// Callbacks in one round.
const ROUND: u64 = 1000;

#[repr(C)]
struct Loop {
    callback: unsafe extern "C" fn(u64) -> u64,
    sum: u64,
}

unsafe extern "C" fn call_back(data: *mut c_void) {
    // SAFETY: `measure` gives it a `Loop`.
    unsafe {
        let data = &mut *data.cast::<Loop>();
        for n in 0..ROUND {
            data.sum += (data.callback)(n);
        }
    }
}

impl Question for Callback {
    fn text(&self) -> String {
        TEXT.to_owned()
    }

    fn unit(&self) -> Unit {
        Unit::Call
    }

    fn ask(&self, setup: &Setup, terms: &Terms) -> Result<Answer, BenchError> {
        let (made, ns) = measure(&setup.bridge()?, terms.each)?;
        Ok(Figure::new(made, ns).into())
    }
}

/// How many callbacks were made in about `long_enough`, and the best round's nanoseconds for one.
fn measure(bridge: &Bridge, long_enough: Duration) -> Result<(u64, f64), BenchError> {
    let callback = bridge.closure(|n: u64| -> u64 { n });
    let mut data = Loop {
        callback: callback.pointer(),
        sum: 0,
    };
    let begun = Instant::now();
    let (mut made, mut best) = (0, Duration::MAX);
    while made == 0 || begun.elapsed() < long_enough {
        data.sum = 0;
        let round = Instant::now();
        let pointer = std::ptr::from_mut(&mut data).cast();
        // SAFETY: as `call_back` wants it; it owns nothing.
        let outcome = unsafe { bridge.call(call_back, pointer, CallOptions::default()) }?;
        best = best.min(round.elapsed());
        if !outcome.returned || data.sum != ROUND * (ROUND - 1) / 2 {
            let what = format!("a sum of {}", data.sum);
            return Err(broken(TEXT, bridge.backend(), what));
        }
        made += ROUND;
    }
    Ok((made, best.as_nanos() as f64 / ROUND as f64))
}
