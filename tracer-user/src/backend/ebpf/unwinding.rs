//! Whether a library's stack may be unwound.
//!
//! A return probe puts the kernel's own return address in the place of the function's. An unwinder
//! finds no entry for it and gives up: a C++ exception that passes the function's frame would end
//! the process (`std::terminate`). So a function is probed for its return only where nothing that
//! unwinds is about.

use std::path::Path;

use object::{Object, ObjectSymbol};

use crate::modules;

/// Beginnings of the names of C++ run-time libraries.
const RUNTIMES: [&str; 3] = ["libstdc++.", "libc++", "libunwind"];

/// Whether a C++ run time is loaded, or the library itself calls an unwinder. What cannot be read
/// counts as unwinding.
pub(super) fn may_unwind(library: &Path) -> bool {
    let Ok(mappings) = modules::mappings() else {
        return true;
    };
    mappings.iter().any(|mapping| is_runtime(&mapping.path)) || calls_unwinder(library)
}

fn is_runtime(path: &Path) -> bool {
    path.file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| RUNTIMES.iter().any(|runtime| name.starts_with(runtime)))
}

fn calls_unwinder(library: &Path) -> bool {
    let Ok(data) = std::fs::read(library) else {
        return true;
    };
    let Ok(file) = object::File::parse(&*data) else {
        return true;
    };
    file.dynamic_symbols()
        .filter(ObjectSymbol::is_undefined)
        .any(|symbol| {
            symbol
                .name()
                .is_ok_and(|name| name.starts_with("_Unwind_") || name.starts_with("backtrace"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_run_times_by_their_names() {
        assert!(is_runtime(Path::new("/usr/lib/libstdc++.so.6.0.30")));
        assert!(is_runtime(Path::new("/usr/lib/llvm/libc++abi.so.1")));
        assert!(!is_runtime(Path::new("/usr/lib/libc.so.6")));
        assert!(!is_runtime(Path::new("[stack]")));
    }

    #[test]
    fn what_cannot_be_read_counts_as_unwinding() {
        assert!(calls_unwinder(Path::new("/nonexistent/lib.so")));
    }

    #[test]
    fn this_program_unwinds() {
        assert!(calls_unwinder(Path::new("/proc/self/exe")));
    }
}
