//! Debian packages: installed, or only unpacked.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Installs packages, from fresh lists.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    update()?;
    let mut arguments = vec!["install", "--yes", "--quiet", "--no-install-recommends"];
    arguments.extend(packages);
    as_root("apt-get", &arguments)
}

/// Fetches the lists of packages anew.
pub(crate) fn update() -> Result<()> {
    as_root("apt-get", &["update", "--quiet"])
}

/// Fetches a package and unpacks it into a directory, which is there afterwards only if all went
/// well. Nothing is installed, and nobody has to be root.
pub(crate) fn unpack(package: &str, into: &Path) -> Result<()> {
    let scratch = into.with_extension("part");
    // Left by a run that was interrupted, if it is there at all.
    let _ = std::fs::remove_dir_all(&scratch);
    let fetched = scratch.join("fetched");
    std::fs::create_dir_all(&fetched)
        .with_context(|| format!("cannot create {}", fetched.display()))?;
    // apt's own user cannot write to a directory of ours.
    let sandbox = ["-o", "APT::Sandbox::User=root"];
    let mut download = Command::new("apt-get");
    download
        .args(["--quiet", "--quiet"])
        .args(sandbox)
        .args(["download", package])
        .current_dir(&fetched);
    run(&mut download)?;
    let archive = std::fs::read_dir(&fetched)
        .with_context(|| fetched.display().to_string())?
        .next()
        .with_context(|| format!("apt-get download {package} left no file"))?
        .with_context(|| fetched.display().to_string())?
        .path();
    let content = scratch.join("content");
    run(Command::new("dpkg-deb")
        .arg("--extract")
        .args([&archive, &content]))?;
    std::fs::rename(&content, into)
        .with_context(|| format!("cannot move {} to {}", content.display(), into.display()))?;
    std::fs::remove_dir_all(&scratch).with_context(|| scratch.display().to_string())
}

/// Whether this is root.
pub(crate) fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output();
    output.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// Runs a command, by `sudo` if this is not root.
fn as_root(program: &str, arguments: &[&str]) -> Result<()> {
    let mut command = if is_root() {
        Command::new(program)
    } else {
        let mut sudo = Command::new("sudo");
        sudo.arg(program);
        sudo
    };
    run(command
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive"))
}

/// Runs a command that has to succeed.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "{command:?} failed: {status}");
    Ok(())
}
