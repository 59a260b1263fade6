//! What the call cost, whether all of it was seen, and what is worth a note.

use super::{Text, WIDTH, wrap};
use crate::report::model::{Stepped, Violation, ViolationKind};
use crate::report::theme::Role;
use crate::report::units;

impl Text<'_> {
    pub(super) fn cost(&self) -> Vec<String> {
        let s = &self.report.stats;
        let unicode = self.theme.unicode;
        let wall = units::duration(s.wall_ns as f64, unicode);
        let calls = if s.calls > 1 {
            format!(" in {} calls", units::grouped(s.calls))
        } else {
            String::new()
        };
        let mut lines = Vec::new();
        if !self.report.is_traced() {
            lines.push(format!("took {wall}{calls}; recorder none"));
            lines.extend(self.native_heap());
            return lines;
        }
        let each = match s.events {
            0 => wall,
            n => format!(
                "{} an access",
                units::duration(s.wall_ns as f64 / n as f64, unicode)
            ),
        };
        let accesses = match s.events {
            1 => "1 access".to_owned(),
            n => format!("{} accesses", units::grouped(n)),
        };
        // Dropped for want of room, or never arrived; what was refused is named above.
        let lost = s.emitted.saturating_sub(s.delivered + s.rejected);
        let refused = match s.rejected {
            0 => String::new(),
            n => format!(", refused {}", units::grouped(n)),
        };
        let recorder = format!(
            "recorder {}, lost {}{refused}",
            self.report.backend,
            units::grouped(lost)
        );
        let line = format!("{accesses}{calls}, {each}; {recorder}");
        lines.extend(wrap(&line, WIDTH, &[' ']));
        if !s.complete {
            let why = format!(
                "incomplete: of {} records {} arrived, {} were dropped, {} rejected",
                units::grouped(s.emitted),
                units::grouped(s.delivered),
                units::grouped(s.dropped),
                units::grouped(s.rejected)
            );
            lines.extend(
                wrap(&why, WIDTH, &[' '])
                    .iter()
                    .map(|l| self.paint(Role::Bad, l)),
            );
        }
        let strict = |v: &Violation| v.kind == ViolationKind::Overread;
        if s.overreads > 0 && !self.report.violations.iter().any(strict) {
            let times = units::count(s.overreads, "over-read");
            let text = format!("{times} by string functions, harmless (--strict reports them)");
            lines.push(self.paint(Role::Faint, &text));
            lines.extend(self.overreads());
        }
        if self.verbose {
            let all = format!(
                "{}, {} at {}; {}, {} translated, {} on buffers; {wall_all}",
                units::count(s.reads, "read"),
                units::count(s.writes, "write"),
                units::count(s.sites, "site"),
                units::count(s.faults, "fault"),
                units::grouped(s.translated),
                units::count(s.syscalls, "system call"),
                wall_all = units::duration(s.wall_ns as f64, unicode),
            );
            lines.extend(wrap(&all, WIDTH, &[' ']));
            lines.extend(self.stepped());
            let translations = self.report.translations.iter();
            lines.extend(translations.flat_map(|line| wrap(line, WIDTH, &[' '])));
        }
        lines.extend(self.native_heap());
        if let Some(note) = &self.report.backend_note {
            lines.extend(
                wrap(note, WIDTH, &[' '])
                    .iter()
                    .map(|l| self.paint(Role::Faint, l)),
            );
        }
        lines
    }

    fn native_heap(&self) -> Vec<String> {
        let heap = self.report.native_heap.as_ref();
        heap.map_or_else(Vec::new, |heap| heap.lines(WIDTH, self.verbose))
    }

    /// One line a single-stepped instruction.
    fn stepped(&self) -> Vec<String> {
        let entry = |stepped: &Stepped| {
            let times = units::count(stepped.count, "time");
            let text = stepped.instruction.as_deref().unwrap_or("an instruction");
            format!("single-stepped {times}: {text} in {}", stepped.symbol)
        };
        let entries = self.report.stepped.iter().map(entry);
        entries
            .flat_map(|text| wrap(&text, WIDTH, &[' ']))
            .collect()
    }

    /// One entry a function and buffer, where `--verbose` asked for them.
    fn overreads(&self) -> Vec<String> {
        let entry = |v: &Violation| {
            let times = match v.count {
                0 | 1 => String::new(),
                n => format!(", {} times", units::grouped(n)),
            };
            let symbol = v.symbol.as_deref().unwrap_or("?");
            format!("{symbol}: {}{times}", v.message)
        };
        let entries = self.report.overreads.iter().map(entry);
        entries
            .flat_map(|text| wrap(&text, WIDTH - 2, &[' ']))
            .map(|line| self.paint(Role::Faint, &format!("  {line}")))
            .collect()
    }
}
