//! Collects test cases, leaves out what the host cannot do, and says at the end what was left out.

use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};

use crate::host::{self, Need};

/// Cases under way at once, unless the command line says otherwise.
const THREADS: usize = 6;

/// Remarks that cases make for the end of the run, such as an access refused by name.
#[derive(Clone, Debug, Default)]
pub struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    /// Adds a remark.
    pub fn add(&self, note: String) {
        if let Ok(mut notes) = self.0.lock() {
            notes.push(note);
        }
    }
}

/// An error and its causes, one a line, without the backtrace that `RUST_BACKTRACE` would add.
pub fn explain(error: &anyhow::Error) -> String {
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    causes.join("\ncaused by: ")
}

/// The cases of one test program.
#[derive(Debug, Default)]
pub struct Suite {
    trials: Vec<Trial>,
    skipped: Vec<(String, String)>,
    notes: Notes,
}

impl Suite {
    /// No cases yet.
    pub fn new() -> Suite {
        Suite::default()
    }

    /// Where cases put remarks.
    pub fn notes(&self) -> Notes {
        self.notes.clone()
    }

    /// Adds a case that can run only where every need is met.
    pub fn add(
        &mut self,
        name: impl Into<String>,
        needs: impl IntoIterator<Item = Need>,
        run: impl FnOnce() -> Result<()> + Send + 'static,
    ) {
        let name = name.into();
        let missing = needs.into_iter().find_map(host::missing);
        let trial = Trial::test(name.clone(), move || {
            run().map_err(|error| Failed::from(explain(&error)))
        })
        .with_ignored_flag(missing.is_some());
        self.trials.push(trial);
        if let Some(reason) = missing {
            self.skipped.push((name, reason));
        }
    }

    /// Runs the cases that the command line selects, and prints the reason of each omission.
    pub fn run(self) -> ExitCode {
        let mut arguments = Arguments::from_args();
        // A case mostly waits for a process of its own, and under eBPF for the kernel to detach
        // probes, so more of them than processors are under way at once.
        arguments.test_threads.get_or_insert(THREADS);
        let listing = arguments.list;
        let conclusion = libtest_mimic::run(&arguments, self.trials);
        if !listing {
            report_skips(&self.skipped);
            let mut notes = self
                .notes
                .0
                .lock()
                .map(|notes| notes.clone())
                .unwrap_or_default();
            notes.sort();
            for note in notes {
                println!("note: {note}");
            }
        }
        conclusion.exit_code()
    }
}

/// One line a reason, with the number of cases it kept from running.
fn report_skips(skipped: &[(String, String)]) {
    let mut reasons: Vec<&str> = skipped.iter().map(|(_, reason)| reason.as_str()).collect();
    reasons.sort_unstable();
    reasons.dedup();
    for reason in reasons {
        let names: Vec<&str> = skipped
            .iter()
            .filter(|(_, other)| other == reason)
            .map(|(name, _)| name.as_str())
            .collect();
        println!("skipped: {} ({}…): {reason}", names.len(), names[0]);
    }
}
