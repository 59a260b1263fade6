//! However a call ends: the program ends in the same way, and nothing of it stays.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ffitrace_tests::check;

use crate::start::{Place, Recorder, Start};

type Test = fn(Recorder) -> Result<()>;

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("exit_status", exit_status),
    ("native_sigkill", native_sigkill),
    ("signals_pass", signals_pass),
    ("stopped_and_continued", stopped_and_continued),
    ("killed", killed),
    ("left_behind", left_behind),
];

const READ: &str = "int nested_outer(const int *p)";
const WRITE_AFTER: &str = "void oob_write_after(char *p, size_t n)";
const STAY: &str = "void priv_stay(int *p)";

/// How ffitrace is started for these.
const STARTS: [Start; 3] = [Start::Sudo, Start::RootShell, Start::Capable];

fn exit_status(recorder: Recorder) -> Result<()> {
    let place = Place::new()?;
    let read = |value: &str| vec![format!("p={value}")];
    let after = vec!["p=uninit:10".to_owned(), "n=10".into()];
    let violated = if recorder.name == "none" { 0 } else { 1 };
    for start in STARTS {
        for (what, status, prototype, bindings, more) in [
            ("fine", 0, READ, read("i32:1,2"), &[][..]),
            ("a violation", violated, WRITE_AFTER, after.clone(), &[]),
            ("a wrong binding", 2, READ, read("nonsense"), &[]),
            ("a wrong prototype", 2, "int (", read("i32:1"), &[]),
            ("a wrong option", 2, READ, read("i32:1"), &["--nonsense"]),
            (
                "a function that is not there",
                2,
                "int none(int *p)",
                read("i32:1"),
                &[],
            ),
        ] {
            let mut command = start.call(&place, recorder, prototype, &bindings)?;
            let finished = place.run(command.args(more))?;
            check!(
                finished.code == Some(status),
                "{start:?}, {what}: {finished:?}"
            );
            let usage = status == 2;
            let errors = finished.stderr.matches("ffitrace: ").count();
            check!(
                usage == finished.stdout.is_empty() && (!usage || errors == 1),
                "{start:?}, {what}: {finished:?}"
            );
        }
        let mut absent = start.call(&place, recorder, READ, &read("i32:1,2"))?;
        fs::rename(&place.library, place.path("away.so"))?;
        let finished = place.run(&mut absent)?;
        fs::rename(place.path("away.so"), &place.library)?;
        check!(
            finished.code == Some(3) && finished.stderr.contains("no such file"),
            "{start:?}, no library: {finished:?}"
        );
    }
    Ok(())
}

fn native_sigkill(recorder: Recorder) -> Result<()> {
    let place = Place::new()?;
    for start in STARTS {
        let bindings = ["p=uninit:8".to_owned(), "sig=9".into()];
        let prototype = "void crash_kill(int *p, int sig)";
        let mut command = start.call(&place, recorder, prototype, &bindings)?;
        let (finished, report) = place.report(&mut command)?;
        let kinds: Vec<&str> = report.violations.iter().map(|v| v.kind.as_str()).collect();
        check!(
            finished.code == Some(1) && kinds == ["native_crash"],
            "{start:?}: {kinds:?}, {finished:?}"
        );
    }
    Ok(())
}

/// A call that does not return, under way.
struct Staying {
    place: Place,
    child: Child,
}

impl Staying {
    fn start(start: Start, recorder: Recorder) -> Result<Staying> {
        let place = Place::new()?;
        let said = place.path("said");
        let mut command = start.call(&place, recorder, STAY, &["p=uninit:4".into()])?;
        let child = command
            .stdin(Stdio::null())
            .stdout(fs::File::create(&said)?)
            .stderr(fs::File::create(place.path("errors"))?)
            .spawn()?;
        let staying = Staying { place, child };
        staying.until("native code runs", || {
            Ok(fs::read_to_string(&said)?.contains("staying"))
        })?;
        // With a keeper there are at least that, the process that watches, and the traced one.
        let least = 2 + usize::from(recorder.is_kept());
        let found = staying.place.processes()?;
        check!(found.len() >= least, "only the processes {found:?}");
        Ok(staying)
    }

    fn signal(&self, signal: &str) -> Result<()> {
        signal_to(self.child.id(), signal)
    }

    fn until(&self, what: &str, holds: impl Fn() -> Result<bool>) -> Result<()> {
        let start = Instant::now();
        while !holds()? {
            if start.elapsed() > Duration::from_secs(30) {
                let errors = fs::read_to_string(self.place.path("errors"))?;
                bail!("not so after 30 s: {what}; stderr: {errors}");
            }
            sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Waits for its end, by this signal; then all of it must be gone.
    fn ended_by(&mut self, signal: i32) -> Result<()> {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if start.elapsed() > Duration::from_secs(30) {
                bail!("it does not end");
            }
            sleep(Duration::from_millis(10));
        };
        check!(status.signal() == Some(signal), "it ended with {status}");
        self.place.only_left(0).map(drop)
    }
}

impl Drop for Staying {
    fn drop(&mut self) {
        // Where a check has failed.
        for process in self.place.processes().unwrap_or_default() {
            let _ = signal_to(process, "KILL");
        }
        let _ = self.child.wait();
    }
}

fn signal_to(process: u32, signal: &str) -> Result<()> {
    let status = Command::new("kill")
        .args([format!("-{signal}"), process.to_string()])
        .stderr(Stdio::null())
        .status()
        .context("cannot run kill")?;
    check!(status.success(), "cannot send SIG{signal} to {process}");
    Ok(())
}

fn signals_pass(recorder: Recorder) -> Result<()> {
    for start in STARTS {
        for (name, number) in [
            ("TERM", libc::SIGTERM),
            ("INT", libc::SIGINT),
            ("HUP", libc::SIGHUP),
            ("USR1", libc::SIGUSR1),
        ] {
            let mut staying = Staying::start(start, recorder)?;
            staying.signal(name)?;
            staying
                .ended_by(number)
                .with_context(|| format!("{start:?}, SIG{name}"))?;
        }
    }
    Ok(())
}

/// That a process stops is not that it ends.
fn stopped_and_continued(recorder: Recorder) -> Result<()> {
    let mut staying = Staying::start(Start::Sudo, recorder)?;
    let all = staying.place.processes()?;
    for signal in ["STOP", "CONT"] {
        for process in &all {
            signal_to(*process, signal)?;
        }
        sleep(Duration::from_millis(100));
    }
    check!(
        staying.child.try_wait()?.is_none() && staying.place.processes()? == all,
        "not all go on"
    );
    staying.signal("TERM")?;
    staying.ended_by(libc::SIGTERM)
}

/// Whatever is killed, the others end with it.
fn killed(recorder: Recorder) -> Result<()> {
    for start in STARTS {
        let mut staying = Staying::start(start, recorder)?;
        staying.signal("KILL")?;
        staying
            .ended_by(libc::SIGKILL)
            .with_context(|| format!("{start:?}"))?;
    }
    Ok(())
}

/// A process that native code leaves behind, with all that it has open, does not hold the call up.
fn left_behind(recorder: Recorder) -> Result<()> {
    let place = Place::new()?;
    for start in STARTS {
        let bindings = ["p=uninit:4".to_owned(), "seconds=20".into()];
        let prototype = "int priv_leave_behind(int *p, int seconds)";
        let mut command = start.call(&place, recorder, prototype, &bindings)?;
        let began = Instant::now();
        let finished = ffitrace_tests::process::run(&mut command, Duration::from_secs(60))?;
        check!(
            finished.code == Some(0) && began.elapsed() < Duration::from_secs(15),
            "{start:?}: {:?}, {finished:?}",
            began.elapsed()
        );
        // Native code's own, and nothing of ours.
        let left = place.only_left(1).with_context(|| format!("{start:?}"))?;
        signal_to(left[0], "KILL")?;
        place.only_left(0)?;
    }
    Ok(())
}
