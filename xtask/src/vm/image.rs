//! A root file system for the machine: files of this one at the same paths, in a newc archive that
//! the kernel unpacks into memory.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cpio::newc::{Builder, ModeFileType, trailer};

/// What a path is.
#[derive(Debug, PartialEq, Eq)]
enum Entry {
    Directory,
    Link(PathBuf),
    /// The file with its content, and its permissions.
    Copy(PathBuf, u32),
    Text(Vec<u8>, u32),
}

/// Files by path. A path's parents come before it.
#[derive(Debug, Default)]
pub(super) struct Image {
    entries: BTreeMap<PathBuf, Entry>,
}

impl Image {
    /// Adds a directory, with the links that lead to it here; its path without them.
    pub(super) fn directory(&mut self, path: &Path) -> Result<PathBuf> {
        let Some(parent) = path.parent() else {
            return Ok("/".into());
        };
        let parent = self.directory(parent)?;
        let Some(name) = path.file_name() else {
            // It ends in `..`.
            return Ok(parent.parent().unwrap_or(&parent).to_owned());
        };
        let path = parent.join(name);
        if let Some(target) = link(&path)? {
            self.entries.insert(path, Entry::Link(target.clone()));
            return self.directory(&parent.join(target));
        }
        self.entries.insert(path.clone(), Entry::Directory);
        Ok(path)
    }

    /// Adds a file of this machine, with the links that lead to it.
    pub(super) fn file(&mut self, path: &Path) -> Result<()> {
        self.file_with(path, None)
    }

    /// The same, but with what is in another file.
    pub(super) fn file_with(&mut self, path: &Path, content: Option<&Path>) -> Result<()> {
        let place = self.place(path)?;
        if let Some(target) = link(&place)? {
            let next = place.parent().unwrap_or(Path::new("/")).join(&target);
            self.entries.insert(place, Entry::Link(target));
            return self.file_with(&next, content);
        }
        let metadata = fs::metadata(&place).with_context(|| place.display().to_string())?;
        let mode = metadata.permissions().mode() & 0o7777;
        let content = content.unwrap_or(&place).to_owned();
        self.entries.insert(place, Entry::Copy(content, mode));
        Ok(())
    }

    /// Adds a file that is not on this machine.
    pub(super) fn text(&mut self, path: &Path, text: impl Into<Vec<u8>>, mode: u32) -> Result<()> {
        let place = self.place(path)?;
        self.entries.insert(place, Entry::Text(text.into(), mode));
        Ok(())
    }

    /// Adds a symbolic link that is not on this machine.
    pub(super) fn link(&mut self, path: &Path, target: &Path) -> Result<()> {
        let place = self.place(path)?;
        self.entries.insert(place, Entry::Link(target.to_owned()));
        Ok(())
    }

    /// Adds a directory of this machine with all that is in it.
    pub(super) fn tree(&mut self, path: &Path) -> Result<()> {
        self.directory(path)?;
        for entry in fs::read_dir(path).with_context(|| path.display().to_string())? {
            let path = entry.with_context(|| path.display().to_string())?.path();
            if path.is_dir() {
                self.tree(&path)?;
            } else {
                self.file(&path)?;
            }
        }
        Ok(())
    }

    /// The path with all links to its directory followed, which is added.
    fn place(&mut self, path: &Path) -> Result<PathBuf> {
        let parent = self.directory(path.parent().unwrap_or(Path::new("/")))?;
        let name = path.file_name();
        Ok(parent.join(name.with_context(|| format!("{} names no file", path.display()))?))
    }

    /// Writes the archive.
    pub(super) fn write(&self, to: &Path) -> Result<()> {
        let file =
            fs::File::create(to).with_context(|| format!("cannot create {}", to.display()))?;
        let mut out = BufWriter::new(file);
        for (number, (path, entry)) in (1..).zip(&self.entries) {
            let name = path
                .strip_prefix("/")
                .ok()
                .and_then(Path::to_str)
                .with_context(|| format!("{} is no name for the archive", path.display()))?;
            let (kind, mode, content) = match entry {
                Entry::Directory => (ModeFileType::Directory, 0o755, Vec::new()),
                Entry::Link(target) => {
                    let target = target.as_os_str().as_bytes().to_vec();
                    (ModeFileType::Symlink, 0o777, target)
                }
                Entry::Copy(from, mode) => {
                    let content = fs::read(from).with_context(|| from.display().to_string())?;
                    (ModeFileType::Regular, *mode, content)
                }
                Entry::Text(text, mode) => (ModeFileType::Regular, *mode, text.clone()),
            };
            let size = u32::try_from(content.len())
                .with_context(|| format!("{} is too large for the archive", path.display()))?;
            let header = Builder::new(name)
                .ino(number)
                .mode(mode)
                .set_mode_file_type(kind);
            let mut writer = header.write(out, size);
            writer.write_all(&content)?;
            out = writer.finish()?;
        }
        trailer(out)?
            .flush()
            .with_context(|| to.display().to_string())
    }
}

/// Where a path leads, if it is a symbolic link here.
fn link(path: &Path) -> Result<Option<PathBuf>> {
    if !path.is_symlink() {
        return Ok(None);
    }
    let target = fs::read_link(path).with_context(|| path.display().to_string())?;
    Ok(Some(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_and_kept() -> Result<()> {
        let root = std::env::temp_dir().join(format!("ffitrace-image-{}", std::process::id()));
        let root = {
            fs::create_dir_all(root.join("usr/lib"))?;
            root.canonicalize()?
        };
        fs::write(root.join("usr/lib/libx.so.1.2"), "x")?;
        std::os::unix::fs::symlink("libx.so.1.2", root.join("usr/lib/libx.so.1"))?;
        std::os::unix::fs::symlink("usr/../usr/lib", root.join("lib"))?;

        let mut image = Image::default();
        image.file(&root.join("lib/libx.so.1"))?;
        image.text(&root.join("lib/new"), "text", 0o600)?;
        let entry = |path: &str| image.entries.get(&root.join(path));
        assert_eq!(entry("lib"), Some(&Entry::Link("usr/../usr/lib".into())));
        assert_eq!(entry("usr/lib"), Some(&Entry::Directory));
        assert_eq!(
            entry("usr/lib/libx.so.1"),
            Some(&Entry::Link("libx.so.1.2".into()))
        );
        assert!(matches!(
            entry("usr/lib/libx.so.1.2"),
            Some(Entry::Copy(..))
        ));
        assert!(matches!(entry("usr/lib/new"), Some(Entry::Text(_, 0o600))));

        let archive = root.join("archive");
        image.write(&archive)?;
        let mut reader = cpio::newc::Reader::new(fs::File::open(&archive)?)?;
        let mut last = String::new();
        while !reader.entry().is_trailer() {
            assert!(last.as_str() < reader.entry().name() || last.is_empty());
            last = reader.entry().name().to_owned();
            reader = cpio::newc::Reader::new(reader.finish()?)?;
        }
        assert!(last.ends_with("usr/lib/new"));
        fs::remove_dir_all(&root)?;
        Ok(())
    }
}
