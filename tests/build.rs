//! Compiles the C fixtures into shared libraries, as a user of a C compiler would.
//!
//! ```text
//! widths values strings … ──► libfx_o2.so        -O2 -g
//!                         ──► libfx_o0.so        -O0 -g
//!                         ──► libfx_stripped.so  -O2 -g, then only dynamic symbols
//! simd                    ──► libfx_simd.so      -O2 -g
//! unwind                  ──► libfx_unwind.so    -O2 -g
//! dep, uses_dep           ──► libfx_dep.so, libfx_uses_dep.so (linked to it)
//! ```

use std::env;
use std::path::{Path, PathBuf};

const GENERAL: &[&str] = &[
    "atomics",
    "bad",
    "crash",
    "flow",
    "operands",
    "processes",
    "repstr",
    "strings",
    "sys",
    "values",
    "widths",
];

fn main() {
    let native =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo")).join("native");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    println!("cargo:rerun-if-changed={}", native.display());
    println!("cargo:rustc-env=FFITRACE_NATIVE_SRC={}", native.display());
    println!("cargo:rustc-env=FFITRACE_NATIVE_LIB={}", out.display());

    let sources = |names: &[&str]| -> Vec<PathBuf> {
        names
            .iter()
            .map(|name| native.join(name).with_extension("c"))
            .collect()
    };
    shared(&out, "fx_o2", &sources(GENERAL), &["-O2"], &[]);
    shared(&out, "fx_o0", &sources(GENERAL), &["-O0"], &[]);
    shared(
        &out,
        "fx_stripped",
        &sources(GENERAL),
        &["-O2"],
        &["-Wl,--strip-all"],
    );
    shared(&out, "fx_simd", &sources(&["simd"]), &["-O2"], &[]);
    shared(&out, "fx_unwind", &sources(&["unwind"]), &["-O2"], &[]);
    shared(&out, "fx_dep", &sources(&["dep"]), &["-O2"], &[]);
    let search = format!("-L{}", out.display());
    shared(
        &out,
        "fx_uses_dep",
        &sources(&["uses_dep"]),
        &["-O2"],
        &[&search, "-lfx_dep", "-Wl,-rpath,$ORIGIN"],
    );
}

/// Compiles and links `lib<name>.so` in one go.
fn shared(out: &Path, name: &str, sources: &[PathBuf], flags: &[&str], link: &[&str]) {
    let compiler = cc::Build::new().no_default_flags(true).get_compiler();
    let mut command = compiler.to_command();
    command
        .args([
            "-g",
            "-fPIC",
            "-shared",
            "-pthread",
            "-std=gnu11",
            "-Wall",
            "-Wextra",
        ])
        // Bad accesses and endless recursion are what the fixtures are for.
        .args([
            "-Wno-infinite-recursion",
            "-Wno-unknown-warning-option",
            "-Wno-null-dereference",
            "-Wno-array-bounds",
        ])
        .arg("-fvisibility=hidden")
        .arg(format!("-Wl,-soname,lib{name}.so"))
        .args(flags)
        .args(sources)
        .arg("-o")
        .arg(out.join(format!("lib{name}.so")))
        .args(link);
    let output = command.output().unwrap_or_else(|error| {
        panic!("cannot run the C compiler {command:?}: {error}; install gcc or clang, or set CC")
    });
    let text = String::from_utf8_lossy(&output.stderr);
    for line in text.lines().filter(|line| line.contains("warning:")) {
        println!("cargo:warning={line}");
    }
    assert!(output.status.success(), "{command:?} failed:\n{text}");
}
