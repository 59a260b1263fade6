//! What the tiers came to, and the table that shows it.

use std::process::ExitCode;

/// How a tier ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Passed,
    Failed,
    Skipped,
}

/// One tier, and what there is to say about it.
#[derive(Clone, Debug)]
pub(crate) struct Tier {
    pub(crate) state: State,
    pub(crate) detail: String,
}

impl Tier {
    pub(crate) fn passed(detail: String) -> Tier {
        Tier {
            state: State::Passed,
            detail,
        }
    }

    pub(crate) fn failed(detail: String) -> Tier {
        Tier {
            state: State::Failed,
            detail,
        }
    }

    pub(crate) fn skipped(detail: String) -> Tier {
        Tier {
            state: State::Skipped,
            detail,
        }
    }
}

/// Numbers of tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
}

impl Counts {
    fn add(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

/// What test programs printed.
#[derive(Clone, Debug, Default)]
pub(crate) struct TestOutput {
    /// Whether cargo says that all went well.
    pub(crate) success: bool,
    /// Reasons of skipped tests, as the test programs give them.
    pub(crate) skips: Vec<String>,
    /// cargo's own result lines.
    results: Vec<String>,
    /// Sums of the result lines.
    totals: Counts,
    /// Name and verdict of each test.
    tests: Vec<(String, String)>,
}

impl TestOutput {
    /// Takes in one line.
    pub(crate) fn line(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix("test result: ") {
            self.results.push(line.to_owned());
            self.totals.passed += number_before(rest, " passed");
            self.totals.failed += number_before(rest, " failed");
            self.totals.ignored += number_before(rest, " ignored");
        } else if line.starts_with("skipped: ") {
            self.skips.push(line.to_owned());
        } else if let Some((name, verdict)) = line
            .strip_prefix("test ")
            .and_then(|test| test.rsplit_once(" ... "))
        {
            self.tests
                .push((name.trim().to_owned(), verdict.trim().to_owned()));
        }
    }

    /// Several runs as one.
    pub(crate) fn joined(runs: impl IntoIterator<Item = TestOutput>) -> TestOutput {
        let mut all = TestOutput {
            success: true,
            ..TestOutput::default()
        };
        for run in runs {
            all.success &= run.success;
            all.totals.add(run.totals);
            all.skips.extend(run.skips);
            all.results.extend(run.results);
            all.tests.extend(run.tests);
        }
        all
    }

    /// Numbers of its tests.
    pub(crate) fn totals(&self) -> Counts {
        self.totals
    }

    /// Tests with `part` in their name.
    pub(crate) fn named(&self, part: &str) -> Counts {
        let mut counts = Counts::default();
        for (_, verdict) in self.tests.iter().filter(|(name, _)| name.contains(part)) {
            match verdict.split([' ', ',']).next() {
                Some("ok") => counts.passed += 1,
                Some("ignored") => counts.ignored += 1,
                _ => counts.failed += 1,
            }
        }
        counts
    }

    /// The run as a tier.
    pub(crate) fn tier(&self) -> Tier {
        let Counts {
            passed,
            failed,
            ignored,
        } = self.totals;
        let detail = format!("{passed} passed, {failed} failed, {ignored} skipped");
        if self.success && failed == 0 && passed > 0 {
            Tier::passed(detail)
        } else {
            Tier::failed(detail)
        }
    }
}

/// The number that stands before `word`: 12 in "ok. 12 passed; 0 failed".
fn number_before(text: &str, word: &str) -> u64 {
    let Some(end) = text.find(word) else { return 0 };
    let digits = text[..end].rsplit(|c: char| !c.is_ascii_digit()).next();
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// All tiers.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    tiers: Vec<(String, Tier)>,
    results: Vec<String>,
    skips: Vec<String>,
    advice: Vec<String>,
    tests: Counts,
}

impl Summary {
    /// Adds a tier.
    pub(crate) fn add(&mut self, name: &str, tier: Tier) {
        self.tiers.push((name.to_owned(), tier));
    }

    /// Adds the tests of one run to the totals.
    pub(crate) fn take_counts(&mut self, output: &TestOutput) {
        self.tests.add(output.totals);
        self.results.extend(output.results.iter().cloned());
        self.skips.extend(output.skips.iter().cloned());
    }

    /// Adds a hint for the end.
    pub(crate) fn advise(&mut self, advice: String) {
        self.advice.push(advice);
    }

    /// Totals: tests, and each tier that is not made of tests as one more. A tier of tests that
    /// failed without a failed test (it did not build, or was skipped without excuse) counts too.
    fn totals(&self) -> Counts {
        let mut totals = self.tests;
        for (name, tier) in &self.tiers {
            let of_tests = name == "tests" || name.starts_with("privileged");
            match tier.state {
                State::Passed if !of_tests => totals.passed += 1,
                State::Failed if !of_tests || self.tests.failed == 0 => totals.failed += 1,
                State::Skipped if !of_tests => totals.ignored += 1,
                _ => {}
            }
        }
        totals
    }

    /// Prints the table and the last line.
    pub(crate) fn print(&self) -> ExitCode {
        println!("\n==> results");
        for line in &self.results {
            println!("{line}");
        }
        let mut skips = self.skips.clone();
        skips.sort();
        skips.dedup();
        for line in &skips {
            println!("{line}");
        }
        println!();
        let width = self
            .tiers
            .iter()
            .map(|(name, _)| name.len())
            .max()
            .unwrap_or(0);
        for (name, tier) in &self.tiers {
            let state = match tier.state {
                State::Passed => "ran",
                State::Failed => "FAILED",
                State::Skipped => "skipped",
            };
            println!(
                "{}",
                format!("{name:width$}  {state:7}  {}", tier.detail).trim_end()
            );
        }
        for advice in &self.advice {
            println!("\n{advice}");
        }
        let Counts {
            passed,
            failed,
            ignored,
        } = self.totals();
        println!("\n{}", last_line(passed, failed, ignored));
        let broken = self
            .tiers
            .iter()
            .any(|(_, tier)| tier.state == State::Failed);
        if broken || failed > 0 {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }
}

fn last_line(passed: u64, failed: u64, skipped: u64) -> String {
    let mut line = format!("{passed} passed, {failed} failed");
    if skipped > 0 {
        line += &format!(", {skipped} skipped");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(text: &str) -> TestOutput {
        let mut output = TestOutput {
            success: true,
            ..TestOutput::default()
        };
        text.lines().for_each(|line| output.line(line));
        output
    }

    #[test]
    fn counts_of_both_harnesses_add_up() {
        let output = output(
            "running 2 tests\n\
             test a ... ok\n\
             test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
             test load1::ebpf          ... ok\n\
             test load2::ebpf          ... ignored\n\
             test result: FAILED. 10 passed; 3 failed; 4 ignored; 0 measured; 0 filtered out\n\
             skipped: 4 (load2::ebpf…): not root",
        );
        assert_eq!(
            output.totals,
            Counts {
                passed: 12,
                failed: 3,
                ignored: 5
            }
        );
        assert_eq!(
            output.named("ebpf"),
            Counts {
                passed: 1,
                failed: 0,
                ignored: 1
            }
        );
        assert_eq!(output.skips.len(), 1);
        assert_eq!(output.tier().state, State::Failed);
    }

    #[test]
    fn no_tests_at_all_are_a_failure() {
        assert_eq!(
            output("error: could not compile").tier().state,
            State::Failed
        );
    }

    #[test]
    fn a_broken_tier_shows_in_the_last_line() {
        let mut summary = Summary::default();
        summary.take_counts(&output("test result: ok. 2 passed; 0 failed; 0 ignored;"));
        summary.add("format", Tier::passed(String::new()));
        summary.add(
            "privileged: committed object",
            Tier::failed("skipped as root".into()),
        );
        assert_eq!(
            summary.totals(),
            Counts {
                passed: 3,
                failed: 1,
                ignored: 0
            }
        );
        assert_eq!(last_line(3, 1, 0), "3 passed, 1 failed");
        assert_eq!(last_line(3, 0, 2), "3 passed, 0 failed, 2 skipped");
    }
}
