//! Bytes of an allocation in lines, with what is known of them.
//!
//! ```text
//!   0010  68 65 6c 6c 6f 00 ?? ??  ?? ?? ?? ?? ?? ?? ?? ??  hello.??????????
//!         ^^ ^^                                             write of 2 bytes
//! ```
//! `??` are bytes without a value.

use std::ops::Range;

use crate::{
    diagnosis::Diagnosis,
    memory::{Allocation, Memory},
};

/// Bytes in a line.
const ROW: u64 = 16;
/// Lines before and after the one that it is about.
const AROUND: u64 = 2;

/// See the module.
pub(super) struct Dump;

impl Dump {
    /// The bytes around what a violation is about: in its allocation, if it is known and live.
    pub(super) fn around(memory: &Memory, diagnosis: &Diagnosis) -> Vec<String> {
        let Some(note) = &diagnosis.allocation else {
            return Vec::new();
        };
        let Some(record) = memory.get(note.id).filter(|record| record.is_live()) else {
            return Vec::new();
        };
        let len = diagnosis.size.unwrap_or(1).clamp(1, ROW * 4) as i64;
        let start = note.offset.clamp(-(ROW as i64), record.size() as i64);
        let row = (start.max(0) as u64 / ROW) * ROW;
        let from = row.saturating_sub(AROUND * ROW);
        // Where it lies behind the end, a line of its own is there for it.
        let to = (row + (AROUND + 1) * ROW).min(record.size()).max(row + 1);
        let what = diagnosis.access.map_or(String::new(), |kind| {
            format!(
                "{kind} of {}",
                super::place::bytes(diagnosis.size.unwrap_or(0))
            )
        });
        let mark = (note.offset..note.offset + len, what);
        Dump::lines(memory, record, from..to, Some(&mark))
    }

    /// The bytes of a range, which lies in the allocation.
    pub(super) fn lines(
        memory: &Memory,
        record: &Allocation,
        range: Range<u64>,
        mark: Option<&(Range<i64>, String)>,
    ) -> Vec<String> {
        let mut lines = Vec::new();
        let readable = record.readable();
        let mut at = range.start;
        while at < range.end || at == range.start {
            let end = (at + ROW).min(range.end).min(record.size()).max(at);
            let bytes = memory.read_bytes(record.id(), at..end).unwrap_or_default();
            let known = |place: u64| readable.contains(place);
            lines.push(row(at, &bytes, known, record.size()));
            lines.extend(mark.and_then(|(range, what)| marks(at, range, what)));
            at += ROW;
        }
        lines
    }
}

fn row(at: u64, bytes: &[u8], known: impl Fn(u64) -> bool, size: u64) -> String {
    let (mut hex, mut text) = (String::new(), String::new());
    for index in 0..ROW {
        if index == ROW / 2 {
            hex.push(' ');
        }
        let place = at + index;
        match bytes.get(index as usize) {
            Some(byte) if known(place) => {
                hex.push_str(&format!(" {byte:02x}"));
                let printable = byte.is_ascii_graphic() || *byte == b' ';
                text.push(if printable { *byte as char } else { '.' });
            }
            Some(_) => {
                hex.push_str(" ??");
                text.push('?');
            }
            None if place == size => hex.push_str("  |"),
            None => hex.push_str("   "),
        }
    }
    format!("{at:04x} {hex}  {text}").trim_end().to_owned()
}

/// The line below a row that shows what of it is meant; none if nothing is.
fn marks(at: u64, range: &Range<i64>, what: &str) -> Option<String> {
    let mut line = String::new();
    // Past the end of the last row, what is not there is shown too.
    let last = at as i64 + ROW as i64;
    let shown = range.start.max(at as i64)..range.end.min(last);
    if shown.start >= shown.end {
        return None;
    }
    for index in 0..ROW {
        if index == ROW / 2 {
            line.push(' ');
        }
        let place = (at + index) as i64;
        line.push_str(if shown.contains(&place) { " ^^" } else { "   " });
    }
    Some(format!("     {line}  {what}").trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_show_values_and_what_has_none() {
        let known = |place| place < 6;
        assert_eq!(
            row(0, b"hello\0xy", known, 8),
            "0000  68 65 6c 6c 6f 00 ?? ??   |                       hello.??"
        );
    }

    #[test]
    fn marks_stand_below_their_bytes() {
        assert_eq!(
            marks(16, &(24..26), "write of 2 bytes").as_deref(),
            Some("                               ^^ ^^                    write of 2 bytes")
        );
        assert_eq!(marks(0, &(24..26), ""), None);
    }
}
