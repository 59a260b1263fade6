//! Compiles the C fixtures into shared libraries, as a user of a C compiler would.
//!
//! ```text
//! widths values strings … ──► libfx_o2.so        -O2 -g
//!                         ──► libfx_o0.so        -O0 -g
//!                         ──► libfx_stripped.so  -O2 -g, then only dynamic symbols
//! simd                    ──► libfx_simd.so      -O2 -g
//! unwind                  ──► libfx_unwind.so    -O2 -g
//! preload                 ──► libfx_preload.so   -O2 -g
//! dep, uses_dep           ──► libfx_dep.so, libfx_uses_dep.so (linked to it)
//! hot_flow, … hot_exceptions ──► libfx_hot.so, libfx_hot_cpp.so; hot_plugin ──► libfx_hot_{a,b}.so
//! heap, heap_cpp          ──► libfx_heap.so, libfx_heap_cpp.so (of the bridge's own tests)
//! sweep                   ──► libfx_sweep.so, libfx_sweep_musl.so (musl's functions inside)
//! lib_png, lib_lz4, …     ──► libfx_png.so, libfx_lz4.so, … (linked to the real library)
//! ```
//!
//! Those in the last two lines need packages of their own. What cannot be built is noted in
//! `<library>.missing`; the tests that want it fail with what that says.

use std::env;
use std::path::{Path, PathBuf};

const GENERAL: &[&str] = &[
    "agent",
    "atomics",
    "bad",
    "changing",
    "crash",
    "flow",
    "operands",
    "overread",
    "peers",
    "privileges",
    "processes",
    "repstr",
    "signals",
    "sort",
    "steps",
    "strings",
    "sys",
    "syscalls",
    "values",
    "widths",
];

/// Fixture, what to link it to, and the Debian package that has that.
const REAL: &[(&str, &str, &str)] = &[
    ("crypto", "-lcrypto", "libssl-dev"),
    ("jpeg", "-ljpeg", "libjpeg-dev"),
    ("lz4", "-llz4", "liblz4-dev"),
    ("png", "-lpng16", "libpng-dev"),
    ("sqlite", "-lsqlite3", "libsqlite3-dev"),
    ("zstd", "-lzstd", "libzstd-dev"),
];

fn main() {
    let native =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo")).join("native");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    println!("cargo:rerun-if-changed={}", native.display());
    println!("cargo:rustc-env=FFITRACE_NATIVE_SRC={}", native.display());
    println!("cargo:rustc-env=FFITRACE_NATIVE_LIB={}", out.display());
    // The tests of hot code write programs of their own.
    let compiler = cc::Build::new().no_default_flags(true).get_compiler();
    println!("cargo:rustc-env=FFITRACE_CC={}", compiler.path().display());

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
    shared(&out, "fx_preload", &sources(&["preload"]), &["-O2"], &[]);
    shared(&out, "fx_dep", &sources(&["dep"]), &["-O2"], &[]);
    let search = format!("-L{}", out.display());
    shared(
        &out,
        "fx_uses_dep",
        &sources(&["uses_dep"]),
        &["-O2"],
        &[&search, "-lfx_dep", "-Wl,-rpath,$ORIGIN"],
    );

    // Shared with the bridge's own tests.
    let heap = native.join("../../interp-bridge/tests/native_heap");
    println!("cargo:rerun-if-changed={}", heap.display());
    let plain = ["-O1", "-w", "-fvisibility=default"];
    shared(&out, "fx_heap", &[heap.join("heap.c")], &plain, &[]);
    let source = [heap.join("heap.cpp")];
    shared(&out, "fx_heap_cpp", &source, &plain, &["-lstdc++"]);

    let hot = sources(&["hot_crash", "hot_flow", "hot_signals"]);
    shared(&out, "fx_hot", &hot, &["-O2"], &["-ldl"]);
    let source = [native.join("hot_exceptions.cpp")];
    shared(&out, "fx_hot_cpp", &source, &["-O2"], &["-lstdc++"]);
    for (name, instruction) in [("fx_hot_a", "addl"), ("fx_hot_b", "xorl")] {
        let define = format!("-DPLUGIN=\"{instruction}\"");
        shared(
            &out,
            name,
            &sources(&["hot_plugin"]),
            &["-O2", &define],
            &[],
        );
    }

    let sweep = sources(&["sweep"]);
    shared(&out, "fx_sweep", &sweep, &["-O2", "-fno-builtin"], &[]);
    let copies = [
        "-L/usr/lib/x86_64-linux-musl",
        "-l:libc.a",
        "-Wl,--exclude-libs,ALL",
        "-Wl,-z,defs",
    ];
    let flags = ["-O2", "-fno-builtin", "-DMUSL", "-nostdlib"];
    optional(&out, "fx_sweep_musl", &sweep, &flags, &copies, "musl-dev");
    for (name, link, package) in REAL {
        let source = sources(&[&format!("lib_{name}")]);
        let name = format!("fx_{name}");
        optional(&out, &name, &source, &["-O2"], &[link], package);
    }
}

/// As [`shared`], where the C compiler may lack what `package` has.
fn optional(
    out: &Path,
    name: &str,
    sources: &[PathBuf],
    flags: &[&str],
    link: &[&str],
    package: &str,
) {
    let missing = out.join(format!("lib{name}.so.missing"));
    match compile(out, name, sources, flags, link) {
        Ok(()) => {
            // Not there, unless an earlier build failed.
            let _ = std::fs::remove_file(missing);
        }
        Err(text) => {
            println!("cargo:warning=lib{name}.so was not built: is {package} installed?");
            let text = format!("is the package {package} installed?\n{text}");
            std::fs::write(&missing, text).expect("OUT_DIR can be written to");
        }
    }
}

/// Compiles and links `lib<name>.so` in one go.
fn shared(out: &Path, name: &str, sources: &[PathBuf], flags: &[&str], link: &[&str]) {
    if let Err(text) = compile(out, name, sources, flags, link) {
        panic!("{text}");
    }
}

fn compile(
    out: &Path,
    name: &str,
    sources: &[PathBuf],
    flags: &[&str],
    link: &[&str],
) -> Result<(), String> {
    let compiler = cc::Build::new().no_default_flags(true).get_compiler();
    let mut command = compiler.to_command();
    let cpp = sources.iter().any(|source| {
        source
            .extension()
            .is_some_and(|extension| extension == "cpp")
    });
    let standard = if cpp { "-std=c++17" } else { "-std=gnu11" };
    command
        .args([
            "-g", "-fPIC", "-shared", "-pthread", standard, "-Wall", "-Wextra",
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
    if !output.status.success() {
        // Not the command as such, which comes with the whole environment.
        let program = command.get_program();
        let arguments: Vec<_> = command.get_args().collect();
        return Err(format!("{program:?} {arguments:?} failed:\n{text}"));
    }
    Ok(())
}
