//! Entries that were told already, in a time in which telling them again changes nothing.
//!
//! Hot code mostly touches the same bytes over and over. A small table remembers entries, each in
//! the one place that it hashes to, with the sink's [epoch](crate::access::EventSink::epoch).

/// Entries that are remembered: 256 KiB, a part of a processor's second-level cache.
const ENTRIES: usize = 1 << 15;
/// Bits of a word that are never set, and hold the low bits of the epoch: numbers of places are short.
const SPARE: u32 = 4;
/// Look-ups after which it is judged whether they pay.
const TRIAL: usize = 1 << 12;
/// Look-ups that are left out where they do not: code that touches more than is remembered.
const PAUSE: usize = 1 << 17;

/// See the module.
pub(super) struct Seen {
    /// Words, with the low bits of the epoch; no word is 0.
    entries: Box<[u64; ENTRIES]>,
    /// The rest of the epoch that they are of.
    era: u64,
    /// Look-ups of this trial, and those that found something.
    tried: usize,
    found: usize,
    /// Look-ups to be left out.
    paused: usize,
}

/// The epoch of some look-ups.
#[derive(Clone, Copy)]
pub(super) struct Now(u64);

impl Seen {
    pub(super) fn new() -> Seen {
        let entries: Box<[u64]> = vec![0; ENTRIES].into();
        Seen {
            entries: entries
                .try_into()
                .unwrap_or_else(|_| Box::new([0; ENTRIES])),
            era: 0,
            tried: 0,
            found: 0,
            paused: 0,
        }
    }

    /// Begins up to `count` look-ups in an epoch; none where they do not pay. Forgets everything
    /// where the epoch could be taken for another.
    pub(super) fn at(&mut self, epoch: u64, count: usize) -> Option<Now> {
        if self.paused > 0 {
            self.paused = self.paused.saturating_sub(count);
            return None;
        }
        if self.era != epoch >> SPARE {
            self.era = epoch >> SPARE;
            self.entries.fill(0);
        }
        Some(Now(epoch << (64 - SPARE)))
    }

    #[inline]
    fn place(word: u64) -> usize {
        (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize % ENTRIES
    }

    /// Whether the word was told in this epoch, and is remembered.
    #[inline]
    pub(super) fn contains(&self, word: u64, now: Now) -> bool {
        debug_assert!(word >> (64 - SPARE) == 0);
        self.entries[Seen::place(word)] == word | now.0
    }

    /// Remembers it.
    #[inline]
    pub(super) fn remember(&mut self, word: u64, now: Now) {
        self.entries[Seen::place(word)] = word | now.0;
    }

    /// Ends look-ups: how many there were, and how many found something.
    pub(super) fn judge(&mut self, tried: usize, found: usize) {
        self.tried += tried;
        self.found += found;
        if self.tried >= TRIAL {
            if self.found < self.tried / 4 {
                self.paused = PAUSE;
            }
            (self.tried, self.found) = (0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One look-up, after which the word is remembered. None where look-ups are left out.
    fn look(seen: &mut Seen, word: u64, epoch: u64) -> Option<bool> {
        let now = seen.at(epoch, 1)?;
        let found = seen.contains(word, now);
        seen.judge(1, usize::from(found));
        seen.remember(word, now);
        Some(found)
    }

    #[test]
    fn remembers_words_of_an_epoch() {
        let mut seen = Seen::new();
        assert_eq!(look(&mut seen, 7, 0), Some(false));
        assert_eq!(look(&mut seen, 7, 1), Some(false));
        assert_eq!(look(&mut seen, 7, 1), Some(true));
        assert_eq!(look(&mut seen, 8, 1), Some(false));
        assert_eq!(
            look(&mut seen, 7, 17),
            Some(false),
            "another epoch with the same low bits"
        );
        assert_eq!(look(&mut seen, 8, 1), Some(false), "forgotten with it");
    }

    #[test]
    fn pauses_where_it_finds_nothing() {
        let mut seen = Seen::new();
        let mut word = 1;
        while let Some(found) = look(&mut seen, word, 1) {
            assert!(!found);
            word += 1;
        }
        assert!(word as usize > TRIAL);
        let left_out = (0..).take_while(|_| look(&mut seen, word, 1).is_none());
        assert_eq!(left_out.count(), PAUSE - 1);
    }
}
