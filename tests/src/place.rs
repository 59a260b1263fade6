//! The program and a fixture where anybody can read them: the build directory may be private.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::fixture::Lib;
use crate::{binary, check, host};

/// Copies of them.
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
        }
        Ok(place)
    }

    /// Path of a file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

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
            .current_dir("/")
            .env_remove("SUDO_UID")
            .env_remove("SUDO_GID");
        command
    }
}
