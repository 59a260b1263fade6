//! Ends in the middle: of a client, and of the agent.

use std::fs;
use std::sync::Arc;

use anyhow::{Context, Result};
use ffitrace_tests::agent::{Agent, public_dir};
use ffitrace_tests::call::Started;
use ffitrace_tests::check;
use ffitrace_tests::packets::Client;
use ffitrace_tests::process::{self, Finished, wait_for};
use ffitrace_tests::suite::Suite;

use crate::ground::{self, Gate, Ground, LIMIT, Pattern, wait_for_no_links};

pub(crate) fn add(suite: &mut Suite, ground: &Arc<Ground>) {
    ground::add(suite, ground, "ends::client_killed", client_killed);
    ground::add(suite, ground, "ends::agent_killed", agent_killed);
    ground::add(
        suite,
        ground,
        "ends::agent_killed_unnoticed",
        agent_killed_unnoticed,
    );
    ground::add(suite, ground, "ends::agent_told_to_end", told_to_end);
    ground::add(suite, ground, "ends::out_of_patience", out_of_patience);
    ground::add(suite, ground, "ends::second_agent", second_agent);
    ground::add(suite, ground, "ends::stale_socket", stale_socket);
    ground::add(suite, ground, "ends::not_a_socket", not_a_socket);
}

/// A call that waits at a gate, in the middle of its accesses.
fn in_the_middle(
    ground: &Ground,
    agent: &Agent,
    gate: &Gate,
    after: u64,
) -> Result<(Pattern, Started)> {
    let pattern = Pattern::number(6).with(500, after);
    let call = gate.before(ground.pattern(agent.socket(), &pattern)?);
    let mut call = call.start()?;
    gate.wait(&mut call.running)?;
    Ok((pattern, call))
}

/// Kills a process that is not this one's child.
fn kill(process: i32) -> Result<()> {
    let killed = process::run(
        std::process::Command::new("kill").args(["-KILL", &process.to_string()]),
        LIMIT,
    )?;
    check!(killed.code == Some(0), "{killed:?}");
    Ok(())
}

fn client_killed(ground: &Ground) -> Result<()> {
    let agent = Agent::start(&[])?;
    ground.check_service(agent.socket())?;
    let before = agent.descriptors()?;
    for whole_group in [false, true] {
        let gate = Gate::new()?;
        let (_, mut call) = in_the_middle(ground, &agent, &gate, 100)?;
        let other_gate = Gate::new()?;
        let (pattern, other) = in_the_middle(ground, &agent, &other_gate, 2000)?;
        agent.wait_for_sessions(2)?;
        if whole_group {
            call.running.kill_group();
            let finished = call.finish()?;
            check!(finished.signal == Some(libc::SIGKILL), "{finished:?}");
        } else {
            let children = process::children(call.running.pid())?;
            kill(*children.first().context("no process makes the call")?)?;
            let finished = call.finish()?;
            check!(
                finished.code == Some(1) && finished.stdout.contains("SIGKILL"),
                "{finished:?}"
            );
        }
        // The other's session goes on.
        agent.wait_for_sessions(1)?;
        check!(agent.links()? > 0, "detached under another's session");
        other_gate.open()?;
        pattern.check(&other.outcome()?)?;
        agent.wait_for_sessions(0)?;
        wait_for_no_links(&agent)?;
        agent.wait_for_descriptors(before)?;
    }
    ground.check_service(agent.socket())?;
    agent.stop()
}

/// Fails unless the call has ended as one whose trace is not whole.
fn check_incomplete(finished: &Finished) -> Result<()> {
    check!(
        finished.code == Some(4),
        "exit status {:?}, not 4: {finished:?}",
        finished.code
    );
    let text = format!("{}{}", finished.stdout, finished.stderr);
    check!(
        text.contains("not recorded") || text.contains("incomplete"),
        "no cause is named: {finished:?}"
    );
    check!(
        finished.stdout.contains("\"complete\":false"),
        "{finished:?}"
    );
    Ok(())
}

/// Accesses that nobody is there to record: the call ends, and says that they are missing.
fn agent_killed(ground: &Ground) -> Result<()> {
    let dir = public_dir()?;
    let socket = dir.path().join("agent.sock");
    let mut agent = Agent::at(&socket, &[])?;
    let gate = Gate::new()?;
    let (_, call) = in_the_middle(ground, &agent, &gate, 700)?;
    agent.signal(libc::SIGKILL);
    let ended = agent.wait()?;
    check!(ended.signal == Some(libc::SIGKILL), "{ended:?}");
    gate.open()?;
    let finished = call.finish()?;

    // The next one is served by the next agent, at the same socket.
    let agent = Agent::at(&socket, &[])?;
    ground.check_service(&socket)?;
    agent.stop()?;
    check_incomplete(&finished)
}

/// Without an access after the agent's end nothing is missing, so either end is right: that of a
/// whole trace, or that of one that cannot be vouched for. Only it must come.
fn agent_killed_unnoticed(ground: &Ground) -> Result<()> {
    let mut agent = Agent::start(&[])?;
    let gate = Gate::new()?;
    let (pattern, call) = in_the_middle(ground, &agent, &gate, 0)?;
    agent.signal(libc::SIGKILL);
    agent.wait()?;
    gate.open()?;
    let finished = call.finish()?;
    check!(matches!(finished.code, Some(0 | 4)), "{finished:?}");
    if finished.code == Some(4) {
        return check_incomplete(&finished);
    }
    let report: ffitrace_tests::report::Report = serde_json::from_str(&finished.stdout)?;
    let outcome = ffitrace_tests::call::Outcome {
        process: finished,
        report,
        events: Vec::new(),
    };
    pattern.check(&outcome)
}

fn told_to_end(ground: &Ground) -> Result<()> {
    let dir = public_dir()?;
    let socket = dir.path().join("agent.sock");
    let mut agent = Agent::at(&socket, &["--grace", "60"])?;
    let early = Client::greet(&socket)?;
    let gate = Gate::new()?;
    let (pattern, call) = in_the_middle(ground, &agent, &gate, 2000)?;
    agent.signal(libc::SIGTERM);
    agent.wait_for_log("ending")?;

    // Nobody new, whether connected already or not.
    let reply = early.ask(&ffitrace_tests::packets::open(
        ffitrace_tests::packets::APART,
        2 << 30,
    ))?;
    let (why, message) = ffitrace_tests::packets::refusal(&reply)?;
    check!(why == "stopping" && message.contains("ending"), "{reply}");
    let late = ground.pattern(&socket, &pattern)?.start()?.finish()?;
    check!(
        late.code == Some(3) && late.stderr.contains("ending"),
        "{late:?}"
    );
    check!(agent.is_running()?, "it did not wait: {}", agent.log()?);

    gate.open()?;
    pattern.check(&call.outcome()?)?;
    let ended = agent.wait()?;
    check!(ended.code == Some(0), "{ended:?}");
    check!(!socket.exists(), "its socket is still there");
    Ok(())
}

/// It does not wait for ever, nor if it is told twice.
fn out_of_patience(ground: &Ground) -> Result<()> {
    for (grace, twice) in [("0.5", false), ("1000", true)] {
        let dir = public_dir()?;
        let socket = dir.path().join("agent.sock");
        let mut agent = Agent::at(&socket, &["--grace", grace])?;
        let gate = Gate::new()?;
        let (_, call) = in_the_middle(ground, &agent, &gate, 700)?;
        agent.signal(libc::SIGTERM);
        if twice {
            agent.wait_for_log("ending")?;
            agent.signal(libc::SIGINT);
        }
        let ended = agent.wait()?;
        check!(ended.code == Some(0), "{ended:?}");
        check!(!socket.exists(), "its socket is still there");
        gate.open()?;
        check_incomplete(&call.finish()?)?;
    }
    Ok(())
}

fn second_agent(ground: &Ground) -> Result<()> {
    let agent = Agent::start(&[])?;
    let finished = process::run(&mut Agent::command(agent.socket())?, LIMIT)?;
    check!(finished.code == Some(3), "{finished:?}");
    let path = agent.socket().display().to_string();
    check!(
        finished.stderr.contains("an agent listens at") && finished.stderr.contains(&path),
        "{finished:?}"
    );
    // The first is as it was.
    check!(agent.socket().exists(), "its socket is gone");
    ground.check_service(agent.socket())?;
    agent.stop()
}

fn stale_socket(ground: &Ground) -> Result<()> {
    let dir = public_dir()?;
    let socket = dir.path().join("agent.sock");
    let mut agent = Agent::at(&socket, &[])?;
    agent.signal(libc::SIGKILL);
    agent.wait()?;
    check!(socket.exists(), "a killed agent has removed its socket");
    let agent = Agent::at(&socket, &[])?;
    ground.check_service(&socket)?;
    agent.stop()?;
    wait_for("no socket", LIMIT, || Ok((!socket.exists()).then_some(())))
}

/// What is no socket is nobody's to remove.
fn not_a_socket(_: &Ground) -> Result<()> {
    let dir = public_dir()?;
    let path = dir.path().join("agent.sock");
    fs::write(&path, "precious")?;
    let finished = process::run(&mut Agent::command(&path)?, LIMIT)?;
    check!(
        finished.code == Some(3) && finished.stderr.contains("cannot listen at"),
        "{finished:?}"
    );
    check!(fs::read_to_string(&path)? == "precious", "overwritten");
    let nowhere = dir.path().join("missing/agent.sock");
    let finished = process::run(&mut Agent::command(&nowhere)?, LIMIT)?;
    check!(
        finished.code == Some(3) && finished.stderr.contains("make its directory"),
        "{finished:?}"
    );
    Ok(())
}
