//! Finds, or installs, a compiler and a linker for `bpfel-unknown-none`.
//!
//! Two compilers will do: rustup's nightly if it has the sources of `core`, else Debian's
//! `rustc-web` (a stable compiler packaged with those sources), for machines where the package
//! registries are all there is.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail, ensure};

use crate::apt;

/// Debian's packages for the compiler, and for the LLVM that bpf-linker is built on.
const DEBIAN_PACKAGES: [&str; 5] = [
    "rustc-web",
    "rust-web-src",
    "cargo-web",
    "llvm-22-dev",
    "libpolly-22-dev",
];

/// The linker's version that is known to work with these compilers.
const LINKER_VERSION: &str = "0.13.0";

/// Where Debian puts LLVM 22.
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";

/// Oldest compiler that the workspace's edition and dependencies allow.
const MIN_MINOR: u32 = 95;

/// Which compiler to use.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Choice {
    /// The nightly if it is usable, else Debian's.
    Auto,
    /// rustup's nightly, with its component rust-src.
    Nightly,
    /// Debian's packages rustc-web, rust-web-src and cargo-web.
    Debian,
}

/// Programs to build with.
pub(super) struct Toolchain {
    /// For people.
    pub(super) name: String,
    /// The compiler.
    pub(super) rustc: PathBuf,
    /// The cargo that goes with it.
    pub(super) cargo: PathBuf,
    /// Where the compiler and the sources of `core` lie.
    pub(super) sysroot: PathBuf,
    /// `PATH` on which bpf-linker is found.
    pub(super) path: OsString,
}

/// Finds what is needed, and installs what is missing if asked to.
pub(super) fn find(choice: Choice, install: bool) -> Result<Toolchain> {
    let mut compiler = find_compiler(choice);
    if compiler.is_err() && install && choice != Choice::Nightly {
        apt::install(&DEBIAN_PACKAGES)?;
        compiler = find_compiler(choice);
    }
    let (name, rustc, cargo, sysroot) = compiler?;

    let path = search_path();
    if !on_path("bpf-linker", &path) {
        if !install {
            bail!(
                "bpf-linker is missing. Install it with `cargo xtask build-ebpf --install`, or by \
                 hand:\n  {}\n  {}",
                apt_command(),
                linker_command()
            );
        }
        install_linker()?;
        ensure!(
            on_path("bpf-linker", &path),
            "bpf-linker was installed, but is not on PATH"
        );
    }
    Ok(Toolchain {
        name,
        rustc,
        cargo,
        sysroot,
        path,
    })
}

type Compiler = (String, PathBuf, PathBuf, PathBuf);

/// The compiler of choice, or why there is none and what would mend it.
fn find_compiler(choice: Choice) -> Result<Compiler> {
    let nightly = || nightly().map_err(|why| format!("rustup nightly: {why}"));
    let debian = || debian().map_err(|why| format!("Debian packages: {why}"));
    let found = match choice {
        Choice::Nightly => nightly(),
        Choice::Debian => debian(),
        Choice::Auto => {
            nightly().or_else(|first| debian().map_err(|second| format!("{first}\n  {second}")))
        }
    };
    found.map_err(|why| {
        anyhow::anyhow!(
            "no compiler for the eBPF target:\n  {why}\nOne of these mends it:\n  \
             cargo xtask build-ebpf --install\n  \
             rustup toolchain install nightly --component rust-src\n  {}",
            apt_command()
        )
    })
}

/// rustup's nightly.
fn nightly() -> Result<Compiler, String> {
    let which = |tool: &str| {
        output(Command::new("rustup").args(["which", "--toolchain", "nightly", tool]))
            .ok_or_else(|| "not installed".to_owned())
    };
    let (rustc, cargo) = (
        PathBuf::from(which("rustc")?),
        PathBuf::from(which("cargo")?),
    );
    let sysroot = sysroot_with_core(&rustc)?;
    Ok(("rustup nightly".to_owned(), rustc, cargo, sysroot))
}

/// Debian's rustc-web and cargo-web.
fn debian() -> Result<Compiler, String> {
    let (rustc, cargo) = (
        PathBuf::from("/usr/bin/rustc"),
        PathBuf::from("/usr/bin/cargo"),
    );
    for tool in [&rustc, &cargo] {
        if !tool.exists() {
            return Err(format!("there is no {}", tool.display()));
        }
    }
    let sysroot = sysroot_with_core(&rustc)?;
    let version = output(Command::new(&rustc).arg("--version")).unwrap_or_default();
    let minor = version
        .split('.')
        .nth(1)
        .and_then(|minor| minor.parse::<u32>().ok());
    match minor {
        Some(minor) if minor >= MIN_MINOR => Ok((version, rustc, cargo, sysroot)),
        _ => Err(format!(
            "{} is `{version}`; 1.{MIN_MINOR} is needed",
            rustc.display()
        )),
    }
}

/// The sysroot of a compiler, if the sources of `core` are in it.
fn sysroot_with_core(rustc: &Path) -> Result<PathBuf, String> {
    // The variable would make a rustup shim answer for another toolchain.
    let sysroot = output(
        Command::new(rustc)
            .args(["--print", "sysroot"])
            .env_remove("RUSTUP_TOOLCHAIN"),
    )
    .ok_or_else(|| format!("{} does not run", rustc.display()))?;
    let sysroot = PathBuf::from(sysroot);
    if sysroot
        .join("lib/rustlib/src/rust/library/core/Cargo.toml")
        .exists()
    {
        Ok(sysroot)
    } else {
        Err(format!(
            "{} lacks the sources of `core` (component rust-src)",
            sysroot.display()
        ))
    }
}

/// What a command prints, trimmed, if it runs and succeeds.
fn output(command: &mut Command) -> Option<String> {
    let output = command
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// `PATH`, with the directory that `cargo install` installs to.
fn search_path() -> OsString {
    let mut path = env::var_os("PATH").unwrap_or_default();
    if let Some(home) = super::cargo_home() {
        path.push(":");
        path.push(home.join("bin"));
    }
    path
}

fn on_path(program: &str, path: &OsStr) -> bool {
    env::split_paths(path).any(|directory| directory.join(program).is_file())
}

fn apt_command() -> String {
    format!(
        "apt-get install --yes --no-install-recommends {}",
        DEBIAN_PACKAGES.join(" ")
    )
}

fn linker_command() -> String {
    format!(
        "LLVM_PREFIX={LLVM_PREFIX} LLVM_SYS_221_PREFIX={LLVM_PREFIX} cargo install bpf-linker \
         --version {LINKER_VERSION} --locked --no-default-features --features llvm-22"
    )
}

/// Installs bpf-linker on Debian's LLVM, which is installed first where it is missing.
fn install_linker() -> Result<()> {
    if !Path::new(LLVM_PREFIX).exists() {
        apt::install(&DEBIAN_PACKAGES)?;
    }
    apt::run(Command::new("sh").args(["-c", &linker_command()]))
}
