//! What native calls of the script were found to do wrong.
//!
//! ```text
//!  a call's outcome ─► the memory's log ─► Diagnosis, with the Lua stack and the bytes ─► Finding
//!                                                 └─► the script's error, unless they are collected
//! ```

use std::cell::{Cell, RefCell};

use super::{
    bytes::Dump,
    calls::CFunction,
    failure::{Done, LuaFailure},
    session::{Session, SessionOptions},
};
use crate::{
    bridge::CallOutcome,
    diagnosis::{Context, Diagnoser, Diagnosis},
};

/// How many findings are kept; more are counted.
const MAX_FINDINGS: usize = 1000;

/// One violation.
#[derive(Clone, Debug)]
pub struct Finding {
    /// All that is known of it, the script's stack included.
    pub diagnosis: Diagnosis,
    /// The bytes that it is about, in lines.
    pub bytes: Vec<String>,
    /// Whether the script said that it expects it.
    pub expected: bool,
}

/// See the module.
#[derive(Default)]
pub(super) struct Findings {
    all: RefCell<Vec<Finding>>,
    /// Those that were expected, and all, kept or not.
    expected: Cell<u64>,
    total: Cell<u64>,
    diagnoser: RefCell<Option<Diagnoser>>,
    /// How many `trace.expect` are under way.
    expecting: Cell<u32>,
    incomplete: RefCell<Option<String>>,
    load_failure: RefCell<Option<String>>,
}

impl Findings {
    /// Whether violations do not stop the script.
    pub(super) fn collecting(&self, options: &SessionOptions) -> bool {
        options.keep_going || self.expecting.get() > 0
    }

    /// `trace.expect` begins; returns how many findings there are.
    pub(super) fn expect(&self) -> usize {
        self.expecting.set(self.expecting.get() + 1);
        self.all.borrow().len()
    }

    /// It ends; the findings from the `first` on are what it was about, and `kinds` of them were
    /// expected: the first of each of these.
    pub(super) fn expected(&self, first: usize, kinds: &[String]) -> Vec<String> {
        self.expecting.set(self.expecting.get().saturating_sub(1));
        let mut wanted: Vec<&String> = kinds.iter().collect();
        let mut all = self.all.borrow_mut();
        let mut found = Vec::new();
        for finding in all.iter_mut().skip(first) {
            let kind = finding.diagnosis.kind.name();
            found.push(kind.to_owned());
            if let Some(at) = wanted.iter().position(|wanted| *wanted == kind) {
                wanted.swap_remove(at);
                finding.expected = true;
                self.expected.set(self.expected.get() + 1);
            }
        }
        found
    }

    /// The findings that are kept, from the `first` on.
    pub(super) fn from(&self, first: usize) -> Vec<Finding> {
        self.all.borrow().iter().skip(first).cloned().collect()
    }

    /// How many there are of them.
    pub(super) fn len(&self) -> usize {
        self.all.borrow().len()
    }

    /// Whether the script's last error was that a library could not be loaded.
    pub(super) fn is_load_failure(&self, error: &str) -> bool {
        let failure = self.load_failure.borrow();
        failure.as_ref().is_some_and(|text| error.contains(text))
    }

    pub(super) fn could_not_load(&self, text: &str) {
        *self.load_failure.borrow_mut() = Some(text.to_owned());
    }

    /// Why the trace is not complete, if it is not.
    pub(super) fn incomplete(&self) -> Option<String> {
        self.incomplete.borrow().clone()
    }

    /// How many violations there were that nobody expected, those that were not kept included.
    pub(super) fn unexpected(&self) -> u64 {
        self.total.get() - self.expected.get()
    }
}

impl Session {
    /// Takes what was wrong with a call. Unless violations are collected, it is the script's error.
    pub(super) fn note_findings(&self, function: &CFunction, outcome: &CallOutcome) -> Done<()> {
        let stats = &outcome.stats;
        if !stats.complete() {
            let words = format!(
                "{}: {} of {} accesses were refused or lost",
                function.name,
                stats.emitted - stats.delivered,
                stats.emitted
            );
            self.findings.incomplete.borrow_mut().get_or_insert(words);
        }
        if outcome.violations == 0 {
            return Ok(());
        }
        let lua_stack = self.lua_stack();
        let mut diagnoser = self.findings.diagnoser.borrow_mut();
        let diagnoser = diagnoser.get_or_insert_with(Diagnoser::new);
        let mut new = Vec::new();
        {
            let mut memory = self.bridge.memory();
            let context = Context {
                function: Some(&function.name),
                address: Some(function.address),
                memory: Some(&memory),
                interpreter_stack: &lua_stack,
                ..Context::of(outcome)
            };
            for logged in memory.violations().entries() {
                let diagnosis = diagnoser.diagnose(logged, &context);
                let bytes = Dump::around(&memory, &diagnosis);
                new.push(Finding {
                    diagnosis,
                    bytes,
                    expected: false,
                });
            }
            memory.violations_mut().clear();
        }
        let first = new.first().map(|finding| {
            let message = &finding.diagnosis.message;
            format!("{}: {}: {message}", function.name, finding.diagnosis.kind)
        });
        let findings = &self.findings;
        findings.total.set(findings.total.get() + new.len() as u64);
        let mut all = findings.all.borrow_mut();
        let room = MAX_FINDINGS.saturating_sub(all.len());
        all.extend(new.into_iter().take(room));
        drop(all);
        match first {
            Some(first) if !self.findings.collecting(&self.options) => Err(LuaFailure::new(first)),
            _ => Ok(()),
        }
    }
}
