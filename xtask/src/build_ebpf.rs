//! `cargo xtask build-ebpf`: from `tracer-ebpf/src` to `tracer-ebpf/object/ffitrace.bpf.o`.
//!
//! ```text
//!  toolchain (nightly with rust-src, or Debian's rustc-web)  ─┐
//!  bpf-linker                                                ─┴► cargo build ─► strip ─► object
//!                                                                              sources ─► hash
//! ```
//!
//! The users' toolchain is stable Rust, which cannot build for `bpfel-unknown-none`; that is why
//! the object is committed and this task exists.

mod strip;
mod toolchain;

#[path = "../../tracer-ebpf/source_hash.rs"]
mod source_hash;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// Options of `cargo xtask build-ebpf`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only compare the sources with the hash beside the object; build nothing.
    #[arg(long, conflicts_with_all = ["out", "install"])]
    check: bool,
    /// Write the object here, and leave the committed one and its hash alone.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Install what is missing, with apt-get and `cargo install`.
    #[arg(long)]
    install: bool,
    /// Which compiler to use.
    #[arg(long, value_enum, default_value_t = toolchain::Choice::Auto)]
    toolchain: toolchain::Choice,
}

/// The target that the programs are compiled for.
const TARGET: &str = "bpfel-unknown-none";

/// Runs the task.
pub(crate) fn run(args: &Args) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("xtask lies in no workspace")?;
    let package = root.join("tracer-ebpf");
    let committed = package.join("object/ffitrace.bpf.o");
    let hash_file = package.join("object/ffitrace.bpf.o.sources");
    let hash = source_hash::source_hash(&package)
        .with_context(|| format!("cannot hash the sources in {}", package.display()))?;

    if args.check {
        let recorded = fs::read_to_string(&hash_file).with_context(|| {
            format!(
                "no hash at {}: run `cargo xtask build-ebpf`",
                hash_file.display()
            )
        })?;
        ensure!(
            committed.exists(),
            "no object at {}: run `cargo xtask build-ebpf`",
            committed.display()
        );
        ensure!(
            recorded.trim() == hash,
            "the object was built from other sources: run `cargo xtask build-ebpf` and commit the result\n\
             sources {hash}\nobject  {}",
            recorded.trim()
        );
        println!("the object is up to date: sources {hash}");
        return Ok(());
    }

    let tools = toolchain::find(args.toolchain, args.install)?;
    let built = compile(root, &tools)?;
    let raw = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    let object = strip::strip(&raw).with_context(|| format!("cannot strip {}", built.display()))?;

    let out = args.out.as_ref().unwrap_or(&committed);
    if let Some(directory) = out.parent() {
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
    }
    fs::write(out, &object).with_context(|| format!("cannot write {}", out.display()))?;
    if args.out.is_none() {
        fs::write(&hash_file, format!("{hash}\n"))
            .with_context(|| format!("cannot write {}", hash_file.display()))?;
    }
    println!(
        "{}: {} bytes, from sources {hash}, by {}",
        out.display(),
        object.len(),
        tools.name
    );
    Ok(())
}

/// Compiles the programs, in a target directory of their own, and returns the linker's output.
fn compile(root: &Path, tools: &toolchain::Toolchain) -> Result<PathBuf> {
    let target_dir = match env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => root.join(directory).join("bpf"),
        None => root.join("target/bpf"),
    };
    let mut flags = vec![
        "-Clink-arg=--btf".to_owned(),
        "--cfg=bpf_target_arch=\"x86_64\"".to_owned(),
    ];
    // Paths end up in the object's type information; these make it the same on any machine. The
    // last one that fits a path applies.
    let homes = [
        (Some(tools.sysroot.clone()), "rust"),
        (cargo_home(), "cargo"),
    ];
    for (home, name) in homes
        .into_iter()
        .chain([(Some(root.to_owned()), "ffitrace")])
    {
        if let Some(home) = home {
            flags.push(format!("--remap-path-prefix={}={name}", home.display()));
        }
    }
    let mut command = Command::new(&tools.cargo);
    // What the outer cargo and rustup set speaks of the toolchain that runs this task.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG")
            || text.starts_with("RUSTC")
            || text.starts_with("RUSTUP_TOOLCHAIN")
        {
            command.env_remove(name);
        }
    }
    command
        .current_dir(root)
        .env("PATH", &tools.path)
        .env("RUSTC", &tools.rustc)
        // Only the Debian compiler, a stable one, needs it; a nightly does not mind.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", &target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        // The linker makes the BTF from it; `strip` removes the rest.
        .env("CARGO_PROFILE_RELEASE_DEBUG", "2")
        .args([
            "build",
            "--locked",
            "--release",
            "-Zbuild-std=core",
            "--target",
            TARGET,
        ])
        .args([
            "--package",
            "tracer-ebpf",
            "--bin",
            "ffitrace-ebpf",
            "--features",
            "bpf",
        ]);
    let status = command
        .status()
        .with_context(|| format!("cannot run {}", tools.cargo.display()))?;
    if !status.success() {
        bail!(
            "the eBPF programs do not build with {} ({status}). If the linker could not read the \
             compiler's bitcode, bpf-linker was built for an older LLVM: see `cargo xtask build-ebpf \
             --help` for another --toolchain",
            tools.name
        );
    }
    Ok(target_dir.join(TARGET).join("release/ffitrace-ebpf"))
}

/// Where cargo keeps downloaded sources.
fn cargo_home() -> Option<PathBuf> {
    env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")))
}

/// Whether the eBPF object could be rebuilt here.
///
/// # Errors
/// Says what is missing, and how to install it.
pub(crate) fn toolchain_present() -> Result<()> {
    toolchain::find(toolchain::Choice::Auto, false).map(|_| ())
}
