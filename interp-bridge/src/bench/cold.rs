//! What an access costs that is a fault: beside a bare SIGSEGV, with a handler that does nothing.
//!
//! Every access of the loop has to fault, which is checked. A recorder that resumes hot sites
//! without a fault has to be kept from it: [`cold`] is where its bridge is opened.

use std::cell::Cell;

use tracer_user::backend::Backend;

use super::{
    BenchError, child,
    loops::{self, Loop},
    question::{Answer, Figure, Question, Setup, Terms},
    work,
};
use crate::{
    bridge::{Bridge, BridgeError},
    report::bench::{BARE, Unit},
};

/// See the module.
pub(super) struct Cold;

const WORK: Loop = Loop::of(
    "a cold fault: reads of which each is one",
    work::scalar_loop,
    1,
);

/// A bridge under which every access faults.
fn cold(setup: &Setup) -> Result<Bridge, BridgeError> {
    let bridge = setup.bridge()?;
    bridge.set_hot(None);
    Ok(bridge)
}

impl Question for Cold {
    fn text(&self) -> String {
        WORK.text.to_owned()
    }

    fn unit(&self) -> Unit {
        Unit::Fault
    }

    fn ask(&self, setup: &Setup, terms: &Terms) -> Result<Answer, BenchError> {
        if setup.backend == Backend::None {
            return Ok(Answer::Senseless);
        }
        let warm = Cell::new(None);
        let (count, ns) = loops::measure(&WORK, &cold(setup)?, terms.each, |outcome| {
            if outcome.stats.faults != outcome.stats.events {
                warm.set(Some((outcome.stats.faults, outcome.stats.events)));
            }
            Ok(())
        })?;
        Ok(match warm.get() {
            Some((faults, events)) => Answer::LeftOut(format!(
                "{faults} faults for {events} accesses: not every access was one"
            )),
            None => Figure::new(count, ns).into(),
        })
    }

    fn yardstick(&self, terms: &Terms) -> Result<Option<(&'static str, Answer)>, BenchError> {
        Ok(Some((BARE, child::ask(terms, child::Work::Signal))))
    }
}
