//! Libraries made by the C and C++ compilers, for the tests of this module.

use std::path::PathBuf;
use std::process::Command;

/// A shared library, in a directory that goes with it.
pub(crate) struct Fixture {
    _dir: tempfile::TempDir,
    pub(crate) path: PathBuf,
}

impl Fixture {
    /// Compiles C.
    pub(crate) fn c(name: &str, source: &str, flags: &[&str]) -> Fixture {
        Fixture::compile("CC", "cc", &format!("{name}.c"), source, flags)
    }

    /// Compiles C++.
    pub(crate) fn cpp(name: &str, source: &str, flags: &[&str]) -> Fixture {
        Fixture::compile("CXX", "c++", &format!("{name}.cpp"), source, flags)
    }

    fn compile(variable: &str, default: &str, file: &str, source: &str, flags: &[&str]) -> Fixture {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join(file), source).expect("the source");
        let path = dir.path().join(format!("{file}.so"));
        let mut command = Command::new(std::env::var_os(variable).unwrap_or(default.into()));
        let status = command
            .current_dir(dir.path())
            .args(["-shared", "-fPIC", "-g", "-o"])
            .arg(&path)
            .arg(file)
            .args(flags)
            .status()
            .expect("a compiler");
        assert!(status.success(), "{command:?}");
        Fixture { _dir: dir, path }
    }
}
