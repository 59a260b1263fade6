//! Clients that are many, or that never cease.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use ffitrace_tests::check;
use ffitrace_tests::packets::{self, Client};
use serde_json::{Value, json};

use super::forger::{BASE, LENGTH};
use super::marks::own_maps;
use super::{at_gate, gate_is_open, pass_gate, word};

/// Opens and closes sessions, marks what it may not and says what is no message, until the gate
/// opens. Words: socket, first address and length of another's arena.
pub(super) fn flood(words: &[String]) -> Result<()> {
    let socket = Path::new(word(words, 0)?);
    let other = (super::number(words, 1)?, super::number(words, 2)?);
    let program = File::open(std::env::current_exe()?)?;
    let mut rounds = 0u64;
    let mut opened = 0u64;
    while !gate_is_open()? {
        // Refused and closed connections are part of it.
        for (base, length) in [(BASE, LENGTH), other] {
            let Ok(client) = Client::greet(socket) else {
                continue;
            };
            if client.open(base, length).is_ok() {
                opened += 1;
            }
            let maps = own_maps()?;
            let files = [program.as_fd(), maps.as_fd()];
            let _ = client.converse(&packets::probe(rounds, "anything"), &files);
            let _ = client.ask(&json!("unprobe"));
            let _ = client.ask(&json!("status"));
            if !rounds.is_multiple_of(3) {
                let _ = client.ask(&json!("close"));
            }
        }
        for garbage in [&b"{"[..], b"", b"null", &[0xff; 4000], &[b'['; 16_000]] {
            if let Ok(client) = Client::connect(socket) {
                let _ = client.send(garbage, &[]);
            }
        }
        rounds += 1;
        if rounds == 2 {
            at_gate()?;
        }
    }
    check!(opened > 0, "no session was opened in {rounds} rounds");
    println!("{rounds} rounds, {opened} sessions");
    Ok(())
}

/// Holds connections, as many as it gets, until the gate opens. Words: socket, how many to try, how
/// many it has to get at least.
pub(super) fn idle(words: &[String]) -> Result<()> {
    let socket = Path::new(word(words, 0)?);
    let (count, least) = (super::number(words, 1)?, super::number(words, 2)?);
    let mut held = Vec::new();
    let mut refused = 0;
    for _ in 0..count {
        let Ok(client) = Client::connect(socket) else {
            continue;
        };
        client.patience(Duration::from_secs(30))?;
        let reply: Value = client.ask(&packets::hello()).unwrap_or(Value::Null);
        if reply.get("welcome").is_some() {
            held.push(client);
            continue;
        }
        // Refused by name, where it was not closed before it could say its greeting.
        if let Ok((why, message)) = packets::refusal(&reply) {
            check!(
                why == "limit" && message.contains("connections_per_user"),
                "{reply}"
            );
            refused += 1;
        }
    }
    println!("{} connections, {refused} refused by name", held.len());
    check!(
        held.len() as u64 >= least,
        "{} connections, not {least}",
        held.len()
    );
    pass_gate()
}
