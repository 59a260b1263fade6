//! What a native call costs that a Lua session makes: the script, conversions, the call.
//!
//! Rounds of calls in one script; the best round counts, as for other calls. `none` is the same
//! script without a recorder.

use std::time::Instant;

use super::{
    BenchError,
    question::{Answer, Figure, Question, Setup, Terms, broken},
};
use crate::{
    lua::{LuaSession, SessionOptions},
    report::bench::Unit,
};

/// Calls in one round.
const ROUND: u32 = 10_000;

/// A script whose loop makes one call.
#[derive(Clone, Copy)]
pub(super) struct FromLua {
    text: &'static str,
    /// What comes before the loop.
    before: &'static str,
    call: &'static str,
}

pub(super) const QUESTIONS: [FromLua; 3] = [
    FromLua {
        text: "a call from Lua that touches nothing",
        before: "ffi.cdef 'int abs(int number);' local abs = ffi.C.abs",
        call: "abs(-i)",
    },
    FromLua {
        text: "a call from Lua with a buffer of 64 bytes",
        before: "ffi.cdef 'void *memset(void *at, int byte, size_t len);'
                 local memset, buffer = ffi.C.memset, ffi.new('char[64]')",
        call: "memset(buffer, i % 100, 64)",
    },
    FromLua {
        text: "a call from Lua with a string",
        before: "ffi.cdef 'int atoi(const char *digits);' local atoi = ffi.C.atoi",
        call: "atoi('12')",
    },
];

impl Question for FromLua {
    fn text(&self) -> String {
        self.text.to_owned()
    }

    fn unit(&self) -> Unit {
        Unit::Call
    }

    fn ask(&self, setup: &Setup, terms: &Terms) -> Result<Answer, BenchError> {
        let failed = |what: String| broken(self.text, setup.backend, what);
        let session = LuaSession::new(setup.bridge()?, SessionOptions::default());
        let session = session.map_err(|error| failed(error.to_string()))?;
        let script = format!(
            "local ffi = require 'ffi' {} for i = 1, {ROUND} do {} end",
            self.before, self.call
        );
        let chunk = session.compile(script.as_bytes(), "=bench");
        let chunk = chunk.map_err(|error| failed(error.message))?;
        let (mut calls, mut best) = (0, f64::MAX);
        let begun = Instant::now();
        while calls == 0 || begun.elapsed() < terms.each {
            let round = Instant::now();
            let done = session.run(&chunk, &[]);
            done.map_err(|error| failed(error.message))?;
            best = best.min(round.elapsed().as_nanos() as f64 / f64::from(ROUND));
            calls += u64::from(ROUND);
        }
        let summary = session.finish();
        if let Some(why) = summary.incomplete {
            return Err(failed(why));
        }
        if summary.calls != calls || summary.unexpected > 0 {
            return Err(failed(format!(
                "{} calls of {calls}, {} violations",
                summary.calls, summary.unexpected
            )));
        }
        Ok(Figure::new(calls, best).into())
    }
}
