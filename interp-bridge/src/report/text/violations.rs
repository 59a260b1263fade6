//! Violations in the report: what, where in memory, where in the program, how often.

use super::{Text, WIDTH, wrap};
use crate::report::model::Violation;
use crate::report::theme::Role;
use crate::report::units;

/// Most violations shown in full without `--verbose`.
const MAX_VIOLATIONS: usize = 10;

/// Most lines of a backtrace without `--verbose`.
const MAX_FRAMES: usize = 8;

impl Text<'_> {
    pub(super) fn violations(&self) -> Vec<String> {
        let all = &self.report.violations;
        let mut lines = vec![String::new()];
        if all.is_empty() {
            if !self.report.is_traced() {
                return Vec::new();
            }
            lines.push(self.paint(Role::Good, "no violations"));
            return lines;
        }
        lines.push(self.paint(Role::Bad, &units::count(all.len() as u64, "violation")));
        let shown = if self.verbose {
            all.len()
        } else {
            MAX_VIOLATIONS
        };
        for (i, violation) in all.iter().take(shown).enumerate() {
            lines.extend(self.violation(i + 1, violation));
        }
        if all.len() > shown {
            lines.push(format!(
                "  and {} more (--verbose shows all)",
                all.len() - shown
            ));
        }
        lines.push(String::new());
        lines
    }

    fn violation(&self, number: usize, v: &Violation) -> Vec<String> {
        let times = match v.count {
            0 | 1 => String::new(),
            n => format!(", {} times", units::grouped(n)),
        };
        let title = format!("{number}. {}{times}", v.kind.name());
        let mut lines = vec![format!("  {}", self.paint(Role::Bad, &title))];
        let message = wrap(&v.message, WIDTH - 5, &[' ']);
        lines.extend(message.iter().map(|line| format!("     {line}")));
        let mut line = |label: &str, text: &str| {
            let label = self.paint(Role::Faint, &format!("{label:<9}"));
            lines.push(format!("     {label}{text}"));
        };
        if let Some(access) = v.access {
            let size = v
                .size
                .map_or(String::new(), |n| format!(" of {}", units::bytes(n)));
            let unsure = if v.certain { "" } else { ", perhaps" };
            let place = match (&v.allocation, v.offset, v.addr) {
                (Some(name), Some(offset), _) => format!(" at &{name}{offset:+}"),
                (_, _, Some(addr)) => format!(" at {:#x}", addr.0),
                _ => String::new(),
            };
            line("access", &format!("{access}{size}{place}{unsure}"));
        }
        let ip = v.ip.map(|ip| format!("{:#x}", ip.0));
        if let Some(symbol) = v.symbol.clone().or(ip) {
            let source = v
                .source
                .as_ref()
                .map_or(String::new(), |s| format!("  {s}"));
            line("in", &format!("{symbol}{source}"));
        }
        if let Some(instruction) = &v.instruction {
            line("by", instruction);
        }
        let frames = if self.verbose {
            v.backtrace.len()
        } else {
            MAX_FRAMES
        };
        // The first frame is the `in` line once more; a stack of one says nothing new.
        if v.backtrace.len() > 1 {
            for (i, frame) in v.backtrace.iter().take(frames).enumerate() {
                line(if i == 0 { "stack" } else { "" }, frame);
            }
            if v.backtrace.len() > frames {
                line("", &format!("and {} more", v.backtrace.len() - frames));
            }
        }
        lines
    }
}
