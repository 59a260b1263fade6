//! Entries that were told already, in a time in which telling them again changes nothing.
//!
//! Hot code mostly touches the same bytes over and over. A small table remembers entries, each in
//! the one place that it hashes to, with the sink's [epoch](crate::access::EventSink::epoch).

/// Entries that are remembered: 256 KiB, a part of a processor's second-level cache.
const ENTRIES: usize = 1 << 15;
/// Bits of a word that are never set, and hold the low bits of the epoch: numbers of places are short.
const SPARE: u32 = 4;
/// Look-ups after which it is judged whether they pay.
const TRIAL: u32 = 1 << 12;
/// Look-ups that are left out where they do not: code that touches more than is remembered.
const PAUSE: u32 = 1 << 17;

/// See the module.
pub(super) struct Seen {
    /// Words, with the low bits of the epoch; no word is 0.
    entries: Box<[u64]>,
    /// The rest of the epoch that they are of.
    era: u64,
    /// Look-ups of this trial, and those that found something.
    tried: u32,
    found: u32,
    /// Look-ups to be left out.
    paused: u32,
}

impl Seen {
    pub(super) fn new() -> Seen {
        Seen {
            entries: vec![0; ENTRIES].into(),
            era: 0,
            tried: 0,
            found: 0,
            paused: 0,
        }
    }

    #[inline]
    fn place(word: u64) -> usize {
        (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize & (ENTRIES - 1)
    }

    /// The word as it is kept. Forgets everything where its epoch could be taken for another.
    #[inline]
    fn key(&mut self, word: u64, epoch: u64) -> u64 {
        debug_assert!(word >> (64 - SPARE) == 0);
        if self.era != epoch >> SPARE {
            self.era = epoch >> SPARE;
            self.entries.fill(0);
        }
        word | epoch << (64 - SPARE)
    }

    /// Whether the word was told in this epoch, and is remembered.
    #[inline]
    pub(super) fn contains(&mut self, word: u64, epoch: u64) -> bool {
        if self.paused > 0 {
            self.paused -= 1;
            return false;
        }
        let key = self.key(word, epoch);
        let found = self.entries[Seen::place(word)] == key;
        self.tried += 1;
        self.found += u32::from(found);
        if self.tried == TRIAL {
            if self.found < TRIAL / 4 {
                self.paused = PAUSE;
            }
            (self.tried, self.found) = (0, 0);
        }
        found
    }

    /// Remembers it.
    #[inline]
    pub(super) fn remember(&mut self, word: u64, epoch: u64) {
        if self.paused == 0 {
            let key = self.key(word, epoch);
            self.entries[Seen::place(word)] = key;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_words_of_an_epoch() {
        let mut seen = Seen::new();
        assert!(!seen.contains(7, 1) && !seen.contains(7, 0));
        seen.remember(7, 1);
        assert!(seen.contains(7, 1) && !seen.contains(7, 2) && !seen.contains(8, 1));
        assert!(
            !seen.contains(7, 17),
            "another epoch with the same low bits"
        );
        assert!(!seen.contains(7, 1), "forgotten with it");
    }

    #[test]
    fn pauses_where_it_finds_nothing() {
        let mut seen = Seen::new();
        let mut word = 1;
        while seen.paused == 0 {
            word += 1;
            assert!(!seen.contains(word, 1));
            seen.remember(word, 1);
        }
        assert!(word > u64::from(TRIAL));
        assert!(!seen.contains(word - 1, 1), "though it was remembered");
    }
}
