//! A client that says it is another, and one whose child goes on with its connection.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use ffitrace_tests::check;
use ffitrace_tests::packets::{self, Client};
use serde_json::json;

use super::marks::own_maps;
use super::{ROLE, number, word};

/// Somewhere that nothing is.
pub(super) const BASE: u64 = packets::APART;
/// The shortest arena.
pub(super) const LENGTH: u64 = 2 << 30;

/// Claims to be another process. Words: socket, that process, its user.
pub(super) fn forge(words: &[String]) -> Result<()> {
    let socket = Path::new(word(words, 0)?);
    let (pid, user) = (number(words, 1)?, number(words, 2)?);
    let (pid, user) = (i32::try_from(pid)?, u32::try_from(user)?);
    let own = i32::try_from(std::process::id())?;
    let client = Client::greet(socket)?;
    let message = packets::open(BASE, LENGTH).to_string();
    let us = u32::try_from(number(words, 3)?)?;
    for (what, pid, user) in [
        ("another's process", pid, us),
        ("another's user", own, user),
        ("both", pid, user),
        ("root", own, 0),
        ("the first process", 1, 0),
    ] {
        let error = match client.send_as(message.as_bytes(), pid, user) {
            Ok(()) => anyhow::bail!("{what} was taken as the sender"),
            Err(error) => error,
        };
        check!(
            error.kind() == io::ErrorKind::PermissionDenied,
            "{what}: {error}"
        );
    }
    // Who it is, it may say.
    client.send_as(message.as_bytes(), own, us)?;
    let reply = client.receive()?.context("closed")?.json()?;
    check!(reply.get("opened").is_some(), "{reply}");
    Ok(())
}

/// Opens a session, and has a child use the connection. Words: socket.
pub(super) fn bequeath(words: &[String]) -> Result<()> {
    let client = Client::greet(Path::new(word(words, 0)?))?;
    let _files = client.open(BASE, LENGTH)?;
    let program = std::env::current_exe()?;
    let child = Command::new(program)
        .args([ROLE, "inherit"])
        .stdin(Stdio::from(client.socket().try_clone()?))
        .output()?;
    check!(
        child.status.success(),
        "the child: {}",
        String::from_utf8_lossy(&child.stderr)
    );
    let status = client.ask(&json!("status"))?;
    check!(
        status["status"]["sessions"] == 1 && status["status"]["own_sessions"] == 1,
        "the child has ended the session: {status}"
    );
    // The session's own process may.
    let reply = client.ask(&json!("close"))?;
    check!(reply == "done", "{reply}");
    let status = client.ask(&json!("status"))?;
    check!(status["status"]["sessions"] == 0, "{status}");
    Ok(())
}

/// Uses the connection that is its standard input, whose session is its parent's.
pub(super) fn inherit() -> Result<()> {
    let client = Client::over(io::stdin().as_fd().try_clone_to_owned()?);
    let program = std::fs::File::open(std::env::current_exe()?)?;
    for (message, file) in [
        (json!("unprobe"), false),
        (packets::probe(0, "main"), true),
        (packets::open(BASE, LENGTH), false),
        (packets::hello(), false),
        (json!("close"), false),
    ] {
        let maps = own_maps()?;
        let files = [program.as_fd(), maps.as_fd()];
        let reply = client.converse(&message, if file { &files } else { &[] })?;
        let reply = reply.json()?;
        let (why, _) = packets::refusal(&reply).with_context(|| format!("{message}"))?;
        check!(why == "permission", "{message}: {reply}");
    }
    let status = client.ask(&json!("status"))?;
    check!(status["status"]["sessions"] == 1, "{status}");
    Ok(())
}
