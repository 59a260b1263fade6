//! What a session costs processes that have nothing to do with it: their page faults.
//!
//! The recorder's session is there, and makes no call; `none` is the host without a session.

use tracer_user::backend::Backend;

use super::{
    BenchError, child,
    question::{Answer, Question, Setup, Terms},
};
use crate::report::bench::Unit;

/// See the module.
pub(super) struct Neighbours;

impl Question for Neighbours {
    fn text(&self) -> String {
        "a page fault of another process while a session is there".to_owned()
    }

    fn unit(&self) -> Unit {
        Unit::Fault
    }

    fn ask(&self, setup: &Setup, terms: &Terms) -> Result<Answer, BenchError> {
        let _session = match setup.backend {
            Backend::None => None,
            _ => Some(setup.bridge()?),
        };
        Ok(child::ask(terms, child::Work::PageFaults))
    }
}
