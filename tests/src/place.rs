//! The program and a fixture where anybody can read them: the build directory may be private.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::fixture::Lib;
use crate::{binary, check, host};

/// `nobody`.
pub const NOBODY: u32 = 65534;

/// Copies of them.
#[derive(Debug)]
pub struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    /// Makes them.
    ///
    /// # Errors
    /// Fails if they cannot be copied.
    pub fn new() -> Result<Place> {
        let dir = tempfile::Builder::new()
            .prefix("ffitrace-test-")
            .tempdir()?;
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755))?;
        let place = Place { dir };
        for (from, name) in [
            (binary::ffitrace()?.to_path_buf(), "ffitrace"),
            (Lib::O2.path(), Lib::O2.file_name()),
        ] {
            place.copy(&from, name)?;
        }
        Ok(place)
    }

    /// Copies a file here, and lets everybody execute it.
    ///
    /// # Errors
    /// Fails if it cannot be copied.
    pub fn copy(&self, from: &Path, name: &str) -> Result<PathBuf> {
        let to = self.path(name);
        // By another process: a test that forks meanwhile would inherit our descriptor, and
        // a file that is open for writing cannot be executed.
        let copied = Command::new("cp").arg(from).arg(&to).status()?;
        check!(
            copied.success(),
            "{} could not be copied to {}",
            from.display(),
            to.display()
        );
        fs::set_permissions(&to, Permissions::from_mode(0o755))?;
        Ok(to)
    }

    /// Path of a file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Path of the fixture.
    pub fn library(&self) -> String {
        self.path(Lib::O2.file_name()).display().to_string()
    }

    /// The copy of the program.
    pub fn program(&self) -> PathBuf {
        self.path("ffitrace")
    }

    /// The program, by somebody without privileges.
    pub fn unprivileged(&self) -> Command {
        self.command_as(NOBODY, &self.program())
    }

    /// A command line, to be continued, that runs `program` as `user`, without any privilege and
    /// without a way to get one. Who is not root runs it as who they are.
    pub fn words_as(&self, user: u32, program: &Path) -> Vec<OsString> {
        let mut words: Vec<OsString> = Vec::new();
        if host::is_root() {
            words.push("setpriv".into());
            words.push(format!("--reuid={user}").into());
            words.push(format!("--regid={user}").into());
            for word in ["--clear-groups", "--inh-caps=-all", "--no-new-privs"] {
                words.push(word.into());
            }
        }
        words.push(program.into());
        words
    }

    /// [`words_as`](Place::words_as) as a command, without traces of who became root.
    pub fn command_as(&self, user: u32, program: &Path) -> Command {
        let words = self.words_as(user, program);
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .current_dir("/")
            .env_remove("SUDO_UID")
            .env_remove("SUDO_GID");
        command
    }
}
