//! What `ffitrace doctor` says about a host.

use std::io::{self, Write};

use super::text::wrap;
use super::theme::{Role, Theme};

/// Whether something is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckState {
    /// It is.
    Ok,
    /// It is, with something to know.
    Warn,
    /// It is not.
    Missing,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct DoctorCheck {
    /// What.
    pub name: String,
    /// The outcome.
    pub state: CheckState,
    /// What was found.
    pub detail: String,
    /// What mends it.
    pub remedy: Option<String>,
    /// The recorders that need it.
    pub affects: Vec<String>,
}

/// A recorder on this host.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct DoctorBackend {
    /// Its name.
    pub name: String,
    /// Whether it can be used.
    pub usable: bool,
    /// Why not.
    pub reason: Option<String>,
    /// What mends it.
    pub remedy: Option<String>,
}

/// Everything about a host.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct DoctorReport {
    /// Version of the schema.
    pub schema: u32,
    /// The recorders, best first.
    pub backends: Vec<DoctorBackend>,
    /// What `--backend auto` takes.
    pub auto: Option<String>,
    /// What was looked at.
    pub checks: Vec<DoctorCheck>,
}

/// Writes the report.
///
/// # Errors
/// Those of `out`.
pub fn write_text(out: &mut dyn Write, report: &DoctorReport, theme: Theme) -> io::Result<()> {
    writeln!(out, "{}", theme.paint(Role::Title, "recorders"))?;
    for backend in &report.backends {
        let auto = report.auto.as_ref() == Some(&backend.name);
        let (sign, text) = match (backend.usable, auto) {
            (true, true) => (ok(theme), "usable, taken by --backend auto".to_owned()),
            (true, false) => (ok(theme), "usable".to_owned()),
            _ => {
                let reason = backend.reason.as_deref().unwrap_or("not usable");
                (missing(theme), reason.to_owned())
            }
        };
        item(
            out,
            theme,
            &sign,
            &backend.name,
            &text,
            backend.remedy.as_deref(),
        )?;
    }
    writeln!(out, "\n{}", theme.paint(Role::Title, "this host"))?;
    for check in &report.checks {
        let sign = match check.state {
            CheckState::Ok => ok(theme),
            CheckState::Warn => theme.paint(Role::Write, "!"),
            CheckState::Missing => missing(theme),
        };
        let mut text = check.detail.clone();
        if check.state == CheckState::Missing && !check.affects.is_empty() {
            text.push_str(&format!(" (needed by {})", check.affects.join(", ")));
        }
        item(
            out,
            theme,
            &sign,
            &check.name,
            &text,
            check.remedy.as_deref(),
        )?;
    }
    out.flush()
}

fn ok(theme: Theme) -> String {
    theme.paint(Role::Good, theme.pick("✓", "+"))
}

fn missing(theme: Theme) -> String {
    theme.paint(Role::Bad, theme.pick("✗", "-"))
}

/// `✓ name            text`, with long text and the remedy indented below.
fn item(
    out: &mut dyn Write,
    theme: Theme,
    sign: &str,
    name: &str,
    text: &str,
    remedy: Option<&str>,
) -> io::Result<()> {
    const COLUMN: usize = 22;
    let lines = wrap(text, 80 - COLUMN, &[' ']);
    // A name as wide as its column gets a line of its own.
    let inline = name.chars().count() <= COLUMN - 5;
    let head = if inline {
        format!("{name:<w$}", w = COLUMN - 5)
    } else {
        name.to_owned()
    };
    write!(out, "  {sign} {}", theme.paint(Role::Value, &head))?;
    let mut first = inline;
    if !inline {
        writeln!(out)?;
    }
    for line in &lines {
        if first {
            writeln!(out, " {line}")?;
        } else {
            writeln!(out, "{:COLUMN$}{line}", "")?;
        }
        first = false;
    }
    if let Some(remedy) = remedy {
        for (i, line) in wrap(remedy, 80 - COLUMN - 6, &[' ']).iter().enumerate() {
            let label = if i == 0 { "help: " } else { "      " };
            writeln!(
                out,
                "{:COLUMN$}{}{line}",
                "",
                theme.paint(Role::Faint, label)
            )?;
        }
    }
    Ok(())
}
