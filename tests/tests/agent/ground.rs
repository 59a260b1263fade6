//! What every case needs: the program and this one where anybody can run them, calls whose accesses
//! are known, and gates at which they wait.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use ffitrace_tests::agent::{Agent, public_dir};
use ffitrace_tests::call::{Backend, Call, Outcome};
use ffitrace_tests::check;
use ffitrace_tests::fixture::Lib;
use ffitrace_tests::place::{NOBODY, Place};
use ffitrace_tests::process::{self, Finished, Running, wait_for};
use ffitrace_tests::suite::{Suite, explain};

use crate::NEEDS;
use crate::client::ROLE;

/// Somebody else than [`NOBODY`], without an account and without privileges, too.
pub(crate) const STRANGER: u32 = 65533;

/// And one more.
pub(crate) const THIRD: u32 = 65532;

/// Time for what does not take long, on a loaded machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Where everybody finds the programs: made when the first case asks, and removed with this.
#[derive(Debug, Default)]
pub(crate) struct Ground {
    place: OnceLock<Result<Place, String>>,
}

impl Ground {
    /// The program, the fixtures and this program.
    pub(crate) fn place(&self) -> Result<&Place> {
        let made = self
            .place
            .get_or_init(|| make().map_err(|error| explain(&error)));
        made.as_ref().map_err(|error| anyhow!("{error}"))
    }

    /// The library with the fixtures.
    pub(crate) fn library(&self) -> Result<PathBuf> {
        Ok(self.place()?.path(Lib::O2.file_name()))
    }

    /// A call by `user` under eBPF, without an agent so far.
    pub(crate) fn call_as(&self, user: u32, prototype: &str) -> Result<Call> {
        let place = self.place()?;
        let call = Call::new(self.library()?, prototype, Backend::Ebpf);
        Ok(call.launched_by(place.words_as(user, &place.program())))
    }

    /// A call by `user`, recorded by the agent at `socket`.
    pub(crate) fn call(&self, user: u32, socket: &Path, prototype: &str) -> Result<Call> {
        let socket = socket.display().to_string();
        let call = self.call_as(user, prototype)?;
        Ok(call.option(["--agent".to_owned(), socket]))
    }

    /// A call by nobody whose accesses are known, recorded by the agent at `socket`.
    pub(crate) fn pattern(&self, socket: &Path, pattern: &Pattern) -> Result<Call> {
        let call = self.call(NOBODY, socket, PATTERN)?;
        Ok(call.bind(pattern.bindings()).option(["--hot", "off"]))
    }

    /// Makes such a call, and checks that all of it is there.
    pub(crate) fn check_service(&self, socket: &Path) -> Result<()> {
        let pattern = Pattern::number(7).with(300, 20);
        let outcome = self.pattern(socket, &pattern)?.run()?;
        pattern.check(&outcome)
    }

    /// This program as a client of a certain role, by `user`.
    pub(crate) fn client(&self, user: u32, role: &str, words: &[&str]) -> Result<Command> {
        let place = self.place()?;
        let mut command = place.command_as(user, &place.path("client"));
        command.arg(ROLE).arg(role).args(words).stdin(Stdio::null());
        Ok(command)
    }

    /// Runs a client of a certain role to its end, which has to be a good one.
    pub(crate) fn run_client(&self, user: u32, role: &str, words: &[&str]) -> Result<Finished> {
        let finished = process::run(&mut self.client(user, role, words)?, LIMIT)?;
        good(role, finished)
    }
}

fn make() -> Result<Place> {
    let place = Place::new()?;
    place.copy(&std::env::current_exe()?, "client")?;
    Ok(place)
}

/// Fails unless a client came to a good end.
pub(crate) fn good(role: &str, finished: Finished) -> Result<Finished> {
    check!(
        finished.code == Some(0),
        "the client `{role}` ended with {:?}, signal {:?}\n{}{}",
        finished.code,
        finished.signal,
        finished.stdout,
        finished.stderr
    );
    Ok(finished)
}

/// Adds a case of an agent.
pub(crate) fn add(
    suite: &mut Suite,
    ground: &Arc<Ground>,
    name: &str,
    case: impl FnOnce(&Ground) -> Result<()> + Send + 'static,
) {
    let ground = Arc::clone(ground);
    suite.add(name, NEEDS, move || case(&ground));
}

/// Waits until there are no links, at most as long as a killed process takes to go.
pub(crate) fn wait_for_no_links(agent: &Agent) -> Result<()> {
    wait_for("programs that are detached", LIMIT, || {
        Ok((agent.links()? == 0).then_some(()))
    })
}

/// Prototype of the fixture that makes known accesses around a gate.
pub(crate) const PATTERN: &str = "int agent_pattern(unsigned char *p, unsigned long stride, \
    unsigned long span, unsigned long seed, unsigned long before, unsigned long after)";

/// Accesses of one call: access `i` writes the byte `seed + i` at `i % span * stride`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pattern {
    stride: u64,
    span: u64,
    seed: u64,
    before: u64,
    after: u64,
}

impl Pattern {
    /// One that differs from all others of smaller numbers in places, bytes and count.
    pub(crate) fn number(number: u64) -> Pattern {
        Pattern {
            stride: 2 + number % 3,
            span: 40 + number,
            seed: number * 5,
            before: 10_000 + number,
            after: 0,
        }
    }

    /// With these numbers of accesses before and after the gate.
    pub(crate) fn with(self, before: u64, after: u64) -> Pattern {
        Pattern {
            before,
            after,
            ..self
        }
    }

    fn size(self) -> u64 {
        self.span * self.stride
    }

    fn count(self) -> u64 {
        self.before + self.after
    }

    pub(crate) fn bindings(&self) -> Vec<String> {
        vec![
            format!("p=zero:{}", self.size()),
            format!("stride={}", self.stride),
            format!("span={}", self.span),
            format!("seed={}", self.seed),
            format!("before={}", self.before),
            format!("after={}", self.after),
        ]
    }

    /// Fails unless the report has these accesses, all of them and no others.
    pub(crate) fn check(&self, outcome: &Outcome) -> Result<()> {
        outcome.expect_code(0)?;
        let count = self.count();
        let stats = &outcome.report.stats;
        check!(
            outcome.report.backend == "ebpf",
            "{}",
            outcome.report.backend
        );
        check!(stats.complete, "the trace is incomplete");
        check!(
            (stats.emitted, stats.delivered, stats.dropped) == (count, count, 0),
            "emitted {}, delivered {}, dropped {}, but {count} accesses were made",
            stats.emitted,
            stats.delivered,
            stats.dropped
        );
        check!(
            (stats.writes, stats.reads, stats.faults) == (count, 0, count),
            "{stats:?}, but {count} writes were made"
        );
        check!(
            outcome.report.violations.is_empty(),
            "{:?}",
            outcome.report.violations
        );
        let ret = outcome.report.ret.as_ref().context("no result")?.text();
        check!(ret == count.to_string(), "result {ret}, not {count}");
        let buffer = outcome.allocation("p")?;
        let places = self.span.min(count);
        let written: Vec<(u64, u64)> = (0..places)
            .map(|place| (place * self.stride, place * self.stride + 1))
            .collect();
        check!(
            buffer.written == written && buffer.read.is_empty() && buffer.maybe_written.is_empty(),
            "not the places {written:?}: {buffer:?}"
        );
        let mut bytes = vec![0u8; usize::try_from(self.size())?];
        for access in count - places..count {
            let at = usize::try_from(access % self.span * self.stride)?;
            bytes[at] = u8::try_from((self.seed + access) & 0xff)?;
        }
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        check!(
            buffer.bytes == digits,
            "bytes {}, not {digits}",
            buffer.bytes
        );
        Ok(())
    }
}

/// Two files: one that says that somebody has come here, and one that lets them go on.
#[derive(Debug)]
pub(crate) struct Gate {
    dir: tempfile::TempDir,
}

impl Gate {
    pub(crate) fn new() -> Result<Gate> {
        Ok(Gate { dir: public_dir()? })
    }

    /// The file that who waits makes.
    pub(crate) fn ready(&self) -> PathBuf {
        self.dir.path().join("ready")
    }

    /// The file that is waited for.
    pub(crate) fn open_when(&self) -> PathBuf {
        self.dir.path().join("open")
    }

    /// Has a call stop here.
    pub(crate) fn before(&self, call: Call) -> Call {
        call.variable("FX_READY", &self.ready().display().to_string())
            .variable("FX_GATE", &self.open_when().display().to_string())
    }

    /// Has a client stop here.
    pub(crate) fn before_client<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("FX_READY", self.ready())
            .env("FX_GATE", self.open_when())
    }

    /// Waits until `who` has come here.
    pub(crate) fn wait(&self, who: &mut Running) -> Result<()> {
        wait_for("somebody at the gate", LIMIT, || {
            let here = self.ready().exists();
            check!(
                here || who.is_running()?,
                "ended before the gate: {}",
                who.errors()?
            );
            Ok(here.then_some(()))
        })
    }

    /// Lets them go on.
    pub(crate) fn open(&self) -> Result<()> {
        File::create(self.open_when())?;
        Ok(())
    }
}

/// Fails unless the call is refused under `ebpf`, and made by another recorder under `auto`, with
/// `cause` in the reason of both. What the refused one said is returned.
pub(crate) fn check_refused(call: &Call, cause: &str) -> Result<Finished> {
    let finished = call.start()?.finish()?;
    check!(
        finished.code == Some(3) && finished.stdout.is_empty(),
        "{finished:?}"
    );
    check!(finished.stderr.contains(cause), "{}", finished.stderr);
    let outcome = call.clone().auto().run()?;
    outcome.expect_code(0)?;
    check!(
        outcome.report.backend == "inproc",
        "recorded by {}",
        outcome.report.backend
    );
    check!(
        outcome.process.stderr.contains(cause),
        "{}",
        outcome.process.stderr
    );
    Ok(finished)
}
