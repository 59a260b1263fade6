<<<<<<< HEAD
//! The program and the fixtures where anybody can read them, and commands that run as somebody
//! without privileges: the build directory may be private.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
=======
//! The program and a fixture where anybody can read them: the build directory may be private.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
>>>>>>> main
use std::process::Command;

use anyhow::Result;

use crate::fixture::Lib;
use crate::{binary, check, host};

<<<<<<< HEAD
/// `nobody`.
pub const NOBODY: u32 = 65534;

/// A directory that every user can read.
#[derive(Debug)]
=======
/// Copies of them.
>>>>>>> main
pub struct Place {
    dir: tempfile::TempDir,
}

impl Place {
<<<<<<< HEAD
    /// Copies the program and these libraries.
    ///
    /// # Errors
    /// Fails if something cannot be copied.
    pub fn new(libs: &[Lib]) -> Result<Place> {
=======
    /// Makes them.
    ///
    /// # Errors
    /// Fails if they cannot be copied.
    pub fn new() -> Result<Place> {
>>>>>>> main
        let dir = tempfile::Builder::new()
            .prefix("ffitrace-test-")
            .tempdir()?;
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755))?;
        let place = Place { dir };
<<<<<<< HEAD
        place.copy(binary::ffitrace()?, "ffitrace")?;
        for lib in libs {
            place.copy(&lib.path(), lib.file_name())?;
=======
        for (from, name) in [
            (binary::ffitrace()?.to_path_buf(), "ffitrace"),
            (Lib::O2.path(), Lib::O2.file_name()),
        ] {
            let to = place.path(name);
            // By another process: a test that forks meanwhile would inherit our descriptor, and
            // a file that is open for writing cannot be executed.
            let copied = Command::new("cp").arg(&from).arg(&to).status()?;
            check!(
                copied.success(),
                "{} could not be copied to {}",
                from.display(),
                to.display()
            );
            fs::set_permissions(&to, Permissions::from_mode(0o755))?;
>>>>>>> main
        }
        Ok(place)
    }

<<<<<<< HEAD
    /// Copies a file, and lets everybody execute it.
    ///
    /// # Errors
    /// Fails if it cannot be copied.
    pub fn copy(&self, from: &Path, name: &str) -> Result<PathBuf> {
        let to = self.path(name);
        // By another process: a test that forks meanwhile would inherit our descriptor, and a
        // file that is open for writing cannot be executed.
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

    /// Path of a file here.
=======
    /// Path of a file in it.
>>>>>>> main
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

<<<<<<< HEAD
    /// The copy of the program.
    pub fn program(&self) -> PathBuf {
        self.path("ffitrace")
    }

    /// A command line, to be continued, that runs `program` as `user`, without any privilege and
    /// without a way to get one. Who is not root runs it as who they are.
    pub fn words_as(&self, user: u32, program: &Path) -> Vec<OsString> {
        let mut words: Vec<OsString> = Vec::new();
        if host::is_root() {
            words.push("setpriv".into());
            words.push(format!("--reuid={user}").into());
            words.push(format!("--regid={user}").into());
            for word in ["--clear-groups", "--no-new-privs", "--bounding-set=-all"] {
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
=======
    /// Path of the fixture.
    pub fn library(&self) -> String {
        self.path(Lib::O2.file_name()).display().to_string()
    }

    /// The program, by somebody without privileges.
    pub fn unprivileged(&self) -> Command {
        let program = self.path("ffitrace");
        let mut command = if host::is_root() {
            let mut command = Command::new("setpriv");
            command
                .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
                .args(["--inh-caps=-all", "--no-new-privs"])
                .arg(program);
            command
        } else {
            Command::new(program)
        };
        command
>>>>>>> main
            .current_dir("/")
            .env_remove("SUDO_UID")
            .env_remove("SUDO_GID");
        command
    }
}
