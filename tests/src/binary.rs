//! The program under test.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, bail};

/// Path of `ffitrace`: `FFITRACE_BIN` if set, otherwise the one that cargo puts beside the tests.
/// Cargo is asked to bring that one up to date once a test program: a stale binary would be tested
/// in silence otherwise.
///
/// # Errors
/// Fails if it does not build, or is not where it should be.
pub fn ffitrace() -> Result<&'static Path> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match BINARY.get_or_init(|| find().map_err(|error| format!("{error:#}"))) {
        Ok(path) => Ok(path),
        Err(error) => Err(anyhow!("no ffitrace to test: {error}")),
    }
}

/// The program, as its caller would start it, not as sudo does, even where the tests run under it:
/// it would become the user who called that, to whom neither fixtures nor directories belong.
///
/// # Errors
/// As for [`ffitrace`].
pub fn command() -> Result<Command> {
    let mut command = Command::new(ffitrace()?);
    for variable in BY_OTHERS {
        command.env_remove(variable);
    }
    Ok(command)
}

/// The variables by which sudo and its like say who called them.
pub const BY_OTHERS: [&str; 5] = [
    "SUDO_UID",
    "SUDO_GID",
    "SUDO_USER",
    "DOAS_USER",
    "PKEXEC_UID",
];

fn find() -> Result<PathBuf> {
    if let Some(path) = env::var_os("FFITRACE_BIN") {
        let path = PathBuf::from(path);
        if !path.is_file() {
            bail!("FFITRACE_BIN={} is not a file", path.display());
        }
        return path.canonicalize().context("FFITRACE_BIN");
    }
    // target/<profile>/deps/<test>
    let exe = env::current_exe().context("own path")?;
    let profile_dir = exe
        .parent()
        .and_then(Path::parent)
        .with_context(|| format!("{} is not in a target directory", exe.display()))?;
    let target_dir = profile_dir.parent().context("target directory")?;
    let profile = match profile_dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args([
            "build",
            "--quiet",
            "--package",
            "interp-bridge",
            "--bin",
            "ffitrace",
        ])
        .args(["--profile", profile])
        .arg("--target-dir")
        .arg(target_dir)
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!(
            "cargo build failed:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let binary = profile_dir.join("ffitrace");
    if !binary.is_file() {
        bail!("cargo did not make {}", binary.display());
    }
    Ok(binary)
}
