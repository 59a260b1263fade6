//! The table of `ffitrace bench`.

use std::io::{self, Write};

use super::theme::{Role, Theme};
use super::units;

/// What is counted and timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// One access of native code.
    Access,
    /// One call.
    Call,
}

impl Unit {
    /// Head of the columns with its number and its time.
    fn heads(self) -> (&'static str, &'static str) {
        match self {
            Unit::Access => ("accesses", "an access"),
            Unit::Call => ("calls", "a call"),
        }
    }
}

/// One measurement.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct BenchRow {
    /// What the work asks: rows of one question stand together.
    pub question: String,
    /// The recorder.
    pub backend: String,
    /// What the figures are of.
    pub unit: Unit,
    /// Accesses, or calls, in one run.
    pub accesses: u64,
    /// Nanoseconds for one of them.
    pub ns_per_access: f64,
    /// How many of them a second.
    pub accesses_per_s: f64,
    /// Times as long as `none`; null where `none` was not measured.
    pub ratio_to_none: Option<f64>,
    /// Times as long as `ptrace`, below 1 where it is faster; null likewise.
    pub ratio_to_ptrace: Option<f64>,
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
}

/// Writes the table.
///
/// # Errors
/// Those of `out`.
pub fn write_text(out: &mut dyn Write, report: &BenchReport, theme: Theme) -> io::Result<()> {
    let mut question = None;
    for row in &report.rows {
        if question != Some(&row.question) {
            if question.is_some() {
                writeln!(out)?;
            }
            writeln!(out, "{}", theme.paint(Role::Title, &row.question))?;
            let (number, time) = row.unit.heads();
            let head = format!(
                "  {:<9}{number:>12}{time:>14}{:>13}{:>12}{:>12}",
                "recorder", "a second", "to none", "to ptrace"
            );
            writeln!(out, "{}", theme.paint(Role::Faint, &head))?;
            question = Some(&row.question);
        }
        let ratio = |r: Option<f64>| r.map_or("-".to_owned(), ratio);
        // Padding counts characters, so it goes before the colours.
        writeln!(
            out,
            "  {:<9}{:>12}{:>14}{:>13}{:>12}{:>12}",
            row.backend,
            units::grouped(row.accesses),
            units::duration(row.ns_per_access, theme.unicode),
            units::rate(row.accesses_per_s),
            ratio(row.ratio_to_none),
            ratio(row.ratio_to_ptrace),
        )?;
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

/// `1.00x`, `0.0123x`, `1.6e-5x`, `1,234x`.
fn ratio(r: f64) -> String {
    match r {
        r if r >= 1000.0 => format!("{}x", units::grouped(r.round() as u64)),
        r if r > 0.0 && r < 0.001 => format!("{r:.1e}x"),
        r if r > 0.0 && r < 0.1 => format!("{r:.4}x"),
        r => format!("{}x", units::significant(r)),
    }
}
