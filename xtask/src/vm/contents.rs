//! What is in the machine: test programs and what they need, and the scripts that run them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::image::Image;
use super::machine::PROCESSORS;
use super::packages::{Packages, on_path};
use super::{libraries, programs};
use crate::apt;
use crate::test::command::{capture, workspace};
use crate::test::privileged::Target;

/// What the machine is for, with the test programs.
pub(super) enum Purpose<'a> {
    Tests(&'a [&'static Target]),
    Shell(&'a [&'static Target]),
}

/// Files of the workspace that tests read: the marked lines of the fixtures, samples.
const READ_BY_TESTS: &[&str] = &["README.md", "tests/native", "tests/tests"];

/// Programs that tests run, beside those that busybox has.
const RUN_BY_TESTS: &[&str] = &["setpriv"];

/// The first process.
const INIT: &str = include_str!("init.sh");

/// The function that runs a test program.
const RUN: &str = include_str!("run.sh");

/// How much longer than elsewhere a test may take. Emulated, each call takes some twenty times as long,
/// but the tests' limits are far from what a call takes.
const TIME_FACTOR: u32 = 5;

/// Writes the image of the machine's root file system.
pub(super) fn image(cache: &Path, packages: &Packages, purpose: Purpose<'_>) -> Result<PathBuf> {
    let (targets, shell) = match purpose {
        Purpose::Tests(targets) => (targets, false),
        Purpose::Shell(targets) => (targets, true),
    };
    let built = programs::build()?;
    let mut image = Image::default();
    for directory in ["/dev", "/proc", "/root", "/sys", "/tmp"] {
        image.directory(Path::new(directory))?;
    }
    add_busybox(&mut image, &packages.busybox)?;

    let scratch = cache.join("stripped");
    fs::create_dir_all(&scratch).with_context(|| scratch.display().to_string())?;
    let mut runs = String::new();
    let mut binaries = vec![built.program.clone()];
    for target in targets {
        let tests = built
            .tests
            .get(target.name)
            .with_context(|| format!("the workspace has no test program `{}`", target.name))?;
        for test in tests {
            binaries.push(test.executable.clone());
            image.directory(&test.directory)?;
            runs += &command_line(target, &test.directory, &test.executable);
        }
    }
    for binary in &binaries {
        image.file_with(binary, Some(&stripped(binary, &scratch)?))?;
    }
    for program in RUN_BY_TESTS.iter().filter_map(|name| on_path(name)) {
        image.file(&program)?;
        binaries.push(program);
    }
    // With their debug information: source lines in reports come from there.
    for directory in &built.made {
        image.directory(directory)?;
        for file in files(directory)? {
            let extension = file.extension().unwrap_or_default();
            if extension == "so" {
                binaries.push(file.clone());
            }
            // What was not built is noted, and tests pass that on.
            if extension == "so" || extension == "missing" {
                image.file(&file)?;
            }
        }
    }
    for library in libraries::needed(binaries.iter().map(PathBuf::as_path))? {
        image.file(&library)?;
    }
    for path in READ_BY_TESTS.iter().map(|name| workspace().join(name)) {
        if path.is_dir() {
            image.tree(&path)?;
        } else {
            image.file(&path)?;
        }
    }

    let own = Path::new("/ffitrace-vm");
    let environment = format!(
        "{RUN}\nexport FFITRACE_BIN={} FFITRACE_TIME_FACTOR={TIME_FACTOR}\n",
        quoted(&built.program)
    );
    image.text(&own.join("environment"), environment, 0o644)?;
    image.text(&own.join("runs"), runs, 0o644)?;
    if shell {
        image.text(&own.join("shell"), "", 0o644)?;
    }
    image.text(
        Path::new("/etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\n",
        0o644,
    )?;
    image.text(Path::new("/etc/group"), "root:x:0:\n", 0o644)?;
    image.text(Path::new("/init"), INIT, 0o755)?;
    let path = cache.join("initramfs");
    image.write(&path)?;
    Ok(path)
}

/// The programs of a small system, under the names that busybox knows.
fn add_busybox(image: &mut Image, busybox: &Path) -> Result<()> {
    let names = capture(Command::new(busybox).arg("--list"))
        .with_context(|| format!("{} --list does not run", busybox.display()))?;
    let content = fs::read(busybox).with_context(|| busybox.display().to_string())?;
    let directory = Path::new("/bin");
    for name in names.lines() {
        image.link(&directory.join(name), Path::new("busybox"))?;
    }
    image.text(&directory.join("busybox"), content, 0o755)
}

/// The line that runs a target's tests.
fn command_line(target: &Target, directory: &Path, program: &Path) -> String {
    let skipped = target.slow.iter().map(|part| format!(" --skip {part}"));
    let arguments: Vec<&str> = target.arguments().collect();
    // One more than there are processors: a recorder that ends waits for the kernel.
    let threads = PROCESSORS + 1;
    format!(
        "run {} {} {} --color never --test-threads {threads}{} {}\n",
        target.name,
        quoted(directory),
        quoted(program),
        skipped.collect::<String>(),
        arguments.join(" ")
    )
}

/// A path as a word for the shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

/// A copy of a program without its debug information, which is nine tenths of it and all in memory.
fn stripped(program: &Path, scratch: &Path) -> Result<PathBuf> {
    let name = program.file_name().context("a program without a name")?;
    let copy = scratch.join(name);
    apt::run(
        Command::new("strip")
            .args(["--strip-debug", "-o"])
            .arg(&copy)
            .arg(program),
    )
    .context("strip comes with the linker (package binutils)")?;
    Ok(copy)
}

fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_shell_gets_is_one_word() {
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
