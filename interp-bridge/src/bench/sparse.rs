//! What an access costs in an arena of 64 GiB, of which nearly nothing is in use.
//!
//! An allocation of the largest size takes a segment, since a second one does not fit beside it; so
//! half of the arena is live. They are uninitialised, and native code writes a few bytes of each:
//! the contents cost a page each, but what is live and what is not is kept for every 16 bytes,
//! which takes a sixteenth of what is live, and seconds to write.

use std::time::Instant;

use tracer_user::backend::Backend;

use super::{
    BenchError,
    loops::{FEW, sound},
    memory::{allocate_as, call},
    question::{Answer, Figure, Question, Setup, Terms, broken},
    steady::steady,
    work::{Work, mix},
};
use crate::{
    bridge::BridgeError,
    memory::{AllocRequest, MemoryError},
};

/// Size in bytes of each allocation.
const SIZE: u64 = crate::arena::MAX_SIZE;
/// How many there are to be: one in each segment of 1 GiB.
const COUNT: usize = 64;
/// Places in each that are written.
const PLACES: u64 = 8;
/// Memory that has to be free for it, in bytes: what is live and what was written.
const NEEDED: u64 = 5 << 30;
/// Most accesses of one round.
const MOST: u64 = 80_000_000;

/// See the module.
pub(super) struct Sparse;

impl Question for Sparse {
    fn text(&self) -> String {
        "8-byte writes all over an arena of 64 GiB".to_owned()
    }

    fn ask(&self, setup: &Setup, terms: &Terms) -> Result<Answer, BenchError> {
        if let Some(available) = available().filter(|available| *available < NEEDED) {
            return Ok(Answer::LeftOut(format!(
                "{} GiB of memory are needed, and {:.1} are free",
                NEEDED >> 30,
                available as f64 / f64::from(1 << 30)
            )));
        }
        let bridge = setup.bridge()?;
        let mut places = Vec::new();
        for made in 0..COUNT {
            let request = AllocRequest {
                size: SIZE,
                align: 64,
                ..AllocRequest::default()
            };
            match allocate_as(&bridge, &request) {
                Ok((_, base)) => places.extend((0..PLACES).map(|n| base + n * (SIZE / PLACES))),
                Err(BenchError::Bridge(BridgeError::Memory(MemoryError::Arena(error)))) => {
                    return Ok(Answer::LeftOut(format!(
                        "only {made} of {COUNT} allocations of 512 MiB could be made: {error}"
                    )));
                }
                Err(other) => return Err(other),
            }
        }
        let mut work = Work {
            from: std::ptr::null(),
            to: std::ptr::null_mut(),
            own: places.as_mut_ptr().cast(),
            len: places.len() * 8,
            items: 0,
            result: 0,
        };
        let (count, ns) = steady(terms.each, FEW, MOST, |items| {
            work.items = items;
            let begun = Instant::now();
            let outcome = call(&bridge, mix::write_all_over, &mut work)?;
            let elapsed = begun.elapsed();
            let wrong = |what| broken(self.text(), setup.backend, what);
            if !sound(&outcome, setup.backend) || !bridge.memory().violations().is_empty() {
                return Err(wrong(format!("{:?}", outcome.stats)));
            }
            let found = outcome.stats.events;
            if setup.backend != Backend::None && found != items {
                return Err(wrong(format!("{found} of {items} accesses")));
            }
            Ok(elapsed)
        })?;
        Ok(Figure::new(count, ns).into())
    }
}

/// Bytes of memory that programs can still have.
fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib << 10)
}
