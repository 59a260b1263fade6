//! What a question is, and what is said in answer.

use std::{path::PathBuf, time::Duration};

use tracer_user::backend::Backend;

use super::BenchError;
use crate::{
    bridge::{Bridge, BridgeError},
    report::bench::Unit,
};

/// How bridges are opened for a measurement: the one place that does it.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    /// The recorder.
    pub(super) backend: Backend,
}

impl Setup {
    /// A fresh bridge: nothing is left of the work before.
    pub(super) fn bridge(&self) -> Result<Bridge, BridgeError> {
        Bridge::new(Some(self.backend))
    }

    /// The same under another recorder.
    pub(super) fn under(&self, backend: Backend) -> Setup {
        Setup { backend }
    }
}

/// What all questions of a run are told.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    /// Roughly how long to measure.
    pub(super) each: Duration,
    /// The program that has [`child`](super::child)'s work, if this is it.
    pub(super) program: Option<PathBuf>,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Figure {
    /// How many of the question's unit were done.
    pub(super) count: u64,
    /// Nanoseconds for one of them.
    pub(super) ns: f64,
    /// Accesses of one of them, where the question does not say.
    pub(super) accesses_each: Option<u64>,
    /// Size of the piece of work, where it is not what the question is about.
    pub(super) size: Option<u64>,
    /// What is different about this one.
    pub(super) note: Option<String>,
}

impl Figure {
    pub(super) fn new(count: u64, ns: f64) -> Figure {
        Figure {
            count,
            ns,
            accesses_each: None,
            size: None,
            note: None,
        }
    }
}

/// What a question is answered with.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    /// This.
    Figure(Figure),
    /// Nothing, for a reason.
    LeftOut(String),
    /// Nothing: it makes no sense under this recorder.
    Senseless,
}

impl From<Figure> for Answer {
    fn from(figure: Figure) -> Answer {
        Answer::Figure(figure)
    }
}

/// Something that takes the same work under every recorder. Rows of one question stand together.
pub(super) trait Question {
    /// What is asked; no other question has the same text.
    fn text(&self) -> String;

    /// What is counted and timed.
    fn unit(&self) -> Unit {
        Unit::Access
    }

    /// Measures it under one recorder.
    ///
    /// # Errors
    /// [`BenchError`], also where an access was lost.
    fn ask(&self, setup: &Setup, terms: &Terms) -> Result<Answer, BenchError>;

    /// Something that is no recorder and is measured beside them, with its name.
    ///
    /// # Errors
    /// [`BenchError`].
    fn yardstick(&self, _terms: &Terms) -> Result<Option<(&'static str, Answer)>, BenchError> {
        Ok(None)
    }
}

/// The error of a question that went wrong.
pub(super) fn broken(question: impl Into<String>, backend: Backend, what: String) -> BenchError {
    BenchError::Broken {
        question: question.into(),
        backend,
        what,
    }
}
