//! The module `trace`: what native code did, for the script.
//!
//! ```text
//!  access events ─► Observer: kept, up to a limit ─► trace.events, trace.on      events of a call
//!  the memory    ─► coverage, initialised bytes                                  of a cdata
//!  Findings      ─► trace.violations, trace.expect
//! ```
//! Events are kept from when the module is first asked for; before, and without it, nothing is.

mod events;

use std::{ops::Range, rc::Rc};

use mlua::{Lua, Table, Value};

use super::{
    api::define,
    calls::CallRecord,
    failure::{Done, LuaFailure, fail},
    findings::Finding,
    place::{Reached, reach},
    scalar::{Given, Scalar},
    session::Session,
    types::Shape,
};
use crate::memory::{AllocId, Allocation, ByteSet, Provenance};

pub(super) use events::Recording;

/// Adds what the module is made of to the core.
pub(super) fn define_all(lua: &Lua, core: &Table, session: &Rc<Session>) -> mlua::Result<()> {
    define(lua, core, session, "trace_begin", |s, ()| {
        s.recording.begin(&s.bridge);
        Ok(s.bridge.backend().name())
    })?;
    define(
        lua,
        core,
        session,
        "trace_events",
        |s, after: Option<u64>| s.recording.to_lua(&s.lua()?, after),
    )?;
    define(lua, core, session, "trace_coverage", |s, cdata: Value| {
        let lua = s.lua()?;
        let coverage = lua.create_table()?;
        for (name, set) in [
            ("read", Allocation::read as fn(&Allocation) -> &ByteSet),
            ("written", Allocation::written),
            ("maybe_written", Allocation::maybe_written),
        ] {
            let ranges = s.ranges_of(&cdata, |record, inside| {
                set(record).ranges_in(inside).collect()
            })?;
            coverage.raw_set(name, table_of(&lua, &ranges)?)?;
        }
        Ok(coverage)
    })?;
    define(
        lua,
        core,
        session,
        "trace_initialized",
        |s, cdata: Value| {
            let ranges = s.ranges_of(&cdata, |record, inside| {
                record.readable().ranges_in(inside).collect()
            })?;
            let (_, span) = s.span(&cdata)?;
            let whole = 0..span.end - span.start;
            let all = whole.is_empty() || ranges.first() == Some(&whole);
            Ok((table_of(&s.lua()?, &ranges)?, all))
        },
    )?;
    define(lua, core, session, "trace_uninit", |s, cdata: Value| {
        let (id, span) = s.span(&cdata)?;
        Ok(s.bridge.memory().deinitialize(id, span)?)
    })?;
    define(
        lua,
        core,
        session,
        "trace_readonly",
        |s, (cdata, flag): (Value, Option<bool>)| {
            let (id, _) = s.span(&cdata)?;
            let mutable = flag == Some(false);
            Ok(s.bridge.memory().set_mutable(id, mutable)?)
        },
    )?;
    define(lua, core, session, "trace_reset", |s, ()| {
        s.bridge.memory().reset_coverage();
        Ok(())
    })?;
    define(lua, core, session, "trace_violations", |s, first: usize| {
        let (lua, list) = (s.lua()?, s.lua()?.create_table()?);
        for finding in s.findings.from(first) {
            list.raw_push(violation(&lua, &finding)?)?;
        }
        Ok(list)
    })?;
    define(lua, core, session, "trace_expect", |s, ()| {
        Ok(s.findings.expect())
    })?;
    define(
        lua,
        core,
        session,
        "trace_expected",
        |s, (first, kinds): (usize, Vec<String>)| Ok(s.findings.expected(first, &kinds)),
    )?;
    define(lua, core, session, "trace_stats", |s, all: bool| {
        let record = match all {
            true => s.calls.totals.borrow(),
            false => s.calls.last.borrow(),
        };
        Ok(stats(&s.lua()?, &record)?)
    })?;
    define(lua, core, session, "lua_stack", |s, ()| Ok(s.lua_stack()))
}

impl Session {
    /// The bytes that a cdata stands for: an object, or what a pointer points to. Where the size of
    /// that is not known, it goes to the end of the allocation.
    pub(super) fn span(&self, cdata: &Value) -> Done<(AllocId, Range<u64>)> {
        let given = self.given(cdata)?;
        let (at, size) = match &given {
            Given::Aggregate(ty, at) => (*at, ty.size),
            Given::Scalar(ty, Scalar::Pointer(at)) => match ty.shape {
                Shape::Pointer { to } => (*at, self.types().get(to)?.size),
                _ => (*at, None),
            },
            other => {
                let name = self.name_given(other);
                return fail(format!("'{name}' has no memory of its own; give an object"));
            }
        };
        let memory = self.bridge.memory();
        // A freed object still has its coverage, for a while.
        if let Provenance::Alloc(id) = at.provenance
            && let Some(record) = memory.get(id)
        {
            let base = memory.address_in(id, self.bridge.view())?;
            let start = at.addr.wrapping_sub(base).min(record.size());
            let end = size.map_or(record.size(), |size| (start + size).min(record.size()));
            return Ok((id, start..end));
        }
        match reach(&memory, at, size.unwrap_or(1), "trace")? {
            Reached::Known(id, offset) => {
                let whole = memory.get(id).map_or(0, |record| record.size());
                Ok((id, offset..size.map_or(whole, |size| offset + size)))
            }
            Reached::Native(addr) => fail(format!(
                "memory at {addr:#x} is native code's own, which nobody keeps account of"
            )),
        }
    }

    /// Ranges of an allocation inside of a cdata, from its start.
    fn ranges_of(
        &self,
        cdata: &Value,
        ranges: impl Fn(&Allocation, Range<u64>) -> Vec<Range<u64>>,
    ) -> Done<Vec<Range<u64>>> {
        let (id, span) = self.span(cdata)?;
        let memory = self.bridge.memory();
        let record = memory
            .get(id)
            .ok_or_else(|| LuaFailure::new("it was freed and forgotten"))?;
        let found = ranges(record, span.clone()).into_iter();
        let inside = found.map(|range| {
            range.start.max(span.start) - span.start..range.end.min(span.end) - span.start
        });
        Ok(inside.filter(|range| !range.is_empty()).collect())
    }
}

fn table_of(lua: &Lua, ranges: &[Range<u64>]) -> mlua::Result<Table> {
    let list = lua.create_table()?;
    for range in ranges {
        list.raw_push(lua.create_sequence_from([range.start, range.end])?)?;
    }
    Ok(list)
}

fn violation(lua: &Lua, finding: &Finding) -> mlua::Result<Table> {
    let found = &finding.diagnosis;
    let table = lua.create_table()?;
    table.raw_set("kind", found.kind.name())?;
    table.raw_set("access", found.access.map(|kind| kind.to_string()))?;
    table.raw_set("message", found.message.as_str())?;
    let note = found.allocation.as_ref();
    table.raw_set("allocation", note.and_then(|note| note.name.clone()))?;
    table.raw_set("offset", note.map(|note| note.offset))?;
    table.raw_set("size", found.size)?;
    let site = found.backtrace.first();
    table.raw_set("symbol", site.map(|site| site.symbol.clone()))?;
    let source = site.and_then(|site| site.source.as_ref());
    table.raw_set("source", source.map(ToString::to_string))?;
    let native: Vec<String> = found.backtrace.iter().map(ToString::to_string).collect();
    table.raw_set("native", native)?;
    table.raw_set("lua", found.interpreter_stack.clone())?;
    table.raw_set("bytes", finding.bytes.clone())?;
    table.raw_set("count", found.count)?;
    Ok(table)
}

fn stats(lua: &Lua, record: &CallRecord) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("name", record.name.as_str())?;
    let stats = &record.stats;
    for (name, count) in [
        ("calls", record.calls),
        ("events", stats.events),
        ("reads", stats.reads),
        ("writes", stats.writes),
        ("faults", stats.faults),
        ("translated", stats.translated),
        ("syscalls", stats.syscalls),
        ("steps", stats.steps),
        ("emitted", stats.emitted),
        ("delivered", stats.delivered),
        ("rejected", stats.rejected),
        ("dropped", stats.dropped),
        ("ns", record.ns),
    ] {
        table.raw_set(name, count)?;
    }
    table.raw_set("complete", stats.complete())?;
    Ok(table)
}
