// The hash of the sources that the committed eBPF object was built from.
//
// Included as a module by `tracer-user/build.rs`, which compares, and by
// `xtask/src/build_ebpf.rs`, which writes: there is one definition of "the same sources".

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// The SHA-256 of `Cargo.toml` and everything below `src` in `package`, as 64 hexadecimal digits.
///
/// It depends on relative paths, sorted, and on contents with Unix line ends, and on nothing of
/// the checkout: not on its place, its file times, or how git converts line ends.
pub(crate) fn source_hash(package: &Path) -> io::Result<String> {
    let mut files = vec![package.join("Cargo.toml")];
    collect(&package.join("src"), &mut files)?;
    let mut named = Vec::with_capacity(files.len());
    for file in files {
        let parts = file.strip_prefix(package).unwrap_or(&file).components();
        let name: Vec<_> = parts
            .map(|part| part.as_os_str().to_string_lossy())
            .collect();
        named.push((name.join("/"), file));
    }
    named.sort();

    let mut hash = Sha256::new();
    for (name, file) in named {
        let mut content = fs::read(&file)?;
        content.retain(|byte| *byte != b'\r');
        // Lengths make the boundaries between names and contents part of what is hashed.
        for piece in [name.as_bytes(), &content] {
            hash.update((piece.len() as u64).to_le_bytes());
            hash.update(piece);
        }
    }
    Ok(hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// Adds the Rust sources below `directory`. Editors leave other files there, which do not count.
fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}
