//! What an agent's sessions cost processes that have nothing to do with it: their page faults.
//!
//! ```text
//!  agent ◄── 100 processes, each of which begins and ends its session as it is told
//!  in turns: no session (programs detached) · one · all ─► faults of another process, the best of each
//! ```

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use tracer_user::backend::Backend;

use super::{
    BenchError,
    child::{self, Work},
    question::{Answer, Figure, Question, Setup, Terms, broken},
};
use crate::report::bench::Unit;

/// Sessions at once.
const SESSIONS: usize = 100;

/// How often each state is measured.
const TURNS: usize = 6;

/// See the module.
pub(super) struct Agents;

impl Question for Agents {
    fn text(&self) -> String {
        format!("a page fault of another process beside {SESSIONS} sessions of an agent")
    }

    fn unit(&self) -> Unit {
        Unit::Fault
    }

    fn ask(&self, setup: &Setup, terms: &Terms) -> Result<Answer, BenchError> {
        if setup.backend != Backend::Ebpf {
            return Ok(Answer::Senseless);
        }
        let Some(program) = &terms.program else {
            return Ok(Answer::LeftOut(
                "it takes the program ffitrace itself".to_owned(),
            ));
        };
        measure(program, terms.each).map_err(|what| broken(self.text(), setup.backend, what))
    }
}

fn measure(program: &Path, time: Duration) -> Result<Answer, String> {
    let directory = std::env::temp_dir().join(format!("ffitrace-bench-{}", std::process::id()));
    std::fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
    let socket = directory.join("agent.sock");
    let agent = Agent::start(program, &socket)?;
    let mut holders = Vec::new();
    for _ in 0..SESSIONS {
        holders.push(Holder::start(program, &socket)?);
    }
    let each = time / (3 * TURNS) as u32;
    let (mut best, mut count) = ([f64::MAX; 3], 0);
    for _ in 0..TURNS {
        for (state, best) in [0, 1, SESSIONS].into_iter().zip(&mut best) {
            for (number, holder) in holders.iter_mut().enumerate() {
                holder.hold(number < state)?;
            }
            let (faults, ns) = child::run(Work::PageFaults, each.as_secs_f64())
                .map_err(|error| error.to_string())?;
            count += faults;
            *best = best.min(ns);
        }
    }
    drop((holders, agent));
    let _ = std::fs::remove_dir_all(&directory);
    let [detached, one, all] = best;
    let mut figure = Figure::new(count, all);
    figure.note = Some(format!(
        "{:.3} times one session's {one:.1} ns, {:.3} times the {detached:.1} ns with the programs \
         detached; measured in turns",
        all / one,
        all / detached
    ));
    Ok(figure.into())
}

/// A running agent, ended when this is dropped.
struct Agent(Child);

impl Agent {
    fn start(program: &Path, socket: &Path) -> Result<Agent, String> {
        let started = Command::new(program)
            .args(["agent", "--grace", "0.1", "--socket"])
            .arg(socket)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let agent = Agent(started.map_err(|error| error.to_string())?);
        let begun = Instant::now();
        while !socket.exists() {
            if begun.elapsed() > Duration::from_secs(10) {
                return Err("the agent does not listen".to_owned());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(agent)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process that holds a session when it is told to.
struct Holder {
    process: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    holds: bool,
}

impl Holder {
    fn start(program: &Path, socket: &Path) -> Result<Holder, String> {
        let mut process = Command::new(program)
            .args([child::COMMAND, Work::Session.name(), "1"])
            .env(tracer_user::agent::SOCKET_VARIABLE, socket)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let orders = process.stdin.take();
        let answers = process.stdout.take().ok_or("no pipe")?;
        Ok(Holder {
            process,
            orders,
            answers: BufReader::new(answers),
            holds: false,
        })
    }

    fn hold(&mut self, holds: bool) -> Result<(), String> {
        if self.holds == holds {
            return Ok(());
        }
        let orders = self.orders.as_mut().ok_or("no pipe")?;
        let told = orders.write_all(if holds { b"open\n" } else { b"close\n" });
        told.map_err(|error| error.to_string())?;
        let mut answer = String::new();
        let heard = self.answers.read_line(&mut answer);
        heard.map_err(|error| error.to_string())?;
        if answer.trim() != "done" {
            return Err(format!("a session is not to be had: {}", answer.trim()));
        }
        self.holds = holds;
        Ok(())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // It ends when it is told nothing more.
        self.orders = None;
        let _ = self.process.wait();
    }
}
