//! Starting commands so that their output is seen as it comes.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::outcome::TestOutput;

/// The cargo that runs this task, in the workspace's root.
pub(crate) fn cargo<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(workspace()).args(arguments);
    command
}

/// The workspace's root.
pub(crate) fn workspace() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}

/// Runs a command with our own streams; whether it succeeded.
pub(crate) fn run_visibly(command: &mut Command) -> Result<bool> {
    announce(command)?;
    let status = command
        .status()
        .with_context(|| format!("cannot run {command:?}"))?;
    Ok(status.success())
}

/// Runs test programs, shows what they print and counts it.
pub(crate) fn run_watched(command: &mut Command) -> Result<TestOutput> {
    announce(command)?;
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {command:?}"))?;
    let stdout = child.stdout.take().context("no pipe")?;
    let mut output = TestOutput::default();
    let mut reader = BufReader::new(stdout);
    let mut line = Vec::new();
    // By bytes: a failing test may print what is no UTF-8.
    while reader
        .read_until(b'\n', &mut line)
        .context("reading test output")?
        > 0
    {
        let text = String::from_utf8_lossy(&line);
        print!("{text}");
        std::io::stdout().flush()?;
        output.line(text.trim_end());
        line.clear();
    }
    let status = child.wait().context("waiting for the tests")?;
    output.success = status.success();
    Ok(output)
}

/// Runs a command, however it ends, and returns what it printed on either stream.
pub(crate) fn run_captured(mut command: Command) -> Result<String> {
    announce(&command)?;
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    let streams = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&streams).into_owned())
}

/// Standard output of a command that succeeds.
pub(crate) fn capture(command: &mut Command) -> Option<String> {
    let output = command
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Shows a command before it runs.
pub(crate) fn announce(command: &Command) -> Result<()> {
    let words: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    println!("\n==> {}", words.join(" "));
    std::io::stdout().flush()?;
    Ok(())
}
