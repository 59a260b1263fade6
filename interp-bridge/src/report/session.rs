//! The report of a Lua session, for people and for scripts.
//!
//! ```text
//! out_of_bounds: write of 1 byte at offset 8 of `char [8] at find_bugs.lua:48`: …
//!   at           inventory_label+0x52 (inventory.c:71)
//!   …
//!   interpreter  find_bugs.lua:63 in call
//!   bytes
//!     0000  62 6f 6c 74 73 00 00 00   |                       bolts...
//!                                     ^^                      write of 1 byte
//! error: find_bugs.lua:63: inventory_label: out_of_bounds: …
//!   at           find_bugs.lua:63 in call
//! 12 native calls, 3,456 accesses, recorded by ebpf: 1 violation
//! ```

use std::io::{self, Write};

use super::{
    model::Stats,
    theme::{Role, Theme},
    units,
};
use crate::diagnosis::Diagnosis;

/// Columns of text.
const WIDTH: usize = 80;
/// Column at which entries begin.
const INDENT: usize = 15;

/// Everything about one session.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct SessionReport {
    /// [`SCHEMA`](super::model::SCHEMA).
    pub schema: u32,
    /// The script, as it was named.
    pub session: String,
    /// The recorder that was used: `ebpf`, `inproc`, `ptrace` or `none`.
    pub backend: String,
    /// Why this recorder and not a better one, where there is something to say.
    pub backend_note: Option<String>,
    /// The error that ended the script, if one did.
    pub error: Option<SessionError>,
    /// Broken rules, in order.
    pub violations: Vec<SessionViolation>,
    /// How many there were that the script did not expect, those beyond the list's limit included.
    pub unexpected: u64,
    /// Why the trace is not complete, if it is not.
    pub incomplete: Option<String>,
    /// Libraries that the script loaded, as they are called.
    pub libraries: Vec<String>,
    /// Functions that were called, by name.
    pub functions: Vec<CalledFunction>,
    /// Totals.
    pub stats: Stats,
}

/// The error that ended a script.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SessionError {
    /// What was raised, with its place.
    pub message: String,
    /// Where the script was, innermost first.
    pub stack: Vec<String>,
}

/// A violation in a session.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct SessionViolation {
    /// All that is known of it.
    #[serde(flatten)]
    pub diagnosis: Diagnosis,
    /// The bytes that it is about, in lines of text.
    pub bytes: Vec<String>,
    /// Whether `trace.expect` said that it would happen.
    pub expected: bool,
}

/// A function that a session called.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct CalledFunction {
    /// Its name.
    pub name: String,
    /// The library's file; empty where it was called by a pointer.
    pub library: String,
    /// How often.
    pub calls: u64,
}

impl SessionReport {
    /// The exit status that the session comes to.
    pub fn exit_status(&self) -> u8 {
        if self.unexpected > 0 || self.error.is_some() {
            1
        } else if self.incomplete.is_some() {
            4
        } else {
            0
        }
    }
}

/// Writes the report for people: what was wrong, and a line of what there was.
///
/// # Errors
/// Those of `out`.
pub fn write_text(out: &mut dyn Write, report: &SessionReport, theme: Theme) -> io::Result<()> {
    for violation in report.violations.iter().filter(|v| !v.expected) {
        writeln!(
            out,
            "{}",
            violation_text(&violation.diagnosis, &violation.bytes, theme)
        )?;
    }
    if let Some(error) = &report.error {
        write_error(out, error, theme)?;
    }
    if let Some(why) = &report.incomplete {
        let bad = theme.paint(Role::Bad, "incomplete:");
        for line in super::wrap(&format!("the trace has gaps: {why}"), WIDTH - 12, &[' ']) {
            writeln!(out, "{bad} {line}")?;
        }
    }
    let recorder = match report.backend.as_str() {
        "none" => "not recorded".to_owned(),
        backend => format!("recorded by {backend}"),
    };
    let expected = report.violations.iter().filter(|v| v.expected).count() as u64;
    let mut found = match report.unexpected {
        0 => "no violation".to_owned(),
        count => units::count(count, "violation"),
    };
    if expected > 0 {
        found.push_str(&format!(", {expected} expected"));
    }
    let line = format!(
        "{}, {}, {recorder}: {found}",
        units::count(report.stats.calls, "native call"),
        count_accesses(report.stats.events),
    );
    writeln!(out, "{}", theme.paint(Role::Faint, &line))?;
    if let Some(note) = &report.backend_note {
        for line in super::wrap(
            &format!("recorder {}: {note}", report.backend),
            WIDTH,
            &[' '],
        ) {
            writeln!(out, "{}", theme.paint(Role::Faint, &line))?;
        }
    }
    out.flush()
}

/// Writes an error and where it came from.
///
/// # Errors
/// Those of `out`.
pub fn write_error(out: &mut dyn Write, error: &SessionError, theme: Theme) -> io::Result<()> {
    let head = theme.paint(Role::Bad, "error:");
    let mut first = true;
    for line in error.message.lines() {
        let width = if first { WIDTH - 7 } else { WIDTH - 2 };
        for piece in super::wrap(line, width, &[' ']) {
            match std::mem::replace(&mut first, false) {
                true => writeln!(out, "{head} {piece}")?,
                false => writeln!(out, "  {piece}")?,
            }
        }
    }
    for (index, frame) in error.stack.iter().enumerate() {
        let head = if index == 0 { "at" } else { "called from" };
        writeln!(out, "  {head:<width$}{frame}", width = INDENT - 2)?;
    }
    Ok(())
}

/// A violation with its stacks and bytes, in lines.
pub fn violation_text(diagnosis: &Diagnosis, bytes: &[String], theme: Theme) -> String {
    let text = diagnosis.to_string();
    let (title, rest) = text.split_once('\n').unwrap_or((&text, ""));
    let mut all = theme.paint(Role::Bad, title);
    if !rest.is_empty() {
        all.push('\n');
        all.push_str(rest);
    }
    if !bytes.is_empty() {
        all.push_str("\n  bytes");
    }
    for line in bytes {
        all.push_str("\n    ");
        all.push_str(line);
    }
    all
}

fn count_accesses(count: u64) -> String {
    match count {
        1 => "1 access".to_owned(),
        count => format!("{} accesses", units::grouped(count)),
    }
}
