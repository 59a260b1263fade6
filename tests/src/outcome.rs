//! Everything that one run of `ffitrace call` showed, and what holds for every such run.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};

use crate::call::Call;
use crate::check;
use crate::process::Finished;
use crate::report::{Event, Report, hex};

/// Everything one run showed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The process.
    pub process: Finished,
    /// Parsed standard output.
    pub report: Report,
    /// Parsed event log, in the order of the file; empty if not asked for.
    pub events: Vec<Event>,
}

impl Outcome {
    /// The allocation called `name`.
    pub fn allocation(&self, name: &str) -> Result<&crate::report::Allocation> {
        match self
            .report
            .allocations
            .iter()
            .find(|allocation| allocation.name == name)
        {
            Some(found) => Ok(found),
            None => bail!("the report has no allocation {name:?}"),
        }
    }

    /// Fails unless the run ended with this exit status.
    pub fn expect_code(&self, code: i32) -> Result<()> {
        check!(
            self.process.code == Some(code),
            "exit status {:?}, not {code}; violations: {:#?}",
            self.process.code,
            self.report.violations
        );
        Ok(())
    }

    /// Whether something was refused by name.
    pub fn has_unsupported(&self) -> bool {
        self.report
            .violations
            .iter()
            .any(|violation| violation.kind == "unsupported")
    }

    pub(crate) fn check_promises(&self, call: &Call) -> Result<()> {
        let report = &self.report;
        check!(report.schema == 1, "schema {}", report.schema);
        if call.backend != "auto" {
            check!(report.backend == call.backend, "backend {}", report.backend);
        }
        self.check_stats()?;
        for allocation in &report.allocations {
            for (what, ranges) in [
                ("read", &allocation.read),
                ("written", &allocation.written),
                ("maybe_written", &allocation.maybe_written),
                ("initialized", &allocation.initialized),
            ] {
                let sorted = ranges.windows(2).all(|pair| pair[0].1 < pair[1].0);
                let inside = ranges
                    .iter()
                    .all(|range| range.0 < range.1 && range.1 <= allocation.size);
                check!(
                    sorted && inside,
                    "{what} of {} is not sorted, merged and inside: {ranges:?}",
                    allocation.name
                );
            }
            let shown = if allocation.freed {
                0
            } else {
                allocation.size.min(4096) * 2
            };
            check!(
                allocation.bytes.len() as u64 == shown
                    && allocation
                        .bytes
                        .bytes()
                        .all(|byte| byte.is_ascii_hexdigit()),
                "bytes of {} are {} digits, not {shown}",
                allocation.name,
                allocation.bytes.len()
            );
            check!(
                allocation.base().is_some_and(|base| base != 0),
                "base {}",
                allocation.base
            );
        }
        for violation in &report.violations {
            check!(
                !violation.message.trim().is_empty(),
                "violation without a message"
            );
            if let Some(ip) = &violation.ip {
                check!(hex(ip).is_some(), "ip {ip}");
            }
        }
        let expected: &[i32] = match (report.violations.is_empty(), report.stats.complete) {
            (false, true) => &[1],
            (false, false) => &[1, 4],
            (true, true) => &[0],
            (true, false) => &[4],
        };
        check!(
            self.process
                .code
                .is_some_and(|code| expected.contains(&code)),
            "exit status {:?}, but {} violations and complete={} mean {expected:?}",
            self.process.code,
            report.violations.len(),
            report.stats.complete
        );
        if call.events {
            self.check_events()?;
        }
        Ok(())
    }

    fn check_stats(&self) -> Result<()> {
        let stats = &self.report.stats;
        check!(
            stats.emitted == stats.delivered + stats.rejected + stats.dropped,
            "emitted {} is not delivered {} + rejected {} + dropped {}",
            stats.emitted,
            stats.delivered,
            stats.rejected,
            stats.dropped
        );
        check!(stats.dropped == 0, "{} records were lost", stats.dropped);
        check!(
            stats.events == stats.reads + stats.writes,
            "{} events are not {} reads and {} writes",
            stats.events,
            stats.reads,
            stats.writes
        );
        check!(
            stats.rejected == 0 || self.has_unsupported(),
            "rejected, but nothing says what"
        );
        Ok(())
    }

    fn check_events(&self) -> Result<()> {
        let stats = &self.report.stats;
        let reads = self
            .events
            .iter()
            .filter(|event| event.kind == "read")
            .count() as u64;
        let writes = self
            .events
            .iter()
            .filter(|event| event.kind == "write")
            .count() as u64;
        check!(
            reads == stats.reads
                && writes == stats.writes
                && reads + writes == self.events.len() as u64,
            "the log has {reads} reads and {writes} writes in {} lines, the statistics {} and {}",
            self.events.len(),
            stats.reads,
            stats.writes
        );
        let mut last: BTreeMap<u32, u64> = BTreeMap::new();
        let mut all = BTreeSet::new();
        let bases: BTreeMap<&str, u64> = self
            .report
            .allocations
            .iter()
            .filter_map(|allocation| Some((allocation.name.as_str(), allocation.base()?)))
            .collect();
        for event in &self.events {
            check!(all.insert(event.seq), "sequence number {} twice", event.seq);
            if let Some(before) = last.insert(event.tid, event.seq) {
                check!(
                    before < event.seq,
                    "thread {}: {} after {before}",
                    event.tid,
                    event.seq
                );
            }
            check!(event.size > 0, "empty event {event:?}");
            let addr = hex(&event.addr).with_context(|| format!("addr of {event:?}"))?;
            check!(hex(&event.ip).is_some(), "ip of {event:?}");
            check!(
                ["fault", "translated", "syscall", "callback"].contains(&event.source.as_str()),
                "source of {event:?}"
            );
            if let (Some(name), Some(offset)) = (&event.allocation, &event.offset) {
                let offset = offset.value().context("offset")?;
                let base = *bases
                    .get(name.as_str())
                    .with_context(|| format!("{event:?}"))?;
                // A repeated call may use fresh buffers; the report shows the last ones.
                check!(
                    stats.calls > 1 || base.wrapping_add_signed(offset) == addr,
                    "base + offset is not addr in {event:?}"
                );
            }
        }
        Ok(())
    }
}
