//! How often work is repeated.
//!
//! ```text
//!  a few items ─► too short? more of them ─► … ─► rounds of a fifth of the time each ─► the best
//! ```
//! A machine that does other work makes a round longer, never shorter: the best of several rounds
//! is what the work costs. What is only paid at first (decoding a site, writing its copy) is paid
//! in the tries before.

use std::time::{Duration, Instant};

use super::BenchError;

/// Rounds that fill the time.
const ROUNDS: u32 = 5;
/// Fewest rounds that count, where one does not take all of the time.
const LEAST: u64 = 3;

/// Repeats `round`, which does so many items and says how long they took, for about
/// `long_enough`; the first does `few`, and none does more than `most`. Returns how many items were done in rounds that
/// count, and the best round's nanoseconds for one.
///
/// # Errors
/// Those of `round`.
pub(super) fn steady(
    long_enough: Duration,
    few: u64,
    most: u64,
    mut round: impl FnMut(u64) -> Result<Duration, BenchError>,
) -> Result<(u64, f64), BenchError> {
    let wanted = long_enough / ROUNDS;
    let begun = Instant::now();
    let mut items = few.min(most).max(1);
    let (mut rounds, mut best, mut spent) = (0, f64::MAX, Duration::ZERO);
    // The first try pays for what is paid once; it says nothing, unless there is time for no other.
    let first = round(items)?;
    if first >= long_enough * ROUNDS {
        return Ok((items, first.as_nanos() as f64 / items as f64));
    }
    loop {
        let took = round(items)?;
        if took < wanted / 2 && items < most {
            let factor = wanted.as_secs_f64() / took.as_secs_f64().max(1e-9);
            items = ((items as f64 * factor.clamp(2.0, 64.0)) as u64).min(most);
            // Shorter rounds that were long enough were so by an accident.
            (rounds, best, spent) = (0, f64::MAX, Duration::ZERO);
            continue;
        }
        rounds += 1;
        spent += took;
        best = best.min(took.as_nanos() as f64 / items as f64);
        // The second bound is for rounds that take longer than what they time.
        let enough = spent >= long_enough.mul_f64(0.9) || begun.elapsed() >= long_enough * 3;
        if enough && (rounds >= LEAST || took >= long_enough) {
            return Ok((items * rounds, best));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_grow_and_the_best_counts() {
        let mut rounds = Vec::new();
        let found = steady(Duration::from_millis(10), 1, 1 << 40, |items| {
            rounds.push(items);
            // 10 ns an item, and 20 in the first round that is long enough.
            let slow = items > 100_000 && rounds.iter().filter(|n| **n > 100_000).count() == 1;
            Ok(Duration::from_nanos(items * if slow { 20 } else { 10 }))
        });
        let (done, best) = found.unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(rounds[0], 1);
        assert!(
            rounds.windows(2).all(|pair| pair[0] <= pair[1]),
            "{rounds:?}"
        );
        assert_eq!(best, 10.0);
        assert_eq!(done % rounds[rounds.len() - 1], 0);
    }

    #[test]
    fn one_round_that_takes_long_is_enough() {
        let mut calls = 0;
        let found = steady(Duration::from_millis(1), 1, 1, |items| {
            calls += 1;
            Ok(Duration::from_secs(items))
        });
        assert_eq!(found.unwrap_or_else(|e| panic!("{e}")), (1, 1e9));
        assert_eq!(calls, 1);
    }

    #[test]
    fn a_short_round_that_took_long_by_accident_does_not_count() {
        let mut calls = 0;
        let found = steady(Duration::from_millis(10), 1, 1 << 40, |items| {
            calls += 1;
            let accident = if calls == 2 { 5_000_000 } else { 0 };
            Ok(Duration::from_nanos(items * 10 + accident))
        });
        let (done, best) = found.unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(best, 10.0);
        assert!(done > 100_000, "{done}");
    }
}
