//! What `ffitrace doctor` says about a host.

use std::io::{self, Write};

use super::text::wrap;
use super::theme::{Role, Theme};

/// Columns of a line, and those before an item's text.
const WIDTH: usize = 80;
const COLUMN: usize = 26;

/// Whether something is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckState {
    /// It is.
    Ok,
    /// It is, with something to know; or it is not, and what it affects works without.
    Warn,
    /// It is not.
    Missing,
    /// Not looked at, since something before it is missing.
    Untried,
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
    /// What happens without.
    pub fallback: Option<String>,
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
    /// The first check that it fails.
    pub check: Option<String>,
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
    /// In a sentence, what `--backend auto` takes, and why.
    pub summary: String,
    /// The recorders, best first.
    pub backends: Vec<DoctorBackend>,
    /// What `--backend auto` takes.
    pub auto: Option<String>,
    /// What was looked at.
    pub checks: Vec<DoctorCheck>,
}

impl DoctorReport {
    /// A report of these.
    pub fn new(backends: Vec<DoctorBackend>, checks: Vec<DoctorCheck>) -> DoctorReport {
        let named = |name: &'static str| backends.iter().find(move |b| b.name == name);
        let auto = ["ebpf", "inproc"]
            .into_iter()
            .find(|name: &&'static str| named(name).is_some_and(|backend| backend.usable))
            .map(str::to_owned);
        let why_not = |name: &'static str| {
            let reason = named(name).and_then(|backend| backend.reason.as_deref());
            reason.unwrap_or("it is not there").to_owned()
        };
        let summary = match auto.as_deref() {
            Some("ebpf") => "--backend auto takes ebpf: the kernel records each access.".to_owned(),
            Some(_) => format!(
                "--backend auto takes inproc, which sees the same accesses, since ebpf cannot be \
                 had: {}.",
                why_not("ebpf")
            ),
            None => format!("Nothing can be traced here: {}.", why_not("inproc")),
        };
        DoctorReport {
            schema: 1,
            summary,
            backends,
            auto,
            checks,
        }
    }
}

/// Writes the report.
///
/// # Errors
/// Those of `out`.
pub fn write_text(out: &mut dyn Write, report: &DoctorReport, theme: Theme) -> io::Result<()> {
    for line in wrap(&report.summary, WIDTH, &[' ']) {
        writeln!(out, "{}", theme.paint(Role::Title, &line))?;
    }
    heading(out, theme, "recorders")?;
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
        item(out, theme, &sign, &backend.name, &text)?;
        note(out, theme, "help: ", backend.remedy.as_deref())?;
    }
    let (good, lacking): (Vec<_>, Vec<_>) = report
        .checks
        .iter()
        .partition(|check| check.state == CheckState::Ok);
    if !lacking.is_empty() {
        heading(out, theme, "what this host lacks, causes before effects")?;
    }
    let mut before = None;
    for check in lacking {
        lack(out, theme, check, before)?;
        before = Some(check);
    }
    heading(out, theme, "what it has")?;
    for check in good {
        item(out, theme, &ok(theme), &check.name, &check.detail)?;
    }
    out.flush()
}

fn heading(out: &mut dyn Write, theme: Theme, text: &str) -> io::Result<()> {
    writeln!(out, "\n{}", theme.paint(Role::Title, text))
}

/// A check that found something amiss, below the one `before` it. What the two have in common is
/// not said again: effects follow their causes.
fn lack(
    out: &mut dyn Write,
    theme: Theme,
    check: &DoctorCheck,
    before: Option<&DoctorCheck>,
) -> io::Result<()> {
    let sign = match check.state {
        CheckState::Ok => ok(theme),
        CheckState::Warn => theme.paint(Role::Write, "!"),
        CheckState::Missing => missing(theme),
        CheckState::Untried => theme.paint(Role::Faint, "?"),
    };
    let mut text = check.detail.clone();
    if check.state == CheckState::Missing && !check.affects.is_empty() {
        text.push_str(&format!(" (needed by {})", check.affects.join(", ")));
    }
    item(out, theme, &sign, &check.name, &text)?;
    if check.state == CheckState::Untried {
        // What it waits for stands above, and says all that there is to say.
        return Ok(());
    }
    let new = |of: fn(&DoctorCheck) -> Option<&str>| {
        of(check).filter(|text| before.and_then(of) != Some(*text))
    };
    note(out, theme, "help: ", new(|check| check.remedy.as_deref()))?;
    note(
        out,
        theme,
        "without it: ",
        new(|check| check.fallback.as_deref()),
    )
}

fn ok(theme: Theme) -> String {
    theme.paint(Role::Good, theme.pick("✓", "+"))
}

fn missing(theme: Theme) -> String {
    theme.paint(Role::Bad, theme.pick("✗", "-"))
}

/// `✓ name            text`, with long text below itself.
fn item(out: &mut dyn Write, theme: Theme, sign: &str, name: &str, text: &str) -> io::Result<()> {
    let lines = wrap(text, WIDTH - COLUMN, &[' ']);
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
    Ok(())
}

/// A remark below an item.
fn note(out: &mut dyn Write, theme: Theme, label: &str, text: Option<&str>) -> io::Result<()> {
    let Some(text) = text else { return Ok(()) };
    // Under the label, so that the eye finds the next one.
    for (i, line) in wrap(text, WIDTH - COLUMN - label.len(), &[' '])
        .iter()
        .enumerate()
    {
        let head = if i == 0 {
            theme.paint(Role::Faint, label)
        } else {
            " ".repeat(label.len())
        };
        writeln!(out, "{:COLUMN$}{head}{line}", "")?;
    }
    Ok(())
}
