//! The table of `ffitrace bench`.

use std::io::{self, Write};

use super::theme::{Role, Theme};
use super::units;

/// Name of the row of a bare signal: nobody records, and the handler does nothing.
pub const BARE: &str = "bare";

/// What is counted and timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// One access of native code.
    Access,
    /// One call.
    Call,
    /// One page fault.
    Fault,
    /// One copy of memory.
    Copy,
    /// One piece of a library's work.
    Run,
}

impl Unit {
    /// Head of the columns with its number and its time.
    fn heads(self) -> (&'static str, &'static str) {
        match self {
            Unit::Access => ("accesses", "an access"),
            Unit::Call => ("calls", "a call"),
            Unit::Fault => ("faults", "a fault"),
            Unit::Copy => ("copies", "a copy"),
            Unit::Run => ("runs", "a run"),
        }
    }
}

/// One measurement.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct BenchRow {
    /// What the work asks: rows of one question stand together.
    pub question: String,
    /// The recorder, or what was measured beside them: `bare`, a signal that nobody records, or
    /// `lackey`, Valgrind's tool.
    pub backend: String,
    /// What the figures are of.
    pub unit: Unit,
    /// How many of its unit there were, in all rounds that count.
    pub accesses: u64,
    /// Nanoseconds for one of them, in the best round.
    pub ns_per_access: f64,
    /// How many of them a second.
    pub accesses_per_s: f64,
    /// Nanoseconds more than `none`; null where `none` was not measured.
    pub ns_above_none: Option<f64>,
    /// Times as long as `none`; null likewise.
    pub ratio_to_none: Option<f64>,
    /// Times as long as `ptrace`, below 1 where it is faster; null likewise.
    pub ratio_to_ptrace: Option<f64>,
    /// Times as long as a bare signal; null where the question has none.
    pub ratio_to_bare: Option<f64>,
    /// Accesses of one of its unit (a copy, a run), where the question does not say how many those
    /// are: as they were counted under `inproc`.
    pub accesses_each: Option<u64>,
    /// Size of the work that was done, where it is not what the question is about; rows of
    /// different sizes are not compared.
    pub size: Option<u64>,
    /// What is different about this row.
    pub note: Option<String>,
}

/// A row that is not there.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LeftOut {
    /// The question.
    pub question: String,
    /// The recorder, or what would have been measured beside them.
    pub backend: String,
    /// Why it is not there.
    pub why: String,
}

/// All measurements of one run.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct BenchReport {
    /// Version of the schema.
    pub schema: u32,
    /// What they were measured on and how, in words.
    pub notes: Vec<String>,
    /// The measurements.
    pub rows: Vec<BenchRow>,
    /// What could not be measured.
    pub left_out: Vec<LeftOut>,
}

/// Writes the table.
///
/// # Errors
/// Those of `out`.
pub fn write_text(out: &mut dyn Write, report: &BenchReport, theme: Theme) -> io::Result<()> {
    let mut questions: Vec<&str> = Vec::new();
    let rows = report.rows.iter().map(|row| &row.question);
    for question in rows.chain(report.left_out.iter().map(|left| &left.question)) {
        if !questions.contains(&question.as_str()) {
            questions.push(question);
        }
    }
    for (index, question) in questions.into_iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        writeln!(out, "{}", theme.paint(Role::Title, question))?;
        let rows = report.rows.iter().filter(|row| row.question == question);
        write_rows(out, &rows.collect::<Vec<_>>(), theme)?;
        for left in report.left_out.iter().filter(|l| l.question == question) {
            let text = format!("{} was left out: {}", left.backend, left.why);
            write_remark(out, &text, theme)?;
        }
    }
    if !report.notes.is_empty() {
        writeln!(out)?;
    }
    for note in &report.notes {
        for line in super::text::wrap(note, 80, &[' ']) {
            writeln!(out, "{}", theme.paint(Role::Faint, &line))?;
        }
    }
    out.flush()
}

/// The rows of one question, and what is to be said about them.
fn write_rows(out: &mut dyn Write, rows: &[&BenchRow], theme: Theme) -> io::Result<()> {
    let Some(first) = rows.first() else {
        return Ok(());
    };
    let (number, time) = first.unit.heads();
    // Where there is a bare signal, that is what the rest is measured by.
    let bare = rows.iter().any(|row| row.ratio_to_bare.is_some());
    let base = if bare { "to bare" } else { "to none" };
    let head = format!(
        "  {:<9}{number:>13}{time:>12}{:>12}{:>10}{base:>11}{:>11}",
        "recorder", "over none", "a second", "to ptrace"
    );
    writeln!(out, "{}", theme.paint(Role::Faint, &head))?;
    let ratio = |r: Option<f64>| r.map_or("-".to_owned(), ratio);
    for row in rows {
        let over = match row.ns_above_none {
            Some(ns) if row.backend != "none" => signed(ns, theme),
            _ => "-".to_owned(),
        };
        // Padding counts characters, so it goes before the colours.
        writeln!(
            out,
            "  {:<9}{:>13}{:>12}{over:>12}{:>10}{:>11}{:>11}",
            row.backend,
            units::grouped(row.accesses),
            units::duration(row.ns_per_access, theme.unicode),
            units::rate(row.accesses_per_s),
            ratio(if bare {
                row.ratio_to_bare
            } else {
                row.ratio_to_none
            }),
            ratio(row.ratio_to_ptrace),
        )?;
    }
    write_counted(out, rows, time, theme)?;
    let mut noted: Vec<(&str, Vec<&str>)> = Vec::new();
    for row in rows {
        let Some(note) = &row.note else { continue };
        match noted.iter_mut().find(|(known, _)| known == note) {
            Some((_, who)) => who.push(&row.backend),
            None => noted.push((note, vec![&row.backend])),
        }
    }
    for (note, who) in noted {
        write_remark(out, &format!("{}: {note}", who.join(", ")), theme)?;
    }
    Ok(())
}

/// How many accesses a piece of work made, and what a recorder added to each.
fn write_counted(
    out: &mut dyn Write,
    rows: &[&BenchRow],
    unit: &str,
    theme: Theme,
) -> io::Result<()> {
    let Some(first) = rows.first() else {
        return Ok(());
    };
    let Some(each) = first.accesses_each else {
        return Ok(());
    };
    let added: Vec<String> = rows
        .iter()
        .filter(|row| row.backend != "none" && row.size == first.size)
        // Less than a twentieth is what the machine did meanwhile, not what the recorder adds.
        .filter(|row| row.ratio_to_none.is_some_and(|ratio| ratio > 1.05))
        .filter_map(|row| {
            let ns = signed(row.ns_above_none? / each as f64, theme);
            Some(format!("{ns} under {}", row.backend))
        })
        .collect();
    let mut text = format!("{} {unit} (counted)", units::count(each, "access"));
    if !added.is_empty() {
        text.push_str(&format!("; each adds {}", added.join(", ")));
    }
    write_remark(out, &text, theme)
}

fn write_remark(out: &mut dyn Write, text: &str, theme: Theme) -> io::Result<()> {
    for line in super::text::wrap(text, 78, &[' ']) {
        writeln!(out, "  {}", theme.paint(Role::Faint, &line))?;
    }
    Ok(())
}

/// `2.70 µs`, `-0.30 ns`.
fn signed(ns: f64, theme: Theme) -> String {
    let sign = if ns < 0.0 { "-" } else { "" };
    format!("{sign}{}", units::duration(ns.abs(), theme.unicode))
}

/// `1.00x`, `0.0123x`, `1.6e-5x`, `1,234x`, `2.3e7x`.
fn ratio(r: f64) -> String {
    match r {
        r if r >= 1e6 => format!("{r:.1e}x"),
        r if r >= 1000.0 => format!("{}x", units::grouped(r.round() as u64)),
        r if r > 0.0 && r < 0.001 => format!("{r:.1e}x"),
        r if r > 0.0 && r < 0.1 => format!("{r:.4}x"),
        r => format!("{}x", units::significant(r)),
    }
}
