//! Buffers in the report: what of each was read and written, and its map.

use super::{Text, WIDTH, wrap, wrap_painted};
use crate::report::map::{self, Map};
use crate::report::model::{Allocation, Violation};
use crate::report::ranges::{minus, total, union};
use crate::report::theme::Role;
use crate::report::{Span, units};

impl Text<'_> {
    pub(super) fn allocations(&self) -> Vec<String> {
        let (mut lines, mut marks) = (Vec::new(), Vec::new());
        for allocation in &self.report.allocations {
            lines.push(String::new());
            lines.extend(self.allocation(allocation));
            if allocation.size == 0 && self.outside(allocation).is_none() {
                continue;
            }
            let Map {
                lines: map,
                marks: seen,
                scale,
            } = map::draw(allocation, &self.report.violations, self.theme);
            if let Some(note) = map::scale_note(scale) {
                lines.push(format!("  map ({note}):"));
            }
            lines.extend(map.into_iter().map(|line| format!("  {line}")));
            marks.extend(seen);
        }
        if !marks.is_empty() {
            lines.push(String::new());
            let legend = format!("map: {}", map::legend(&marks, self.theme));
            lines.extend(wrap_painted(&legend, WIDTH));
        }
        lines
    }

    fn outside(&self, allocation: &Allocation) -> Option<&Violation> {
        let of_it = |v: &&Violation| v.allocation.as_ref() == Some(&allocation.name);
        self.report.violations.iter().find(of_it)
    }

    fn allocation(&self, a: &Allocation) -> Vec<String> {
        let mutability = mutability(a);
        let about = format!("{}, {mutability}", units::bytes(a.size));
        let mut lines = vec![format!(
            "{}  {}",
            self.paint(Role::Title, &a.name),
            self.paint(Role::Faint, &about)
        )];
        for (label, by) in [("made by", &a.made_by), ("freed by", &a.freed_by)] {
            let pieces = by.as_ref().map(|by| wrap(by, WIDTH - 17, &[' ']));
            for (index, piece) in pieces.into_iter().flatten().enumerate() {
                let label = if index == 0 { label } else { "" };
                lines.push(format!("  {label:<15}{piece}"));
            }
        }
        let whole = [(0, a.size)];
        let uninit = minus(&whole, &a.initialized);
        let read_uninit = minus(&a.read, &minus(&whole, &uninit));
        let unsure = minus(&a.maybe_written, &a.written);
        let mut line = |label: &str, ranges: &[Span], always: bool| {
            if always || !ranges.is_empty() {
                lines.push(format!("  {label:<15}{}", self.ranges(ranges, a.size)));
            }
        };
        line("read", &a.read, true);
        line("written", &a.written, true);
        line("maybe written", &unsure, false);
        line("uninitialised", &uninit, false);
        line("read uninit", &read_uninit, false);
        let touched = union(&union(&a.read, &a.written), &a.maybe_written);
        let untouched = minus(&whole, &touched);
        if self.verbose {
            line("untouched", &untouched, true);
        }
        lines
    }

    /// `0..11  all 11 bytes`, `0..4 8..12 … 17 more  44 bytes`.
    fn ranges(&self, ranges: &[Span], size: u64) -> String {
        let bytes = total(ranges);
        if bytes == 0 {
            return self.paint(Role::Faint, "nothing");
        }
        let all = if bytes == size { "all " } else { "" };
        let sum = format!("{all}{}", units::bytes(bytes));
        let room = WIDTH - 17 - sum.len() - 2 - " ... 999,999 more".len();
        let mut shown = String::new();
        let mut count = 0;
        for (start, end) in ranges {
            let next = format!("{}{start}..{end}", if count == 0 { "" } else { " " });
            if !self.verbose && shown.len() + next.len() > room {
                break;
            }
            shown.push_str(&next);
            count += 1;
        }
        let left = ranges.len() - count;
        if left > 0 {
            let dots = self.theme.pick("…", "...");
            shown.push_str(&format!(" {dots} {} more", units::grouped(left as u64)));
        }
        format!("{shown}  {}", self.paint(Role::Faint, &format!("({sum})")))
    }

    pub(super) fn untraced(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for a in &self.report.allocations {
            let mutability = mutability(a);
            let about = format!("{}, {mutability}", units::bytes(a.size));
            lines.push(format!("{}  {about}", self.paint(Role::Title, &a.name)));
        }
        if !lines.is_empty() {
            lines.insert(0, String::new());
        }
        lines.extend([
            String::new(),
            "not traced (--backend none): nothing was checked".into(),
        ]);
        lines
    }
}

fn mutability(a: &Allocation) -> &'static str {
    match (a.freed, a.mutable) {
        (true, _) => "freed",
        (false, true) => "writable",
        (false, false) => "read-only",
    }
}
