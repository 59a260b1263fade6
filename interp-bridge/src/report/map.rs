//! The byte map of a buffer: one character for each byte, or for each few bytes.
//!
//! ```text
//!  0000  rrrrrrrrrrrrrrrr rrrrrrrrrrrrrrrr rrrrrrrr········ ????????????????
//!  past end  !!!!
//! ```

use super::Span;
use super::model::{Allocation, Violation};
use super::ranges::{minus, overlap, union};
use super::theme::{Role, Theme};
use super::units;

/// Characters in a row.
const ROW: u64 = 64;
/// Most rows of a map; a larger buffer gets more bytes to a character.
const MAX_ROWS: u64 = 12;
/// How far outside the buffer violations are still drawn, in bytes.
const MARGIN: i64 = 64;

/// What one character stands for, the weightiest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mark {
    Violation,
    ReadUninit,
    Both,
    Written,
    MaybeWritten,
    Read,
    Uninit,
    Untouched,
}

impl Mark {
    fn letter(self, theme: Theme) -> &'static str {
        match self {
            Mark::Violation => "!",
            Mark::ReadUninit => "u",
            Mark::Both => "b",
            Mark::Written => "w",
            Mark::MaybeWritten => "m",
            Mark::Read => "r",
            Mark::Uninit => "?",
            Mark::Untouched => theme.pick("·", "."),
        }
    }

    fn role(self) -> Role {
        match self {
            Mark::Violation | Mark::ReadUninit => Role::Bad,
            Mark::Both => Role::Both,
            Mark::Written | Mark::MaybeWritten => Role::Write,
            Mark::Read => Role::Read,
            Mark::Uninit => Role::Unset,
            Mark::Untouched => Role::Faint,
        }
    }

    fn meaning(self) -> &'static str {
        match self {
            Mark::Violation => "violation",
            Mark::ReadUninit => "read uninitialised",
            Mark::Both => "read and written",
            Mark::Written => "written",
            Mark::MaybeWritten => "maybe written",
            Mark::Read => "read",
            Mark::Uninit => "uninitialised",
            Mark::Untouched => "untouched",
        }
    }
}

/// A drawn map: its lines, and which marks occur in it.
pub(crate) struct Map {
    pub(crate) lines: Vec<String>,
    pub(crate) marks: Vec<(Mark, bool)>,
    /// Bytes to a character.
    pub(crate) scale: u64,
}

/// One character: its mark, and whether all its bytes have it.
type Cell = (Mark, bool);

/// Bytes to a character for a buffer of `size` bytes: a power of two.
pub(super) fn scale(size: u64) -> u64 {
    size.div_ceil(ROW * MAX_ROWS).max(1).next_power_of_two()
}

pub(crate) fn draw(allocation: &Allocation, violations: &[Violation], theme: Theme) -> Map {
    let size = allocation.size;
    let scale = scale(size);
    let layers = Layers::of(allocation, violations);
    let cells: Vec<Cell> = (0..size.div_ceil(scale))
        .map(|i| layers.cell((i * scale, ((i + 1) * scale).min(size))))
        .collect();
    let width = format!("{size:x}").len().max(4);
    let mut lines = Vec::new();
    if let Some(cells) = outside(violations, &allocation.name, -MARGIN, 0) {
        let first = -(cells.len() as i64);
        lines.push(row(&format!("{first} to -1"), &cells, theme));
    }
    let rows: Vec<&[Cell]> = cells.chunks(ROW as usize).collect();
    let mut i = 0;
    while i < rows.len() {
        let offset = i as u64 * ROW * scale;
        lines.push(row(&format!("{offset:0width$x}"), rows[i], theme));
        // Three equal rows and more are two rows' worth of news.
        let same = rows[i..].iter().take_while(|r| **r == rows[i]).count();
        if same > 3 {
            let label = format!("{:width$}", "*");
            let text = format!("{} more rows like this", same - 1);
            lines.push(format!("{label}  {}", theme.paint(Role::Faint, &text)));
            i += same;
        } else {
            i += 1;
        }
    }
    let past = outside(
        violations,
        &allocation.name,
        size as i64,
        size as i64 + MARGIN,
    );
    if let Some(cells) = &past {
        lines.push(row("past end", cells, theme));
    }
    let mut marks: Vec<Cell> = cells;
    marks.extend(past.into_iter().flatten());
    marks.sort_unstable();
    marks.dedup();
    Map {
        lines,
        marks,
        scale,
    }
}

/// What the letters of the maps mean, for those that occur.
pub(crate) fn legend(marks: &[Cell], theme: Theme) -> String {
    let mut seen: Vec<Mark> = marks.iter().map(|(mark, _)| *mark).collect();
    seen.sort_unstable();
    seen.dedup();
    let known = seen.iter().rev().map(|mark| {
        let letter = theme.paint(mark.role(), mark.letter(theme));
        format!("{letter} {}", mark.meaning())
    });
    let mut parts: Vec<String> = known.collect();
    if marks.iter().any(|(mark, whole)| !whole && has_case(*mark)) {
        parts.push("capital: only some of its bytes".into());
    }
    parts.join(", ")
}

/// Only letters have a capital form for a cell that is mixed.
fn has_case(mark: Mark) -> bool {
    !matches!(mark, Mark::Violation | Mark::Uninit | Mark::Untouched)
}

fn row(label: &str, cells: &[Cell], theme: Theme) -> String {
    let mut line = format!("{}  ", theme.paint(Role::Faint, label));
    for (i, group) in cells.chunks(16).enumerate() {
        if i > 0 {
            line.push(' ');
        }
        // One colour change for a run, not for each character.
        for run in group.chunk_by(|a, b| a.0 == b.0) {
            let text: String = run.iter().map(|cell| letter(*cell, theme)).collect();
            line.push_str(&theme.paint(run[0].0.role(), &text));
        }
    }
    line
}

fn letter((mark, whole): Cell, theme: Theme) -> String {
    let letter = mark.letter(theme);
    if whole || !has_case(mark) {
        letter.to_owned()
    } else {
        letter.to_ascii_uppercase()
    }
}

/// Disjoint layers of a buffer, from the weightiest to the lightest.
struct Layers(Vec<(Mark, Vec<Span>)>);

impl Layers {
    fn of(allocation: &Allocation, violations: &[Violation]) -> Layers {
        let whole = [(0, allocation.size)];
        let bad = violations
            .iter()
            .filter(|v| v.allocation.as_ref() == Some(&allocation.name));
        let bad = bad.filter_map(|v| {
            let start = v.offset?;
            let end = start.saturating_add_unsigned(v.size.unwrap_or(1));
            Some((
                u64::try_from(start.max(0)).ok()?,
                u64::try_from(end.max(0)).ok()?,
            ))
        });
        let bad = super::ranges::normal(bad.map(|(a, b)| (a, b.min(allocation.size))).collect());
        let uninit = minus(&whole, &allocation.initialized);
        let read = &allocation.read;
        let written = &allocation.written;
        let not_read = minus(&whole, read);
        let both = |a: &[Span], b: &[Span]| minus(a, &minus(&whole, b));
        let maybe = minus(&allocation.maybe_written, written);
        let layers = vec![
            (Mark::Violation, bad),
            (Mark::ReadUninit, both(read, &uninit)),
            (Mark::Both, both(read, written)),
            (Mark::Written, both(written, &not_read)),
            (Mark::MaybeWritten, maybe),
            (Mark::Read, read.clone()),
            (Mark::Uninit, uninit),
            (Mark::Untouched, whole.to_vec()),
        ];
        let mut above: Vec<Span> = Vec::new();
        let disjoint = layers.into_iter().map(|(mark, ranges)| {
            let own = minus(&ranges, &above);
            above = union(&above, &ranges);
            (mark, own)
        });
        Layers(disjoint.collect())
    }

    /// The weightiest mark in `window`, and whether all of it has that mark.
    fn cell(&self, window: Span) -> Cell {
        for (mark, ranges) in &self.0 {
            let bytes = overlap(ranges, window);
            if bytes > 0 {
                return (*mark, bytes == window.1 - window.0);
            }
        }
        (Mark::Untouched, true)
    }
}

/// Cells for violations of `name` in `from..to`, offsets outside the buffer. They begin at the
/// end that touches the buffer and reach as far as the farthest violation.
fn outside(violations: &[Violation], name: &str, from: i64, to: i64) -> Option<Vec<Cell>> {
    let mut hit = vec![false; (to - from) as usize];
    for violation in violations
        .iter()
        .filter(|v| v.allocation.as_deref() == Some(name))
    {
        let Some(start) = violation.offset else {
            continue;
        };
        let end = start.saturating_add_unsigned(violation.size.unwrap_or(1));
        for offset in start.max(from)..end.min(to) {
            hit[(offset - from) as usize] = true;
        }
    }
    let cell = |hit: &bool| {
        (
            if *hit {
                Mark::Violation
            } else {
                Mark::Untouched
            },
            true,
        )
    };
    let (first, last) = (hit.iter().position(|h| *h)?, hit.iter().rposition(|h| *h)?);
    Some(if from < 0 {
        hit[first..].iter().map(cell).collect()
    } else {
        hit[..=last].iter().map(cell).collect()
    })
}

/// `one character is 16 bytes`, or nothing if it is one.
pub(super) fn scale_note(scale: u64) -> Option<String> {
    (scale > 1).then(|| format!("one character is {}", units::bytes(scale)))
}
