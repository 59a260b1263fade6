//! Calls of a process without privileges, recorded by an agent: as complete as root's own.

use std::sync::Arc;

use anyhow::Result;
use ffitrace_tests::agent::Agent;
use ffitrace_tests::check;
use ffitrace_tests::place::NOBODY;
use ffitrace_tests::report::Report;
use ffitrace_tests::suite::Suite;

use crate::ground::{self, Gate, Ground, PATTERN, Pattern, check_refused, wait_for_no_links};

pub(crate) fn add(suite: &mut Suite, ground: &Arc<Ground>) {
    ground::add(suite, ground, "calls::by_option", by_option);
    ground::add(suite, ground, "calls::by_variable", by_variable);
    ground::add(suite, ground, "calls::auto_takes_it", auto);
    ground::add(suite, ground, "calls::events", events);
    ground::add(suite, ground, "calls::hot", hot);
    ground::add(suite, ground, "calls::violation", violation);
    ground::add(suite, ground, "calls::crash", crash);
    ground::add(suite, ground, "calls::threads", threads);
    ground::add(suite, ground, "calls::system_calls", system_calls);
    ground::add(suite, ground, "calls::killed", killed);
    ground::add(suite, ground, "calls::no_agent", no_agent);
    ground::add(suite, ground, "calls::not_for_this_user", not_for_this_user);
    ground::add(suite, ground, "calls::attached_while_needed", attached);
}

fn by_option(ground: &Ground) -> Result<()> {
    let agent = Agent::start(&[])?;
    // One after the other: what the first left behind must not be in the way.
    for number in 0..3 {
        let pattern = Pattern::number(number);
        pattern.check(&ground.pattern(agent.socket(), &pattern)?.run()?)?;
    }
    agent.stop()
}

fn by_variable(ground: &Ground) -> Result<()> {
    let agent = Agent::start(&[])?;
    let pattern = Pattern::number(1);
    let call = ground
        .call_as(NOBODY, PATTERN)?
        .bind(pattern.bindings())
        .option(["--hot", "off"])
        .variable("FFITRACE_AGENT", &agent.socket().display().to_string());
    pattern.check(&call.run()?)?;
    pattern.check(&call.auto().run()?)?;
    agent.stop()
}

fn auto(ground: &Ground) -> Result<()> {
    let agent = Agent::start(&[])?;
    let pattern = Pattern::number(2);
    let outcome = ground.pattern(agent.socket(), &pattern)?.auto().run()?;
    pattern.check(&outcome)?;
    check!(
        outcome.process.stderr.trim().is_empty(),
        "stderr: {}",
        outcome.process.stderr
    );
    agent.stop()
}

fn events(ground: &Ground) -> Result<()> {
    let agent = Agent::start(&[])?;
    let pattern = Pattern::number(3).with(50, 50);
    let call = ground.pattern(agent.socket(), &pattern)?.with_events();
    let outcome = call.run()?;
    pattern.check(&outcome)?;
    check!(
        outcome.events.len() == 100,
        "{} events",
        outcome.events.len()
    );
    let own = |symbol: &Option<String>| {
        let symbol = symbol.as_deref().unwrap_or_default();
        symbol.starts_with("agent_pattern+") || symbol.starts_with("write_places+")
    };
    for event in &outcome.events {
        check!(
            event.kind == "write" && event.size == 1 && event.source == "fault",
            "{event:?}"
        );
        check!(own(&event.symbol), "{event:?}");
    }
    agent.stop()
}

fn hot(ground: &Ground) -> Result<()> {
    let agent = Agent::start(&[])?;
    let pattern = Pattern::number(4);
    let call = ground.call(NOBODY, agent.socket(), PATTERN)?;
    let outcome = call.bind(pattern.bindings()).run()?;
    outcome.expect_code(0)?;
    let stats = &outcome.report.stats;
    check!(
        stats.writes == 10_004 && stats.translated > 9_000,
        "{stats:?}"
    );
    agent.stop()
}

fn violation(ground: &Ground) -> Result<()> {
    let agent = Agent::start(&[])?;
    let prototype = "void oob_write_after(char *p, size_t n)";
    let call = ground.call(NOBODY, agent.socket(), prototype)?;
    let outcome = call.bind(["p=uninit:10", "n=10"]).run()?;
    outcome.expect_code(1)?;
    let kinds: Vec<_> = outcome
        .report
        .violations
        .iter()
        .map(|one| &one.kind)
        .collect();
    check!(kinds == ["out_of_bounds"], "{kinds:?}");
    agent.stop()
}

fn crash(ground: &Ground) -> Result<()> {
    let agent = Agent::start(&[])?;
    let prototype = "int crash_abort(int *p)";
    let call = ground.call(NOBODY, agent.socket(), prototype)?;
    let outcome = call.bind(["p=uninit:8"]).run()?;
    outcome.expect_code(1)?;
    let found = &outcome.report.violations;
    check!(
        found.len() == 1 && found[0].kind == "native_crash" && found[0].message.contains("SIGABRT"),
        "{found:?}"
    );
    check!(
        outcome.allocation("p")?.written == [(0, 4)],
        "{:?}",
        outcome.report
    );
    agent.wait_for_sessions(0)?;
    agent.stop()
}

fn threads(ground: &Ground) -> Result<()> {
    let agent = Agent::start(&[])?;
    let prototype = "int threads_fill(uint32_t *p, unsigned threads, unsigned per)";
    let call = ground.call(NOBODY, agent.socket(), prototype)?;
    let outcome = call.bind(["p=uninit:3200", "threads=4", "per=200"]).run()?;
    outcome.expect_code(0)?;
    let stats = &outcome.report.stats;
    check!(stats.writes == 800, "{stats:?}");
    check!(
        outcome.allocation("p")?.written == [(0, 3200)],
        "{:?}",
        outcome.report
    );
    agent.stop()
}

/// System calls of native code on its buffers are recorded, too.
fn system_calls(ground: &Ground) -> Result<()> {
    let agent = Agent::start(&[])?;
    let prototype = "long sys_getrandom(void *p, size_t n)";
    let call = ground.call(NOBODY, agent.socket(), prototype)?;
    let outcome = call.bind(["p=uninit:64", "n=48"]).run()?;
    outcome.expect_code(0)?;
    let buffer = outcome.allocation("p")?;
    check!(buffer.written == [(0, 48)], "{buffer:?}");
    agent.stop()
}

/// A process that nothing could warn: its session ends, and who started it says what happened.
fn killed(ground: &Ground) -> Result<()> {
    let agent = Agent::start(&[])?;
    let prototype = "int agent_killed(unsigned char *p, unsigned long n)";
    let call = ground.call(NOBODY, agent.socket(), prototype)?;
    let call = call.bind(["p=zero:4", "n=100"]).option(["--hot", "off"]);
    let finished = call.start()?.finish()?;
    check!(finished.code == Some(1), "{finished:?}");
    let report: Report = serde_json::from_str(&finished.stdout)?;
    let found = &report.violations;
    check!(
        found.len() == 1 && found[0].kind == "native_crash" && found[0].message.contains("SIGKILL"),
        "{found:?}"
    );
    check!(!report.stats.complete, "{:?}", report.stats);
    agent.wait_for_sessions(0)?;
    wait_for_no_links(&agent)?;
    agent.stop()
}

fn no_agent(ground: &Ground) -> Result<()> {
    let gone = Gate::new()?;
    let socket = gone.ready();
    let pattern = Pattern::number(1).with(10, 0);
    let call = ground.pattern(&socket, &pattern)?;
    let finished = check_refused(&call, "no agent at")?;
    check!(
        finished.stderr.contains("ffitrace agent"),
        "no remedy: {}",
        finished.stderr
    );
    Ok(())
}

fn not_for_this_user(ground: &Ground) -> Result<()> {
    let agent = Agent::start(&["--mode", "660"])?;
    let pattern = Pattern::number(1).with(10, 0);
    let call = ground.pattern(agent.socket(), &pattern)?;
    let finished = call.start()?.finish()?;
    check!(finished.code == Some(3), "{finished:?}");
    check!(
        finished.stderr.contains("may not be used by this user"),
        "{}",
        finished.stderr
    );
    agent.stop()
}

/// The programs hang on the kernel's events as long as somebody has a session, and no longer.
fn attached(ground: &Ground) -> Result<()> {
    let agent = Agent::start(&[])?;
    check!(agent.links()? == 0, "attached before the first session");
    check!(!agent.status()?.attached, "{:?}", agent.status()?);
    let (pattern, gate) = (Pattern::number(5).with(100, 100), Gate::new()?);
    let call = gate.before(ground.pattern(agent.socket(), &pattern)?);
    let mut call = call.start()?;
    gate.wait(&mut call.running)?;
    check!(
        agent.links()? > 0,
        "not attached in the middle of a session"
    );
    let status = agent.wait_for_sessions(1)?;
    check!(status.attached && status.own_sessions == 0, "{status:?}");
    gate.open()?;
    pattern.check(&call.outcome()?)?;
    let status = agent.wait_for_sessions(0)?;
    check!(!status.attached, "{status:?}");
    check!(agent.links()? == 0, "attached after the last session");
    agent.stop()
}
