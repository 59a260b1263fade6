//! Sets of byte offsets of one allocation: what is initialised, read, written.
//!
//! ```text
//!  up to 64 bytes      one word, no heap
//!  up to 4096 bytes    a boxed row of words
//!  more                a row of chunks of 4096 bytes: empty, full, or words of their own
//!  nothing, or all     no memory at all, for any length
//! ```
//!
//! Ranges are inserted by words, and a chunk that fills up drops its words again, so half a GiB
//! that was read from end to end costs nothing, and half a GiB read here and there two bytes a
//! 4096-byte chunk and an eighth of what was touched in part.

mod words;

use std::ops::Range;

use words::{
    CHUNK, Chunk, add_in_chunks, low_bits, next_in, next_in_chunks, set_chunks, set_words, words_of,
};

/// A set of the offsets `0..len`.
#[derive(Clone, Debug)]
pub struct ByteSet {
    len: u64,
    count: u64,
    repr: Repr,
}

#[derive(Clone, Debug)]
enum Repr {
    Empty,
    Full,
    /// For `len <= 64`.
    Word(u64),
    /// For `len <= CHUNK`.
    Words(Box<[u64]>),
    /// For longer ones.
    Chunks(Box<[Chunk]>),
}

impl ByteSet {
    /// No offset of `0..len`.
    pub fn empty(len: u64) -> ByteSet {
        ByteSet {
            len,
            count: 0,
            repr: Repr::Empty,
        }
    }

    /// Every offset of `0..len`.
    pub fn full(len: u64) -> ByteSet {
        ByteSet {
            len,
            count: len,
            repr: Repr::Full,
        }
    }

    /// The length of the allocation: offsets are below it.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// How many offsets are in the set.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether no offset is in the set.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether every offset is in the set.
    pub fn is_full(&self) -> bool {
        self.count == self.len
    }

    /// Takes every offset out.
    pub fn clear(&mut self) {
        *self = ByteSet::empty(self.len);
    }

    /// Adds a range, clipped to the allocation. Returns how many offsets are new.
    #[inline]
    pub fn insert(&mut self, range: Range<u64>) -> u64 {
        self.change::<true>(range)
    }

    /// Adds `count` ranges of `len` offsets, each `stride` after the one before, of which the first
    /// begins at `start`; all of them within the allocation, and none touching another.
    pub fn insert_strided(&mut self, start: u64, len: u64, stride: u64, count: u64) {
        let (mut word, mut mask) = (start / 64, 0);
        for index in 0..count {
            let (from, to) = (start + index * stride, start + index * stride + len);
            if from / 64 != word {
                self.insert_in_word(word, mask);
                (word, mask) = (from / 64, 0);
            }
            if (to - 1) / 64 == word {
                mask |= low_bits(to - word * 64) & !low_bits(from % 64);
            } else {
                self.insert(from..to);
            }
        }
        self.insert_in_word(word, mask);
    }

    /// Adds the offsets of a word of 64 that `mask` has bits for.
    fn insert_in_word(&mut self, word: u64, mask: u64) {
        if mask == 0 || self.is_full() {
            return;
        }
        if matches!(self.repr, Repr::Empty) {
            self.unfold();
        }
        let add = |word: &mut u64| {
            let new = mask & !*word;
            if new == 0 {
                return 0;
            }
            *word |= mask;
            u64::from(new.count_ones())
        };
        self.count += match &mut self.repr {
            Repr::Word(word) => add(word),
            Repr::Words(words) => add(&mut words[word as usize]),
            Repr::Chunks(chunks) => add_in_chunks(chunks, self.len, word, mask),
            Repr::Empty | Repr::Full => 0,
        };
        if self.count == self.len {
            self.repr = Repr::Full;
        }
    }

    /// Takes a range out. Returns how many offsets were in the set.
    pub fn remove(&mut self, range: Range<u64>) -> u64 {
        self.change::<false>(range)
    }

    /// Adds (`ADD`) or removes a range; returns how many offsets changed.
    #[inline]
    fn change<const ADD: bool>(&mut self, range: Range<u64>) -> u64 {
        let (start, end) = (range.start, range.end.min(self.len));
        if start >= end || (ADD && self.is_full()) || (!ADD && self.is_empty()) {
            return 0;
        }
        if end - start == self.len {
            let before = self.count;
            *self = if ADD {
                ByteSet::full(self.len)
            } else {
                ByteSet::empty(self.len)
            };
            return self.count.abs_diff(before);
        }
        if matches!(self.repr, Repr::Empty | Repr::Full) {
            self.unfold();
        }
        let changed = match &mut self.repr {
            Repr::Word(word) => set_words::<ADD>(std::slice::from_mut(word), start, end),
            Repr::Words(words) => set_words::<ADD>(words, start, end),
            Repr::Chunks(chunks) => set_chunks::<ADD>(chunks, self.len, start, end),
            Repr::Empty | Repr::Full => 0,
        };
        if ADD {
            self.count += changed;
            if self.count == self.len {
                self.repr = Repr::Full;
            }
        } else {
            self.count -= changed;
            if self.count == 0 {
                self.repr = Repr::Empty;
            }
        }
        changed
    }

    /// Gives an empty or full set memory, so that parts of it can change.
    #[cold]
    fn unfold(&mut self) {
        let full = matches!(self.repr, Repr::Full);
        let fill = if full { u64::MAX } else { 0 };
        self.repr = if self.len <= 64 {
            Repr::Word(fill & low_bits(self.len))
        } else if self.len <= CHUNK {
            Repr::Words(words_of(self.len, fill).into())
        } else {
            let chunk = if full { Chunk::Full } else { Chunk::Empty };
            Repr::Chunks(vec![chunk; self.len.div_ceil(CHUNK) as usize].into())
        };
    }

    /// Whether one offset is in the set.
    pub fn contains(&self, offset: u64) -> bool {
        offset < self.len && self.contains_range(offset..offset + 1)
    }

    /// Whether all of a range is in the set. An empty range is.
    #[inline]
    pub fn contains_range(&self, range: Range<u64>) -> bool {
        if range.start >= range.end {
            return true;
        }
        if range.end > self.len {
            return false;
        }
        match &self.repr {
            Repr::Empty => false,
            Repr::Full => true,
            Repr::Word(word) => {
                let mask = low_bits(range.end) & !low_bits(range.start);
                word & mask == mask
            }
            _ => self.next::<false>(range.start, range.end).is_none(),
        }
    }

    /// Whether any offset of a range is in the set.
    pub fn intersects(&self, range: Range<u64>) -> bool {
        self.next::<true>(range.start, range.end).is_some()
    }

    /// The set as half-open ranges, sorted and merged.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.runs::<true>(0..self.len)
    }

    /// What of a range is in the set, as half-open ranges, sorted and merged.
    pub fn ranges_in(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        self.runs::<true>(range)
    }

    /// Adds every offset of `other`, which is a set of the same length.
    pub fn insert_all(&mut self, other: &ByteSet) {
        if self.is_empty() && self.len == other.len {
            self.clone_from(other);
        } else if !other.is_empty() && !self.is_full() {
            for range in other.ranges() {
                self.insert(range);
            }
        }
    }

    /// What of a range is not in the set, as half-open ranges, sorted and merged.
    pub fn gaps(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        self.runs::<false>(range)
    }

    /// What is in this set and not in `other`.
    pub fn minus(&self, other: &ByteSet) -> ByteSet {
        let mut rest = self.clone();
        if other.is_full() && other.len >= self.len {
            rest.clear();
        } else {
            for range in other.ranges() {
                rest.remove(range);
            }
        }
        rest
    }

    fn runs<const SET: bool>(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let end = range.end.min(self.len);
        let mut at = range.start;
        std::iter::from_fn(move || {
            let start = if SET {
                self.next::<true>(at, end)
            } else {
                self.next::<false>(at, end)
            }?;
            let stop = if SET {
                self.next::<false>(start, end)
            } else {
                self.next::<true>(start, end)
            };
            at = stop.unwrap_or(end);
            Some(start..at)
        })
    }

    /// First offset of `from..to` that is (`SET`) or is not in the set. Looks no farther than
    /// `to`, so that questions about a few bytes of a large set stay cheap.
    #[inline]
    fn next<const SET: bool>(&self, from: u64, to: u64) -> Option<u64> {
        // Bits beyond the length are clear, and are no offsets.
        let to = to.min(self.len);
        if from >= to {
            return None;
        }
        let found = match &self.repr {
            Repr::Empty => (!SET).then_some(from),
            Repr::Full => SET.then_some(from),
            Repr::Word(word) => next_in::<SET>(std::slice::from_ref(word), from, to),
            Repr::Words(words) => next_in::<SET>(words, from, to),
            Repr::Chunks(chunks) => next_in_chunks::<SET>(chunks, from, to),
        };
        found.filter(|offset| *offset < to)
    }
}

impl PartialEq for ByteSet {
    fn eq(&self, other: &ByteSet) -> bool {
        (self.len, self.count) == (other.len, other.count) && self.ranges().eq(other.ranges())
    }
}

impl Eq for ByteSet {}

#[cfg(test)]
mod tests;
