//! Values as the repl shows them.
//!
//! ```text
//!  cdata<struct point>: 0x2348002001d0, 8 bytes, `struct point at repl:2`
//!    x  int  3
//!    y  int  4
//!    0000  03 00 00 00 04 00 00 00   |                       ........
//!    0000  wwwwwwww                     w written
//! ```

use std::ops::Range;

use mlua::{Table, Value};

use super::{
    bytes::Dump,
    cdata::{Cdata, Kind},
    failure::Done,
    scalar::{Given, Scalar},
    session::Session,
    start::LuaSession,
    types::{Member, Shape, Type},
};
use crate::{
    memory::{Allocation, Pointer, Provenance},
    report::{self, Hex, Span, Theme, map},
};

/// Entries of a table or elements of an array that are shown.
const MAX_SHOWN: usize = 16;
/// Bytes of an object that are shown in hexadecimal.
const MAX_BYTES: u64 = 128;

impl LuaSession {
    /// A value in lines, for people.
    pub fn show(&self, value: &Value, theme: Theme) -> Vec<String> {
        let session = self.session();
        match value {
            Value::Table(table) => session.show_table(table),
            Value::Other(_) => session
                .show_cdata(value, theme)
                .unwrap_or_else(|error| vec![error.message]),
            _ => vec![session.in_short(value)],
        }
    }
}

impl Session {
    /// A value in one line.
    fn in_short(&self, value: &Value) -> String {
        match value {
            Value::String(text) => {
                let bytes = text.as_bytes();
                format!("\"{}\"", bytes.escape_ascii())
            }
            Value::Other(_) => match self.cdata(value) {
                Some(Cdata::Boxed(_)) => self.describe(value).unwrap_or_else(|error| error.message),
                _ => value.to_string().unwrap_or_else(|_| "cdata".to_owned()),
            },
            other => other
                .to_string()
                .unwrap_or_else(|_| other.type_name().to_owned()),
        }
    }

    fn show_table(&self, table: &Table) -> Vec<String> {
        let mut entries: Vec<(bool, String, String)> = Vec::new();
        let mut more = 0;
        for pair in table.pairs::<Value, Value>() {
            let Ok((key, value)) = pair else { break };
            if entries.len() >= 256 {
                more += 1;
                continue;
            }
            let name = match &key {
                Value::String(name) => name.to_string_lossy(),
                key => format!("[{}]", self.in_short(key)),
            };
            let is_name = matches!(key, Value::String(_));
            entries.push((is_name, name, self.in_short(&value)));
        }
        let list = entries.iter().take_while(|(is_name, ..)| !is_name).count();
        entries[list..].sort();
        let all = entries.len() + more;
        let width = entries
            .iter()
            .take(MAX_SHOWN)
            .map(|(_, name, _)| name.chars().count());
        let width = width.max().unwrap_or(0);
        let mut lines = vec![match all {
            0 => "{}".to_owned(),
            1 => "table, 1 entry".to_owned(),
            count => format!("table, {count} entries"),
        }];
        let shown = entries.iter().take(MAX_SHOWN);
        lines.extend(shown.map(|(_, name, value)| format!("  {name:<width$}  {value}")));
        if all > MAX_SHOWN {
            lines.push(format!("  … and {} more", all - MAX_SHOWN));
        }
        lines
    }

    fn show_cdata(&self, value: &Value, theme: Theme) -> Done<Vec<String>> {
        let Some(Cdata::Boxed(boxed)) = self.cdata(value) else {
            return Ok(vec![self.in_short(value)]);
        };
        let mut lines = vec![self.describe(value)?];
        let types = self.types();
        match self.given(value)? {
            Given::Aggregate(ty, at) => {
                lines.extend(self.parts_of(&ty, at)?);
                self.add_memory(&mut lines, value, theme);
            }
            Given::Scalar(ty, Scalar::Pointer(at)) if at.addr != 0 => {
                lines[0].push_str(&self.whereabouts(at));
                if let Shape::Pointer { to } = ty.shape {
                    let target = types.get(to)?;
                    if let Shape::Struct(_) = target.shape {
                        lines.extend(self.parts_of(&target, at)?);
                    } else if target.size.is_some() && !target.is_aggregate() {
                        let text = match self.value_at(at, &target) {
                            Ok(value) => self.in_short(&value),
                            Err(error) => error.message,
                        };
                        lines.push(format!("  [0]  {}  {text}", types.name(to)));
                    }
                }
            }
            Given::Scalar(_, scalar) if boxed.kind == Kind::Value => {
                let text = match scalar {
                    Scalar::Bool(value) => value.to_string(),
                    Scalar::Float(value) => value.to_string(),
                    Scalar::Int(bits) => (bits as i64).to_string(),
                    _ => String::new(),
                };
                lines.push(format!("  {text}"));
            }
            _ => {}
        }
        Ok(lines)
    }

    /// Where a pointer leads, in words.
    fn whereabouts(&self, at: Pointer) -> String {
        let memory = self.bridge.memory();
        let native = memory.arena().to_native(at.addr).unwrap_or(at.addr);
        let place = match at.provenance {
            Provenance::Alloc(id) => memory.get(id),
            _ => memory
                .locate(native)
                .and_then(|place| memory.get(place.allocation)),
        };
        match place {
            Some(record) => {
                let freed = if record.is_live() { "" } else { ", freed" };
                let offset = native.wrapping_sub(record.base()) as i64;
                format!(", offset {offset} of {}{freed}", record.title())
            }
            None => String::new(),
        }
    }

    /// Fields or elements, a line each.
    fn parts_of(&self, ty: &Type, at: Pointer) -> Done<Vec<String>> {
        let types = self.types();
        let mut parts: Vec<(String, String, String)> = Vec::new();
        let mut more = 0;
        let short = |value: Done<Value>| match value {
            Ok(value) => self.in_short(&value),
            Err(error) if error.message.contains("not initialised") => "not initialised".into(),
            Err(error) => error.message,
        };
        match &ty.shape {
            Shape::Struct(shape) => {
                for member in &shape.members {
                    match member {
                        Member::Field { name, ty, offset } => {
                            let field = types.get(*ty)?;
                            let value = self.value_at(at.offset(*offset as i64), &field);
                            let name = name.clone().unwrap_or_default();
                            parts.push((name, types.name(*ty).to_string(), short(value)));
                        }
                        Member::Bits(field) => {
                            let value = self.bits(at.offset(field.offset as i64), field);
                            let name = field.name.clone().unwrap_or_default();
                            let width = format!("{} bits", field.bits);
                            parts.push((name, width, short(value)));
                        }
                        Member::Inner { ty, offset } => {
                            let inner = types.get(*ty)?;
                            if let Shape::Struct(_) = inner.shape {
                                let at = at.offset(*offset as i64);
                                parts.push((String::new(), types.name(*ty).to_string(), {
                                    short(self.value_at(at, &inner))
                                }));
                            }
                        }
                        Member::Constant { .. } => {}
                    }
                }
            }
            Shape::Array { of, .. } => {
                let element = types.get(*of)?;
                let step = types.size_of(&element)?;
                let whole = self.array_bytes(ty, at);
                let len = whole.unwrap_or(0).checked_div(step).unwrap_or(0);
                for index in 0..len.min(MAX_SHOWN as u64) {
                    let value = self.value_at(at.offset((index * step) as i64), &element);
                    let name = types.name(*of).to_string();
                    parts.push((format!("[{index}]"), name, short(value)));
                }
                more = len.saturating_sub(MAX_SHOWN as u64);
            }
            _ => {}
        }
        let width = |of: fn(&(String, String, String)) -> &String| {
            parts
                .iter()
                .map(|part| of(part).chars().count())
                .max()
                .unwrap_or(0)
        };
        let (names, kinds) = (width(|part| &part.0), width(|part| &part.1));
        let mut lines: Vec<String> = parts
            .iter()
            .map(|(name, kind, value)| format!("  {name:<names$}  {kind:<kinds$}  {value}"))
            .collect();
        if more > 0 {
            lines.push(format!("  … and {more} more"));
        }
        Ok(lines)
    }

    /// The bytes of an object, and the map of what native code did to them.
    fn add_memory(&self, lines: &mut Vec<String>, value: &Value, theme: Theme) {
        let Ok((id, span)) = self.span(value) else {
            return;
        };
        let memory = self.bridge.memory();
        let Some(record) = memory.get(id) else {
            return;
        };
        let size = report::units::bytes(span.end - span.start);
        lines[0].push_str(&format!(", {size}, {}", record.label()));
        if !record.is_live() {
            lines[0].push_str(", freed");
            return;
        }
        if span.is_empty() {
            return;
        }
        let shown = span.start..span.end.min(span.start + MAX_BYTES);
        let dump = Dump::lines(&memory, record, shown, None);
        lines.extend(dump.into_iter().map(|line| format!("  {line}")));
        let drawn = map::draw(&part_of(record, &span), &[], theme);
        // Where nothing was done, there is nothing to see.
        let is_new = |(mark, _): &(map::Mark, bool)| {
            matches!(mark, map::Mark::Untouched | map::Mark::Uninit)
        };
        if drawn.marks.iter().all(is_new) {
            return;
        }
        lines.extend(drawn.lines.iter().map(|line| format!("  {line}")));
        lines.push(format!("  map: {}", map::legend(&drawn.marks, theme)));
    }
}

/// A part of an allocation as reports have allocations.
fn part_of(record: &Allocation, span: &Range<u64>) -> report::Allocation {
    let inside = |ranges: Vec<Range<u64>>| -> Vec<Span> {
        let cut = ranges.into_iter().map(|range| {
            let start = range.start.max(span.start) - span.start;
            (start, range.end.min(span.end).saturating_sub(span.start))
        });
        cut.filter(|(start, end)| start < end).collect()
    };
    let of = |set: &crate::memory::ByteSet| inside(set.ranges_in(span.clone()).collect());
    report::Allocation {
        name: String::new(),
        base: Hex(record.base() + span.start),
        size: span.end - span.start,
        mutable: record.is_mutable(),
        freed: !record.is_live(),
        made_by: None,
        freed_by: None,
        read: of(record.read()),
        written: of(record.written()),
        maybe_written: of(record.maybe_written()),
        initialized: of(&record.readable()),
        bytes: Vec::new(),
    }
}
