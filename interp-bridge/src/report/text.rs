//! The report as people read it: at most 80 columns, the answer first, the cost last.

use std::io::{self, Write};

use super::map::{self, Map};
use super::model::{Allocation, CallReport, Ret, Stepped, Violation, ViolationKind};
use super::ranges::{minus, total, union};
use super::theme::{Role, Theme};
use super::{Span, units};
use crate::ffi::RetValue;

/// Columns of a line.
const WIDTH: usize = 80;
/// Most violations shown in full without `--verbose`.
const MAX_VIOLATIONS: usize = 10;
/// Most lines of a backtrace without `--verbose`.
const MAX_FRAMES: usize = 8;

/// Writes the report.
///
/// # Errors
/// Those of `out`.
pub fn write(
    out: &mut dyn Write,
    report: &CallReport,
    theme: Theme,
    verbose: bool,
) -> io::Result<()> {
    let text = Text {
        report,
        theme,
        verbose,
    };
    let mut lines = text.head();
    if report.is_traced() {
        lines.extend(text.allocations());
    } else {
        lines.extend(text.untraced());
    }
    lines.extend(text.violations());
    lines.extend(text.cost());
    let mut whole = lines.join("\n");
    whole.push('\n');
    out.write_all(whole.as_bytes())?;
    out.flush()
}

struct Text<'r> {
    report: &'r CallReport,
    theme: Theme,
    verbose: bool,
}

impl Text<'_> {
    fn paint(&self, role: Role, text: &str) -> String {
        self.theme.paint(role, text)
    }

    fn head(&self) -> Vec<String> {
        let report = self.report;
        let mut lines = vec![format!(
            "{}  {}",
            self.paint(Role::Title, &report.function),
            self.paint(Role::Faint, &report.library)
        )];
        match &report.ret {
            Some(ret) => lines.extend(self.returned(ret)),
            None => lines.push(self.paint(Role::Bad, "did not return")),
        }
        lines
    }

    fn returned(&self, ret: &Ret) -> Vec<String> {
        if ret.value == RetValue::Void {
            return vec!["returned".into()];
        }
        let mut about = vec![ret.r#type.clone()];
        match &ret.value {
            RetValue::Int(v) if *v > 9 => about.push(format!("{v:#x}")),
            RetValue::Char(c) if (0x20..0x7f).contains(c) => {
                about.push(format!("'{}'", *c as u8 as char));
            }
            RetValue::Pointer(0) => about.push("null".into()),
            _ => {}
        }
        about.extend(ret.points_to.clone());
        about.extend(ret.constant.clone());
        let (value, about) = (ret.value.text(), format!("({})", about.join(", ")));
        if "returned ".len() + value.chars().count() + 1 + about.chars().count() <= WIDTH {
            let (value, about) = (
                self.paint(Role::Value, &value),
                self.paint(Role::Faint, &about),
            );
            return vec![format!("returned {value} {about}")];
        }
        let mut lines = vec![format!("returned {}", self.paint(Role::Faint, &about))];
        let wrapped = wrap(&value, WIDTH - 2, &[',']);
        lines.extend(
            wrapped
                .iter()
                .map(|line| format!("  {}", self.paint(Role::Value, line))),
        );
        lines
    }

    fn allocations(&self) -> Vec<String> {
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

    fn untraced(&self) -> Vec<String> {
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

    fn violations(&self) -> Vec<String> {
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

    fn cost(&self) -> Vec<String> {
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
        }
        if let Some(note) = &self.report.backend_note {
            lines.extend(
                wrap(note, WIDTH, &[' '])
                    .iter()
                    .map(|l| self.paint(Role::Faint, l)),
            );
        }
        lines
    }
}

impl Text<'_> {
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

fn mutability(a: &Allocation) -> &'static str {
    match (a.freed, a.mutable) {
        (true, _) => "freed",
        (false, true) => "writable",
        (false, false) => "read-only",
    }
}

/// Breaks `text` into lines of at most `width` characters, after one of `after`. What has no
/// such place is left whole: a path cut in two is no use.
pub(super) fn wrap(text: &str, width: usize, after: &[char]) -> Vec<String> {
    let (mut lines, mut line) = (Vec::new(), String::new());
    for piece in text.split_inclusive(after) {
        let len = |s: &str| s.trim_end().chars().count();
        if !line.is_empty() && line.chars().count() + len(piece) > width {
            lines.push(line.trim_end().to_owned());
            line.clear();
        }
        line.push_str(piece);
    }
    lines.push(line.trim_end().to_owned());
    lines
}

/// [`wrap`] for text with colours in it, broken after commas. Colour codes have no width.
fn wrap_painted(text: &str, width: usize) -> Vec<String> {
    let visible = |s: &str| {
        let mut in_code = false;
        let counts = s.trim_end().chars().filter(|c| match (in_code, c) {
            (false, '\x1b') => {
                in_code = true;
                false
            }
            (true, c) => {
                in_code = *c != 'm';
                false
            }
            (false, _) => true,
        });
        counts.count()
    };
    let (mut lines, mut line) = (Vec::new(), String::new());
    for piece in text.split_inclusive(", ") {
        if !line.is_empty() && visible(&line) + 1 + visible(piece) > width {
            lines.push(line.trim_end().to_owned());
            line = "     ".to_owned();
        }
        line.push_str(piece);
    }
    lines.push(line.trim_end().to_owned());
    lines
}
