//! The cases, and what they need: files, descriptors, child processes.

pub(crate) mod descriptors;
pub(crate) mod files;
pub(crate) mod network;
pub(crate) mod process;
pub(crate) mod signal;

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Mutex;

use tempfile::TempDir;

use crate::case::Case;

/// Makes a case afresh, with new files and descriptors.
pub(crate) type Make = fn() -> Case;

/// What [`file`] holds.
pub(crate) const CONTENT: &[u8; 100] = &[b'c'; 100];

static DIR: Mutex<Option<PathBuf>> = Mutex::new(None);

/// A directory for the files of all cases, as long as this lives.
pub(crate) struct Directory(#[expect(dead_code, reason = "removes the directory")] TempDir);

impl Directory {
    /// Makes it. There is one at a time.
    pub(crate) fn new() -> Directory {
        // Not in /tmp: older kernels have no extended attributes there.
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        *DIR.lock().unwrap() = Some(dir.path().to_owned());
        Directory(dir)
    }
}

fn dir() -> PathBuf {
    DIR.lock().unwrap().clone().expect("a directory was made")
}

/// A path in it, where nothing is.
pub(crate) fn free(name: &str) -> String {
    let path = dir().join(name);
    let _ = fs::remove_file(&path);
    let _ = fs::remove_dir(&path);
    path.to_str().unwrap().to_owned()
}

/// A path with [`CONTENT`].
pub(crate) fn full(name: &str) -> String {
    let path = free(name);
    fs::write(&path, CONTENT).unwrap();
    path
}

/// The path of an empty directory.
pub(crate) fn folder(name: &str) -> String {
    let path = free(name);
    fs::create_dir(&path).unwrap();
    path
}

/// The path of a symbolic link.
pub(crate) fn link(name: &str) -> String {
    let path = free(name);
    std::os::unix::fs::symlink("where it leads", &path).unwrap();
    path
}

/// An open file with [`CONTENT`], at its beginning.
pub(crate) fn file() -> File {
    let path = full("file");
    File::options().read(true).write(true).open(path).unwrap()
}

/// An open directory with a few files.
pub(crate) fn listing() -> File {
    let path = dir().join("listing");
    fs::create_dir_all(&path).unwrap();
    for name in ["a", "bcd", "a longer name of twenty-nine"] {
        fs::write(path.join(name), "").unwrap();
    }
    File::open(path).unwrap()
}

/// A pipe with something to read, and its other end.
pub(crate) fn pipe() -> (OwnedFd, OwnedFd) {
    let (from, to) = rustix::pipe::pipe().unwrap();
    File::from(to.try_clone().unwrap())
        .write_all(CONTENT)
        .unwrap();
    (from, to)
}
