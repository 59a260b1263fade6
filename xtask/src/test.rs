//! `cargo xtask test`: everything that a change has to pass, in the order of its cost.
//!
//! ```text
//!  format ─► clippy ─► docs ─► eBPF object: hash, rebuilt from source
//!         ─► tests (unit, parity, crash, privileged) with the committed object
//!         ─► unit tests of the bridge under a sanitizer
//!         ─► privileged tests again: with the rebuilt one, on an older kernel ─► summary
//! ```
//!
//! A tier that cannot run here is *skipped* with its reason. As root on a kernel with BPF nothing
//! excuses the eBPF tests: a skip is then a failure.

pub(crate) mod command;
pub(crate) mod outcome;
pub(crate) mod privileged;
mod sanitizer;

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result};

use crate::apt::is_root;
use crate::vm;
use command::{cargo, run_visibly, run_watched};
use outcome::{State, Summary, Tier};

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Install the toolchain that rebuilds the eBPF object, if it is missing. CI=true implies it.
    #[arg(long)]
    install: bool,
    /// Leave out the rebuilding of the eBPF object.
    #[arg(long, conflicts_with = "install")]
    no_rebuild: bool,
    /// Run the unit tests under the sanitizer, and nothing else.
    #[arg(long)]
    only_sanitizer: bool,
}

/// Environment variable that names the eBPF object to load instead of the embedded one.
const OBJECT_VARIABLE: &str = "FFITRACE_BPF_OBJECT";

/// Runs the task. `toolchain` says what the rebuilding of the eBPF object lacks here, if anything.
///
/// # Errors
/// Fails if a command cannot be started at all; a failed tier is in the exit code.
pub(crate) fn run(args: &Args, toolchain: impl Fn() -> Result<()>) -> Result<ExitCode> {
    let mut summary = Summary::default();
    if args.only_sanitizer {
        summary.add("sanitizer", sanitizer::run()?);
        return Ok(summary.print());
    }
    let install = args.install || (in_ci() && !args.no_rebuild);

    summary.add("format", plain(cargo(["fmt", "--all", "--check"]))?);
    let clippy = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    summary.add("clippy", plain(cargo(clippy))?);
    let mut doc = cargo(["doc", "--workspace", "--no-deps"]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    summary.add("docs", plain(doc)?);

    let own = std::env::current_exe().context("own path")?;
    let mut check = std::process::Command::new(&own);
    check.args(["build-ebpf", "--check"]);
    summary.add("eBPF object: hash", plain(check)?);

    let scratch = std::env::temp_dir().join(format!("ffitrace-xtask-{}", std::process::id()));
    let object = scratch.join("ffitrace.bpf.o");
    let rebuilt = rebuild(args, install, toolchain, &own, &object)?;
    let have_object = rebuilt.state == State::Passed;
    summary.add("eBPF object: from source", rebuilt);

    let program = program(&own)?;
    let output = run_watched(&mut tests_with(program.as_deref()))?;
    let privileged = privileged::tier(&output);
    summary.add("tests", output.tier());
    summary.add("privileged: committed object", privileged);
    summary.take_counts(&output);

    summary.add("sanitizer", sanitizer::run()?);

    if have_object && same_as_committed(&object) {
        let what = "byte for byte the committed one, which ran above".to_owned();
        summary.add("privileged: rebuilt object", Tier::passed(what));
    } else if have_object {
        let tier = privileged::again(&object, program.as_deref(), &mut summary)?;
        summary.add("privileged: rebuilt object", tier);
    } else {
        let reason = "there is no rebuilt object".to_owned();
        summary.add("privileged: rebuilt object", Tier::skipped(reason));
    }

    let options = vm::Args::for_all_tests(args.install || in_ci());
    let tier = vm::tier(&options, &mut summary)?;
    summary.add(vm::TIER, tier);

    // Only our own directory; nothing depends on its removal.
    let _ = std::fs::remove_dir_all(&scratch);

    if !is_root() {
        summary.advise(format!(
            "The eBPF tests need root. Run them with:\n  \
             cargo fetch && sudo -E env \"PATH=$PATH\" CARGO_TARGET_DIR=target/root {}",
            if install {
                "cargo xtask test --install"
            } else {
                "cargo xtask test"
            }
        ));
    }
    Ok(summary.print())
}

/// Builds the tests of the workspace, and says where the program is that is built with them, in the
/// directory that this one is in. Each test would build it apart otherwise, with other features of its
/// libraries, and that takes as long again.
fn program(own: &Path) -> Result<Option<PathBuf>> {
    let built = run_visibly(&mut cargo(["test", "--workspace", "--no-run"]))?;
    let program = own.with_file_name("ffitrace");
    Ok((built && program.is_file()).then_some(program))
}

/// Tests of the workspace that run this program.
fn tests_with(program: Option<&Path>) -> Command {
    let mut tests = cargo(["test", "--workspace", "--no-fail-fast"]);
    if let Some(program) = program {
        tests.env("FFITRACE_BIN", program);
    }
    tests
}

/// Whether an object is the one that the program has embedded.
fn same_as_committed(object: &Path) -> bool {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = package.join("../tracer-ebpf/object/ffitrace.bpf.o");
    match (std::fs::read(object), std::fs::read(committed)) {
        (Ok(rebuilt), Ok(committed)) => rebuilt == committed,
        _ => false,
    }
}

/// A command that passes or fails.
fn plain(mut command: std::process::Command) -> Result<Tier> {
    Ok(if run_visibly(&mut command)? {
        Tier::passed(String::new())
    } else {
        Tier::failed(format!("{command:?}"))
    })
}

fn rebuild(
    args: &Args,
    install: bool,
    toolchain: impl Fn() -> Result<()>,
    own: &std::path::Path,
    object: &std::path::Path,
) -> Result<Tier> {
    if args.no_rebuild {
        return Ok(Tier::skipped("--no-rebuild".into()));
    }
    if let (false, Err(why)) = (install, toolchain()) {
        let why = why.to_string();
        let first = why.lines().next().unwrap_or_default();
        return Ok(Tier::skipped(format!(
            "{first} (--install gets what is missing)"
        )));
    }
    if let Some(directory) = object.parent() {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
    }
    let mut build = std::process::Command::new(own);
    build.arg("build-ebpf").arg("--out").arg(object);
    if install {
        build.arg("--install");
    }
    plain(build)
}

/// Whether this is a machine that may be given what it lacks.
pub(crate) fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| !["", "0", "false"].contains(&value.as_str()))
}
