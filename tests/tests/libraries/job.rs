//! A call of a real library, traced and untraced.
//!
//! ```text
//!  untraced, output filled with 00 ──┐
//!  untraced, output filled with ff ──┴─► bytes that are neither: written, and with what
//!                                              │ equal
//!  traced, output uninitialised ─────────► written, initialised, content
//! ```
//!
//! So the library and the processor say what was written, not the tracer.

use anyhow::{Context, Result, bail};
use ffitrace_tests::call::{Backend, Call, Outcome};
use ffitrace_tests::check;
use ffitrace_tests::fixture::Lib;
use ffitrace_tests::report::Range;
use ffitrace_tests::suite::Suite;

/// Content of a buffer that a report shows.
const SHOWN: usize = 4096;

/// A call of a library.
#[derive(Clone)]
pub(crate) struct Job {
    lib: Lib,
    prototype: &'static str,
    options: Vec<String>,
    inputs: Vec<(&'static str, String)>,
    outputs: Vec<(&'static str, usize)>,
    reads: Vec<(&'static str, Vec<Range>)>,
}

impl Job {
    pub(crate) fn new(lib: Lib, prototype: &'static str) -> Job {
        Job {
            lib,
            prototype,
            options: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            reads: Vec::new(),
        }
    }

    /// Declarations of C types.
    pub(crate) fn declare(mut self, text: &str) -> Job {
        self.options.extend(["--cdef".into(), text.into()]);
        self
    }

    /// Binds a parameter that is no output buffer.
    pub(crate) fn input(mut self, name: &'static str, value: impl ToString) -> Job {
        self.inputs.push((name, value.to_string()));
        self
    }

    /// A buffer with these bytes, all of which are read.
    pub(crate) fn read_whole(self, name: &'static str, bytes: &[u8]) -> Job {
        self.read_part(name, bytes, &[(0, bytes.len() as u64)])
    }

    /// A buffer with these bytes, of which exactly `ranges` are read.
    pub(crate) fn read_part(mut self, name: &'static str, bytes: &[u8], ranges: &[Range]) -> Job {
        self.reads.push((name, ranges.to_vec()));
        self.input(name, binding(bytes))
    }

    /// An uninitialised buffer for output, at most as large as what a report shows.
    pub(crate) fn output(mut self, name: &'static str, size: usize) -> Job {
        assert!(size <= SHOWN, "the report does not show {size} bytes");
        self.outputs.push((name, size));
        self
    }

    fn call(&self, backend: Backend, fill: impl Fn(usize) -> String) -> Result<Call> {
        let inputs = self
            .inputs
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        let outputs = self
            .outputs
            .iter()
            .map(|(name, size)| format!("{name}={}", fill(*size)));
        Ok(Call::new(self.lib.built()?, self.prototype, backend)
            .option(self.options.clone())
            .bind(outputs)
            .bind(inputs))
    }

    /// Makes the call three times and compares. The result is that of the traced one.
    pub(crate) fn run(&self, backend: Backend) -> Result<Outcome> {
        let traced = self.call(backend, |size| format!("uninit:{size}"))?.run()?;
        traced.expect_code(0)?;
        check!(traced.report.stats.complete, "the trace is not complete");
        check!(traced.report.stats.events > 0, "no access at all");
        let untraced = |byte: u8| -> Result<Outcome> {
            let fill = |size| binding(&vec![byte; size]);
            self.call(backend, fill)?.untraced().run()
        };
        let (zeros, ones) = (untraced(0)?, untraced(0xff)?);
        for other in [&zeros, &ones] {
            check!(
                result(other) == result(&traced),
                "the result is {:?}, untraced {:?}",
                result(&traced),
                result(other)
            );
        }
        for (name, _) in &self.outputs {
            self.compare_output(name, &traced, &zeros, &ones)?;
        }
        for (name, value) in &self.inputs {
            // A pointer among it differs, for it is of another view.
            if value.contains(':') && !value.contains('&') {
                let same = content(&traced, name)? == content(&zeros, name)?;
                check!(same, "{name} has another content than untraced");
            }
        }
        for (name, ranges) in &self.reads {
            let read = &traced.allocation(name)?.read;
            check!(read == ranges, "{name}: read {read:?}, not {ranges:?}");
        }
        Ok(traced)
    }

    fn compare_output(
        &self,
        name: &str,
        traced: &Outcome,
        zeros: &Outcome,
        ones: &Outcome,
    ) -> Result<()> {
        let (low, high) = (content(zeros, name)?, content(ones, name)?);
        let mut written = Vec::new();
        for (at, (low, high)) in low.iter().zip(&high).enumerate() {
            match (low, high) {
                (low, high) if low == high => extend(&mut written, at as u64),
                (0, 0xff) => {}
                _ => bail!("{name}: byte {at} depends on what was there before"),
            }
        }
        let allocation = traced.allocation(name)?;
        for (what, ranges) in [
            ("written", &allocation.written),
            ("initialised", &allocation.initialized),
        ] {
            check!(
                *ranges == written,
                "{name}: {what} {ranges:?}, but the library writes {written:?}"
            );
        }
        check!(
            allocation.maybe_written.is_empty(),
            "{name}: perhaps written"
        );
        let shown = content(traced, name)?;
        let same = written.iter().all(|range| {
            shown[range.0 as usize..range.1 as usize] == low[range.0 as usize..range.1 as usize]
        });
        check!(same, "{name} has another content than untraced");
        Ok(())
    }
}

/// Adds a test for each recorder.
pub(crate) fn add_test(
    suite: &mut Suite,
    name: &str,
    run: impl Fn(Backend) -> Result<()> + Clone + Send + 'static,
) {
    for backend in Backend::ALL {
        let run = run.clone();
        let name = format!("{name}::{}", backend.name());
        suite.add(name, backend.needs(), move || run(backend));
    }
}

/// What was returned, as text.
pub(crate) fn result(outcome: &Outcome) -> Option<String> {
    outcome.report.ret.as_ref().map(|ret| ret.text())
}

/// What was returned, as a number.
pub(crate) fn number(outcome: &Outcome) -> Result<usize> {
    let text = result(outcome).context("no result")?;
    text.parse().with_context(|| format!("result {text}"))
}

/// The shown bytes of a buffer.
pub(crate) fn content(outcome: &Outcome, name: &str) -> Result<Vec<u8>> {
    let digits = &outcome.allocation(name)?.bytes;
    (0..digits.len() / 2)
        .map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).context("digits"))
        .collect()
}

/// The number of 8 bytes that a buffer begins with.
pub(crate) fn word(outcome: &Outcome, name: &str) -> Result<usize> {
    let bytes = content(outcome, name)?;
    let word: [u8; 8] = bytes.get(..8).context("8 bytes")?.try_into()?;
    Ok(u64::from_le_bytes(word) as usize)
}

/// Bytes as a binding's value.
pub(crate) fn binding(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("hex:{digits}")
}

/// Bytes that look like text: they neither repeat nor compress to nothing.
pub(crate) fn text(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            b"etaoin shrdlu\n"[(state % 14) as usize]
        })
        .collect()
}

fn extend(ranges: &mut Vec<Range>, at: u64) {
    match ranges.last_mut() {
        Some(last) if last.1 == at => last.1 += 1,
        _ => ranges.push((at, at + 1)),
    }
}
