//! Entries that were told already, in a time in which telling them again changes nothing.
//!
//! ```text
//!  entry   │ place, page │ byte │
//!               │           └─► its bit: told
//!               └─► hashed: a set of 4096 bits, with the place, the page and the epoch it is of
//! ```
//! Hot code mostly touches the same bytes over and over. What one instruction touches is close
//! together, so bits by page hold much in little: a list of 64 KiB takes 16 KiB, which a processor's
//! first-level cache holds. The epoch is the sink's,
//! [`EventSink::epoch`](crate::access::EventSink::epoch).

/// Sets that are kept, 512 bytes each.
const SETS: usize = 1 << 12;
/// Bits of a word within a set.
const PAGE_BITS: u32 = 12;
/// Bits of a tag that hold the low bits of the epoch: the others are those of a word above the page.
const EPOCH_BITS: u32 = 16;
/// Look-ups after which it is judged whether they pay.
const TRIAL: usize = 1 << 12;
/// Look-ups that are left out where they do not: code that touches more than is remembered.
const PAUSE: usize = 1 << 17;

/// See the module.
pub(super) struct Seen {
    /// What each set is of: place, page and the low bits of the epoch; no place is 0.
    tags: Box<[u64]>,
    sets: Box<[[u64; 64]]>,
    /// The rest of the epoch that they are of.
    era: u64,
    /// Look-ups of this trial, and how often a set was taken from another page for them.
    tried: usize,
    taken: usize,
    /// Look-ups to be left out.
    paused: usize,
}

/// The epoch of some look-ups.
#[derive(Clone, Copy)]
pub(super) struct Now(u64);

impl Seen {
    pub(super) fn new() -> Seen {
        Seen {
            tags: vec![0; SETS].into(),
            sets: vec![[0; 64]; SETS].into(),
            era: 0,
            tried: 0,
            taken: 0,
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
        if self.era != epoch >> EPOCH_BITS {
            self.era = epoch >> EPOCH_BITS;
            self.tags.fill(0);
        }
        Some(Now(epoch << (64 - EPOCH_BITS)))
    }

    /// The number of a word's set, and its tag.
    #[inline]
    fn set(word: u64, now: Now) -> (usize, u64) {
        debug_assert!(word >> (64 - EPOCH_BITS + PAGE_BITS) == 0);
        let key = word >> PAGE_BITS;
        let number = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        (number as usize % SETS, key | now.0)
    }

    /// Whether the word was told in this epoch, and is remembered.
    #[inline]
    pub(super) fn contains(&self, word: u64, now: Now) -> bool {
        let (number, tag) = Seen::set(word, now);
        let bits = self.sets[number][(word >> 6) as usize % 64];
        self.tags[number] == tag && bits >> (word % 64) & 1 != 0
    }

    /// Remembers it.
    #[inline]
    pub(super) fn remember(&mut self, word: u64, now: Now) {
        let (number, tag) = Seen::set(word, now);
        let set = &mut self.sets[number];
        if self.tags[number] != tag {
            let of_now = (self.tags[number] ^ tag) >> (64 - EPOCH_BITS) == 0;
            self.taken += usize::from(of_now && self.tags[number] != 0);
            self.tags[number] = tag;
            *set = [0; 64];
        }
        set[(word >> 6) as usize % 64] |= 1 << (word % 64);
    }

    /// Ends look-ups: how many there were. Where each takes the set of another, they do not pay.
    pub(super) fn judge(&mut self, tried: usize) {
        self.tried += tried;
        if self.tried >= TRIAL {
            if self.taken > self.tried / 8 {
                self.paused = PAUSE;
            }
            (self.tried, self.taken) = (0, 0);
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
        seen.judge(1);
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
            look(&mut seen, 7, 1 + (1 << EPOCH_BITS)),
            Some(false),
            "another epoch with the same low bits"
        );
        assert_eq!(look(&mut seen, 8, 1), Some(false), "forgotten with it");
    }

    #[test]
    fn sets_are_of_one_place_and_page() {
        let mut seen = Seen::new();
        let (page, now) = (1 << PAGE_BITS, seen.at(1, 1).unwrap());
        // Many more than there are sets, so that most take the set of another.
        for index in 1..=4 * SETS as u64 {
            assert!(!seen.contains(index * page + 5, now));
            seen.remember(index * page + 5, now);
            assert!(seen.contains(index * page + 5, now));
            assert!(!seen.contains(index * page + 6, now));
        }
    }

    #[test]
    fn pauses_where_there_is_no_room() {
        let mut seen = Seen::new();
        for word in (1u64 << PAGE_BITS..).take(4 * TRIAL) {
            assert_eq!(look(&mut seen, word, 1), Some(false), "few pages have room");
        }
        let mut pages = 1..1 << 16;
        let all = pages.all(|page| look(&mut seen, page << PAGE_BITS | 7, 2).is_some());
        assert!(!all, "it never pauses");
        let left_out = (0..).take_while(|_| look(&mut seen, 1 << PAGE_BITS, 2).is_none());
        assert_eq!(left_out.count(), PAUSE - 1);
    }
}
