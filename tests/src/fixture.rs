//! The compiled C fixtures, and the marked lines in their sources.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// One of the shared libraries that `build.rs` makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lib {
    /// Everything but SIMD, `-O2 -g`.
    O2,
    /// The same sources, `-O0 -g`.
    O0,
    /// The same sources, `-O2`, without debug information and local symbols.
    Stripped,
    /// SSE, AVX and AVX-512.
    Simd,
    /// Imports an unwinder.
    Unwind,
    /// For `LD_PRELOAD`: has a signal handler.
    Preload,
    /// Linked to a dependency; has hidden and static functions.
    UsesDep,
    /// libc's string functions at many sizes.
    Sweep,
    /// The same, with musl's functions linked into the library.
    SweepMusl,
    /// Uses of the heap, right and wrong.
    Heap,
    /// The same in C++.
    HeapCpp,
    /// Hot loops, and what may happen in them.
    Hot,
    /// Exceptions out of hot loops.
    HotCpp,
    /// Linked to libcrypto.
    Crypto,
    /// Linked to libjpeg.
    Jpeg,
    /// Linked to liblz4.
    Lz4,
    /// Linked to libpng.
    Png,
    /// Linked to libsqlite3.
    Sqlite,
    /// Linked to libzstd.
    Zstd,
}

impl Lib {
    /// File name of the library.
    pub fn file_name(self) -> &'static str {
        match self {
            Lib::O2 => "libfx_o2.so",
            Lib::O0 => "libfx_o0.so",
            Lib::Stripped => "libfx_stripped.so",
            Lib::Simd => "libfx_simd.so",
            Lib::Unwind => "libfx_unwind.so",
            Lib::Preload => "libfx_preload.so",
            Lib::UsesDep => "libfx_uses_dep.so",
            Lib::Sweep => "libfx_sweep.so",
            Lib::SweepMusl => "libfx_sweep_musl.so",
            Lib::Heap => "libfx_heap.so",
            Lib::HeapCpp => "libfx_heap_cpp.so",
            Lib::Hot => "libfx_hot.so",
            Lib::HotCpp => "libfx_hot_cpp.so",
            Lib::Crypto => "libfx_crypto.so",
            Lib::Jpeg => "libfx_jpeg.so",
            Lib::Lz4 => "libfx_lz4.so",
            Lib::Png => "libfx_png.so",
            Lib::Sqlite => "libfx_sqlite.so",
            Lib::Zstd => "libfx_zstd.so",
        }
    }

    /// Where the build put it.
    pub fn path(self) -> PathBuf {
        Path::new(env!("FFITRACE_NATIVE_LIB")).join(self.file_name())
    }

    /// The path of a library that needs a package of its own.
    ///
    /// # Errors
    /// Says what the build lacked. A test passes that on: it must not pass for want of a library.
    pub fn built(self) -> Result<PathBuf> {
        let path = self.path();
        let missing = format!("{}.missing", path.display());
        match fs::read_to_string(&missing) {
            Ok(why) => bail!("{} was not built: {why}", self.file_name()),
            Err(_) => Ok(path),
        }
    }
}

/// The `file.c:line` of the comment `MARK: name` in the C sources.
///
/// # Errors
/// Fails unless exactly one line carries the mark.
pub fn marked_line(mark: &str) -> Result<String> {
    let dir = Path::new(env!("FFITRACE_NATIVE_SRC"));
    let wanted = format!("MARK: {mark} ");
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        for (index, line) in text.lines().enumerate() {
            if line.contains(&wanted) {
                found.push(format!("{name}:{}", index + 1));
            }
        }
    }
    match found.as_slice() {
        [one] => Ok(one.clone()),
        _ => bail!("the mark {mark:?} is on {} lines: {found:?}", found.len()),
    }
}
