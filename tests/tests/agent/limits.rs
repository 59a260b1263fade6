//! Limits: what is beyond is refused by the limit's name, and they change without ending a session.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use ffitrace_tests::agent::{Agent, public_dir};
use ffitrace_tests::check;
use ffitrace_tests::packets::{self, Client, refusal};
use ffitrace_tests::process;
use ffitrace_tests::suite::Suite;
use serde_json::{Value, json};

use crate::ground::{self, Gate, Ground, LIMIT, Pattern, check_refused};

pub(crate) fn add(suite: &mut Suite, ground: &Arc<Ground>) {
    ground::add(suite, ground, "limits::of_a_user", of_a_user);
    ground::add(suite, ground, "limits::reload", reload);
    ground::add(suite, ground, "limits::of_memory_and_space", of_memory);
    ground::add(suite, ground, "limits::of_requests", of_requests);
    ground::add(suite, ground, "limits::wrong_at_start", wrong_at_start);
}

/// A file with limits.
struct File {
    dir: tempfile::TempDir,
}

impl File {
    fn new(text: &str) -> Result<File> {
        let file = File { dir: public_dir()? };
        file.write(text)?;
        Ok(file)
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("limits.toml")
    }

    fn write(&self, text: &str) -> Result<()> {
        Ok(fs::write(self.path(), text)?)
    }

    fn start(&self) -> Result<Agent> {
        Agent::start(&["--limits", &self.path().display().to_string()])
    }
}

fn of_a_user(ground: &Ground) -> Result<()> {
    for limit in ["sessions_per_user", "sessions"] {
        let limits = File::new(&format!("{limit} = 1\n"))?;
        let agent = limits.start()?;
        let (pattern, gate) = (Pattern::number(1).with(200, 200), Gate::new()?);
        let call = ground.pattern(agent.socket(), &pattern)?;
        let mut first = gate.before(call.clone()).start()?;
        gate.wait(&mut first.running)?;
        check_refused(&call, &format!("`{limit}`")).context(limit)?;
        gate.open()?;
        pattern.check(&first.outcome()?)?;
        pattern.check(&call.run()?)?;
        agent.stop()?;
    }
    Ok(())
}

fn reload(ground: &Ground) -> Result<()> {
    let limits = File::new("sessions_per_user = 1\n")?;
    let mut agent = limits.start()?;
    let (pattern, gate) = (Pattern::number(1).with(200, 200), Gate::new()?);
    let call = ground.pattern(agent.socket(), &pattern)?;
    let mut first = gate.before(call.clone()).start()?;
    gate.wait(&mut first.running)?;
    check_refused(&call, "`sessions_per_user`").context("at first")?;

    limits.write("sessions_per_user = 2\n")?;
    agent.signal(libc::SIGHUP);
    agent.wait_for_log("reloaded")?;
    pattern
        .check(&call.run()?)
        .context("after one more was allowed")?;

    // A mistake changes nothing, and is told.
    limits.write("sessions_per_user = 1\nsesions = 2\n")?;
    agent.signal(libc::SIGHUP);
    agent.wait_for_log("sesions")?;
    pattern.check(&call.run()?).context("after a mistake")?;
    fs::remove_file(limits.path())?;
    agent.signal(libc::SIGHUP);
    agent.wait_for_log("No such file")?;
    pattern.check(&call.run()?).context("without the file")?;

    // Fewer than there are: those go on.
    limits.write("sessions_per_user = 0\n")?;
    agent.signal(libc::SIGHUP);
    agent.wait_for_log("sessions_per_user: 0")?;
    check_refused(&call, "`sessions_per_user`").context("none allowed")?;
    check!(agent.status()?.sessions == 1, "{:?}", agent.status()?);
    gate.open()?;
    pattern
        .check(&first.outcome()?)
        .context("the session in the middle")?;
    agent.stop()
}

/// What was asked for, and answered with a refusal of this limit.
fn check_limit(client: &Client, request: &Value, limit: &str) -> Result<()> {
    let reply = client.ask(request)?;
    let (why, message) = refusal(&reply)?;
    check!(why == "limit" && message.contains(limit), "{reply}");
    Ok(())
}

fn of_memory(ground: &Ground) -> Result<()> {
    let pair = 2u64 << 30;
    let limits = File::new(&format!("arena_bytes = {pair}\nring_bytes = 2097152\n"))?;
    let mut agent = limits.start()?;
    let client = Client::greet(agent.socket())?;
    check_limit(
        &client,
        &packets::open(packets::APART, 2 * pair),
        "arena_bytes",
    )?;
    // A larger ring than allowed is a smaller one.
    let wish = json!({"open": {"arena_base": packets::APART, "arena_len": pair, "marker": 0,
        "ring_bytes": 1u64 << 30}});
    let reply = client.ask(&wish)?;
    check!(reply["opened"]["ring_bytes"] == 2 << 20, "{reply}");
    drop(client);
    agent.wait_for_sessions(0)?;
    let call = ground.pattern(agent.socket(), &Pattern::number(1).with(10, 0))?;
    check_refused(&call, "`arena_bytes`")?;

    limits.write("memory_per_user = 1048576\n")?;
    agent.signal(libc::SIGHUP);
    agent.wait_for_log("memory_per_user: 1048576")?;
    let client = Client::greet(agent.socket())?;
    check_limit(
        &client,
        &packets::open(packets::APART, pair),
        "memory_per_user",
    )?;
    check_refused(&call, "`memory_per_user`")?;
    agent.stop()
}

/// Who asks faster than allowed waits, and so harms only itself.
fn of_requests(ground: &Ground) -> Result<()> {
    let limits = File::new("requests_per_second = 2\n")?;
    let agent = limits.start()?;
    let client = Client::greet(agent.socket())?;
    client.patience(LIMIT)?;
    let since = std::time::Instant::now();
    for _ in 0..30 {
        let reply = client.ask(&json!("status"))?;
        check!(reply.get("status").is_some(), "{reply}");
    }
    // A burst of twenty, and two a second from then on.
    check!(
        since.elapsed().as_secs_f64() > 3.0,
        "30 requests took {:?}",
        since.elapsed()
    );
    ground.check_service(agent.socket())?;
    agent.stop()
}

fn wrong_at_start(_: &Ground) -> Result<()> {
    let dir = public_dir()?;
    let path = dir.path().join("limits.toml");
    let cases = [
        (Some("sesions_per_user = 1"), "sesions_per_user"),
        (Some("sessions = \"many\""), "sessions"),
        (Some("sessions = 1\n["), "limits.toml"),
        (Some("ring_bytes = 3000000"), "power of two"),
        (Some("sessions = 100000"), "sessions"),
        (None, "limits.toml"),
    ];
    for (text, named) in cases {
        match text {
            Some(text) => fs::write(&path, text)?,
            None => fs::remove_file(&path)?,
        }
        let mut command = Agent::command(&dir.path().join("agent.sock"))?;
        command.arg("--limits").arg(&path);
        let finished = process::run(&mut command, LIMIT)?;
        check!(finished.code == Some(2), "{text:?}: {finished:?}");
        check!(
            finished.stderr.contains(named),
            "{text:?}: {named:?} is not named: {}",
            finished.stderr
        );
    }
    Ok(())
}
