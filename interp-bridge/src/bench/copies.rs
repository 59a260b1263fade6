//! What `memcpy` costs, by size: how many accesses a copy makes is up to the C library.
//!
//! So it is counted, once under `inproc`, and under `ebpf` each copy has to make as many. `ptrace`
//! steps a `rep movsb` byte by byte, and sees more.

use std::cell::Cell;
use std::time::{Duration, Instant};

use tracer_user::backend::Backend;

use super::{
    BenchError,
    loops::sound,
    memory::{Buffers, Fill, call},
    question::{Answer, Figure, Question, Setup, Terms, broken},
    steady::steady,
    work::mix,
};
use crate::{
    bridge::Bridge,
    report::{self, bench::Unit},
};

/// Most bytes copied in one round.
const MOST_BYTES: u64 = 1 << 30;
/// About how long `ptrace` takes for one access.
const PTRACE: Duration = Duration::from_micros(80);
/// Longest that a copy may be expected to take, as a multiple of the question's time; and the same
/// at least.
const PATIENCE: u32 = 4;
const AT_LEAST: Duration = Duration::from_secs(1);

/// A question about copies of one size.
pub(super) struct Copies {
    bytes: u64,
    /// Accesses of one copy, once they were counted.
    accesses: Cell<Option<u64>>,
}

/// Copies of so many bytes each.
pub(super) fn questions() -> impl Iterator<Item = Copies> {
    [16, 256, 4096, 65536].map(Copies::of).into_iter()
}

impl Question for Copies {
    fn text(&self) -> String {
        format!("memcpy of {}", report::counted(self.bytes, "byte"))
    }

    fn unit(&self) -> Unit {
        Unit::Copy
    }

    fn ask(&self, setup: &Setup, terms: &Terms) -> Result<Answer, BenchError> {
        let accesses = match self.accesses.get() {
            Some(accesses) => accesses,
            None => {
                let counting = setup.under(Backend::Inproc).bridge()?;
                let (_, counted) = self.copy(&counting, &mut self.buffers(&counting)?, 1)?;
                self.accesses.set(Some(counted));
                counted
            }
        };
        let stepped = setup.backend == Backend::Ptrace && accesses < self.bytes / 64;
        let expected = PTRACE * 2 * self.bytes as u32;
        if stepped && expected > (terms.each * PATIENCE).max(AT_LEAST) {
            return Ok(Answer::LeftOut(format!(
                "it steps `rep movsb` byte by byte, so that a copy would take some {:.0} s",
                expected.as_secs_f64()
            )));
        }
        let bridge = setup.bridge()?;
        let mut buffers = self.buffers(&bridge)?;
        let mut seen = 0;
        let (copies, ns) = steady(terms.each, 1, MOST_BYTES / self.bytes, |copies| {
            let (elapsed, counted) = self.copy(&bridge, &mut buffers, copies)?;
            let expected = match setup.backend {
                Backend::None => 0,
                _ => copies * accesses,
            };
            seen = counted / copies;
            if counted != expected && setup.backend != Backend::Ptrace {
                let what = format!("{counted} accesses, and {expected} under inproc");
                return Err(broken(self.text(), setup.backend, what));
            }
            Ok(elapsed)
        })?;
        let note = (setup.backend == Backend::Ptrace && seen != accesses)
            .then(|| format!("{} a copy are seen there", report::counted(seen, "access")));
        Ok(Answer::Figure(Figure {
            accesses_each: Some(accesses),
            note,
            ..Figure::new(copies, ns)
        }))
    }
}

impl Copies {
    fn of(bytes: u64) -> Copies {
        Copies {
            bytes,
            accesses: Cell::new(None),
        }
    }

    fn buffers(&self, bridge: &Bridge) -> Result<Buffers, BenchError> {
        let mut buffers = Buffers::new(bridge, self.bytes, Fill::Zeroes)?;
        buffers.work.len = self.bytes as usize;
        Ok(buffers)
    }

    /// Makes copies in one call, and returns how long it took and how many accesses arrived.
    fn copy(
        &self,
        bridge: &Bridge,
        buffers: &mut Buffers,
        copies: u64,
    ) -> Result<(Duration, u64), BenchError> {
        buffers.work.items = copies;
        let begun = Instant::now();
        let outcome = call(bridge, mix::copies, &mut buffers.work)?;
        let elapsed = begun.elapsed();
        let backend = bridge.backend();
        if !sound(&outcome, backend) || !bridge.memory().violations().is_empty() {
            return Err(broken(self.text(), backend, format!("{:?}", outcome.stats)));
        }
        Ok((elapsed, outcome.stats.events))
    }
}
