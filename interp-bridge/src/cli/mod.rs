//! The command line: arguments in, report and exit status out.
//!
//! ```text
//!  args.rs ──► call.rs: prototype ► plan ► engine.open ► load ► engine.run ──► report
//!          └─► bench and doctor: a hook does the work, report/ shows it
//! ```
//!
//! Everything that the user can get wrong is checked before the engine is opened, so that wrong
//! usage (exit 2) is told even where the recorder that was asked for is not to be had (exit 3).

mod agent;
mod args;
mod call;
mod child;
pub mod engine;
mod event_log;
mod exit;
mod failure;
mod heap;
mod hooks;
pub mod keeper;
mod long_calls;
mod naming;
mod output;
mod progress;
mod repl;
mod run;
mod session;
mod tracing;
pub mod watch;

#[cfg(test)]
mod tests;

use std::ffi::OsString;

use clap::Parser;

pub use args::{BackendChoice, Format};
pub use engine::{
    AllocationOutcome, CallOutcome, CallRequest, Engine, EngineError, EngineOptions, Need,
};
pub use exit::Exit;
pub use hooks::{bench as run_benches, doctor as look_at_host};
pub use progress::Progress;
pub use tracing::Tracing;

use crate::bench;
use crate::report::bench::{BenchReport, write_text as write_bench};
use crate::report::doctor::DoctorReport;
use crate::report::{Theme, doctor, json};
use failure::Failure;
use output::Output;

/// What does the work behind the commands.
pub struct Hooks<'h> {
    /// `call`.
    pub engine: &'h mut dyn Engine,
    /// `bench`.
    pub bench: &'h mut dyn FnMut(&bench::Options) -> Result<BenchReport, EngineError>,
    /// `doctor`.
    pub doctor: &'h mut dyn FnMut() -> DoctorReport,
}

/// Runs the command line `arguments`, the program's name first. All output is written before it
/// returns.
pub fn run(arguments: impl IntoIterator<Item = OsString>, hooks: Hooks<'_>) -> Exit {
    log_as_asked();
    let arguments = match args::Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    let done = match arguments.command {
        args::Command::Call(call) => call::run(&call, hooks.engine),
        args::Command::Run(options) => session::run(&options),
        args::Command::Repl(options) => repl::run(&options),
        args::Command::Bench(options) => run_bench(&options, hooks.bench),
        args::Command::BenchWork(options) => run_bench_work(&options),
        args::Command::Agent(options) => agent::run(&options),
        args::Command::Doctor(options) => run_doctor(&options, hooks.doctor),
    };
    done.unwrap_or_else(|failure| {
        failure.tell();
        Exit::status(failure.status)
    })
}

fn run_bench(
    options: &args::BenchArguments,
    work: &mut dyn FnMut(&bench::Options) -> Result<BenchReport, EngineError>,
) -> Result<Exit, Failure> {
    for text in &options.only {
        if bench::questions(std::slice::from_ref(text)).is_empty() {
            return Err(Failure::usage(
                format!("--only {text}: no question has that in it"),
                "ffitrace bench --list shows the questions",
            ));
        }
    }
    let questions = bench::questions(&options.only);
    let mut output = Output::take(options.format);
    if options.list {
        output.write(|out, _| match options.format {
            Format::Json => json::write(out, &questions),
            Format::Text => questions.iter().try_for_each(|q| writeln!(out, "{q}")),
        })?;
        return Ok(Exit::status(0));
    }
    let report = work(&bench::Options {
        seconds: options.seconds,
        only: options.only.clone(),
        program: std::env::current_exe().ok(),
    })?;
    output.write(|out, theme| match options.format {
        Format::Json => json::write(out, &report),
        Format::Text => write_bench(out, &report, theme),
    })?;
    Ok(Exit::status(0))
}

/// What `bench` has a process of its own do.
fn run_bench_work(options: &args::BenchWorkArguments) -> Result<Exit, Failure> {
    let (count, number) = bench::child::run(options.work, options.amount)
        .map_err(|error| Failure::environment(format!("{}: {error}", options.work), ""))?;
    Output::take(Format::Text).write(|out, _| writeln!(out, "{count} {number}"))?;
    Ok(Exit::status(0))
}

fn run_doctor(
    options: &args::DoctorArguments,
    look: &mut dyn FnMut() -> DoctorReport,
) -> Result<Exit, Failure> {
    let report = look();
    let mut output = Output::take(options.format);
    output.write(|out, theme| match options.format {
        Format::Json => json::write(out, &report),
        Format::Text => doctor::write_text(out, &report, theme),
    })?;
    let all_there = report.auto.as_deref() == Some("ebpf");
    Ok(Exit::status(if all_there { 0 } else { 3 }))
}

/// Shows clap's message: help and version on stdout, the rest in our form on stderr.
fn usage(error: &clap::Error) -> Exit {
    if !error.use_stderr() {
        // A reader that has gone away has seen enough.
        let _ = error.print();
        return Exit::status(0);
    }
    let text = error.render().to_string();
    let (what, rest) = text.split_once('\n').unwrap_or((&text, ""));
    let what = what.strip_prefix("error: ").unwrap_or(what);
    let is_missing_command =
        error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if is_missing_command {
        Failure::usage(
            "no command",
            "usage: ffitrace call, run, repl, bench, doctor or agent; ffitrace --help shows more",
        )
        .tell();
        return Exit::status(2);
    }
    let rest: Vec<&str> = rest
        .lines()
        .map(str::trim_end)
        .filter(|l| !l.is_empty())
        .collect();
    let listed = rest.iter().take_while(|l| l.starts_with("  "));
    let mut message = what.to_owned();
    for line in listed.filter(|l| !l.trim_start().starts_with("tip:")) {
        message.push('\n');
        message.push_str(line);
    }
    let tips = rest
        .iter()
        .filter_map(|l| l.trim_start().strip_prefix("tip: "));
    // A slip is likelier than an argument that only looks like an option.
    let tip = tips.into_iter().find(|tip| !tip.starts_with("to pass"));
    let usage = rest.iter().find_map(|l| l.strip_prefix("Usage: "));
    let help = tip
        .map(str::to_owned)
        .or_else(|| usage.map(|u| format!("usage: {u}")));
    let help = help.unwrap_or_else(|| "ffitrace --help shows what there is".into());
    Failure::usage(message, help).tell();
    Exit::status(2)
}

/// Sends diagnostic events to stderr if `FFITRACE_LOG` says which.
fn log_as_asked() {
    use tracing_subscriber::EnvFilter;
    if let Ok(filter) = EnvFilter::try_from_env("FFITRACE_LOG") {
        let log = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr);
        // A second call in one process (tests) keeps the first subscriber.
        let _ = log.try_init();
    }
}

/// The theme for stderr.
fn stderr_theme() -> Theme {
    Theme::of(&std::io::stderr())
}
