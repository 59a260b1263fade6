//! Running scripts, under ffitrace and under LuaJIT.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use ffitrace_tests::binary;
use ffitrace_tests::process::{self, Finished};

/// How long a session may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// The project's folder.
pub(crate) fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_owned()
}

/// `ffitrace run` with these arguments, in a folder.
pub(crate) fn command(folder: &Path, arguments: &[&str]) -> Result<Command> {
    let mut command = binary::command()?;
    command.arg("run").args(arguments).current_dir(folder);
    // What the scripts share.
    let shared = root().join("tests/lua/?.lua");
    command.env("LUA_PATH", format!("{};;", shared.display()));
    Ok(command)
}

/// Runs it.
pub(crate) fn run(folder: &Path, arguments: &[&str]) -> Result<Finished> {
    let finished = process::run(&mut command(folder, arguments)?, LIMIT)?;
    ffitrace_tests::call::no_panic(&finished)?;
    Ok(finished)
}

/// Runs a script's text.
pub(crate) fn run_text(arguments: &[&str], text: &str) -> Result<Finished> {
    let folder = tempfile::tempdir().context("a folder for a script")?;
    std::fs::write(folder.path().join("session.lua"), text).context("a script")?;
    let arguments: Vec<&str> = arguments.iter().copied().chain(["session.lua"]).collect();
    run(folder.path(), &arguments)
}

/// Runs a script with LuaJIT as installed.
pub(crate) fn run_stock(folder: &Path, arguments: &[&str]) -> Result<Finished> {
    let mut command = Command::new("luajit");
    command.args(arguments).current_dir(folder);
    process::run(&mut command, LIMIT)
}

/// The end of a process, for messages.
pub(crate) fn shown(finished: &Finished) -> String {
    format!(
        "status {:?}, signal {:?}\nstdout: {}\nstderr: {}",
        finished.code, finished.signal, finished.stdout, finished.stderr
    )
}
