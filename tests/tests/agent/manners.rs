//! Clients that say nothing, take nothing, or are very many: they harm only themselves.

use std::io;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use ffitrace_tests::agent::{Agent, public_dir};
use ffitrace_tests::packets::{self, Client, open};
use ffitrace_tests::process::Running;
use ffitrace_tests::suite::Suite;
use ffitrace_tests::{binary, check};
use serde_json::json;

use crate::ground::{self, Gate, Ground, LIMIT, STRANGER, THIRD, good};

pub(crate) fn add(suite: &mut Suite, ground: &Arc<Ground>) {
    ground::add(suite, ground, "manners::says_nothing", says_nothing);
    ground::add(suite, ground, "manners::never_reads", never_reads);
    ground::add(suite, ground, "manners::many_connections", many_connections);
    ground::add(suite, ground, "manners::few_descriptors", few_descriptors);
}

/// The agent closes a connection that has not greeted in time.
fn says_nothing(ground: &Ground) -> Result<()> {
    let agent = Agent::start(&[])?;
    ground.check_service(agent.socket())?;
    let before = agent.descriptors()?;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(Client::connect(agent.socket())?);
    }
    ground.check_service(agent.socket())?;
    for client in silent {
        client.patience(LIMIT)?;
        let packet = client.receive().context("a silent connection was kept")?;
        check!(packet.is_none(), "{packet:?}");
    }
    agent.wait_for_descriptors(before)?;
    agent.stop()
}

/// What a client does not read fills its own queue, and then costs it the connection.
fn never_reads(ground: &Ground) -> Result<()> {
    let agent = Agent::start(&[])?;
    ground.check_service(agent.socket())?;
    let before = agent.descriptors()?;
    let client = Client::greet(agent.socket())?;
    client.patience(Duration::from_secs(1))?;
    let _files = client.open(packets::APART, 2 << 30)?;
    let message = json!("status").to_string();
    let since = std::time::Instant::now();
    let mut sent = 0u32;
    let ended = loop {
        match client.send(message.as_bytes(), &[]) {
            Ok(()) => sent += 1,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // Others are served meanwhile.
                let other = Client::greet(agent.socket())?;
                let status = other.ask(&json!("status"))?;
                check!(status.get("status").is_some(), "{status}");
            }
            Err(error) => break error,
        }
        check!(
            since.elapsed() < LIMIT,
            "still connected after {sent} requests that were not read"
        );
    };
    check!(
        ended.kind() == io::ErrorKind::BrokenPipe || ended.kind() == io::ErrorKind::ConnectionReset,
        "{ended}"
    );
    agent.wait_for_sessions(0)?;
    drop(client);
    agent.wait_for_descriptors(before)?;
    ground.check_service(agent.socket())?;
    agent.stop()
}

/// A user's connections are limited, so they do not keep another out.
fn many_connections(ground: &Ground) -> Result<()> {
    let agent = Agent::start(&[])?;
    hold_connections(ground, &agent, &[STRANGER], 600, 500)?;
    agent.stop()
}

/// Nor do they where the agent was started with the usual limit of descriptors: what two users may
/// have of connections is more than that.
fn few_descriptors(ground: &Ground) -> Result<()> {
    let dir = public_dir()?;
    let socket = dir.path().join("agent.sock");
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -S -n 1024; exec \"$@\"", "sh"])
        .arg(binary::ffitrace()?)
        .args(["agent", "--mode", "666", "--socket"])
        .arg(&socket)
        .stdin(Stdio::null());
    let agent = Agent::run(command, &socket)?;
    hold_connections(ground, &agent, &[STRANGER, THIRD], 512, 450)?;
    agent.stop()
}

fn hold_connections(
    ground: &Ground,
    agent: &Agent,
    users: &[u32],
    count: usize,
    least: usize,
) -> Result<()> {
    ground.check_service(agent.socket())?;
    let before = agent.descriptors()?;
    let socket = agent.socket().display().to_string();
    let (count, least) = (count.to_string(), least.to_string());
    let mut held = Vec::new();
    for &user in users {
        let gate = Gate::new()?;
        let mut command = ground.client(user, "idle", &[&socket, &count, &least])?;
        let mut client = Running::start(gate.before_client(&mut command))?;
        gate.wait(&mut client)
            .with_context(|| format!("log: {}", agent.log().unwrap_or_default()))?;
        held.push((gate, client));
    }
    ground.check_service(agent.socket())?;
    // Nor does it hurt who asks for a session of an own.
    let other = Client::greet(agent.socket())?;
    let reply = other.ask(&open(packets::APART, 2 << 30))?;
    check!(reply.get("opened").is_some(), "{reply}");
    drop(other);
    for (gate, client) in held {
        gate.open()?;
        good("idle", client.wait(LIMIT)?)?;
    }
    agent.wait_for_descriptors(before)
}
