//! What an access costs where several threads make them at once, each in a buffer of its own.
//!
//! # Safety
//! The work is that of [`threads`], on a [`Crew`] whose works have live buffers.
#![allow(unsafe_code)]

use std::time::Instant;

use tracer_user::backend::Backend;

use super::{
    BenchError,
    loops::{FEW, sound},
    memory::{Buffers, Fill},
    question::{Answer, Figure, Question, Setup, Terms, broken},
    steady::steady,
    work::threads::{self, Crew, MOST},
};
use crate::{bridge::CallOptions, report::counted};

/// Size in bytes of each thread's buffer.
const BUFFER: u64 = 64 << 10;
/// Most accesses of all threads in one round.
const MOST_ACCESSES: u64 = 80_000_000;

/// So many threads.
pub(super) struct Threads(u64);

/// How many threads are asked for.
pub(super) const QUESTIONS: [Threads; 4] = [Threads(1), Threads(2), Threads(4), Threads(8)];

impl Question for Threads {
    fn text(&self) -> String {
        let each = if self.0 == 1 { "with" } else { "each with" };
        format!(
            "{}, {each} a loop of 4-byte reads",
            counted(self.0, "thread")
        )
    }

    fn ask(&self, setup: &Setup, terms: &Terms) -> Result<Answer, BenchError> {
        let bridge = setup.bridge()?;
        let mut buffers = Vec::new();
        for _ in 0..MOST {
            buffers.push(Buffers::new(&bridge, BUFFER, Fill::Zeroes)?);
        }
        let mut crew = Crew {
            works: std::array::from_fn(|index| buffers[index].work),
            count: self.0 as usize,
            started: 0,
        };
        let (items, ns) = steady(terms.each, FEW, MOST_ACCESSES / self.0, |items| {
            for work in &mut crew.works {
                work.items = items;
            }
            let begun = Instant::now();
            let data = (&raw mut crew).cast();
            // SAFETY: see the module; its frame owns nothing.
            let outcome = unsafe { bridge.call(threads::all, data, CallOptions::default()) }?;
            let elapsed = begun.elapsed();
            let wrong = |what| broken(self.text(), setup.backend, what);
            if !sound(&outcome, setup.backend) || !bridge.memory().violations().is_empty() {
                return Err(wrong(format!("{:?}", outcome.stats)));
            }
            if crew.started != crew.count {
                return Err(wrong(format!("{} threads were started", crew.started)));
            }
            let (found, made) = (outcome.stats.events, items * self.0);
            if setup.backend != Backend::None && found != made {
                return Err(wrong(format!("{found} of {made} accesses")));
            }
            Ok(elapsed)
        })?;
        Ok(Figure::new(items * self.0, ns / self.0 as f64).into())
    }
}
