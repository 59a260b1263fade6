//! Messages that are none, or not now: refused, and forgotten.
//!
//! After each of them the agent serves others, and has no more descriptors than before.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use anyhow::{Context, Result};
use ffitrace_tests::agent::Agent;
use ffitrace_tests::check;
use ffitrace_tests::packets::{self, Client, hello, open, refusal};
use ffitrace_tests::suite::Suite;
use serde_json::{Value, json};

use crate::ground::{self, Ground};

const PAIR: u64 = 2 << 30;

type Case = fn(&Agent) -> Result<()>;

pub(crate) fn add(suite: &mut Suite, ground: &Arc<Ground>) {
    let cases: [(&str, Case); 9] = [
        ("other_version", other_version),
        ("no_message", no_message),
        ("too_long", too_long),
        ("not_first", not_first),
        ("hello_twice", hello_twice),
        ("open_twice", open_twice),
        ("second_connection", second_connection),
        ("no_arena", no_arena),
        ("descriptors", descriptors),
    ];
    for (name, case) in cases {
        let name = format!("protocol::{name}");
        ground::add(suite, ground, &name, move |ground| survives(ground, case));
    }
}

/// Has the agent go through something twice, and looks at what is left of it.
fn survives(ground: &Ground, case: Case) -> Result<()> {
    let mut agent = Agent::start(&[])?;
    ground.check_service(agent.socket())?;
    let before = agent.descriptors()?;
    for _ in 0..2 {
        let bystander = Client::greet(agent.socket())?;
        case(&agent).with_context(|| format!("log: {}", agent.log().unwrap_or_default()))?;
        check!(agent.is_running()?, "the agent has ended: {}", agent.log()?);
        let status = bystander.ask(&json!("status"))?;
        check!(status.get("status").is_some(), "{status}");
        drop(bystander);
        agent.wait_for_sessions(0)?;
        agent.wait_for_descriptors(before)?;
    }
    ground.check_service(agent.socket())?;
    agent.stop()
}

/// Fails unless the answer is a refusal of this kind that says these words.
fn check_refusal(reply: &Value, why: &str, words: &[&str]) -> Result<()> {
    let (given, message) = refusal(reply)?;
    let said = words.iter().all(|word| message.contains(word));
    check!(
        given == why && said && !message.is_empty(),
        "not refused for {why} with {words:?}: {reply}"
    );
    Ok(())
}

/// Fails unless the agent closes the connection.
fn check_closed(client: &Client) -> Result<()> {
    let packet = client.receive().context("still open")?;
    check!(packet.is_none(), "{packet:?}");
    Ok(())
}

fn other_version(agent: &Agent) -> Result<()> {
    for (protocol, layout) in [(0, 4), (2, 4), (1, 3), (1, 5), (u32::MAX, 4)] {
        let client = Client::connect(agent.socket())?;
        let greeting = json!({"hello": {"protocol": protocol, "layout": layout}});
        let reply = client.ask(&greeting)?;
        check_refusal(&reply, "protocol", &["install the same version"])?;
        check_closed(&client)?;
    }
    Ok(())
}

fn no_message(agent: &Agent) -> Result<()> {
    let deep = vec![b'['; 16_000];
    let objects = br#"{"hello":"#.repeat(1_500);
    let messages: [&[u8]; 14] = [
        b"\0",
        b"{}",
        b"[]",
        b"null",
        b"\"\"",
        b"hello",
        b"\xff\xfe\xfd",
        br#"{"hello":{"protocol":1,"layout":4,"more":1}}"#,
        br#"{"hello":{"protocol":1}}"#,
        br#"{"hello":{"protocol":1,"layout":4}} {}"#,
        br#"{"hello":{"protocol":-1,"layout":4}}"#,
        br#"{"hello":{"protocol":1,"layout":4},"status":null}"#,
        &deep,
        &objects,
    ];
    for first in [true, false] {
        for message in messages {
            let client = if first {
                Client::connect(agent.socket())?
            } else {
                Client::greet(agent.socket())?
            };
            client.send(message, &[])?;
            let shown = String::from_utf8_lossy(&message[..message.len().min(60)]).into_owned();
            let reply = client.receive()?.context(shown.clone())?.json()?;
            check_refusal(&reply, "protocol", &[]).context(shown)?;
            check_closed(&client)?;
        }
    }
    // Nothing at all, which reads as the end.
    let client = Client::connect(agent.socket())?;
    client.send(b"", &[])?;
    check_closed(&client)
}

fn too_long(agent: &Agent) -> Result<()> {
    for length in [(16 << 10) + 1, 100 << 10] {
        let mut message = hello().to_string().into_bytes();
        message.resize(length, b' ');
        for first in [true, false] {
            let client = if first {
                Client::connect(agent.socket())?
            } else {
                Client::greet(agent.socket())?
            };
            client.send(&message, &[])?;
            check_closed(&client)?;
        }
    }
    // As long as allowed.
    let mut message = hello().to_string().into_bytes();
    message.resize(16 << 10, b' ');
    let client = Client::connect(agent.socket())?;
    client.send(&message, &[])?;
    let reply = client.receive()?.context("closed")?.json()?;
    check!(reply.get("welcome").is_some(), "{reply}");
    Ok(())
}

fn not_first(agent: &Agent) -> Result<()> {
    for message in [open(packets::APART, PAIR), json!("status"), json!("close")] {
        let client = Client::connect(agent.socket())?;
        let reply = client.ask(&message)?;
        check_refusal(&reply, "protocol", &["hello"])?;
        check_closed(&client)?;
    }
    // Without a session there is nothing to be marked.
    let client = Client::greet(agent.socket())?;
    check_refusal(&client.ask(&json!("unprobe"))?, "protocol", &["open"])?;
    Ok(())
}

fn hello_twice(agent: &Agent) -> Result<()> {
    let client = Client::greet(agent.socket())?;
    check_refusal(&client.ask(&hello())?, "protocol", &["hello"])?;
    let _files = client.open(packets::APART, PAIR)?;
    check_refusal(&client.ask(&hello())?, "protocol", &["hello"])?;
    check!(agent.status()?.sessions == 1, "{:?}", agent.status()?);
    Ok(())
}

fn open_twice(agent: &Agent) -> Result<()> {
    let client = Client::greet(agent.socket())?;
    for _ in 0..3 {
        let _files = client.open(packets::APART, PAIR)?;
        let reply = client.ask(&open(packets::APART, PAIR))?;
        check_refusal(&reply, "protocol", &["close it first"])?;
        check!(agent.status()?.sessions == 1, "{:?}", agent.status()?);
        let reply = client.ask(&json!("close"))?;
        check!(reply == "done", "{reply}");
        check!(agent.status()?.sessions == 0, "{:?}", agent.status()?);
    }
    Ok(())
}

/// A process has one session, on whichever connection.
fn second_connection(agent: &Agent) -> Result<()> {
    let first = Client::greet(agent.socket())?;
    let second = Client::greet(agent.socket())?;
    let _files = first.open(packets::APART, PAIR)?;
    let reply = second.ask(&open(packets::APART, PAIR))?;
    check_refusal(&reply, "limit", &["session already"])?;
    drop(first);
    agent.wait_for_sessions(0)?;
    second.open(packets::APART, PAIR)?;
    Ok(())
}

fn no_arena(agent: &Agent) -> Result<()> {
    let client = Client::greet(agent.socket())?;
    let end = 1u64 << 47;
    let last = u64::MAX - PAIR + 1;
    for (base, length) in [
        (PAIR / 2, PAIR),
        (4096, PAIR),
        (PAIR, PAIR / 2),
        (PAIR, 0),
        (PAIR, PAIR + 1),
        (PAIR, u64::MAX),
        (PAIR, last),
        (last, PAIR),
        (last, 2 * PAIR),
        (end, PAIR),
        (end - PAIR, 2 * PAIR),
    ] {
        let reply = client.ask(&open(base, length))?;
        check_refusal(&reply, "protocol", &["no arena"])
            .with_context(|| format!("{length:#x} bytes at {base:#x}"))?;
    }
    let reply = client.ask(&open(packets::APART, PAIR << 10))?;
    check_refusal(&reply, "limit", &["arena_bytes"])?;
    // Among other memory, where each would slow down everybody's page faults.
    for base in [PAIR, end - PAIR] {
        let reply = client.ask(&open(base, PAIR))?;
        check_refusal(&reply, "limit", &["arenas_anywhere"])?;
    }
    client.open(packets::APART, PAIR)?;
    Ok(())
}

/// Descriptors that nobody asked for are not kept.
fn descriptors(agent: &Agent) -> Result<()> {
    let file = File::open("/proc/self/comm")?;
    let many = |count: usize| -> Vec<BorrowedFd<'_>> { vec![file.as_fd(); count] };
    let client = Client::connect(agent.socket())?;
    client.send(hello().to_string().as_bytes(), &many(16))?;
    let reply = client.receive()?.context("closed")?.json()?;
    check!(reply.get("welcome").is_some(), "{reply}");
    let before = agent.descriptors()?;
    for count in [1, 2, 3, 16, 64] {
        let status = client.converse(&json!("status"), &many(count))?.json()?;
        check!(status.get("status").is_some(), "{status}");
        check!(
            agent.descriptors()? <= before,
            "{count} descriptors were kept: {} after {before}",
            agent.descriptors()?
        );
    }
    let _files = client.open(packets::APART, PAIR)?;
    let reply = client
        .converse(&packets::probe(0, "x"), &many(16))?
        .json()?;
    refusal(&reply)?;
    // With a message that is none, and in a packet that is too long.
    client.send(b"garbage", &many(16))?;
    let reply = client.receive()?.context("closed")?.json()?;
    check_refusal(&reply, "protocol", &[])?;
    let client = Client::greet(agent.socket())?;
    client.send(&vec![b' '; 20_000], &many(16))?;
    check_closed(&client)
}
