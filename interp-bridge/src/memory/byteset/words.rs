//! Rows of words, and of chunks of words: what a [`ByteSet`](super::ByteSet) changes and searches.

/// Bytes of a chunk.
pub(super) const CHUNK: u64 = 4096;
const WORDS: usize = (CHUNK / 64) as usize;

/// 4096 offsets.
#[derive(Clone, Debug)]
pub(super) enum Chunk {
    Empty,
    Full,
    Words(Box<Words>),
}

/// The words of a chunk, and how many of their bits are set.
#[derive(Clone, Debug)]
pub(super) struct Words {
    count: u64,
    words: [u64; WORDS],
}

/// The bits below `bit`; all of them from 64 on.
#[inline]
pub(super) fn low_bits(bit: u64) -> u64 {
    if bit >= 64 { u64::MAX } else { (1 << bit) - 1 }
}

/// Words for `len` bits, all of them `fill`, with the bits beyond `len` clear.
pub(super) fn words_of(len: u64, fill: u64) -> Vec<u64> {
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
pub(super) fn set_words<const ADD: bool>(words: &mut [u64], start: u64, end: u64) -> u64 {
    let change = |word: &mut u64, mask: u64| {
        let changed = if ADD { mask & !*word } else { mask & *word };
        // Mostly nothing changes, and memory that is only read is cheaper.
        if changed == 0 {
            return 0;
        }
        *word ^= changed;
        u64::from(changed.count_ones())
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
pub(super) fn set_chunks<const ADD: bool>(
    chunks: &mut [Chunk],
    len: u64,
    start: u64,
    end: u64,
) -> u64 {
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

/// Sets bits of one word in the chunks of a set of `len` offsets; returns how many are new.
pub(super) fn add_in_chunks(chunks: &mut [Chunk], len: u64, word: u64, mask: u64) -> u64 {
    let index = word / WORDS as u64;
    let chunk_len = CHUNK.min(len - index * CHUNK);
    let chunk = &mut chunks[index as usize];
    if matches!(chunk, Chunk::Full) {
        return 0;
    }
    let words = chunk.words_mut(chunk_len);
    let cell = &mut words.words[(word % WORDS as u64) as usize];
    let new = mask & !*cell;
    if new == 0 {
        return 0;
    }
    let new = u64::from(new.count_ones());
    *cell |= mask;
    words.count += new;
    if words.count == chunk_len {
        *chunk = Chunk::Full;
    }
    new
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
pub(super) fn next_in<const SET: bool>(words: &[u64], from: u64, to: u64) -> Option<u64> {
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

pub(super) fn next_in_chunks<const SET: bool>(chunks: &[Chunk], from: u64, to: u64) -> Option<u64> {
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
