//! `ffitrace call --native-heap`: the library's own heap, checked byte by byte.
//!
//! The fixtures are those of the bridge's own tests, in C and C++; the real libraries are called
//! with their heap in the arena and without, and must do the same.

use std::process::ExitCode;

use anyhow::{Context, Result};
use ffitrace_tests::call::{Backend, Call, Outcome};
use ffitrace_tests::check;
use ffitrace_tests::fixture::Lib;
use ffitrace_tests::report::NativeHeap;
use ffitrace_tests::suite::Suite;

mod real;
mod right;
mod text;
mod wrong;

fn main() -> ExitCode {
    let mut suite = Suite::new();
    wrong::add(&mut suite);
    right::add(&mut suite);
    real::add(&mut suite);
    text::add(&mut suite);
    suite.run()
}

/// Adds a test for each recorder.
fn add_test(
    suite: &mut Suite,
    name: &str,
    run: impl Fn(Backend) -> Result<()> + Clone + Send + 'static,
) {
    for backend in Backend::ALL {
        let run = run.clone();
        let name = format!("{name}::{}", backend.name());
        suite.add(name, backend.needs(), move || run(backend));
    }
}

/// A call of a fixture's function, which takes a word.
fn call(lib: Lib, function: &str, word: i64, backend: Backend) -> Call {
    Call::new(lib.path(), &format!("void {function}(long *word)"), backend)
        .bind([format!("word=i64:{word}")])
        .option(["--native-heap"])
}

/// The word that the function left.
fn word(outcome: &Outcome) -> Result<i64> {
    let digits = &outcome.allocation("word")?.bytes;
    let bytes: Vec<u8> = (0..digits.len() / 2)
        .map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).context("digits"))
        .collect::<Result<_>>()?;
    let word: [u8; 8] = bytes.get(..8).context("8 bytes")?.try_into()?;
    Ok(i64::from_le_bytes(word))
}

/// What the report says of the heap.
fn heap(outcome: &Outcome) -> Result<&NativeHeap> {
    let heap = outcome.report.native_heap.as_ref();
    let heap = heap.context("the report has no native_heap")?;
    check!(
        heap.allocations == heap.frees + heap.live,
        "{heap:?} does not add up"
    );
    Ok(heap)
}
