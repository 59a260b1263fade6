//! What native code tries, and with what result.

use anyhow::{Context, Result};
use ffitrace_tests::check;

use crate::start::{OTHER, Place, Recorder, Start, text};

/// As the fixture has them, in order.
const NAMES: &[&str] = &[
    "real uid",
    "effective uid",
    "saved uid",
    "real gid",
    "effective gid",
    "saved gid",
    "groups",
    "no_new_privs",
    "dumpable",
    "securebits",
    "bounding set",
    "own /proc files",
    "open a file of root's",
    "open a file of others",
    "bpf(BPF_MAP_CREATE)",
    "bpf(BPF_PROG_LOAD)",
    "setuid(0)",
    "setresuid(0, 0, 0)",
    "setuid(54321)",
    "setgid(0)",
    "setgroups",
    "capabilities by capset",
    "capabilities by the ambient set",
    "unshare(CLONE_NEWNS)",
    "chroot",
    "ptrace the keeper",
    "kill the keeper",
    "open the keeper's memory",
    "uid by a set-user-id program",
    "capabilities by exec",
    "session keyring",
];

const PROTOTYPE: &str = "int priv_attempts(int *results, const char *of_root, \
                         const char *of_others, const char *program)";

/// What an attempt may answer.
enum Expected {
    Is(i64),
    OneOf(&'static [i64]),
    AtLeast(i64),
    Any,
}

use Expected::{Any, AtLeast, Is, OneOf};

const DONE: Expected = Is(0);
const NOT_PERMITTED: Expected = Is(libc::EPERM as i64);
const DENIED: Expected = Is(libc::EACCES as i64);
/// Kernels differ in which.
const REFUSED: Expected = OneOf(&[libc::EPERM as i64, libc::EACCES as i64]);

/// NOROOT, NO_SETUID_FIXUP and NO_CAP_AMBIENT_RAISE, these and KEEP_CAPS locked.
const SECURED: Expected = Is(0xef);

/// For everybody that has to do without capabilities.
fn expected(start: Start) -> Vec<Expected> {
    let (uid, gid) = start.ids();
    let (uid, gid) = (i64::from(uid as i32), i64::from(gid as i32));
    let mut all: Vec<Expected> = [uid, uid, uid, gid, gid, gid].map(Is).into();
    match start {
        // The test's own.
        Start::AsRoot => all.extend([Any, Is(0), Is(1), Any, AtLeast(1), DONE]),
        // Without the capability for it, bounding set and securebits stay as they were.
        Start::Capable => all.extend([Is(0), Is(1), Is(1), Any, Any, DONE]),
        Start::RootShell => all.extend([Any, Is(1), Is(1), SECURED, Is(0), DONE]),
        _ => all.extend([Is(1), Is(1), Is(1), SECURED, Is(0), DONE]),
    }
    all.extend(match start {
        Start::AsRoot => [
            // Files and eBPF.
            DONE,
            DONE,
            DONE,
            DONE, // Other ids.
            DONE,
            DONE,
            DONE,
            DONE,
            DONE, // Capabilities, and what takes one.
            AtLeast(10),
            AtLeast(10),
            DONE,
            DONE, // The keeper, which is the test.
            DONE,
            DONE,
            DONE, // Other programs.
            Is(i64::from(OTHER as i32)),
            Is(1),
        ],
        // Root's own files and processes are its own without any capability.
        Start::RootShell => [
            DONE,
            DENIED,
            NOT_PERMITTED,
            NOT_PERMITTED, //
            DONE,
            DONE,
            NOT_PERMITTED,
            DONE,
            NOT_PERMITTED, //
            Is(0),
            Is(0),
            NOT_PERMITTED,
            NOT_PERMITTED, //
            NOT_PERMITTED,
            DONE,
            REFUSED, //
            Is(0),
            Is(0),
        ],
        _ => [
            DENIED,
            DENIED,
            NOT_PERMITTED,
            NOT_PERMITTED, //
            NOT_PERMITTED,
            NOT_PERMITTED,
            NOT_PERMITTED,
            NOT_PERMITTED,
            NOT_PERMITTED, //
            Is(0),
            Is(0),
            NOT_PERMITTED,
            NOT_PERMITTED, //
            NOT_PERMITTED,
            // A keeper that has just these capabilities more is a process of the same user's.
            if start == Start::Capable {
                Any
            } else {
                NOT_PERMITTED
            },
            REFUSED, //
            Is(uid),
            Is(0),
        ],
    });
    // The session keyring: a number of its own each time.
    all.push(Any);
    all
}

/// Makes the attempts, and returns what came of each.
fn attempt(place: &Place, recorder: Recorder, start: Start) -> Result<Vec<i64>> {
    let size = NAMES.len() * 4;
    let bindings = [
        format!("results=uninit:{size}"),
        text("of_root", place.path("of_root")),
        text("of_others", place.path("of_others")),
        text("program", place.path("id")),
    ];
    let mut command = start.call(place, recorder, PROTOTYPE, &bindings)?;
    let (finished, report) = place.report(&mut command)?;
    let count = report.ret.as_ref().map(|ret| ret.text());
    check!(
        finished.code == Some(0) && count == Some(NAMES.len().to_string()),
        "returned {count:?}: {finished:?}"
    );
    let results = report.allocations.first().context("no buffer")?;
    let digits = results.bytes.as_bytes().chunks(8);
    let numbers = digits.map(|digits| {
        let number = u32::from_str_radix(std::str::from_utf8(digits)?, 16)?;
        Ok(i64::from(number.swap_bytes() as i32))
    });
    numbers.collect()
}

fn place() -> Result<Place> {
    let place = Place::new()?;
    place.file("of_root", 0, 0o600)?;
    place.file("of_others", OTHER, 0o600)?;
    // By another process: a test that forks meanwhile would inherit our descriptor, and a file
    // that is open for writing cannot be executed.
    let copied = std::process::Command::new("cp")
        .arg("/usr/bin/id")
        .arg(place.path("id"))
        .status()?;
    check!(copied.success(), "/usr/bin/id could not be copied");
    place.give("id", OTHER, 0o4755)?;
    Ok(place)
}

pub(crate) fn all(recorder: Recorder, start: Start) -> Result<()> {
    let place = place()?;
    let answers = attempt(&place, recorder, start)?;
    let mut wrong = Vec::new();
    for ((name, answer), expected) in NAMES.iter().zip(&answers).zip(expected(start)) {
        let (holds, text) = match expected {
            Is(value) => (*answer == value, value.to_string()),
            OneOf(values) => (values.contains(answer), format!("{values:?}")),
            AtLeast(value) => (*answer >= value, format!("{value} or more")),
            Any => (true, String::new()),
        };
        if !holds {
            wrong.push(format!("{name}: {answer} instead of {text}"));
        }
    }
    check!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Root's keys are not there for native code: each run has a keyring of its own, and `--as-root`
/// the one that the test has.
pub(crate) fn session_keyring(recorder: Recorder) -> Result<()> {
    let place = place()?;
    for (start, is_new) in [
        (Start::Sudo, true),
        (Start::RootShell, true),
        (Start::AsRoot, false),
    ] {
        let keyring = || -> Result<i64> {
            let answers = attempt(&place, recorder, start)?;
            answers.last().copied().context("no answer")
        };
        let (one, other) = (keyring()?, keyring()?);
        if one < 0 && other < 0 {
            println!("skipped: no keyrings here");
            continue;
        }
        check!(
            (one != other) == is_new,
            "{start:?}: session keyrings {one} and {other}"
        );
    }
    Ok(())
}
