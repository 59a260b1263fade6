//! `cargo xtask vm`: the tests that load eBPF programs, on another kernel than this machine's.
//!
//! ```text
//!  qemu, kernel, busybox          packages.rs     installed or unpacked, or why not
//!  ─► test programs, fixtures     programs.rs     built as `cargo test` builds them
//!  ─► image of what they need     contents.rs     at the same paths as here
//!       └ libraries.rs, image.rs, init.sh
//!  ─► machine, with a time limit  machine.rs      its console, line by line
//!  ─► what the lines say          console.rs ─► tier
//! ```
//!
//! The kernel is Debian's 6.1: nearly the oldest that has what the programs use (5.15 is), and
//! without what newer ones brought. Each instruction is emulated, so that this works where hardware
//! virtualisation does not, as within another virtual machine, and nobody has to be root here.

mod console;
mod contents;
mod image;
mod libraries;
mod machine;
mod packages;
mod programs;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::test::command::{announce, workspace};
use crate::test::outcome::{Summary, Tier};
use crate::test::privileged::{TARGETS, Target};
use console::Console;
use contents::Purpose;
use packages::Lack;

/// The tier's name in the table of results.
pub(crate) const TIER: &str = "privileged: Linux 6.1 (VM)";

/// How long the machine may take. It takes a few minutes; a machine that is busy otherwise, longer.
const LIMIT_SECONDS: u64 = 1200;

/// Options of `cargo xtask vm`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Install the packages that are missing (qemu-system-x86, by apt). CI=true implies it.
    #[arg(long)]
    install: bool,
    /// Boot this kernel image (bzImage) instead of Debian's.
    #[arg(long, value_name = "PATH")]
    kernel: Option<PathBuf>,
    /// Run this test program only; may be repeated.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Open a shell in the machine instead of running the tests.
    #[arg(long)]
    shell: bool,
    /// Give up after this time.
    #[arg(long, value_name = "SECONDS", default_value_t = LIMIT_SECONDS)]
    limit: u64,
}

impl Args {
    /// Options for a part of `cargo xtask test`: the recorder itself, and a family of each kind of access. What is left to
    /// `cargo xtask vm` alone is what other kernels have no part in: crashes, output, scale.
    pub(crate) fn for_all_tests(install: bool) -> Args {
        let only = ["ebpf", "parity", "zlib", "violations"];
        Args {
            install,
            kernel: None,
            only: only.map(str::to_owned).to_vec(),
            shell: false,
            limit: LIMIT_SECONDS,
        }
    }
}

/// Runs the task.
///
/// # Errors
/// Fails if something cannot be built or started; a failed tier is in the exit code.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if args.shell {
        return shell(args);
    }
    let mut summary = Summary::default();
    let tier = tier(args, &mut summary)?;
    summary.add(TIER, tier);
    Ok(summary.print())
}

/// Runs the tests in the machine, and adds their numbers to the summary.
///
/// # Errors
/// As [`run`].
pub(crate) fn tier(args: &Args, summary: &mut Summary) -> Result<Tier> {
    let targets = targets(&args.only)?;
    let packages = match find_packages(args)? {
        Ok(packages) => packages,
        Err(tier) => return Ok(tier),
    };
    let image = contents::image(&cache()?, &packages, Purpose::Tests(&targets))?;
    let mut command = machine::command(&packages, &image);
    announce(&command)?;
    let mut console = Console::default();
    let limit = Duration::from_secs(args.limit);
    let ended = machine::watch(&mut command, limit, |at, line| console.line(at, line))?;
    for output in console.outputs() {
        summary.take_counts(output);
    }
    let names: Vec<&str> = targets.iter().map(|target| target.name).collect();
    Ok(console.tier(&names, ended))
}

/// Opens a shell in the machine.
fn shell(args: &Args) -> Result<ExitCode> {
    let targets = targets(&args.only)?;
    let packages = match find_packages(args)? {
        Ok(packages) => packages,
        Err(tier) => bail!("{}", tier.detail),
    };
    let image = contents::image(&cache()?, &packages, Purpose::Shell(&targets))?;
    let mut command = machine::command(&packages, &image);
    announce(&command)?;
    let status = command.status().context("cannot run qemu")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The test programs of these names, or all.
fn targets(only: &[String]) -> Result<Vec<&'static Target>> {
    if let Some(unknown) = only
        .iter()
        .find(|name| TARGETS.iter().all(|target| target.name != **name))
    {
        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        bail!(
            "--only {unknown}: there are {} (xtask/src/test/privileged.rs lists them)",
            names.join(", ")
        );
    }
    let chosen = |target: &&Target| only.is_empty() || only.iter().any(|name| name == target.name);
    Ok(TARGETS.iter().filter(chosen).collect())
}

/// What the machine is made of; or the tier, if that cannot be had.
fn find_packages(args: &Args) -> Result<Result<packages::Packages, Tier>> {
    let install = args.install || crate::test::in_ci();
    let found = packages::find(&cache()?, args.kernel.as_deref(), install)?;
    Ok(found.map_err(|lack| match lack {
        // What may be installed has to be there.
        Lack::Missing(reason) if install => Tier::failed(reason),
        Lack::Missing(reason) | Lack::Unknown(reason) => Tier::skipped(reason),
    }))
}

/// Where what was unpacked and what is made for the machine lies.
fn cache() -> Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
    let cache = workspace().join(target).join("vm");
    std::fs::create_dir_all(&cache)
        .with_context(|| format!("cannot create {}", cache.display()))?;
    Ok(cache)
}
