//! Two users of one agent: neither sees the other's accesses, acts in its name, or disturbs it.

use std::fs;
use std::sync::Arc;

use anyhow::{Context, Result};
use ffitrace_tests::agent::Agent;
use ffitrace_tests::check;
use ffitrace_tests::place::NOBODY;
use ffitrace_tests::process::{self, Running};
use ffitrace_tests::suite::Suite;

use crate::ground::{self, Gate, Ground, LIMIT, Pattern, STRANGER, good};

pub(crate) fn add(suite: &mut Suite, ground: &Arc<Ground>) {
    ground::add(suite, ground, "isolation::same_range", same_range);
    ground::add(suite, ground, "isolation::forged_sender", forged_sender);
    ground::add(suite, ground, "isolation::inherited_connection", inherited);
    ground::add(suite, ground, "isolation::other_descriptors", descriptors);
    ground::add(suite, ground, "isolation::broken_ring", broken_ring);
    ground::add(suite, ground, "isolation::flood", flood);
}

/// The process that makes the accesses, and its arena: first address and length.
fn traced(call: &Running) -> Result<(i32, u64, u64)> {
    let children = process::children(call.pid())?;
    let traced = *children.first().context("no process makes the call")?;
    let (mut first, mut end) = (u64::MAX, 0);
    for line in fs::read_to_string(format!("/proc/{traced}/maps"))?.lines() {
        if line.contains("ffitrace-arena") {
            let range = line.split(' ').next().unwrap_or_default();
            let (from, to) = range.split_once('-').context("range")?;
            first = first.min(u64::from_str_radix(from, 16)?);
            end = end.max(u64::from_str_radix(to, 16)?);
        }
    }
    check!(first < end, "the process {traced} has no arena");
    Ok((traced, first, end - first))
}

/// Another user's client that does `what` with an arena, and has begun; it ends when its gate opens.
fn stranger(
    ground: &Ground,
    agent: &Agent,
    what: &str,
    (base, length): (u64, u64),
) -> Result<(Gate, Running)> {
    let gate = Gate::new()?;
    let socket = agent.socket().display().to_string();
    let words = [socket, base.to_string(), length.to_string()];
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut command = ground.client(STRANGER, what, &words)?;
    let mut running = Running::start(gate.before_client(&mut command))?;
    gate.wait(&mut running)?;
    Ok((gate, running))
}

/// A session with exactly the range of another's arena records what its own process does there.
fn same_range(ground: &Ground) -> Result<()> {
    let agent = Agent::start(&[])?;
    let (pattern, gate) = (Pattern::number(9).with(3000, 3000), Gate::new()?);
    let call = gate.before(ground.pattern(agent.socket(), &pattern)?);
    let mut call = call.start()?;
    gate.wait(&mut call.running)?;
    let (_, base, length) = traced(&call.running)?;

    let (other_gate, other) = stranger(ground, &agent, "same-range", (base, length))?;
    agent.wait_for_sessions(2)?;

    gate.open()?;
    pattern.check(&call.outcome()?)?;
    other_gate.open()?;
    good("same-range", other.wait(LIMIT)?)?;
    agent.wait_for_sessions(0)?;
    agent.stop()
}

fn forged_sender(ground: &Ground) -> Result<()> {
    let agent = Agent::start(&[])?;
    let (pattern, gate) = (Pattern::number(9).with(300, 300), Gate::new()?);
    let call = gate.before(ground.pattern(agent.socket(), &pattern)?);
    let mut call = call.start()?;
    gate.wait(&mut call.running)?;
    let (process, _, _) = traced(&call.running)?;
    let words = [
        agent.socket().display().to_string(),
        process.to_string(),
        NOBODY.to_string(),
        STRANGER.to_string(),
    ];
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    ground.run_client(STRANGER, "forge", &words)?;
    gate.open()?;
    pattern.check(&call.outcome()?)?;
    agent.stop()
}

/// A child that has its parent's connection is another process, to whom the session is not open.
fn inherited(ground: &Ground) -> Result<()> {
    let agent = Agent::start(&[])?;
    let socket = agent.socket().display().to_string();
    ground.run_client(STRANGER, "bequeath", &[&socket])?;
    agent.wait_for_sessions(0)?;
    ground.check_service(agent.socket())?;
    agent.stop()
}

fn descriptors(ground: &Ground) -> Result<()> {
    let agent = Agent::start(&[])?;
    let (pattern, gate) = (Pattern::number(9).with(300, 300), Gate::new()?);
    let call = gate.before(ground.pattern(agent.socket(), &pattern)?);
    let mut call = call.start()?;
    gate.wait(&mut call.running)?;
    let (process, _, _) = traced(&call.running)?;
    let others = [process, call.running.pid(), agent.pid()].map(|pid| pid.to_string());
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    ground.run_client(STRANGER, "snoop", &others)?;
    gate.open()?;
    pattern.check(&call.outcome()?)?;
    agent.stop()
}

/// The agent reads what a killed process has left in its ring, and believes none of it.
fn broken_ring(ground: &Ground) -> Result<()> {
    let agent = Agent::start(&[])?;
    ground.check_service(agent.socket())?;
    let before = agent.descriptors()?;
    let socket = agent.socket().display().to_string();
    for position in [0, 4, 8, 1 << 20, 1 << 33, 1 << 63, u64::MAX, u64::MAX - 7] {
        let position = position.to_string();
        let words = [socket.as_str(), position.as_str()];
        let mut command = ground.client(STRANGER, "wreck", &words)?;
        let finished = process::run(&mut command, LIMIT)?;
        check!(finished.signal == Some(libc::SIGKILL), "{finished:?}");
        agent.wait_for_sessions(0)?;
        agent.wait_for_descriptors(before)?;
    }
    ground.check_service(agent.socket())?;
    agent.stop()
}

/// What another user does without pause changes nothing in anybody's trace.
fn flood(ground: &Ground) -> Result<()> {
    let agent = Agent::start(&[])?;
    ground.check_service(agent.socket())?;
    let before = agent.descriptors()?;
    let (pattern, gate) = (Pattern::number(11).with(500, 4000), Gate::new()?);
    let call = gate.before(ground.pattern(agent.socket(), &pattern)?);
    let mut call = call.start()?;
    gate.wait(&mut call.running)?;
    let (_, base, length) = traced(&call.running)?;

    let (flood_gate, mut flood) = stranger(ground, &agent, "flood", (base, length))?;
    // The one that was there before, and some that come meanwhile.
    gate.open()?;
    pattern
        .check(&call.outcome()?)
        .context("the session before")?;
    for number in 0..3 {
        let pattern = Pattern::number(number);
        let outcome = ground.pattern(agent.socket(), &pattern)?.run()?;
        pattern.check(&outcome).context("a session meanwhile")?;
    }
    check!(
        flood.is_running()?,
        "the flood ended early: {}",
        flood.errors()?
    );
    flood_gate.open()?;
    good("flood", flood.wait(LIMIT)?)?;
    agent.wait_for_sessions(0)?;
    agent.wait_for_descriptors(before)?;
    agent.stop()
}
