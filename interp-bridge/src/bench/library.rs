//! What a real library costs: a piece of its work, as large as the time allows.
//!
//! ```text
//!  sizes, smallest first ─► run ─► would the next one take too long? ──no──► run that
//!                                        └─yes─► repeat this one
//! ```
//! How many accesses a piece makes is up to the library. So it is counted under `inproc`; the
//! first piece in a fresh session has to make as many under `ebpf`, and to have the result that it
//! has without a recorder under each. `ptrace` steps instructions with a `rep` prefix, and sees
//! more.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tracer_user::backend::Backend;

use super::{
    BenchError,
    loops::sound,
    question::{Answer, Figure, Question, Setup, Terms, broken},
};
use crate::{
    bridge::{Bridge, CallOutcome},
    report::{self, bench::Unit},
};

/// Longest that a piece may be expected to take, as a multiple of the question's time.
const PATIENCE: u32 = 4;
/// The same at least.
const AT_LEAST: Duration = Duration::from_secs(1);
/// About how long `ptrace` takes for one access.
const PTRACE: Duration = Duration::from_micros(80);

/// A piece of a library's work.
pub(super) trait Piece {
    /// What is asked.
    fn text(&self) -> &'static str;

    /// The sizes that it can have, smallest first; the last one is what the question is about. The
    /// first two are near each other, so that they show what is paid once and what grows.
    fn sizes(&self) -> &'static [u64];

    /// A size in words.
    fn words(&self, size: u64) -> String;

    /// What it gives without a session.
    ///
    /// # Errors
    /// Why the library cannot be had.
    fn plain(&self, size: u64) -> Result<Vec<u8>, String>;

    /// Makes what pieces of this size need in the arena.
    ///
    /// # Errors
    /// Why that could not be made.
    fn prepare<'b>(
        &'b self,
        bridge: &'b Bridge,
        size: u64,
    ) -> Result<Box<dyn Prepared + 'b>, BenchError>;
}

/// A piece that is ready.
pub(super) trait Prepared {
    /// Does it in one call; returns that call's outcome.
    ///
    /// # Errors
    /// Where no call was made.
    fn run(&mut self) -> Result<CallOutcome, BenchError>;

    /// What it gave.
    ///
    /// # Errors
    /// Where that cannot be read.
    fn result(&self) -> Result<Vec<u8>, BenchError>;
}

/// The question about a piece.
pub(super) struct Library<P> {
    piece: P,
    /// Accesses of the first piece in a session, by size.
    accesses: RefCell<BTreeMap<u64, u64>>,
    /// What was measured under `inproc`, with the size that it came to.
    inproc: RefCell<Option<(u64, Figure)>>,
}

impl<P: Piece> Library<P> {
    pub(super) fn of(piece: P) -> Library<P> {
        Library {
            piece,
            accesses: RefCell::default(),
            inproc: RefCell::default(),
        }
    }
}

impl<P: Piece> Question for Library<P> {
    fn text(&self) -> String {
        self.piece.text().to_owned()
    }

    fn unit(&self) -> Unit {
        Unit::Run
    }

    fn ask(&self, setup: &Setup, terms: &Terms) -> Result<Answer, BenchError> {
        if let Err(why) = self.piece.plain(self.piece.sizes()[0]) {
            return Ok(Answer::LeftOut(why));
        }
        // How large it may be, and what it is divided by without a recorder, is found out first.
        if self.inproc.borrow().is_none() {
            let found = self.measure(&setup.under(Backend::Inproc), terms, self.piece.sizes())?;
            *self.inproc.borrow_mut() = Some(found);
        }
        let inproc = self.inproc.borrow().clone();
        let (size, figure) = match (setup.backend, inproc) {
            (Backend::Inproc, Some(found)) => found,
            // The same size, so that the two can be compared.
            (Backend::None | Backend::Ebpf, Some((size, _))) => {
                self.measure(setup, terms, &[size])?
            }
            (Backend::Ptrace, _) => match self.hopeless(terms) {
                Some(why) => return Ok(Answer::LeftOut(why)),
                None => self.measure(setup, terms, self.piece.sizes())?,
            },
            _ => self.measure(setup, terms, self.piece.sizes())?,
        };
        let asked = self.piece.sizes().last().copied().unwrap_or(size);
        if size == asked {
            return Ok(figure.into());
        }
        let (words, asked) = (self.piece.words(size), self.piece.words(asked));
        Ok(Answer::Figure(Figure {
            size: Some(size),
            note: Some(format!("{words} instead of {asked}, for want of time")),
            ..figure
        }))
    }
}

impl<P: Piece> Library<P> {
    /// Why `ptrace` is not even tried, if it is not.
    fn hopeless(&self, terms: &Terms) -> Option<String> {
        let smallest = self.piece.sizes()[0];
        let accesses = *self.accesses.borrow().get(&smallest)?;
        let expected = PTRACE.mul_f64(accesses as f64);
        (expected > limit(terms)).then(|| {
            format!(
                "{} makes {} accesses, which would take it some {:.0} s",
                self.piece.words(smallest),
                report::count(accesses),
                expected.as_secs_f64().ceil()
            )
        })
    }

    /// Climbs the sizes, and measures the last one that does not take too long.
    fn measure(
        &self,
        setup: &Setup,
        terms: &Terms,
        sizes: &[u64],
    ) -> Result<(u64, Figure), BenchError> {
        let mut known: Vec<(u64, Duration)> = Vec::new();
        let mut sizes = sizes.iter().copied().peekable();
        while let Some(size) = sizes.next() {
            let begun = Instant::now();
            let bridge = setup.bridge()?;
            let mut piece = self.piece.prepare(&bridge, size)?;
            let (first, accesses) = self.first(&bridge, &mut *piece, size)?;
            known.push((size, first));
            if sizes
                .peek()
                .is_some_and(|next| guess(&known, *next) <= limit(terms))
            {
                continue;
            }
            // The first one paid for sites and copies; it counts only where there is no other.
            let (mut best, mut runs) = (first.as_nanos() as f64, 1);
            while first <= limit(terms) && (runs < 3 || begun.elapsed() < terms.each) {
                let round = Instant::now();
                let outcome = piece.run()?;
                let took = round.elapsed().as_nanos() as f64;
                self.check(&bridge, &outcome)?;
                best = best.min(took);
                runs += 1;
            }
            let figure = Figure {
                accesses_each: Some(accesses),
                ..Figure::new(runs, best)
            };
            return Ok((size, figure));
        }
        Err(broken(self.text(), setup.backend, "no size".to_owned()))
    }

    /// The first piece in a fresh session: how long it took, and its accesses.
    fn first(
        &self,
        bridge: &Bridge,
        piece: &mut dyn Prepared,
        size: u64,
    ) -> Result<(Duration, u64), BenchError> {
        let wrong = |what| broken(self.text(), bridge.backend(), what);
        let begun = Instant::now();
        let outcome = piece.run()?;
        let took = begun.elapsed();
        self.check(bridge, &outcome)?;
        let right = self.piece.plain(size).map_err(wrong)?;
        if piece.result()? != right {
            return Err(wrong("another result than without a session".to_owned()));
        }
        let mut known = self.accesses.borrow_mut();
        let made = outcome.stats.events;
        match (bridge.backend(), known.get(&size)) {
            (Backend::None | Backend::Ptrace, Some(accesses)) => Ok((took, *accesses)),
            (_, Some(accesses)) if *accesses != made => Err(wrong(format!(
                "{made} accesses, and {accesses} under inproc"
            ))),
            _ => {
                known.insert(size, made);
                Ok((took, made.max(1)))
            }
        }
    }

    fn check(&self, bridge: &Bridge, outcome: &CallOutcome) -> Result<(), BenchError> {
        let wrong = |what| broken(self.text(), bridge.backend(), what);
        if !sound(outcome, bridge.backend()) {
            return Err(wrong(format!("{:?}", outcome.stats)));
        }
        match bridge.memory().violations().entries().first() {
            Some(logged) => Err(wrong(format!(
                "a false alarm: {}",
                logged.violation.message
            ))),
            None => Ok(()),
        }
    }
}

/// Longest that a piece may be expected to take.
fn limit(terms: &Terms) -> Duration {
    (terms.each * PATIENCE).max(AT_LEAST)
}

/// How long a piece of a size may take, by how long others took, of which there is at least one.
fn guess(known: &[(u64, Duration)], size: u64) -> Duration {
    let point = |at: usize| (known[at].0 as f64, known[at].1.as_secs_f64());
    let last = known.len() - 1;
    let (at, took) = point(last);
    let slope = match last {
        0 => took / at,
        _ => {
            let (before, less) = point(last - 1);
            ((took - less) / (at - before)).max(0.0)
        }
    };
    Duration::from_secs_f64(took + slope * (size as f64 - at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_guessed_along_a_line() {
        let ms = Duration::from_millis;
        let close = |a: Duration, b: Duration| a.abs_diff(b) < Duration::from_micros(1);
        assert!(close(guess(&[(10, ms(10))], 30), ms(30)));
        assert!(close(guess(&[(10, ms(110)), (30, ms(130))], 100), ms(200)));
        assert!(close(guess(&[(10, ms(50)), (30, ms(40))], 100), ms(40)));
    }
}
