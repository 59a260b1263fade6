//! Wrong usage: exit status 2 or 3, and a message on stderr that names the thing and what would
//! mend it. Nothing on stdout, no panic, no backtrace, even if one is asked for.

use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::Result;
use ffitrace_tests::call::no_panic;
use ffitrace_tests::suite::Suite;
use ffitrace_tests::{binary, check, process};

mod cases;

use cases::{Wrong, bindings, functions, options, prototypes};

/// Words of which one must be in every message: it has to say what would mend it.
const REMEDY: &[&str] = &[
    "--help",
    "use ",
    "pass ",
    "give",
    "try ",
    "write ",
    "bind",
    "add ",
    "expected",
    "such as",
    "for example",
    "e.g.",
    "install",
    "run ",
    "must ",
    "possible values",
    "did you mean",
    "check ",
    "help:",
    "hint",
    "name one of",
    "needs",
    "choose",
    "known",
    "exports",
    "usage:",
    "at most",
    "instead",
    "between",
    "spell",
];

fn main() -> ExitCode {
    let mut suite = Suite::new();
    for (group, cases) in [
        ("prototype", prototypes()),
        ("binding", bindings()),
        ("function", functions()),
        ("option", options()),
    ] {
        for case in cases {
            suite.add(format!("{group}::{}", case.name), [], move || {
                refused(&case)
            });
        }
    }
    suite.add("help", [], || {
        succeeds(&["--help"], &["call", "bench", "doctor"])
    });
    suite.add("help_call", [], || {
        succeeds(&["call", "--help"], &["--backend", "uninit:"])
    });
    suite.add("version", [], || succeeds(&["--version"], &["ffitrace"]));
    suite.run()
}

fn command(arguments: &[impl AsRef<std::ffi::OsStr>]) -> Result<Command> {
    let mut command = binary::command()?;
    command.args(arguments).env("RUST_BACKTRACE", "1");
    Ok(command)
}

fn refused(case: &Wrong) -> Result<()> {
    let finished = process::run(&mut command(&case.arguments)?, Duration::from_secs(60))?;
    let shown = format!(
        "{:?}\nstdout: {}\nstderr: {}",
        case.arguments, finished.stdout, finished.stderr
    );
    check!(
        finished.signal.is_none(),
        "killed by signal {:?}\n{shown}",
        finished.signal
    );
    check!(
        finished.code.is_some_and(|code| case.codes.contains(&code)),
        "exit status {:?}, not one of {:?}\n{shown}",
        finished.code,
        case.codes
    );
    no_panic(&finished)?;
    check!(finished.stdout.is_empty(), "something on stdout\n{shown}");
    let message = finished.stderr.to_lowercase();
    for group in &case.says {
        check!(
            group.iter().any(|word| message.contains(word)),
            "none of {group:?} is named\n{shown}"
        );
    }
    check!(
        REMEDY.iter().any(|word| message.contains(word)),
        "no remedy is named\n{shown}"
    );
    check!(
        !finished.stderr.contains('\u{1b}'),
        "escape codes in a pipe\n{shown}"
    );
    check!(
        finished.stderr.lines().count() <= 25,
        "a message of more than a screen\n{shown}"
    );
    Ok(())
}

fn succeeds(arguments: &[&str], says: &[&str]) -> Result<()> {
    let finished = process::run(&mut command(arguments)?, Duration::from_secs(60))?;
    check!(
        finished.code == Some(0),
        "exit status {:?}: {}",
        finished.code,
        finished.stderr
    );
    for word in says {
        check!(
            finished.stdout.contains(word),
            "{word:?} is not in:\n{}",
            finished.stdout
        );
    }
    Ok(())
}
