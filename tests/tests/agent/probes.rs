//! Marks of functions: only in code that the client itself executes, and not without bound.

use std::fs;
use std::sync::Arc;

use anyhow::Result;
use ffitrace_tests::agent::{Agent, public_dir};
use ffitrace_tests::suite::Suite;

use crate::ground::{self, Gate, Ground, STRANGER};

pub(crate) fn add(suite: &mut Suite, ground: &Arc<Ground>) {
    ground::add(suite, ground, "probes::own_code_only", own_code_only);
    ground::add(suite, ground, "probes::limit", limit);
}

fn own_code_only(ground: &Ground) -> Result<()> {
    let agent = Agent::start(&[])?;
    ground.check_service(agent.socket())?;
    let before = agent.descriptors()?;
    let scratch = public_dir()?;
    let words = [
        agent.socket().display().to_string(),
        ground.library()?.display().to_string(),
        scratch.path().join("maps").display().to_string(),
    ];
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    ground.run_client(STRANGER, "marks", &words)?;
    agent.wait_for_sessions(0)?;
    agent.wait_for_descriptors(before)?;
    ground.check_service(agent.socket())?;
    agent.stop()
}

fn limit(ground: &Ground) -> Result<()> {
    let dir = Gate::new()?;
    fs::write(dir.ready(), "probes_per_session = 3\n")?;
    let agent = Agent::start(&["--limits", &dir.ready().display().to_string()])?;
    ground.check_service(agent.socket())?;
    let before = agent.descriptors()?;
    let socket = agent.socket().display().to_string();
    ground.run_client(STRANGER, "limited-marks", &[&socket, "3"])?;
    agent.wait_for_sessions(0)?;
    agent.wait_for_descriptors(before)?;
    ground.check_service(agent.socket())?;
    agent.stop()
}
