//! Many sessions at once: none of their records is lost, and none is another's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ffitrace_tests::agent::Agent;
use ffitrace_tests::check;
use ffitrace_tests::suite::Suite;

use crate::ground::{self, Gate, Ground, Pattern};

/// Sessions at once.
const SESSIONS: usize = 100;

pub(crate) fn add(suite: &mut Suite, ground: &Arc<Ground>) {
    let notes = suite.notes();
    ground::add(suite, ground, "many::hundred_at_once", move |ground| {
        let (started, whole) = hundred(ground)?;
        notes.add(format!(
            "{SESSIONS} sessions at once: all at the gate after {:.1} s, all done after {:.1} s",
            started.as_secs_f64(),
            whole.as_secs_f64()
        ));
        Ok(())
    });
}

/// Each makes its accesses while the others come and make theirs; all stay until all are there.
fn hundred(ground: &Ground) -> Result<(Duration, Duration)> {
    let agent = Agent::start(&[])?;
    let gate = Gate::new()?;
    let since = Instant::now();
    let mut calls = Vec::new();
    for number in 0..SESSIONS as u64 {
        // Some go on behind the gate, at the same time.
        let pattern = Pattern::number(number).with(10_000 + number, 10 * (number % 7));
        let call = gate.before(ground.pattern(agent.socket(), &pattern)?);
        calls.push((pattern, call.within(Duration::from_secs(180)).start()?));
    }
    let status = agent.wait_for_sessions(SESSIONS)?;
    check!(status.attached, "{status:?}");
    let started = since.elapsed();
    gate.open()?;
    for (number, (pattern, call)) in calls.into_iter().enumerate() {
        let outcome = call.outcome().with_context(|| format!("call {number}"))?;
        pattern
            .check(&outcome)
            .with_context(|| format!("call {number}"))?;
    }
    let whole = since.elapsed();
    agent.wait_for_sessions(0)?;
    check!(agent.links()? == 0, "attached after the last session");
    agent.stop()?;
    Ok((started, whole))
}
