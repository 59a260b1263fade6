//! The shared libraries that programs need.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Libraries that no program is linked to: tests trace calls of zlib, and libc loads the unwinder where
/// a thread is cancelled. What is missing here is missing there, and the tests say so.
const LOADED_LATER: &[&str] = &["libz.so.1", "libgcc_s.so.1"];

/// All that these programs and libraries need, the loader with them.
pub(super) fn needed<'a>(files: impl IntoIterator<Item = &'a Path>) -> Result<BTreeSet<PathBuf>> {
    let mut all = BTreeSet::new();
    for file in files {
        all.extend(needed_by(file)?);
    }
    let directories: BTreeSet<&Path> = all.iter().filter_map(|path| path.parent()).collect();
    let later: Vec<PathBuf> = LOADED_LATER
        .iter()
        .filter_map(|name| {
            let mut places = directories.iter().map(|directory| directory.join(name));
            places.find(|path| path.exists())
        })
        .collect();
    all.extend(later);
    Ok(all)
}

/// What the loader would load for one of them: the loader itself is asked.
fn needed_by(file: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd")
        .arg(file)
        .env("LC_ALL", "C")
        .output()
        .context("cannot run ldd, which comes with the C library (package libc-bin)")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let why = String::from_utf8_lossy(&output.stderr);
    if text.contains("statically linked") || why.contains("not a dynamic executable") {
        return Ok(Vec::new());
    }
    if !output.status.success() {
        bail!("ldd {}: {why}", file.display());
    }
    paths(&text).with_context(|| format!("ldd {}", file.display()))
}

/// The paths in what `ldd` prints.
fn paths(text: &str) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for line in text.lines() {
        if let Some((name, "not found")) = line.trim().split_once(" => ") {
            bail!("{name} is not installed");
        }
        // `name => path (address)`, `path (address)`; the kernel's own has a name only.
        let file = line.rsplit(" => ").next().unwrap_or_default().trim();
        let path = file.split(" (").next().unwrap_or_default();
        if path.starts_with('/') {
            paths.push(path.into());
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_ldd_are_understood() -> Result<()> {
        let text = "\tlinux-vdso.so.1 (0x00007ffc)\n\
                    \tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f55)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f55)\n";
        let expected = [
            "/lib/x86_64-linux-gnu/libm.so.6",
            "/lib64/ld-linux-x86-64.so.2",
        ];
        assert_eq!(paths(text)?, expected.map(PathBuf::from));
        assert!(paths("\tlibnone.so.1 => not found\n").is_err());
        Ok(())
    }
}
