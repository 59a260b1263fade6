//! Measuring what tracing costs, under each recorder.
//!
//! ```text
//!  table.rs: questions ──► each under none, inproc, ebpf, ptrace, and beside its yardstick
//!      │ steady.rs: how often     memory.rs, work.rs: on what     child.rs: in another process
//!      └─► Answer ──► rows.rs: rows, ratios ──► report::bench
//! ```
//! Each question is the same work under every recorder that this host allows, one recorder right
//! after the other, so the ratios mean something on a noisy machine. How often the work is repeated
//! is found by trying: enough to fill the time that was asked for.

mod agents;
mod callbacks;
mod calls;
pub mod child;
mod cold;
mod copies;
mod lackey;
mod library;
mod loops;
mod lua;
mod memory;
mod neighbours;
mod question;
mod rows;
mod sparse;
mod sqlite;
mod steady;
mod table;
mod threads;
mod tiny;
pub mod work;
mod zlib;

use std::{path::PathBuf, time::Duration};

use tracer_user::backend::Backend;

use crate::{
    bridge::BridgeError,
    report::bench::{BenchReport, LeftOut},
};
use question::{Answer, Question, Setup, Terms};

/// Why a bench could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// No bridge, or no memory for the work.
    #[error(transparent)]
    Bridge(#[from] BridgeError),
    /// A library that was there is not usable any more.
    #[error("a library for the bench: {0}")]
    Library(String),
    /// Accesses were lost or broke a rule: no figure is worth anything then.
    #[error("{question} under {backend}: {what}; please report this host")]
    Broken {
        /// The question.
        question: String,
        /// The recorder.
        backend: Backend,
        /// What was wrong.
        what: String,
    },
}

/// What is to be measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Roughly how long to measure each recorder.
    pub seconds: f64,
    /// Only the questions with one of these texts in them; all where there is none.
    pub only: Vec<String>,
    /// The program whose command [`child::COMMAND`] is [`child::run`]: what takes a process of its
    /// own is left out without.
    pub program: Option<PathBuf>,
}

/// The questions that contain one of `only`, or all where there is none.
pub fn questions(only: &[String]) -> Vec<String> {
    let texts = table::all().into_iter().map(|question| question.text());
    texts.filter(|text| is_wanted(text, only)).collect()
}

fn is_wanted(text: &str, only: &[String]) -> bool {
    only.is_empty() || only.iter().any(|only| text.contains(only))
}

/// Measures the questions under every recorder; `tell` is told what is being measured.
///
/// # Errors
/// [`BenchError`]. A recorder that this host does not allow is left out, with a note.
pub fn run(options: &Options, tell: &mut dyn FnMut(&str)) -> Result<BenchReport, BenchError> {
    let mut questions: Vec<Box<dyn Question>> = table::all();
    questions.retain(|question| is_wanted(&question.text(), &options.only));
    let seconds = options.seconds / questions.len().max(1) as f64;
    let terms = Terms {
        each: Duration::from_secs_f64(seconds),
        program: options.program.clone(),
    };
    let mut notes = Vec::new();
    let setups = usable(&mut notes)?;
    let mut rows = Vec::new();
    let mut left_out = Vec::new();
    let count = questions.len();
    for (index, question) in questions.iter().enumerate() {
        let (text, unit) = (question.text(), question.unit());
        let begin = rows.len();
        let mut enter = |who: &str, answer| match answer {
            Answer::Figure(figure) => rows.push(rows::row(&text, unit, who, figure)),
            Answer::LeftOut(why) => left_out.push(LeftOut {
                question: text.clone(),
                backend: who.to_owned(),
                why,
            }),
            Answer::Senseless => {}
        };
        for setup in &setups {
            let backend = setup.backend;
            tell(&format!(
                "{text} under {backend} ({} of {count})",
                index + 1
            ));
            enter(backend.name(), question.ask(setup, &terms)?);
        }
        tell(&format!("{text} ({} of {count})", index + 1));
        if let Some((name, answer)) = question.yardstick(&terms)? {
            enter(name, answer);
        }
        rows::compare(&mut rows[begin..]);
    }
    notes.push(
        "All rows were measured in one run, the best of several rounds each. The time is that of \
         the calls, from entering native code to all of its accesses applied; \"over none\" is \
         what the recorder adds to it. Ratios are of times, below 1 is faster."
            .to_owned(),
    );
    Ok(BenchReport {
        schema: 1,
        notes,
        rows,
        left_out,
    })
}

/// The recorders that this host allows; a note for each of the others.
fn usable(notes: &mut Vec<String>) -> Result<Vec<Setup>, BenchError> {
    let mut setups = Vec::new();
    for backend in [
        Backend::None,
        Backend::Inproc,
        Backend::Ebpf,
        Backend::Ptrace,
    ] {
        let setup = Setup { backend };
        match setup.bridge() {
            Ok(_) => setups.push(setup),
            Err(BridgeError::Session(error)) => {
                notes.push(format!("{backend} was left out: {error}"));
            }
            Err(other) => return Err(other.into()),
        }
    }
    Ok(setups)
}
