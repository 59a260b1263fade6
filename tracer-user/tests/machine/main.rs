//! The processor judges the decoder and the resume engine: the oracle.
//!
//! ```text
//!  forms ─► operands, generate ─► case ─► claim: what the product says of it
//!   (iced's tables)  (random, at the edges of pages)   │
//!                      hardware, world ─► judge: the account · copies: displaced copies
//!                       (guard pages)     traced: the same cases through the real engine
//! ```
//! As a test it runs a fixed seed and the regressions. With `--oracle` it runs for a while:
//!
//! ```text
//!  cargo xtask oracle [--seconds N] [--seed S] [--form NAME] [--case 'LINE'] [--backend NAME]
//! ```
//! Each part is a process of its own, since it takes over the process's signals. `--part fuzz` is
//! the fuzzer, `cargo xtask fuzz [--seconds N] [--seed S] [--input HEX]`.

mod addressing;
mod case;
mod claim;
mod copies;
mod forms;
mod fuzz;
mod generate;
mod hardware;
mod judge;
mod operands;
mod oracle;
mod random;
mod thread_state;
mod traced;
mod world;

use std::process::{Command, ExitCode};
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};

use case::Case;
use forms::Forms;
use judge::Verdict;
use oracle::{Extent, Oracle, Part};
use tracer_user::backend::Backend;

/// Seconds that one process traces random cases for: each has an instruction of its own, and the
/// engine's area for copies is meant for those of a program.
const TRACED_SECONDS: u64 = 30;

/// Every case that was ever wrong.
const REGRESSIONS: &str = include_str!("../data/oracle.txt");

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).peekable();
    if words.next_if(|word| word == "--oracle").is_none() {
        return tests();
    }
    let mut options = Options::default();
    while let Some(word) = words.next() {
        if let Err(error) = options.take(&word, words.next()) {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    }
    if options.run() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The fixed runs of the test suite, each in a process of its own.
fn tests() -> ExitCode {
    let arguments = Arguments::from_args();
    let trial = |name: &str, words: &'static [&'static str]| {
        Trial::test(name, move || again(words).map_err(Failed::from))
    };
    let trials = vec![
        trial("oracle::accounts", &["--part", "accounts", "--passes", "4"]),
        trial("oracle::traced", &["--part", "traced"]),
        trial(
            "oracle::traced_ptrace",
            &["--part", "traced", "--backend", "ptrace"],
        ),
        trial(
            "oracle::traced_ebpf",
            &["--part", "traced", "--backend", "ebpf"],
        )
        .with_kind("root")
        .with_ignored_flag(!rustix::process::geteuid().is_root()),
        trial("oracle::regressions", &["--part", "regressions"]),
        trial(
            "oracle::regressions_traced",
            &["--part", "regressions traced"],
        ),
        trial(
            "oracle::regressions_ptrace",
            &["--part", "regressions traced", "--backend", "ptrace"],
        ),
        trial("fuzz", &["--part", "fuzz", "--passes", "10000"]),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Runs this program with `--oracle` and `words`; what it printed, if it fails.
fn again(words: &[&str]) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new(program)
        .arg("--oracle")
        .args(words)
        .output()
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{}\n{text}{errors}", output.status))
}

/// What `--oracle` is to do.
struct Options {
    part: Option<String>,
    extent: Extent,
    seed: u64,
    form: String,
    case: Option<String>,
    input: Option<String>,
    backend: Backend,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            part: None,
            extent: Extent {
                passes: 1,
                time: Duration::ZERO,
            },
            seed: 1,
            form: String::new(),
            case: None,
            input: None,
            backend: Backend::Inproc,
        }
    }
}

impl Options {
    fn take(&mut self, name: &str, value: Option<String>) -> Result<(), String> {
        let value = value.ok_or_else(|| format!("{name} wants a value"))?;
        let number = || {
            value
                .parse::<u64>()
                .map_err(|_| format!("{name} {value}: no number"))
        };
        match name {
            "--part" => self.part = Some(value),
            "--passes" => self.extent.passes = number()? as u32,
            "--seconds" => self.extent.time = Duration::from_secs(number()?),
            "--seed" => self.seed = number()?,
            "--form" => self.form = value,
            "--case" => self.case = Some(value),
            "--backend" => {
                let known = [Backend::Inproc, Backend::Ebpf, Backend::Ptrace];
                let found = known.into_iter().find(|it| it.to_string() == value);
                self.backend = found.ok_or_else(|| format!("{value} is no recorder"))?;
            }
            "--input" => self.input = Some(value),
            _ => return Err(format!("{name} is no option")),
        }
        Ok(())
    }

    /// True if all is well.
    fn run(&self) -> bool {
        match (self.part.as_deref(), &self.case) {
            (Some("accounts"), None) => self.run_part(Part::Accounts),
            (Some("traced"), None) => self.run_part(Part::Traced(self.backend)),
            (Some("fuzz"), None) => self.fuzz(),
            (Some("regressions"), None) => replay(Part::Accounts, REGRESSIONS),
            (Some("regressions traced"), None) => replay(Part::Traced(self.backend), REGRESSIONS),
            (None | Some("accounts"), Some(line)) => replay(Part::Accounts, line),
            (Some("traced"), Some(line)) => replay(Part::Traced(self.backend), line),
            (None, None) => self.run_all(),
            (Some(part), _) => {
                eprintln!("error: {part} is no part");
                false
            }
        }
    }

    fn fuzz(&self) -> bool {
        match &self.input {
            Some(input) => fuzz::replay(input) == Ok(true),
            None => {
                let extent = fuzz::Extent {
                    inputs: u64::from(self.extent.passes),
                    time: self.extent.time,
                };
                fuzz::run(extent, self.seed)
            }
        }
    }

    fn run_part(&self, part: Part) -> bool {
        let forms = Forms::of_this_machine();
        let tally = Oracle::new(part).run(&forms, self.extent, self.seed, &self.form);
        tally.report(part, &forms, part == Part::Accounts && self.form.is_empty())
    }

    /// Two thirds of the time for accounts, one for traced cases. Those take turns of
    /// [`TRACED_SECONDS`], each with the seed after the last one's.
    fn run_all(&self) -> bool {
        let seconds = self.extent.time.as_secs();
        println!("seed {}", self.seed);
        let traced = seconds / 3;
        let turns = traced.div_ceil(TRACED_SECONDS).max(1);
        let mut parts = vec![("accounts", seconds - traced, self.seed)];
        parts.extend((0..turns).map(|turn| {
            let seed = self.seed.wrapping_add(turn);
            ("traced", traced / turns, seed)
        }));
        let mut well = true;
        for (part, seconds, seed) in parts {
            let program = std::env::current_exe().expect("the path of this program");
            let (seconds, seed) = (seconds.to_string(), seed.to_string());
            let words = [
                "--oracle",
                "--part",
                part,
                "--seconds",
                &seconds,
                "--seed",
                &seed,
            ];
            let status = Command::new(program)
                .args(words)
                .args(["--form", &self.form, "--backend", self.backend.name()])
                .status();
            let status = status.expect("this program can be run");
            if !status.success() {
                println!("{part}: {status}");
                well = false;
            }
        }
        well
    }
}

/// Whether this processor has what a case of the table says that it needs.
fn has(need: &str) -> bool {
    let leaf = |leaf| std::arch::x86_64::__cpuid_count(leaf, 0);
    match need {
        // Where the makers' processors differ, only what Intel's do is known.
        "intel" => leaf(0).ebx.to_le_bytes() == *b"Genu",
        // AMX-TILE (Intel SDM volume 2, CPUID).
        "amx" => leaf(0).eax >= 7 && leaf(7).edx & 1 << 24 != 0,
        "avx512" => std::arch::is_x86_feature_detected!("avx512f"),
        _ => panic!("`needs={need}` is not understood"),
    }
}

/// Judges the cases of a table, one a line. Cases that this processor cannot run are left out;
/// those that need a processor of another kind must be refused here.
fn replay(part: Part, table: &str) -> bool {
    let mut oracle = Oracle::new(part);
    let (mut right, mut well) = (0, true);
    for line in table.lines() {
        let text = line.split('#').next().unwrap_or("").trim();
        if text.is_empty() {
            continue;
        }
        let (lacking, text) = match text.strip_prefix("needs=").and_then(|t| t.split_once(' ')) {
            Some((need, text)) => (!has(need), text),
            None => (false, text),
        };
        if lacking && line.trim_start().starts_with("needs=avx512 ") {
            // An instruction that there is, on state that there is not.
            println!("not for this processor: {line}");
            continue;
        }
        let verdict = Case::parse(text)
            .map_err(|word| Verdict::Wrong(format!("{word} is not understood")))
            .and_then(|case| oracle.case(&case));
        match verdict {
            Ok(_) if !lacking => right += 1,
            Err(Verdict::Refused(why)) if lacking => println!("as it should be, {why}: {line}"),
            Err(Verdict::Unknown) => println!("not known to this processor: {line}"),
            Err(Verdict::Other(why)) if part != Part::Accounts => {
                println!("not traced, {why}: {line}")
            }
            verdict => {
                println!("{verdict:?}: {line}");
                well = false;
            }
        }
    }
    println!("{right} cases are right");
    well
}
