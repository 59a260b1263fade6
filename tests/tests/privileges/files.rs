//! Files that ffitrace reads and writes for the user, and what it says where it may not.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use anyhow::Result;
use ffitrace_tests::process::Finished;
use ffitrace_tests::{binary, check};

use crate::start::{NOBODY, Place, Recorder, Start, text};

type Test = fn(Recorder) -> Result<()>;

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("library_of_root", library_of_root),
    ("binding_of_root", binding_of_root),
    ("events_in_roots_directory", events_in_roots_directory),
    ("events_are_the_users", events_are_the_users),
    ("program_of_root", program_of_root),
    ("environment", environment),
];

const READ: &str = "int nested_outer(const int *p)";
const ENVIRONMENT: &str = "int priv_environment(const char *home, const char *name)";

/// Refused with this status, in one message that says what was denied and to whom, for each way
/// to start in which it has to be. As root it is done.
fn denied(place: &Place, status: i32, command: impl Fn(Start) -> Result<Command>) -> Result<()> {
    let refused = |start: Start, who: &[&str]| -> Result<()> {
        let finished = place.run(&mut command(start)?)?;
        check!(
            finished.code == Some(status) && finished.stdout.is_empty(),
            "{start:?}: {finished:?}"
        );
        for word in who.iter().chain(&["denied", "--as-root"]) {
            check!(
                finished.stderr.contains(word),
                "{start:?}: no {word:?} in {}",
                finished.stderr
            );
        }
        told_once(&finished)
    };
    refused(Start::Sudo, &["user nobody", "sudo"])?;
    refused(Start::SudoUnknown, &["user id 3123456789", "sudo"])?;
    refused(Start::User, &["user nobody", "--user"])?;
    let finished = place.run(&mut command(Start::AsRoot)?)?;
    check!(finished.code == Some(0), "as root: {finished:?}");
    Ok(())
}

fn told_once(finished: &Finished) -> Result<()> {
    let times = finished.stderr.matches("ffitrace: ").count();
    check!(times == 1, "told {times} times: {}", finished.stderr);
    Ok(())
}

fn library_of_root(recorder: Recorder) -> Result<()> {
    let mut place = Place::new()?;
    place.directory("private", 0, 0o700)?;
    let inside = place.path("private/lib.so");
    fs::rename(&place.library, &inside)?;
    place.library = inside;
    let command = |start: Start| start.call(&place, recorder, READ, &["p=i32:1,2".into()]);
    // With `auto`, the line about the recorder comes before.
    if recorder.name == "auto" {
        let finished = place.run(&mut command(Start::Sudo)?)?;
        check!(finished.code == Some(3), "{finished:?}");
        check!(finished.stderr.contains("user nobody"), "{finished:?}");
        return Ok(());
    }
    denied(&place, 3, command)?;

    // The directory may be read, the file not.
    place.give("private", 0, 0o755)?;
    place.give("private/lib.so", 0, 0o700)?;
    denied(&place, 3, command)?;
    // Root is its owner, in a shell of root's too.
    let finished = place.run(&mut command(Start::RootShell)?)?;
    check!(finished.code == Some(0), "{finished:?}");
    Ok(())
}

fn binding_of_root(recorder: Recorder) -> Result<()> {
    let place = Place::new()?;
    let file = place.file("secret", 0, 0o600)?;
    let binding = format!("p=@{}", file.display());
    let command = |start: Start| start.call(&place, recorder, READ, std::slice::from_ref(&binding));
    fs::write(&file, [0; 8])?;
    denied(&place, 2, command)
}

fn events_in_roots_directory(recorder: Recorder) -> Result<()> {
    if recorder.name == "auto" {
        return Ok(());
    }
    let place = Place::new()?;
    let dir = place.directory("roots", 0, 0o755)?;
    denied(&place, 2, |start| {
        let mut command = start.call(&place, recorder, READ, &["p=i32:1,2".into()])?;
        command.arg("--events").arg(dir.join("events.jsonl"));
        Ok(command)
    })
}

fn events_are_the_users(recorder: Recorder) -> Result<()> {
    let place = Place::new()?;
    let dir = place.directory("mine", NOBODY, 0o700)?;
    for start in [Start::Sudo, Start::User, Start::Capable] {
        let log = dir.join(format!("{}.jsonl", start.name()));
        let mut command = start.call(&place, recorder, READ, &["p=i32:1,2".into()])?;
        let finished = place.run(command.arg("--events").arg(&log))?;
        check!(finished.code == Some(0), "{start:?}: {finished:?}");
        let owner = fs::metadata(&log)?.uid();
        check!(owner == NOBODY, "{start:?}: the events are of user {owner}");
    }
    Ok(())
}

/// A program that the user could not even read.
fn program_of_root(recorder: Recorder) -> Result<()> {
    let place = Place::new()?;
    let dir = place.directory("private", 0, 0o700)?;
    let copy = dir.join("ffitrace");
    let copied = Command::new("cp")
        .arg(binary::ffitrace()?)
        .arg(&copy)
        .status()?;
    check!(copied.success(), "ffitrace could not be copied");
    let given = Start::Sudo.call(&place, recorder, READ, &["p=i32:1,2".into()])?;
    let mut command = Command::new(&copy);
    command.args(given.get_args()).current_dir("/");
    for (name, value) in given.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let (finished, report) = place.report(&mut command)?;
    check!(finished.code == Some(0), "{finished:?}");
    check!(report.violations.is_empty(), "{:?}", report.violations);
    Ok(())
}

fn environment(recorder: Recorder) -> Result<()> {
    let place = Place::new()?;
    for (start, home, name) in [
        (Start::Sudo, "/nonexistent", "nobody"),
        (Start::User, "/nonexistent", "nobody"),
        (Start::SudoUnknown, "/", ""),
        (Start::RootShell, "/root", "root"),
        (Start::AsRoot, "/root", "root"),
    ] {
        let bindings = [text("home", home), text("name", name)];
        let mut command = start.call(&place, recorder, ENVIRONMENT, &bindings)?;
        let (finished, report) = place.report(&mut command)?;
        let wrong = report.ret.as_ref().map(|ret| ret.text());
        check!(
            finished.code == Some(0) && wrong.as_deref() == Some("0"),
            "{start:?}: HOME, USER, LOGNAME wrong (4, 2, 1): {wrong:?}"
        );
    }
    Ok(())
}

/// What is wrong with the options themselves.
pub(crate) fn options() -> Result<()> {
    let place = Place::new()?;
    let run = |start: Start, more: &[&str], variable: Option<(&str, &str)>| {
        let mut command = start.program()?;
        command
            .arg("call")
            .arg(&place.library)
            .args([READ, "p=i32:1,2"])
            .args(more)
            .envs(variable);
        place.run(&mut command)
    };
    type Wrong<'w> = (
        &'w [&'w str],
        Option<(&'w str, &'w str)>,
        i32,
        &'w [&'w str],
    );
    let cases: &[Wrong] = &[
        (
            &["--user", "no such user"],
            None,
            2,
            &["no such user", "getent"],
        ),
        (&["--user", "-1"], None, 2, &["-1"]),
        (&["--user", "4294967295"], None, 2, &["4294967295"]),
        (&["--user", "nobody", "--as-root"], None, 2, &["--as-root"]),
        (&[], Some(("SUDO_UID", "x")), 3, &["SUDO_UID=x", "--user"]),
        (&[], Some(("SUDO_UID", "-1")), 3, &["SUDO_UID=-1", "--user"]),
        (
            &[],
            Some(("SUDO_UID", "3123456789")),
            3,
            &["SUDO_UID=3123456789", "--user"],
        ),
        (
            &[],
            Some(("DOAS_USER", "no such user")),
            3,
            &["no such user", "--user"],
        ),
    ];
    for (more, variable, status, words) in cases {
        for recorder in ["auto", "inproc"] {
            let more: Vec<&str> = more
                .iter()
                .copied()
                .chain(["--backend", recorder])
                .collect();
            let finished = run(Start::RootShell, &more, *variable)?;
            check!(
                finished.code == Some(*status) && finished.stdout.is_empty(),
                "{more:?} {variable:?}: {finished:?}"
            );
            for word in *words {
                check!(
                    finished.stderr.contains(word),
                    "{more:?} {variable:?}: no {word:?} in {}",
                    finished.stderr
                );
            }
            told_once(&finished)?;
        }
    }
    // An id will do, of a user or of none; `--user` has the last word.
    for user in ["65534", "3123456789", "root"] {
        let finished = run(Start::Sudo, &["--user", user, "--backend", "inproc"], None)?;
        check!(finished.code == Some(0), "--user {user}: {finished:?}");
    }
    Ok(())
}

/// Who is not root has nothing to choose, whatever sudo's variables say.
pub(crate) fn not_root() -> Result<()> {
    let place = Place::new()?;
    for start in [Start::Capable, Start::Sudo] {
        for option in [
            &["--user", "root"][..],
            &["--user", "nobody"],
            &["--as-root"],
        ] {
            let mut command = Command::new("setpriv");
            let given = start.program()?;
            let program = binary::ffitrace()?;
            match start {
                Start::Capable => command = given,
                _ => {
                    command
                        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
                        .arg(program);
                }
            }
            command
                .arg("call")
                .arg(&place.library)
                .args([READ, "p=i32:1,2", "--backend", "inproc"])
                .args(option)
                .envs([("SUDO_UID", "0"), ("SUDO_GID", "0")])
                .current_dir("/");
            let finished = place.run(&mut command)?;
            check!(
                finished.code == Some(3) && finished.stderr.contains("sudo"),
                "{start:?}, {option:?}: {finished:?}"
            );
            told_once(&finished)?;
        }
    }
    Ok(())
}
