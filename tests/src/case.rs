//! A call whose every access is known beforehand, and its comparison with what was reported.
//!
//! A case runs once for each recorder. Each run is compared with the expectation written in the
//! test, and the runs with each other: same result, same coverage, and where one thread makes the
//! accesses the same events in the same order.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::call::{Backend, Call, Outcome};
use crate::check;
use crate::fixture::Lib;
use crate::host::Need;
use crate::report::{Allocation, Range};

mod plain;
mod run;

use plain::{numbers, plain, same};
pub use run::add_cases;

/// Bytes that an allocation's report must name.
#[derive(Clone)]
enum Ranges {
    /// Exactly these.
    Exactly(Vec<Range>),
    /// Exactly these, which depend on the buffer's address.
    AtBase(Arc<dyn Fn(u64) -> Vec<Range> + Send + Sync>),
    /// Nothing outside these.
    Within(Vec<Range>),
    /// No demand.
    Any,
}

impl Ranges {
    fn check(&self, what: &str, allocation: &Allocation, actual: &[Range]) -> Result<()> {
        let name = &allocation.name;
        let expected = match self {
            Ranges::Any => return Ok(()),
            Ranges::Exactly(ranges) => ranges.clone(),
            Ranges::AtBase(of) => of(allocation.base().context("base")?),
            Ranges::Within(allowed) => {
                let inside = |range: &Range| {
                    allowed
                        .iter()
                        .any(|outer| outer.0 <= range.0 && range.1 <= outer.1)
                };
                check!(
                    actual.iter().all(inside),
                    "{name}: {what} {actual:?}, not within {allowed:?}"
                );
                return Ok(());
            }
        };
        check!(
            actual == expected,
            "{name}: {what} {actual:?}, not {expected:?}"
        );
        Ok(())
    }
}

#[derive(Clone)]
struct Buffer {
    read: Ranges,
    written: Ranges,
    maybe_written: Ranges,
    initialized: Ranges,
    bytes: Option<String>,
}

impl Default for Buffer {
    /// A buffer that native code leaves alone.
    fn default() -> Buffer {
        Buffer {
            read: Ranges::Exactly(Vec::new()),
            written: Ranges::Exactly(Vec::new()),
            maybe_written: Ranges::Exactly(Vec::new()),
            initialized: Ranges::Any,
            bytes: None,
        }
    }
}

/// A call and what it must be reported to have done.
#[derive(Clone)]
pub struct Case {
    name: String,
    libs: Vec<Lib>,
    prototype: String,
    bindings: Vec<String>,
    options: Vec<String>,
    needs: Vec<Need>,
    backends: Vec<Backend>,
    ret: Option<Vec<String>>,
    ret_numbers: Option<Vec<f64>>,
    buffers: BTreeMap<String, Buffer>,
    events: Option<Vec<(char, String, i64, u64)>>,
    same_order: bool,
}

impl Case {
    /// A case on the `-O2` library. Buffers that are not mentioned further must stay untouched.
    pub fn new<'a>(
        name: &str,
        prototype: &str,
        bindings: impl IntoIterator<Item = &'a str>,
    ) -> Case {
        Case {
            name: name.into(),
            libs: vec![Lib::O2],
            prototype: prototype.into(),
            bindings: bindings.into_iter().map(String::from).collect(),
            options: Vec::new(),
            needs: Vec::new(),
            backends: Backend::ALL.to_vec(),
            ret: None,
            ret_numbers: None,
            buffers: BTreeMap::new(),
            events: None,
            same_order: true,
        }
    }

    /// Another library instead.
    pub fn on(mut self, lib: Lib) -> Case {
        self.libs = vec![lib];
        self
    }

    /// Also on the `-O0` and the stripped library: same bytes, other instructions.
    pub fn on_every_build(mut self) -> Case {
        self.libs = vec![Lib::O2, Lib::O0, Lib::Stripped];
        self
    }

    /// Further options.
    pub fn option<'a>(mut self, options: impl IntoIterator<Item = &'a str>) -> Case {
        self.options.extend(options.into_iter().map(String::from));
        self
    }

    /// Runs only where this is met.
    pub fn needs(mut self, need: Need) -> Case {
        self.needs.push(need);
        self
    }

    /// The result, as text.
    pub fn ret(self, value: &str) -> Case {
        self.ret_one_of([value])
    }

    /// The result where it has several spellings.
    pub fn ret_one_of<'a>(mut self, values: impl IntoIterator<Item = &'a str>) -> Case {
        self.ret = Some(values.into_iter().map(String::from).collect());
        self
    }

    fn buffer(&mut self, name: &str) -> &mut Buffer {
        self.buffers.entry(name.into()).or_default()
    }

    /// Exactly these bytes of `name` are read.
    pub fn reads(mut self, name: &str, ranges: &[Range]) -> Case {
        self.buffer(name).read = Ranges::Exactly(ranges.to_vec());
        self
    }

    /// Exactly these bytes of `name` are written.
    pub fn writes(mut self, name: &str, ranges: &[Range]) -> Case {
        self.buffer(name).written = Ranges::Exactly(ranges.to_vec());
        self
    }

    /// Exactly these bytes of `name` may have been written.
    pub fn maybe_writes(mut self, name: &str, ranges: &[Range]) -> Case {
        self.buffer(name).maybe_written = Ranges::Exactly(ranges.to_vec());
        self
    }

    /// The result shows exactly these numbers, in this order, whatever stands between them (a
    /// struct's fields).
    pub fn ret_numbers(mut self, numbers: &[f64]) -> Case {
        self.ret_numbers = Some(numbers.to_vec());
        self
    }

    /// The bytes read depend on the buffer's address.
    pub fn reads_at(
        mut self,
        name: &str,
        of: impl Fn(u64) -> Vec<Range> + Send + Sync + 'static,
    ) -> Case {
        self.buffer(name).read = Ranges::AtBase(Arc::new(of));
        self
    }

    /// The bytes written depend on the buffer's address.
    pub fn writes_at(
        mut self,
        name: &str,
        of: impl Fn(u64) -> Vec<Range> + Send + Sync + 'static,
    ) -> Case {
        self.buffer(name).written = Ranges::AtBase(Arc::new(of));
        self
    }

    /// The bytes that may have been written depend on the buffer's address.
    pub fn maybe_writes_at(
        mut self,
        name: &str,
        of: impl Fn(u64) -> Vec<Range> + Send + Sync + 'static,
    ) -> Case {
        self.buffer(name).maybe_written = Ranges::AtBase(Arc::new(of));
        self
    }

    /// Reads of `name` stay within these bytes.
    pub fn reads_within(mut self, name: &str, ranges: &[Range]) -> Case {
        self.buffer(name).read = Ranges::Within(ranges.to_vec());
        self
    }

    /// Writes to `name` stay within these bytes.
    pub fn writes_within(mut self, name: &str, ranges: &[Range]) -> Case {
        self.buffer(name).written = Ranges::Within(ranges.to_vec());
        self
    }

    /// Bytes that may have been written lie within these.
    pub fn maybe_writes_within(mut self, name: &str, ranges: &[Range]) -> Case {
        self.buffer(name).maybe_written = Ranges::Within(ranges.to_vec());
        self
    }

    /// Exactly these bytes of `name` hold a value afterwards.
    pub fn initializes(mut self, name: &str, ranges: &[Range]) -> Case {
        self.buffer(name).initialized = Ranges::Exactly(ranges.to_vec());
        self
    }

    /// Content of `name` afterwards, in hexadecimal digits.
    pub fn holds(mut self, name: &str, hex: &str) -> Case {
        self.buffer(name).bytes = Some(hex.into());
        self
    }

    /// The events, in order: `"r p 0 4; w q 8 2"` is a read of 4 bytes at p, then a write of 2 at
    /// q+8; `m` is a write that is not certain.
    ///
    /// # Panics
    /// If the text is not of this form, which is a mistake in the test.
    pub fn events(mut self, text: &str) -> Case {
        let parse = |event: &str| -> Option<(char, String, i64, u64)> {
            let mut words = event.split_whitespace();
            let kind = words
                .next()?
                .chars()
                .next()
                .filter(|kind| "rwm".contains(*kind))?;
            let name = words.next()?.to_string();
            Some((
                kind,
                name,
                words.next()?.parse().ok()?,
                words.next()?.parse().ok()?,
            ))
        };
        let events = text
            .split(';')
            .map(str::trim)
            .filter(|event| !event.is_empty())
            .map(|event| parse(event).unwrap_or_else(|| panic!("bad event {event:?}")));
        self.events = Some(events.collect());
        self
    }

    /// Recorders may split the accesses differently or see them in another order (threads, or
    /// repeated string instructions, which single-stepping takes apart).
    pub fn any_order(mut self) -> Case {
        self.same_order = false;
        self
    }

    /// Only under this recorder: the others do not promise it.
    pub fn only(mut self, backend: Backend) -> Case {
        self.backends = vec![backend];
        self
    }

    fn call(&self, lib: Lib, backend: Backend) -> Call {
        Call::new(lib.path(), &self.prototype, backend)
            .bind(self.bindings.clone())
            .option(self.options.clone())
            .with_events()
    }

    /// Compares one run with the expectation.
    fn check(&self, outcome: &Outcome) -> Result<()> {
        outcome.expect_code(0)?;
        if let Some(expected) = &self.ret {
            let ret = outcome
                .report
                .ret
                .as_ref()
                .context("no result reported")?
                .text();
            check!(expected.contains(&ret), "returned {ret}, not {expected:?}");
        }
        if let Some(expected) = &self.ret_numbers {
            let ret = outcome
                .report
                .ret
                .as_ref()
                .context("no result reported")?
                .text();
            check!(
                &numbers(&ret) == expected,
                "returned {ret}, not the numbers {expected:?}"
            );
        }
        for name in self.buffers.keys() {
            outcome.allocation(name)?;
        }
        for allocation in &outcome.report.allocations {
            let expected = self
                .buffers
                .get(&allocation.name)
                .cloned()
                .unwrap_or_default();
            expected.read.check("read", allocation, &allocation.read)?;
            expected
                .written
                .check("written", allocation, &allocation.written)?;
            expected
                .maybe_written
                .check("maybe_written", allocation, &allocation.maybe_written)?;
            expected
                .initialized
                .check("initialized", allocation, &allocation.initialized)?;
            if let Some(bytes) = &expected.bytes {
                let actual = allocation.bytes.to_lowercase();
                check!(
                    &actual == bytes,
                    "{} holds {actual}, not {bytes}",
                    allocation.name
                );
            }
        }
        if let Some(expected) = &self.events {
            same("events", expected, &plain(&outcome.events)?)?;
        }
        Ok(())
    }
}
