//! An agent whose socket a service manager made, as systemd does with a socket unit.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result};
use ffitrace_tests::agent::{Agent, public_dir};
use ffitrace_tests::packets;
use ffitrace_tests::process::Running;
use ffitrace_tests::suite::Suite;
use ffitrace_tests::{binary, check};

use crate::ground::{self, Ground, LIMIT, Pattern};

pub(crate) fn add(suite: &mut Suite, ground: &Arc<Ground>) {
    ground::add(suite, ground, "activation::socket", socket);
    ground::add(suite, ground, "activation::wrong_socket", wrong_socket);
}

/// The agent with this socket as descriptor 3, as sd_listen_fds(3) describes it.
fn activated(listening: &OwnedFd, notify: &Path) -> Result<Command> {
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg("exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\" agent")
        .arg(binary::ffitrace()?)
        .env("NOTIFY_SOCKET", notify)
        .stdin(Stdio::from(listening.try_clone()?));
    Ok(command)
}

fn socket(ground: &Ground) -> Result<()> {
    let dir = public_dir()?;
    let path = dir.path().join("agent.sock");
    let listening = packets::listen(&path)?;
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
    let notify = dir.path().join("notify");
    let manager = UnixDatagram::bind(&notify)?;
    manager.set_read_timeout(Some(LIMIT))?;

    for _ in 0..2 {
        // The first client comes before the agent, and waits.
        let pattern = Pattern::number(8).with(400, 0);
        let waiting = ground.pattern(&path, &pattern)?.start()?;
        let agent = Agent::run(activated(&listening, &notify)?, &path)?;
        let mut message = [0; 256];
        let length = manager.recv(&mut message).context("no notification")?;
        let message = String::from_utf8_lossy(&message[..length]).into_owned();
        check!(
            message.lines().any(|line| line == "READY=1"),
            "notified of {message:?}"
        );
        pattern.check(&waiting.outcome()?)?;
        ground.check_service(&path)?;
        agent.stop()?;
        check!(path.exists(), "the manager's socket was removed");
    }
    Ok(())
}

fn wrong_socket(_: &Ground) -> Result<()> {
    let dir = public_dir()?;
    let listening = OwnedFd::from(UnixListener::bind(dir.path().join("stream"))?);
    let notify = dir.path().join("notify");
    let mut command = activated(&listening, &notify)?;
    let finished = Running::start_with_input(&mut command)?.wait(LIMIT)?;
    check!(
        finished.code == Some(3) && finished.stderr.contains("SOCK_SEQPACKET"),
        "{finished:?}"
    );
    Ok(())
}
