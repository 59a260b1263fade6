//! Programs made up at random: what they compute and what they touch does not depend on who records
//! it, nor on whether they were translated.
//!
//! ```text
//!  seed ──► 60 programs in assembly ──► cc ──► one library ──► hot_run(buf, out, …) ──► out[i], events
//!             (state, integer, …)      hot_random.c                   one process for all of them
//! ```
//!
//! `FFITRACE_HOT_SEEDS=100` takes so many fresh seeds instead of the fixed ones, `FFITRACE_HOT_SEED=7`
//! that one, `FFITRACE_HOT_PROGRAM=12` one program of each.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail};
use ffitrace_tests::call::{Backend, Call, Outcome};
use ffitrace_tests::check;
use ffitrace_tests::stream::difference;
use ffitrace_tests::suite::{Notes, Suite, explain};

use crate::modes::{self, BACKENDS, Did, Mode, Reference};
use flow::Program;

mod flow;
mod integer;
mod loops;
mod prelude;
mod rng;
mod special;
mod state;
mod strings;
mod vector;

/// Programs of one library.
const PROGRAMS: usize = 60;
/// Calls of each program.
const ROUNDS: u32 = 3;
/// Seeds that every run takes.
const FIXED: [u64; 3] = [1, 2, 3];
/// Microseconds from one signal to the next, in a run with signals.
const EVERY: u32 = 400;
/// Sizes of the code cache that are too small.
const CACHES: [u32; 3] = [8192, 16384, 65536];

/// One library full of programs.
struct Batch {
    seed: u64,
    library: OnceLock<Result<PathBuf, String>>,
    /// Whether the library is still wanted, to look into what failed.
    failed: AtomicBool,
    reference: Reference,
}

pub(crate) fn add(suite: &mut Suite) -> Result<()> {
    let seeds = seeds()?;
    for (position, &seed) in seeds.iter().enumerate() {
        let batch = Arc::new(Batch {
            seed,
            library: OnceLock::new(),
            failed: AtomicBool::new(false),
            reference: Reference::new(),
        });
        for backend in BACKENDS {
            let with = |name: &str| format!("{name}::{seed}::{}", backend.name());
            let (one, notes) = (Arc::clone(&batch), suite.notes());
            suite.add(with("random"), backend.needs(), move || {
                for &mode in modes::modes() {
                    one.check(backend, mode, 0, &[], &notes)?;
                }
                Ok(())
            });
            let (one, notes) = (Arc::clone(&batch), suite.notes());
            suite.add(with("random_storm"), backend.needs(), move || {
                let mode = modes::hot_modes().last().copied().unwrap_or(Mode::Off);
                one.check(backend, mode, EVERY, &[], &notes)
            });
            if position > 0 {
                continue;
            }
            for bytes in CACHES {
                let (one, notes) = (Arc::clone(&batch), suite.notes());
                let name = format!("cache_full::{bytes}::random::{}", backend.name());
                suite.add(name, backend.needs(), move || {
                    let variable = [("FFITRACE_CODE_CACHE", bytes.to_string())];
                    one.check(backend, Mode::Once, 0, &variable, &notes)
                });
            }
        }
    }
    Ok(())
}

fn seeds() -> Result<Vec<u64>> {
    if let Ok(text) = env::var("FFITRACE_HOT_SEED") {
        return Ok(vec![text.parse().context("FFITRACE_HOT_SEED")?]);
    }
    let Ok(text) = env::var("FFITRACE_HOT_SEEDS") else {
        return Ok(FIXED.to_vec());
    };
    let many: u64 = text.parse().context("FFITRACE_HOT_SEEDS")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    Ok((0..many).map(|k| now * 1000 + k).collect())
}

/// The programs that were asked for.
fn range() -> Result<(usize, usize)> {
    match env::var("FFITRACE_HOT_PROGRAM") {
        Err(_) => Ok((0, PROGRAMS)),
        Ok(text) => {
            let one = text.parse().context("FFITRACE_HOT_PROGRAM")?;
            Ok((one, one + 1))
        }
    }
}

impl Batch {
    /// The library, compiled by whoever asks first.
    fn library(&self) -> Result<&Path> {
        let built = self
            .library
            .get_or_init(|| compile(self.seed).map_err(|error| explain(&error)));
        match built {
            Ok(path) => Ok(path),
            Err(text) => Err(anyhow!(text.clone())),
        }
    }

    fn call(&self, every: u32) -> Result<Call> {
        let prototype = "unsigned hot_run(unsigned char *buf, unsigned long *out, unsigned from, \
                         unsigned to, unsigned rounds, long every)";
        let (from, to) = range()?;
        Ok(Call::new(self.library()?, prototype, Backend::Inproc)
            .bind([
                "buf=zero:16384".into(),
                format!("out=zero:{}", PROGRAMS * 8),
                format!("from={from}"),
                format!("to={to}"),
                format!("rounds={ROUNDS}"),
                format!("every={every}"),
            ])
            .within(Duration::from_secs(120)))
    }

    fn check(
        &self,
        backend: Backend,
        mode: Mode,
        every: u32,
        variables: &[(&str, String)],
        notes: &Notes,
    ) -> Result<()> {
        let checked = self.compare(backend, mode, every, variables, notes);
        if checked.is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
        checked
    }

    fn compare(
        &self,
        backend: Backend,
        mode: Mode,
        every: u32,
        variables: &[(&str, String)],
        notes: &Notes,
    ) -> Result<()> {
        let reference = self
            .reference
            .get(&self.call(0)?.with_events())
            .with_context(|| format!("seed {}", self.seed))?;
        let mut call = self
            .call(every)?
            .option(mode.options().iter().copied())
            .with_events();
        call.backend = backend.name();
        for (name, value) in variables {
            call = call.variable(name, value);
        }
        let outcome = call
            .run()
            .with_context(|| format!("seed {}, {}, {mode:?}", self.seed, backend.name()))?;
        outcome.expect_code(0)?;
        let did = Did::of(&outcome);
        if let Some(found) = self.mismatch(reference, &did)? {
            let command = call.command().map(|command| format!("{command:?}"));
            bail!(
                "seed {} under {} with {mode:?}, a signal each {every} us: {found}\n{}",
                self.seed,
                backend.name(),
                command.unwrap_or_default()
            );
        }
        if mode != Mode::Off {
            let stats = &outcome.report.stats;
            check!(stats.translated > 0, "nothing was translated: {stats:?}");
        }
        notes.add(summary(self.seed, backend, mode, every, &outcome));
        Ok(())
    }

    /// What differs, and the program to blame.
    fn mismatch(&self, expected: &Did, actual: &Did) -> Result<Option<String>> {
        let trace = difference(&expected.streams, &actual.streams);
        let results = |did: &Did| -> Vec<String> {
            let out = did.bytes.iter().find(|(name, _)| name == "out");
            let hex = out.map_or("", |(_, hex)| hex.as_str());
            hex.as_bytes()
                .chunks(16)
                .map(|digits| String::from_utf8_lossy(digits).into_owned())
                .collect()
        };
        let (left, right) = (results(expected), results(actual));
        let wrong: Vec<usize> = (0..PROGRAMS)
            .filter(|&k| left.get(k) != right.get(k))
            .collect();
        let (first, text) = match (&trace, wrong.first()) {
            (None, None) if expected.ret == actual.ret => return Ok(None),
            (Some(found), _) => {
                // Each program ends with a write of its result.
                let done = expected.streams.get(found.thread).map_or(0, |steps| {
                    let before = steps.iter().take(found.step);
                    before.filter(|step| step.allocation == "out").count()
                });
                (range()?.0 + done, found.text.clone())
            }
            (None, first) => (first.copied().unwrap_or_default(), String::new()),
        };
        Ok(Some(format!(
            "program {first} (FFITRACE_HOT_SEED={} FFITRACE_HOT_PROGRAM={first} runs it alone)\n\
             other results of programs {wrong:?}\n{text}\n{}",
            self.seed,
            self.disassembly(first)
        )))
    }

    fn disassembly(&self, program: usize) -> String {
        let Ok(library) = self.library() else {
            return String::new();
        };
        let shown = Command::new("objdump")
            .args(["-d", "--no-show-raw-insn", "-M", "intel"])
            .arg(format!("--disassemble=prog_{program}"))
            .arg(library)
            .output();
        match shown {
            Ok(output) if output.status.success() && output.stdout.len() > 400 => {
                String::from_utf8_lossy(&output.stdout).into_owned()
            }
            _ => Program::write(self.seed, program, wide()),
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if let Some(Ok(library)) = self.library.get()
            && !self.failed.load(Ordering::Relaxed)
        {
            // Nobody minds if they stay.
            let _ = fs::remove_file(library);
            let _ = fs::remove_file(source(self.seed));
        }
    }
}

fn summary(seed: u64, backend: Backend, mode: Mode, every: u32, outcome: &Outcome) -> String {
    let stats = &outcome.report.stats;
    format!(
        "random {seed}, {}, {mode:?}{}: {} events, {} translated, {} faults, {} steps, {} ms",
        backend.name(),
        if every > 0 { ", with signals" } else { "" },
        stats.events,
        stats.translated,
        stats.faults,
        stats.steps,
        outcome.process.elapsed.as_millis()
    )
}

/// Whether this processor has what the programs use beyond SSE4.2. Others get other programs.
fn wide() -> bool {
    std::is_x86_feature_detected!("avx2")
        && std::is_x86_feature_detected!("bmi1")
        && std::is_x86_feature_detected!("bmi2")
        && std::is_x86_feature_detected!("adx")
        && std::is_x86_feature_detected!("lzcnt")
        && std::is_x86_feature_detected!("movbe")
}

/// Where a failure leaves it.
fn source(seed: u64) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("hot_{seed}.s"))
}

fn compile(seed: u64) -> Result<PathBuf> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(dir)?;
    let source = source(seed);
    let library = dir.join(format!("libhot_{seed}.so"));
    let programs: Vec<String> = (0..PROGRAMS)
        .map(|number| Program::write(seed, number, wide()))
        .collect();
    fs::write(&source, prelude::file(&programs, wide()))?;
    let output = Command::new(env!("FFITRACE_CC"))
        .args([
            "-O2",
            "-g",
            "-fPIC",
            "-shared",
            "-std=gnu11",
            "-fvisibility=hidden",
        ])
        .arg(Path::new(env!("FFITRACE_NATIVE_SRC")).join("hot_random.c"))
        .arg(&source)
        .arg("-o")
        .arg(&library)
        .output()
        .context("cannot run the C compiler")?;
    check!(
        output.status.success(),
        "seed {seed}: the assembler refuses {}:\n{}",
        source.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(library)
}
