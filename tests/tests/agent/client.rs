//! Clients that are somebody else: this program, run again with a role. A role that finds what it
//! should not find says so on standard error, and ends with 1.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ffitrace_tests::process::wait_for;
use ffitrace_tests::suite::explain;

mod crowd;
mod forger;
mod marks;
mod neighbour;
mod wreck;

/// First argument of a client.
pub(crate) const ROLE: &str = "--as-client";

/// Longest life of a client.
const LIFE: Duration = Duration::from_secs(120);

/// Runs as a client if the arguments say so.
pub(crate) fn main(arguments: &[String]) -> Option<ExitCode> {
    let (first, rest) = arguments.split_first()?;
    if first != ROLE {
        return None;
    }
    let done = match rest.split_first() {
        Some((role, words)) => run(role, words),
        None => Err(anyhow::anyhow!("no role")),
    };
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", explain(&error));
            ExitCode::FAILURE
        }
    })
}

fn run(role: &str, words: &[String]) -> Result<()> {
    match role {
        "same-range" => neighbour::same_range(words),
        "snoop" => neighbour::snoop(words),
        "wreck" => wreck::wreck(words),
        "forge" => forger::forge(words),
        "bequeath" => forger::bequeath(words),
        "inherit" => forger::inherit(),
        "marks" => marks::marks(words),
        "limited-marks" => marks::limited(words),
        "flood" => crowd::flood(words),
        "idle" => crowd::idle(words),
        other => bail!("no role {other}"),
    }
}

fn word(words: &[String], index: usize) -> Result<&str> {
    let found = words.get(index).map(String::as_str);
    found.with_context(|| format!("argument {index} of the role"))
}

fn number(words: &[String], index: usize) -> Result<u64> {
    Ok(word(words, index)?.parse()?)
}

fn variable(name: &str) -> Result<PathBuf> {
    std::env::var_os(name)
        .map(PathBuf::from)
        .with_context(|| format!("no {name}"))
}

/// Whether the gate is open that the client was told of.
fn gate_is_open() -> Result<bool> {
    Ok(variable("FX_GATE")?.exists())
}

/// Says that this client has come to the gate.
fn at_gate() -> Result<()> {
    let path: &Path = &variable("FX_READY")?;
    std::fs::File::create(path).with_context(|| path.display().to_string())?;
    Ok(())
}

/// Waits at the gate.
fn pass_gate() -> Result<()> {
    at_gate()?;
    wait_for("an open gate", LIFE, || Ok(gate_is_open()?.then_some(())))
}
