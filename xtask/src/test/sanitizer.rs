//! Unit tests of the bridge under AddressSanitizer and LeakSanitizer.
//!
//! ```text
//!  runtime in the toolchain? ─► build apart ─► planted errors are reported? ─► the tests
//!           no: skipped                             no: failed
//! ```
//!
//! Only parts that install no signal handlers: the sanitizer has handlers of its own, and faults
//! on purpose are none of its business. What it checks is the heap and what `unsafe` does with it:
//! abstract memory, arena, shims, types, marshalling. The stable compiler has the
//! sanitizers behind `RUSTC_BOOTSTRAP=1`, which is for this build alone.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use super::command::{capture, cargo, run_captured, run_watched};
use super::outcome::{Counts, Tier};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Modules whose unit tests run: beginnings of their names.
const MODULES: &[&str] = &[
    "arena::",
    "binding::",
    "ffi::",
    "memory::",
    "prototype::",
    "shims::",
];

/// Modules whose unit tests run if they have any.
const OPTIONAL: &[&str] = &["callback::", "ctype::"];

/// Errors that are planted in the crate, and what the sanitizer has to say of each.
const PLANTED: &[(&str, &str)] = &[
    (
        "planted::overflow",
        "AddressSanitizer: heap-buffer-overflow",
    ),
    ("planted::leak", "LeakSanitizer: detected memory leaks"),
];

/// Runs the stage.
///
/// # Errors
/// Fails if a command cannot be started at all.
pub(super) fn run() -> Result<Tier> {
    if let Err(reason) = runtime() {
        return Ok(Tier::skipped(reason));
    }
    for (test, report) in PLANTED {
        let output = run_captured(sanitized(&["--exact", "--ignored", test]))?;
        if !output.contains(report) {
            println!("{output}");
            return Ok(Tier::failed(format!(
                "the error planted in `{test}` was not reported as `{report}`: either the tests \
                 cannot be built so, or the sanitizer does not look"
            )));
        }
    }
    let output = run_watched(&mut sanitized(&[MODULES, OPTIONAL].concat()))?;
    let missing = MODULES
        .iter()
        .find(|module| output.named(module) == Counts::default());
    Ok(match missing {
        Some(module) => Tier::failed(format!("no test of `{module}` ran")),
        None => output.tier(),
    })
}

/// Whether the toolchain has the sanitizer's runtime; if not, why the stage cannot run.
fn runtime() -> Result<(), String> {
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        return Err(format!("not on {TARGET}"));
    }
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let directory = capture(Command::new(rustc).args(["--print", "target-libdir"]))
        .ok_or("rustc does not say where its libraries are")?;
    let directory = PathBuf::from(directory.trim());
    let is_runtime = |name: String| name.starts_with("librustc") && name.ends_with("_rt.asan.a");
    let found = std::fs::read_dir(&directory)
        .map_err(|error| format!("{}: {error}", directory.display()))?
        .flatten()
        .any(|entry| is_runtime(entry.file_name().to_string_lossy().into_owned()));
    if found {
        Ok(())
    } else {
        Err("this toolchain has no AddressSanitizer runtime (rustup's for x86-64 Linux do)".into())
    }
}

/// The unit tests of the bridge, built with the sanitizer, with these arguments.
fn sanitized(arguments: &[&str]) -> Command {
    let mut command = cargo(["test", "-p", "interp-bridge", "--lib", "--target", TARGET]);
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
    command
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", "-Zsanitizer=address")
        // Its own: other flags would have everything built anew, every time.
        .env("CARGO_TARGET_DIR", target.join("sanitized"))
        // Its reports need lines, and nothing more; that is a good part of the time.
        .env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only")
        .env("ASAN_OPTIONS", "detect_leaks=1:halt_on_error=1")
        .arg("--")
        .args(arguments);
    command
}
