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

use std::ops::Range;

/// Bytes of a chunk.
const CHUNK: u64 = 4096;
const WORDS: usize = (CHUNK / 64) as usize;

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

#[derive(Clone, Debug)]
enum Chunk {
    Empty,
    Full,
    Words(Box<Words>),
}

#[derive(Clone, Debug)]
struct Words {
    count: u64,
    words: [u64; WORDS],
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

/// The bits below `bit`; all of them from 64 on.
#[inline]
fn low_bits(bit: u64) -> u64 {
    if bit >= 64 { u64::MAX } else { (1 << bit) - 1 }
}

/// Words for `len` bits, all of them `fill`, with the bits beyond `len` clear.
fn words_of(len: u64, fill: u64) -> Vec<u64> {
    let mut words = vec![fill; len.div_ceil(64) as usize];
    if let Some(last) = words.last_mut()
        && !len.is_multiple_of(64)
    {
        *last &= low_bits(len % 64);
    }
    words
}

/// Sets or clears the bits `start..end`, not empty; returns how many changed.
#[inline]
fn set_words<const ADD: bool>(words: &mut [u64], start: u64, end: u64) -> u64 {
    let change = |word: &mut u64, mask: u64| {
        let before = *word;
        *word = if ADD { before | mask } else { before & !mask };
        u64::from((before ^ *word).count_ones())
    };
    let (first, last) = ((start / 64) as usize, ((end - 1) / 64) as usize);
    let (low, high) = (!low_bits(start % 64), low_bits((end - 1) % 64 + 1));
    if first == last {
        return change(&mut words[first], low & high);
    }
    let mut changed = change(&mut words[first], low);
    for word in &mut words[first + 1..last] {
        changed += change(word, u64::MAX);
    }
    changed + change(&mut words[last], high)
}

/// As [`set_words`], over the chunks of a set of `len` offsets.
fn set_chunks<const ADD: bool>(chunks: &mut [Chunk], len: u64, start: u64, end: u64) -> u64 {
    let mut changed = 0;
    for index in start / CHUNK..=(end - 1) / CHUNK {
        let base = index * CHUNK;
        let chunk_len = CHUNK.min(len - base);
        let (from, to) = (start.max(base) - base, end.min(base + chunk_len) - base);
        let chunk = &mut chunks[index as usize];
        match chunk {
            Chunk::Full if ADD => continue,
            Chunk::Empty if !ADD => continue,
            _ => {}
        }
        if to - from == chunk_len {
            let before = chunk.count(chunk_len);
            *chunk = if ADD { Chunk::Full } else { Chunk::Empty };
            changed += chunk.count(chunk_len).abs_diff(before);
            continue;
        }
        let words = chunk.words_mut(chunk_len);
        let here = set_words::<ADD>(&mut words.words, from, to);
        changed += here;
        if ADD {
            words.count += here;
            if words.count == chunk_len {
                *chunk = Chunk::Full;
            }
        } else {
            words.count -= here;
            if words.count == 0 {
                *chunk = Chunk::Empty;
            }
        }
    }
    changed
}

impl Chunk {
    fn count(&self, chunk_len: u64) -> u64 {
        match self {
            Chunk::Empty => 0,
            Chunk::Full => chunk_len,
            Chunk::Words(words) => words.count,
        }
    }

    /// The words of the chunk, made on demand.
    #[inline]
    fn words_mut(&mut self, chunk_len: u64) -> &mut Words {
        if !matches!(self, Chunk::Words(_)) {
            let full = matches!(self, Chunk::Full);
            let mut words = [0; WORDS];
            if full {
                set_words::<true>(&mut words, 0, chunk_len);
            }
            let count = if full { chunk_len } else { 0 };
            *self = Chunk::Words(Box::new(Words { count, words }));
        }
        match self {
            Chunk::Words(words) => words,
            Chunk::Empty | Chunk::Full => unreachable!("was just given words"),
        }
    }
}

/// First bit from `from` on that is set (or clear), if there is one in the words up to `to`.
#[inline]
fn next_in<const SET: bool>(words: &[u64], from: u64, to: u64) -> Option<u64> {
    let mut index = (from / 64) as usize;
    let words = &words[..(to.div_ceil(64) as usize).min(words.len())];
    let flip = if SET { 0 } else { u64::MAX };
    let mut word = (words.get(index)? ^ flip) & !low_bits(from % 64);
    while word == 0 {
        index += 1;
        word = words.get(index)? ^ flip;
    }
    Some(index as u64 * 64 + u64::from(word.trailing_zeros()))
}

fn next_in_chunks<const SET: bool>(chunks: &[Chunk], from: u64, to: u64) -> Option<u64> {
    for index in from / CHUNK..to.div_ceil(CHUNK) {
        let base = index * CHUNK;
        let at = from.max(base) - base;
        let found = match chunks.get(index as usize)? {
            Chunk::Empty => (!SET).then_some(at),
            Chunk::Full => SET.then_some(at),
            Chunk::Words(words) => next_in::<SET>(&words.words, at, (to - base).min(CHUNK)),
        };
        if let Some(bit) = found {
            return Some(base + bit);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn whole_sets_cost_nothing() {
        let len = 512 << 20;
        let mut set = ByteSet::empty(len);
        assert_eq!(set.insert(0..len), len);
        assert!(matches!(set.repr, Repr::Full));
        assert_eq!(set.remove(100..200), 100);
        assert_eq!(set.ranges().collect::<Vec<_>>(), [0..100, 200..len]);
        assert_eq!(set.insert(0..len + 5), 100, "clipped");
        assert!(matches!(set.repr, Repr::Full));
    }

    #[test]
    fn chunks_fold_when_they_fill() {
        let mut set = ByteSet::empty(3 * CHUNK + 10);
        for offset in CHUNK..2 * CHUNK {
            set.insert(offset..offset + 1);
        }
        let Repr::Chunks(chunks) = &set.repr else {
            panic!("{set:?}")
        };
        assert!(matches!(
            chunks[..],
            [Chunk::Empty, Chunk::Full, Chunk::Empty, Chunk::Empty]
        ));
        set.insert(3 * CHUNK..3 * CHUNK + 10);
        let Repr::Chunks(chunks) = &set.repr else {
            panic!("{set:?}")
        };
        assert!(matches!(chunks[3], Chunk::Full), "the short last chunk");
    }

    #[test]
    fn questions_about_a_few_bytes_look_no_farther() {
        let len = 512 << 20;
        let mut set = ByteSet::full(len);
        set.remove(len - 1..len);
        // Were each of these a walk to the first gap, they would take minutes.
        let start = std::time::Instant::now();
        for offset in 0..100_000 {
            assert!(set.contains_range(offset..offset + 4));
            assert!(set.gaps(offset..offset + 4).next().is_none());
        }
        assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
    }

    #[test]
    fn sets_are_small() {
        assert_eq!(size_of::<ByteSet>(), 40);
        assert_eq!(size_of::<Chunk>(), 16);
    }

    #[test]
    #[expect(
        clippy::reversed_empty_ranges,
        reason = "callers may compute such ranges"
    )]
    fn odd_ranges_do_nothing() {
        let mut set = ByteSet::empty(10);
        assert_eq!(set.insert(5..5) + set.insert(7..3) + set.insert(10..12), 0);
        assert_eq!(set.insert(8..u64::MAX), 2);
        assert!(!set.contains_range(8..11) && set.contains_range(8..10));
        assert!(set.contains_range(3..3) && !set.intersects(3..3));
        let mut none = ByteSet::empty(0);
        assert_eq!(none.insert(0..1), 0);
        assert!(none.is_empty() && none.is_full() && none.ranges().next().is_none());
    }

    fn lengths() -> impl Strategy<Value = u64> {
        prop_oneof![0u64..200, 4000u64..4200, 8000u64..20_000]
    }

    proptest! {
        #[test]
        fn agrees_with_a_naive_model(
            len in lengths(),
            steps in prop::collection::vec((any::<(u16, u16)>(), 0u8..4), 0..40),
            looks in prop::collection::vec(any::<(u16, u16)>(), 10),
            start_full: bool,
        ) {
            let mut set = if start_full { ByteSet::full(len) } else { ByteSet::empty(len) };
            let mut model = vec![start_full; len as usize];
            // Both whole-chunk and short ranges, some over the end.
            let range = |(a, b): (u16, u16), long: bool| {
                let start = u64::from(a) % (len + 1);
                let size = if long { u64::from(b) % (len + 10) } else { u64::from(b) % 70 };
                start..start + size
            };
            for (numbers, action) in steps {
                let range = range(numbers, action & 1 == 1);
                let add = action < 2;
                let clipped = range.start as usize..range.end.min(len) as usize;
                let expected = model[clipped.clone()].iter().filter(|bit| **bit != add).count();
                model[clipped].fill(add);
                let changed = if add { set.insert(range) } else { set.remove(range) };
                prop_assert_eq!(changed, expected as u64);
            }
            prop_assert_eq!(set.count(), model.iter().filter(|bit| **bit).count() as u64);
            prop_assert_eq!(set.is_full(), model.iter().all(|bit| *bit));

            let mut ranges: Vec<Range<u64>> = Vec::new();
            for (offset, _) in (0u64..).zip(&model).filter(|(_, bit)| **bit) {
                match ranges.last_mut() {
                    Some(last) if last.end == offset => last.end += 1,
                    _ => ranges.push(offset..offset + 1),
                }
            }
            prop_assert_eq!(set.ranges().collect::<Vec<_>>(), ranges);

            for numbers in looks {
                let range = range(numbers, true);
                let clipped = range.start as usize..range.end.min(len) as usize;
                let bits = &model[clipped];
                let inside = range.end <= len || range.is_empty();
                prop_assert_eq!(
                    set.contains_range(range.clone()),
                    inside && bits.iter().all(|bit| *bit)
                );
                prop_assert_eq!(set.intersects(range.clone()), bits.iter().any(|bit| *bit));
                let gaps: u64 = set.gaps(range.clone()).map(|gap| gap.end - gap.start).sum();
                prop_assert_eq!(gaps, bits.iter().filter(|bit| !**bit).count() as u64);
                for gap in set.gaps(range.clone()) {
                    prop_assert!(!set.intersects(gap));
                }
            }
        }

        #[test]
        fn difference(len in lengths(), a in any::<(u16, u16)>(), b in any::<(u16, u16)>()) {
            let make = |(from, size): (u16, u16)| {
                let mut set = ByteSet::empty(len);
                let start = u64::from(from) % (len + 1);
                set.insert(start..start + u64::from(size) % (len + 1));
                set
            };
            let (a, b) = (make(a), make(b));
            let rest = a.minus(&b);
            for offset in 0..len {
                let expected = a.contains(offset) && !b.contains(offset);
                prop_assert_eq!(rest.contains(offset), expected);
            }
        }
    }
}
