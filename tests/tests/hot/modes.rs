//! Ways to run a call that must not make a difference.

use std::sync::OnceLock;

use anyhow::{Context, Result};
use ffitrace_tests::call::{Backend, Call, Outcome};
use ffitrace_tests::check;
use ffitrace_tests::stream::{Step, difference, streams};
use ffitrace_tests::suite::explain;

/// Recorders in whose process hot code can be translated.
pub(crate) const BACKENDS: [Backend; 2] = [Backend::Inproc, Backend::Ebpf];

/// When a site's region is translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Never.
    Off,
    /// As the program does by itself.
    Default,
    /// At its first fault.
    Once,
}

impl Mode {
    pub(crate) fn options(self) -> &'static [&'static str] {
        match self {
            Mode::Off => &["--hot", "off"],
            Mode::Default => &[],
            Mode::Once => &["--hot", "1"],
        }
    }
}

/// Modes that this version has.
pub(crate) fn modes() -> &'static [Mode] {
    &[Mode::Off, Mode::Default, Mode::Once]
}

/// The modes in which something is translated.
pub(crate) fn hot_modes() -> &'static [Mode] {
    &modes()[1..]
}

/// What a call did: its result, what its buffers held afterwards, and its events.
#[derive(Clone, Debug)]
pub(crate) struct Did {
    pub(crate) ret: Option<String>,
    pub(crate) bytes: Vec<(String, String)>,
    pub(crate) accesses: (u64, u64),
    pub(crate) coverage: Vec<String>,
    pub(crate) streams: Vec<Vec<Step>>,
}

impl Did {
    pub(crate) fn of(outcome: &Outcome) -> Did {
        let allocations = &outcome.report.allocations;
        Did {
            ret: outcome.report.ret.as_ref().map(|ret| ret.text()),
            bytes: allocations
                .iter()
                .map(|allocation| (allocation.name.clone(), allocation.bytes.clone()))
                .collect(),
            accesses: (outcome.report.stats.reads, outcome.report.stats.writes),
            coverage: allocations
                .iter()
                .map(|a| {
                    format!(
                        "{}: read {:?}, written {:?}, maybe {:?}, initialized {:?}",
                        a.name, a.read, a.written, a.maybe_written, a.initialized
                    )
                })
                .collect(),
            streams: streams(&outcome.events),
        }
    }

    /// Same result and same memory, recorded or not.
    pub(crate) fn same_result(&self, other: &Did) -> Result<()> {
        check!(
            self.ret == other.ret,
            "returned {:?}, not {:?}",
            other.ret,
            self.ret
        );
        for (left, right) in self.bytes.iter().zip(&other.bytes) {
            check!(
                left == right,
                "{} holds\n{}, not\n{}",
                left.0,
                right.1,
                left.1
            );
        }
        Ok(())
    }

    /// Same accesses.
    pub(crate) fn same_trace(&self, other: &Did) -> Result<()> {
        if let Some(found) = difference(&self.streams, &other.streams) {
            return Err(anyhow::anyhow!(found.text));
        }
        check!(
            self.accesses == other.accesses,
            "{:?} reads and writes, not {:?}",
            other.accesses,
            self.accesses
        );
        check!(
            self.coverage == other.coverage,
            "covered {:#?}, not {:#?}",
            other.coverage,
            self.coverage
        );
        Ok(())
    }
}

/// The run that all others are compared with, made by whoever asks first.
#[derive(Debug, Default)]
pub(crate) struct Reference(OnceLock<Result<Did, String>>);

impl Reference {
    pub(crate) const fn new() -> Reference {
        Reference(OnceLock::new())
    }

    /// Without translation, in the process's own handler, and confirmed by a run that nobody traces.
    pub(crate) fn get(&self, call: &Call) -> Result<&Did> {
        let run = || -> Result<Did> {
            let mut untraced = call.clone().untraced();
            untraced.events = false;
            let untraced = untraced.run().context("untraced")?;
            untraced.expect_code(0)?;
            let mut traced = call.clone().option(Mode::Off.options().iter().copied());
            traced.backend = Backend::Inproc.name();
            traced.events = call.events;
            let traced = traced.run().context("inproc --hot off")?;
            traced.expect_code(0)?;
            let did = Did::of(&traced);
            Did::of(&untraced)
                .same_result(&did)
                .context("inproc --hot off against the untraced run")?;
            Ok(did)
        };
        let made = self
            .0
            .get_or_init(|| run().map_err(|error| explain(&error)));
        made.as_ref().map_err(|text| anyhow::anyhow!(text.clone()))
    }
}
