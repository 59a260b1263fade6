//! A while of everything at once: calls, kills of clients and of agents, and garbage, at random.
//!
//! ```text
//!  steady agent ◄─ calls, kills of clients, garbage     never ends: what does it lose over time?
//!  shaky agent  ◄─ the same                             killed or told to end, and started anew
//! ```
//! A call that nobody disturbed is complete and right. One that was disturbed ends in time.
//!
//! `FFITRACE_SOAK_SECONDS` says for how long, `FFITRACE_SOAK_SEED` which random numbers.

use std::collections::BTreeSet;
use std::env;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ffitrace_tests::agent::{Agent, Object, public_dir};
use ffitrace_tests::call::Started;
use ffitrace_tests::check;
use ffitrace_tests::host;
use ffitrace_tests::packets::{self, Client};
use ffitrace_tests::place::NOBODY;
use ffitrace_tests::process;
use ffitrace_tests::suite::{Notes, Suite};

mod left;

use crate::ground::{self, Ground, LIMIT, PATTERN, Pattern, STRANGER, THIRD};

/// Calls under way at most.
const CALLS: usize = 6;

pub(crate) fn add(suite: &mut Suite, ground: &Arc<Ground>) {
    let notes = suite.notes();
    ground::add(suite, ground, "soak", move |ground| soak(ground, &notes));
}

/// Random numbers that a seed determines (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// A number from the environment.
fn setting(name: &str) -> Result<Option<u64>> {
    env::var(name)
        .ok()
        .map(|text| text.parse().with_context(|| format!("{name}={text}")))
        .transpose()
}

struct Running {
    call: Started,
    what: Work,
    steady: bool,
    disturbed: bool,
}

enum Work {
    Pattern(Pattern),
    Loop { rounds: u64 },
}

/// What happened.
#[derive(Debug, Default)]
struct Tally {
    right: u64,
    disturbed: u64,
    killed: u64,
    restarts: u64,
    garbage: u64,
}

struct Soak<'a> {
    ground: &'a Ground,
    random: Random,
    steady: Agent,
    shaky: Option<Agent>,
    shaky_socket: PathBuf,
    running: Vec<Running>,
    /// Objects of the kernel that any agent was seen to have.
    objects: BTreeSet<Object>,
    tally: Tally,
}

fn soak(ground: &Ground, notes: &Notes) -> Result<()> {
    let seconds = setting("FFITRACE_SOAK_SECONDS")?.unwrap_or(8);
    let own = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let seed = setting("FFITRACE_SOAK_SEED")?.unwrap_or(own.subsec_nanos().into());
    println!("soak: {seconds} s, FFITRACE_SOAK_SEED={seed}");
    let context = || format!("FFITRACE_SOAK_SEED={seed}");
    let report = run(ground, Duration::from_secs(seconds), seed).with_context(context)?;
    notes.add(format!("soak of {seconds} s with seed {seed}: {report}"));
    Ok(())
}

fn run(ground: &Ground, time: Duration, seed: u64) -> Result<String> {
    let on_host = host::bpf_objects()?;
    let dir = public_dir()?;
    let shaky_socket = dir.path().join("shaky.sock");
    let mut soak = Soak {
        ground,
        random: Random(seed),
        steady: Agent::at(&dir.path().join("steady.sock"), &[])?,
        shaky: Some(Agent::at(&shaky_socket, &["--grace", "1"])?),
        shaky_socket,
        running: Vec::new(),
        objects: BTreeSet::new(),
        tally: Tally::default(),
    };
    ground.check_service(soak.steady.socket())?;
    let descriptors = soak.steady.descriptors()?;
    let since = Instant::now();
    let warm_up = (time / 4).min(Duration::from_secs(60));
    let mut warm = None;
    while since.elapsed() < time {
        soak.step()?;
        // However short it is, an agent ends in it.
        if soak.tally.restarts == 0 && since.elapsed() > time / 2 {
            soak.restart()?;
        }
        if warm.is_none() && since.elapsed() > warm_up {
            warm = Some(soak.steady.memory()?);
        }
    }
    while !soak.running.is_empty() {
        soak.reap()?;
        check!(
            since.elapsed() < time + 2 * LIMIT,
            "{} calls do not end",
            soak.running.len()
        );
    }
    soak.settle(
        descriptors,
        warm.context("the time was too short")?,
        on_host,
    )
}

impl Soak<'_> {
    fn step(&mut self) -> Result<()> {
        self.reap()?;
        match self.random.below(20) {
            0..9 => self.start_call(),
            9 | 10 => self.kill_client(),
            11..15 => self.talk_garbage(),
            15 if self.random.below(3) == 0 => self.restart(),
            _ => {
                std::thread::sleep(Duration::from_millis(self.random.below(60)));
                Ok(())
            }
        }
    }

    fn start_call(&mut self) -> Result<()> {
        if self.running.len() == CALLS {
            std::thread::sleep(Duration::from_millis(10));
            return Ok(());
        }
        let steady = self.random.below(2) == 0;
        let socket = if steady {
            self.steady.socket().to_owned()
        } else {
            self.shaky_socket.clone()
        };
        let user = [NOBODY, STRANGER, THIRD][self.random.below(3) as usize];
        let (call, what) = if self.random.below(3) == 0 {
            let rounds = 1 + self.random.below(40);
            let prototype = "unsigned agent_loop(const unsigned char *p, unsigned n, unsigned rounds, unsigned pause_ms)";
            let call = self.ground.call(user, &socket, prototype)?;
            let rest = ["p=zero:64", "n=64", "pause_ms=20"].map(String::from);
            let call = call.bind(rest).bind([format!("rounds={rounds}")]);
            (call, Work::Loop { rounds })
        } else {
            let count = self.random.below(8000);
            let pattern = Pattern::number(self.random.below(90)).with(count, 1);
            let call = self.ground.call(user, &socket, PATTERN)?;
            let call = call.bind(pattern.bindings());
            (call, Work::Pattern(pattern))
        };
        self.running.push(Running {
            call: call.option(["--hot", "off"]).within(2 * LIMIT).start()?,
            what,
            steady,
            disturbed: false,
        });
        Ok(())
    }

    /// Kills the process that makes a call, or the one that waits for it, too.
    fn kill_client(&mut self) -> Result<()> {
        if self.running.is_empty() {
            return Ok(());
        }
        let index = self.random.below(self.running.len() as u64) as usize;
        let whole = self.random.below(2) == 0;
        let Some(one) = self.running.get_mut(index) else {
            return Ok(());
        };
        one.disturbed = true;
        self.tally.killed += 1;
        if whole {
            one.call.running.kill_group();
            return Ok(());
        }
        for child in process::children(one.call.running.pid())? {
            let mut command = std::process::Command::new("kill");
            // Gone already, if that fails.
            process::run(command.args(["-KILL", &child.to_string()]), LIMIT)?;
        }
        Ok(())
    }

    fn talk_garbage(&mut self) -> Result<()> {
        self.tally.garbage += 1;
        let socket = if self.random.below(2) == 0 {
            self.steady.socket().to_owned()
        } else {
            self.shaky_socket.clone()
        };
        let client = match self.random.below(2) {
            0 => Client::connect(&socket)?,
            _ => Client::greet(&socket)?,
        };
        if self.random.below(2) == 0 {
            let base = self.random.next() >> self.random.below(64);
            let length = self.random.next() >> self.random.below(64);
            // Refused, or not: it is nobody's arena.
            let _ = client.ask(&packets::open(base, length));
        }
        let mut bytes = packets::hello().to_string().into_bytes();
        bytes.resize(1 + self.random.below(20_000) as usize, b'{');
        for _ in 0..self.random.below(30) {
            let at = self.random.below(bytes.len() as u64) as usize;
            bytes[at] = self.random.below(256) as u8;
        }
        // Closed already, if that fails.
        let _ = client.send(&bytes, &[]);
        Ok(())
    }

    /// Ends the shaky agent, one way or the other, and starts the next.
    fn restart(&mut self) -> Result<()> {
        let Some(mut agent) = self.shaky.take() else {
            return Ok(());
        };
        self.tally.restarts += 1;
        self.objects.extend(agent.objects()?);
        for one in &mut self.running {
            one.disturbed |= !one.steady;
        }
        if self.random.below(2) == 0 {
            agent.signal(libc::SIGKILL);
            agent.wait()?;
        } else {
            agent.stop()?;
        }
        self.shaky = Some(Agent::at(&self.shaky_socket, &["--grace", "1"])?);
        Ok(())
    }

    /// Looks at the calls that have ended.
    fn reap(&mut self) -> Result<()> {
        self.objects.extend(self.steady.objects()?);
        let mut index = 0;
        while index < self.running.len() {
            if self.running[index].call.running.is_running()? {
                index += 1;
                continue;
            }
            let one = self.running.swap_remove(index);
            self.check(one)?;
        }
        if self.running.len() == CALLS {
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn check(&mut self, one: Running) -> Result<()> {
        if one.disturbed {
            let finished = one.call.finish()?;
            let ended = matches!(finished.code, Some(0 | 1 | 3 | 4))
                || finished.signal == Some(libc::SIGKILL);
            check!(ended, "a disturbed call: {finished:?}");
            if finished.code != Some(0) {
                self.tally.disturbed += 1;
                return Ok(());
            }
            // It was done already.
            check!(
                finished.stdout.contains("\"complete\":true"),
                "{finished:?}"
            );
            self.tally.right += 1;
            return Ok(());
        }
        let outcome = one.call.outcome().with_context(|| {
            let agent = if one.steady {
                Some(&self.steady)
            } else {
                self.shaky.as_ref()
            };
            let log = agent.and_then(|agent| agent.log().ok()).unwrap_or_default();
            format!("an undisturbed call; the agent's log: {log}")
        })?;
        match one.what {
            Work::Pattern(pattern) => pattern.check(&outcome)?,
            Work::Loop { rounds } => {
                outcome.expect_code(0)?;
                let stats = &outcome.report.stats;
                check!(
                    stats.complete && stats.reads == 64 * rounds && stats.emitted == 64 * rounds,
                    "{rounds} rounds: {stats:?}"
                );
            }
        }
        self.tally.right += 1;
        Ok(())
    }
}
