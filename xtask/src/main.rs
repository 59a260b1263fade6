//! Development tasks of ffitrace: `cargo xtask <task>`.

mod apt;
mod bench;
mod build_ebpf;
mod oracle;
mod test;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Development tasks of ffitrace.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

/// What to do.
#[derive(Subcommand)]
enum Task {
    /// Measure what tracing costs, and write it down as BENCHMARKS.md has it.
    Bench(bench::Args),
    /// Build the eBPF object from source, and put it where the other packages embed it.
    BuildEbpf(build_ebpf::Args),
    /// Feed the decoder and the reader of records with whatever bytes there are.
    Fuzz(oracle::FuzzArgs),
    /// Have the processor judge the decoder and the resume engine, with random cases.
    Oracle(oracle::Args),
    /// Run every check and test that this machine can, and say what was left out.
    Test(test::Args),
    /// Run the tests that load eBPF programs on an older kernel, in a virtual machine.
    Vm(vm::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Bench(args) => bench::run(&args),
        Task::BuildEbpf(args) => build_ebpf::run(&args).map(|()| ExitCode::SUCCESS),
        Task::Fuzz(args) => oracle::fuzz(&args),
        Task::Oracle(args) => oracle::run(&args),
        Task::Test(args) => test::run(&args, build_ebpf::toolchain_present),
        Task::Vm(args) => vm::run(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
