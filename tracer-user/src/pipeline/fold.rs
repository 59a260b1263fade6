//! Entries of a log that repeat: the same instructions, each time so many bytes further on.
//!
//! ```text
//!  words    a0 b0 a1 b1 a2 b2 …       period 2: each word is as far from the one two before it
//!           └─ a loop of two accesses, m times, each with a stride of its own
//! ```
//! A word is a place and an address, so words of the same place differ by the distance of their
//! addresses.

/// Longest period that is looked for.
const PERIODS: usize = 16;
/// Fewest repetitions that count as a loop.
const LEAST: usize = 4;
/// Words that are let pass after nothing was found, at first and at most.
const SHORT: usize = 4;
const LONG: usize = 256;

/// What comes next in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// So many words with nothing in common.
    Single(usize),
    /// A loop: words of one round, and how many rounds.
    Loop(usize, usize),
}

/// Finds loops.
#[derive(Debug)]
pub(super) struct Folder {
    pass: usize,
}

impl Folder {
    pub(super) fn new() -> Folder {
        Folder { pass: SHORT }
    }

    /// What `words`, of which there is at least one, begin with.
    pub(super) fn next(&mut self, words: &[u64]) -> Next {
        for period in 1..=PERIODS.min(words.len() / LEAST) {
            let rounds = rounds(words, period);
            if rounds >= LEAST {
                self.pass = SHORT;
                return Next::Loop(period, rounds);
            }
        }
        let pass = self.pass.min(words.len());
        self.pass = (self.pass * 2).min(LONG);
        Next::Single(pass)
    }
}

/// How often the first `period` words are repeated, with the strides that they begin with.
fn rounds(words: &[u64], period: usize) -> usize {
    let stride = |at: usize| words[at + period].wrapping_sub(words[at]);
    // Of one place only if no more than the address differs: a stride of less than a segment.
    let far = 1u64 << 30;
    if (0..period).any(|at| stride(at).wrapping_add(far) > 2 * far) {
        return 0;
    }
    let same = regular(words, period);
    (same + 2 * period) / period
}

/// How many words are followed, two periods on, by one as far from that in between as that is from
/// them.
fn regular(words: &[u64], period: usize) -> usize {
    /// Words that are looked at together, without a branch for each.
    const BLOCK: usize = 64;
    let count = words.len() - 2 * period;
    let (first, second, third) = (
        &words[..count],
        &words[period..period + count],
        &words[2 * period..],
    );
    let bend = |at: usize| {
        let twice = second[at].wrapping_add(second[at]);
        first[at].wrapping_add(third[at]).wrapping_sub(twice)
    };
    let mut at = 0;
    while at + BLOCK <= count {
        let bends = (at..at + BLOCK).fold(0, |bends, at| bends | bend(at));
        if bends != 0 {
            break;
        }
        at += BLOCK;
    }
    while at < count && bend(at) == 0 {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn word(place: u64, address: u64) -> u64 {
        place << 40 | address
    }

    #[test]
    fn finds_loops_and_their_ends() {
        let one: Vec<u64> = (0..100).map(|i| word(7, 0x1000 + 4 * i)).collect();
        assert_eq!(Folder::new().next(&one), Next::Loop(1, 100));
        let mut two = Vec::new();
        for i in 0..50 {
            two.extend([word(7, 0x1000 + i), word(8, 0x9000 - 8 * i)]);
        }
        assert_eq!(Folder::new().next(&two), Next::Loop(2, 50));
        two.push(word(7, 0x5000));
        two.extend([word(9, 1), word(9, 7)]);
        assert_eq!(Folder::new().next(&two), Next::Loop(2, 50));
        assert_eq!(Folder::new().next(&two[100..]), Next::Single(3));
    }

    #[test]
    fn another_place_is_no_stride() {
        let words: Vec<u64> = (0..40).map(|i| word(7 + i, 0x1000)).collect();
        assert!(matches!(Folder::new().next(&words), Next::Single(_)));
    }

    #[test]
    fn passes_over_what_has_no_order() {
        let words: Vec<u64> = (0..1000u64)
            .map(|i| word(7, i.wrapping_mul(i).wrapping_mul(0x9e37) & 0xfff0))
            .collect();
        let mut folder = Folder::new();
        let (mut at, mut asked) = (0, 0);
        while at < words.len() {
            let Next::Single(pass) = folder.next(&words[at..]) else {
                panic!("no loop is there");
            };
            (at, asked) = (at + pass, asked + 1);
        }
        assert!(asked < 20, "{asked}");
    }
}
