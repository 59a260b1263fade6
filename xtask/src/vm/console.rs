//! What the lines on the machine's console say.
//!
//! ```text
//!  ffitrace-vm: kernel 6.1.0-57-cloud-amd64
//!  ffitrace-vm: start crash          the next lines are the test program's …
//!  ffitrace-vm: exit crash 0         … until here
//!  ffitrace-vm: done                 the list is at its end
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use super::machine::Ended;
use crate::test::outcome::{TestOutput, Tier};
use crate::test::privileged::by_processor;

/// Begins the lines that are not a test program's.
const MARK: &str = "ffitrace-vm: ";

/// So many of the last lines are shown again where the machine did not come to its end.
const LAST_LINES: usize = 30;

/// What was on the console so far.
#[derive(Debug, Default)]
pub(super) struct Console {
    kernel: Option<String>,
    runs: Vec<Run>,
    done: bool,
    last: VecDeque<String>,
    /// When the last line came.
    at: Duration,
}

/// One test program.
#[derive(Debug)]
struct Run {
    name: String,
    started: Duration,
    output: TestOutput,
    /// Exit status, as the shell has it.
    exit: Option<String>,
}

impl Console {
    /// Takes in one line, and when it came.
    pub(super) fn line(&mut self, at: Duration, line: &str) {
        self.at = at;
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line.to_owned());
        let Some(mark) = line.strip_prefix(MARK) else {
            if let Some(run) = self.runs.last_mut().filter(|run| run.exit.is_none()) {
                run.output.line(line);
            }
            return;
        };
        let words: Vec<&str> = mark.split_whitespace().collect();
        match words[..] {
            ["kernel", release] => self.kernel = Some(release.to_owned()),
            ["start", name] => self.runs.push(Run {
                name: name.to_owned(),
                started: at,
                output: TestOutput::default(),
                exit: None,
            }),
            ["exit", name, status] => {
                if let Some(run) = self.runs.last_mut().filter(|run| run.name == name) {
                    run.output.success = status == "0";
                    run.exit = Some(status.to_owned());
                    let took = at.saturating_sub(run.started).as_secs();
                    println!("==> {name} took {took} s");
                }
            }
            ["done"] => self.done = true,
            _ => {}
        }
    }

    /// What the test programs printed.
    pub(super) fn outputs(&self) -> impl Iterator<Item = &TestOutput> {
        self.runs.iter().map(|run| &run.output)
    }

    /// The tier, if these test programs were to run. As root on a kernel with BPF nothing excuses a
    /// test that did not, but an instruction that the processor lacks.
    pub(super) fn tier(&self, names: &[&str], ended: Ended) -> Tier {
        if let Some(reason) = self.unfinished(ended) {
            println!("\n==> the last lines of the console:");
            self.last.iter().for_each(|line| println!("    {line}"));
            return Tier::failed(reason);
        }
        let failed: Vec<String> = names
            .iter()
            .filter_map(|name| Some(format!("{name}: {}", self.failure(name)?)))
            .collect();
        if !failed.is_empty() {
            return Tier::failed(failed.join("; "));
        }
        let all = TestOutput::joined(self.outputs().cloned()).totals();
        let others = match all.ignored {
            0 => String::new(),
            ignored => format!(", {ignored} need another processor"),
        };
        Tier::passed(format!(
            "{} tests on Linux {}{others}, {} s",
            all.passed,
            self.kernel.as_deref().unwrap_or("?"),
            self.at.as_secs()
        ))
    }

    /// Why the list of test programs did not come to its end.
    fn unfinished(&self, ended: Ended) -> Option<String> {
        let running = self.runs.last().filter(|run| run.exit.is_none());
        let during = match (running, &self.kernel) {
            (Some(run), _) => format!("while the test program `{}` ran", run.name),
            (None, Some(_)) => "between test programs".to_owned(),
            (None, None) => "before its kernel had started the first process".to_owned(),
        };
        match ended {
            Ended::TimedOut(limit) => Some(format!(
                "not done after {} s (--limit); it was ended {during}",
                limit.as_secs()
            )),
            Ended::Off if self.done => None,
            Ended::Off => Some(format!("the machine went off {during}")),
        }
    }

    /// What is wrong with the run of a test program, or of several with one name: not each has tests
    /// that are asked for.
    fn failure(&self, name: &str) -> Option<String> {
        let runs = || self.runs.iter().filter(|run| run.name == name);
        let all = TestOutput::joined(runs().map(|run| run.output.clone()));
        let totals = all.totals();
        if runs().next().is_none() {
            return Some("did not run".into());
        }
        if totals.failed > 0 {
            return Some(format!("{} tests failed", totals.failed));
        }
        if let Some(run) = runs().find(|run| !run.output.success) {
            let status = run.exit.as_deref().unwrap_or("?");
            return Some(format!("exit status {status}"));
        }
        if totals.passed == 0 {
            return Some("no test ran".into());
        }
        all.skips.into_iter().find(|reason| !by_processor(reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::outcome::State;

    fn tier(text: &str, ended: Ended) -> Tier {
        let mut console = Console::default();
        for line in text.lines() {
            console.line(Duration::from_secs(7), line);
        }
        console.tier(&["a"], ended)
    }

    const OUTPUT: &str = "ffitrace-vm: kernel 6.1\n\
                          ffitrace-vm: start a\n\
                          test one::ebpf ... ok\n\
                          test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n\
                          skipped: 1 (two::ebpf…): this CPU has no AVX-512\n\
                          ffitrace-vm: exit a 0\n\
                          ffitrace-vm: done";

    #[test]
    fn all_tests_passed() {
        let tier = tier(OUTPUT, Ended::Off);
        assert_eq!(tier.state, State::Passed);
        let expected = "1 tests on Linux 6.1, 1 need another processor, 7 s";
        assert_eq!(tier.detail, expected);
    }

    #[test]
    fn every_way_to_fail_is_told() {
        let cut = |at: &str| OUTPUT[..OUTPUT.find(at).unwrap_or(0)].to_owned();
        let limit = Duration::from_secs(9);
        for (text, ended, expected) in [
            (String::new(), Ended::Off, "went off before its kernel had"),
            (
                cut("test result"),
                Ended::Off,
                "while the test program `a` ran",
            ),
            (
                cut("test result"),
                Ended::TimedOut(limit),
                "not done after 9 s",
            ),
            (
                cut("ffitrace-vm: done"),
                Ended::Off,
                "between test programs",
            ),
            (
                OUTPUT.replace(" 0 failed", " 2 failed"),
                Ended::Off,
                "a: 2 tests failed",
            ),
            (
                OUTPUT.replace("exit a 0", "exit a 139"),
                Ended::Off,
                "a: exit status 139",
            ),
            (
                OUTPUT.replace(" 1 passed", " 0 passed"),
                Ended::Off,
                "a: no test ran",
            ),
            (
                OUTPUT.replace("this CPU has no", "there is no"),
                Ended::Off,
                "a: skipped: 1",
            ),
            (
                OUTPUT.replace("start a", "start b"),
                Ended::Off,
                "a: did not run",
            ),
        ] {
            let tier = tier(&text, ended);
            assert_eq!(tier.state, State::Failed, "{expected}");
            assert!(tier.detail.contains(expected), "{}", tier.detail);
        }
    }
}
