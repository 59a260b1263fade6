//! The same loop under Valgrind's lackey, which prints every access of a program.
//!
//! What it prints goes to `/dev/null`. Two runs differ in the length of the loop alone, so that
//! their difference has nothing of Valgrind's start.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{
    child,
    question::{Answer, Figure, Terms},
};

/// What its row is called.
pub(super) const NAME: &str = "lackey";

/// Items of the shorter loop.
const SHORT: u64 = 10_000;
/// Items of the first longer loop.
const LONG: u64 = 1_000_000;
/// Most items of a longer loop.
const MOST: u64 = 100_000_000;

/// Measures it.
pub(super) fn ask(terms: &Terms) -> Answer {
    match measure(terms) {
        Ok((items, ns)) => Figure::new(items, ns).into(),
        Err(why) => Answer::LeftOut(why),
    }
}

fn measure(terms: &Terms) -> Result<(u64, f64), String> {
    let installed = Command::new("valgrind").arg("--version").output();
    if !installed.is_ok_and(|output| output.status.success()) {
        return Err("valgrind is not installed".to_owned());
    }
    let start = run(terms, SHORT)?;
    let mut items = LONG;
    loop {
        let took = run(terms, items)?.saturating_sub(start);
        // The start is not the same each time; below that, the difference says nothing.
        if took >= terms.each.max(start / 2) || items >= MOST {
            return Ok((
                items - SHORT,
                took.as_nanos() as f64 / (items - SHORT) as f64,
            ));
        }
        items *= 4;
    }
}

fn run(terms: &Terms, items: u64) -> Result<Duration, String> {
    let program = terms.program.as_ref();
    let program = program.ok_or("it takes the program ffitrace itself")?;
    let begun = Instant::now();
    let status = Command::new("valgrind")
        .args(["--tool=lackey", "--trace-mem=yes", "--log-file=/dev/null"])
        .arg(program)
        .args([child::COMMAND, child::Work::Loop.name(), &items.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match status {
        Ok(status) if status.success() => Ok(begun.elapsed()),
        Ok(status) => Err(format!("valgrind cannot run this program here ({status})")),
        Err(error) => Err(format!("valgrind: {error}")),
    }
}
