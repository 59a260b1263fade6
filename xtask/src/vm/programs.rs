//! The test programs, the program that they test, and the libraries that it calls.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::test::command::{announce, cargo};

/// What cargo built.
#[derive(Debug, Default)]
pub(super) struct Programs {
    /// `ffitrace`.
    pub(super) program: PathBuf,
    /// Test programs by name, which those of two packages may share. `cargo test --test` takes both, too.
    pub(super) tests: BTreeMap<String, Vec<TestProgram>>,
    /// What the build scripts of the workspace made: shared libraries, for the most part.
    pub(super) made: Vec<PathBuf>,
}

/// A test program.
#[derive(Debug)]
pub(super) struct TestProgram {
    pub(super) executable: PathBuf,
    /// Its package, which is where cargo would start it.
    pub(super) directory: PathBuf,
}

/// Builds all tests of the workspace, as `cargo test` does: with another selection dependencies would
/// have other features, and all would be built again.
pub(super) fn build() -> Result<Programs> {
    let format = "--message-format=json-render-diagnostics";
    let mut command = cargo(["test", "--workspace", "--no-run", "--quiet", format]);
    announce(&command)?;
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!("the tests do not build: {command:?} failed");
    }
    let mut programs = Programs::default();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        // Cargo's lines are objects; what else is there was printed by somebody else.
        if let Ok(message) = serde_json::from_str(line) {
            programs.take(&message)?;
        }
    }
    if programs.program.as_os_str().is_empty() {
        bail!("{command:?} built no `ffitrace`");
    }
    Ok(programs)
}

impl Programs {
    /// Takes in one of cargo's messages.
    fn take(&mut self, message: &Value) -> Result<()> {
        let text = |value: &'_ Value| value.as_str().map(str::to_owned);
        match message["reason"].as_str() {
            Some("compiler-artifact") => {
                let Some(executable) = text(&message["executable"]).map(PathBuf::from) else {
                    return Ok(());
                };
                let name = text(&message["target"]["name"]).context("an artifact's name")?;
                match message["target"]["kind"][0].as_str() {
                    Some("test") => {
                        let manifest = text(&message["manifest_path"]).context("manifest_path")?;
                        let directory = Path::new(&manifest).parent().context("manifest_path")?;
                        let test = TestProgram {
                            executable,
                            directory: directory.to_owned(),
                        };
                        self.tests.entry(name).or_default().push(test);
                    }
                    Some("bin") if name == "ffitrace" && message["profile"]["test"] == false => {
                        self.program = executable;
                    }
                    _ => {}
                }
            }
            // Of ours, not of dependencies.
            Some("build-script-executed")
                if text(&message["package_id"]).is_some_and(|id| id.starts_with("path+")) =>
            {
                self.made
                    .extend(text(&message["out_dir"]).map(PathBuf::from));
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_cargo_are_understood() -> Result<()> {
        let mut programs = Programs::default();
        for line in [
            r#"{"reason":"compiler-artifact","manifest_path":"/w/tests/Cargo.toml","target":{"kind":["test"],"name":"zlib"},"profile":{"test":true},"executable":"/t/zlib-1"}"#,
            r#"{"reason":"compiler-artifact","manifest_path":"/w/b/Cargo.toml","target":{"kind":["test"],"name":"zlib"},"profile":{"test":true},"executable":"/t/zlib-2"}"#,
            r#"{"reason":"compiler-artifact","manifest_path":"/w/b/Cargo.toml","target":{"kind":["bin"],"name":"ffitrace"},"profile":{"test":true},"executable":"/t/ffitrace-1"}"#,
            r#"{"reason":"compiler-artifact","manifest_path":"/w/b/Cargo.toml","target":{"kind":["bin"],"name":"ffitrace"},"profile":{"test":false},"executable":"/t/ffitrace"}"#,
            r#"{"reason":"compiler-artifact","manifest_path":"/w/b/Cargo.toml","target":{"kind":["lib"],"name":"b"},"profile":{"test":false},"executable":null}"#,
            r#"{"reason":"build-script-executed","package_id":"path+file:///w/tests#0.1.0","out_dir":"/t/out"}"#,
            r#"{"reason":"build-script-executed","package_id":"registry+https://x#libc@0.2","out_dir":"/t/other"}"#,
            r#"{"reason":"build-finished","success":true}"#,
        ] {
            programs.take(&serde_json::from_str(line)?)?;
        }
        assert_eq!(programs.program, Path::new("/t/ffitrace"));
        assert_eq!(programs.made, [Path::new("/t/out")]);
        let [first, second] = &programs.tests["zlib"][..] else {
            panic!("{:?}", programs.tests);
        };
        assert_eq!(first.executable, Path::new("/t/zlib-1"));
        assert_eq!(first.directory, Path::new("/w/tests"));
        assert_eq!(second.directory, Path::new("/w/b"));
        assert_eq!(programs.tests.len(), 1);
        Ok(())
    }
}
