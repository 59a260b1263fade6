//! `cargo xtask oracle` and `cargo xtask fuzz`: the machine tests with random cases, for as long
//! as is wanted.

use std::process::{Command, ExitCode};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

/// Options of `oracle`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long to run, in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Seed of the random cases; the clock by default.
    #[arg(long)]
    seed: Option<u64>,
    /// Only forms whose name in iced's tables contains this.
    #[arg(long, default_value = "")]
    form: String,
    /// Judge this case only, as a mismatch prints it.
    #[arg(long)]
    case: Option<String>,
    /// Recorder of the traced cases: inproc, ptrace or, as root, ebpf.
    #[arg(long, default_value = "inproc")]
    backend: String,
}

/// Options of `fuzz`.
#[derive(clap::Args)]
pub(crate) struct FuzzArgs {
    /// How long to run, in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Seed of the random inputs; the clock by default.
    #[arg(long)]
    seed: Option<u64>,
    /// Try this input only, as a panic prints it.
    #[arg(long)]
    input: Option<String>,
}

/// Runs the oracle.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let mut words = ["--form", &args.form, "--backend", &args.backend]
        .map(str::to_owned)
        .to_vec();
    if let Some(case) = &args.case {
        words.extend(["--case".to_owned(), case.clone()]);
    }
    machine(&["--release"], args.seconds, args.seed, &words)
}

/// Runs the fuzzer. Not optimised, because that build checks arithmetic for overflow.
pub(crate) fn fuzz(args: &FuzzArgs) -> Result<ExitCode> {
    let mut words = vec!["--part".to_owned(), "fuzz".to_owned()];
    if let Some(input) = &args.input {
        words.extend(["--input".to_owned(), input.clone()]);
    }
    machine(&[], args.seconds, args.seed, &words)
}

/// Builds the machine tests and runs them with these words.
fn machine(build: &[&str], seconds: u64, seed: Option<u64>, words: &[String]) -> Result<ExitCode> {
    let clock = || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.map_or(1, |now| now.as_secs())
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .arg("test")
        .args(build)
        .args(["-p", "tracer-user", "--test", "machine", "--", "--oracle"])
        .args(["--seconds", &seconds.to_string()])
        .args(["--seed", &seed.unwrap_or_else(clock).to_string()])
        .args(words)
        .status()
        .context("cannot run cargo")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
