//! `cargo xtask bench`: runs `ffitrace bench` and writes what BENCHMARKS.md needs of it: the table,
//! the machine, the command, the day.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

/// Options.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Roughly how long to measure each recorder.
    #[arg(long, default_value_t = 20.0)]
    seconds: f64,
    /// Ask only the questions with TEXT in them; may be repeated.
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Write the Markdown to FILE instead of stdout.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Builds the program, runs it, and writes the fragment.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let package = ["--release", "-p", "interp-bridge", "--bin", "ffitrace"];
    let built = Command::new(&cargo).arg("build").args(package).status();
    if !built.context("cannot run cargo")?.success() {
        return Ok(ExitCode::FAILURE);
    }
    let mut words = vec!["bench".to_owned(), "--seconds".to_owned()];
    words.push(args.seconds.to_string());
    for only in &args.only {
        words.extend(["--only".to_owned(), only.clone()]);
    }
    // `cargo run` knows where the program is, and what is told on a terminal stays visible.
    let output = Command::new(&cargo)
        .args(["run", "--quiet"])
        .args(package)
        .arg("--")
        .args(&words)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        return Ok(ExitCode::FAILURE);
    }
    let table = String::from_utf8(output.stdout).context("what ffitrace printed")?;
    let text = fragment(&words, &Machine::look(), &date()?, &table);
    match &args.out {
        Some(path) => {
            fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        None => print!("{text}"),
    }
    Ok(ExitCode::SUCCESS)
}

/// What the figures depend on.
struct Machine {
    processor: String,
    cores: String,
    memory: String,
    kernel: String,
    rustc: String,
    root: bool,
}

impl Machine {
    /// Looks at this one. What cannot be found out is said to be unknown.
    fn look() -> Machine {
        let lscpu = said("lscpu", &[]);
        let field = |name: &str| {
            let line = lscpu.lines().find_map(|line| line.strip_prefix(name));
            line.map_or("?", |rest| rest.trim_start_matches(':').trim())
        };
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib = memory
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"))
            .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        Machine {
            processor: format!(
                "{} (family {}, model {})",
                field("Model name"),
                field("CPU family"),
                field("Model:")
            ),
            cores: std::thread::available_parallelism().map_or("?".to_owned(), |n| n.to_string()),
            memory: kib.map_or("?".to_owned(), |kib| {
                format!("{} GiB", (kib + (1 << 19)) >> 20)
            }),
            kernel: said("uname", &["-sr"]),
            rustc: said("rustc", &["--version"]),
            root: said("id", &["-u"]) == "0",
        }
    }
}

/// What a program prints, or a question mark.
fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).env("LC_ALL", "C").output();
    match output {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => "?".to_owned(),
    }
}

fn date() -> Result<String> {
    let date = said("date", &["-u", "+%Y-%m-%d"]);
    if date == "?" {
        bail!("`date` does not say what day it is");
    }
    Ok(date)
}

/// The Markdown.
fn fragment(words: &[String], machine: &Machine, date: &str, table: &str) -> String {
    let quoted: Vec<String> = words
        .iter()
        .map(|word| match word.contains(' ') {
            true => format!("'{word}'"),
            false => word.clone(),
        })
        .collect();
    let sudo = if machine.root { "sudo " } else { "" };
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "```sh\ncargo build --release --package interp-bridge\n\
         {sudo}target/release/ffitrace {}\n```\n\n\
         {date}; {}, {} processors, {}; {}; {}, release profile.\n\n\
         ```text\n{}\n```\n",
        quoted.join(" "),
        machine.processor,
        machine.cores,
        machine.memory,
        machine.kernel,
        machine.rustc,
        table.trim_end()
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fragment_has_all_that_figures_need() {
        let machine = Machine {
            processor: "A processor (family 1, model 2)".to_owned(),
            cores: "2".to_owned(),
            memory: "16 GiB".to_owned(),
            kernel: "Linux 6.18".to_owned(),
            rustc: "rustc 1.95.0".to_owned(),
            root: true,
        };
        let words = ["bench", "--only", "a call"].map(str::to_owned);
        let text = fragment(&words, &machine, "2026-01-02", "a call\n  none\n\n");
        assert_eq!(
            text,
            "```sh\ncargo build --release --package interp-bridge\n\
             sudo target/release/ffitrace bench --only 'a call'\n```\n\n\
             2026-01-02; A processor (family 1, model 2), 2 processors, 16 GiB; Linux 6.18; \
             rustc 1.95.0, release profile.\n\n```text\na call\n  none\n```\n"
        );
    }
}
