//! Entries of a log that are no loop: those that may change something are told together.
//!
//! ```text
//!  words ─► told before in this epoch? ──yes──► counted
//!                                       └─no──► counted, and told as a series ─► remembered
//! ```
//! Here most of the time of pointer-chasing code is spent, so one entry costs one look-up, and
//! what it is told to is called once for many.

use std::sync::atomic::Ordering;

use super::{Pipeline, direction, seen::Seen, translated::Merging};
use crate::{
    access::{Entry, EventSink, Refused, Series},
    translate::{ADDRESS_BITS, Place, Places, split},
};

/// What the words of a log mean.
#[derive(Clone, Copy)]
pub(super) struct Words {
    places: &'static Places,
    arena_base: u64,
}

impl Words {
    /// The place of a word, and the address.
    #[inline]
    pub(super) fn resolve(self, word: u64) -> Option<(&'static Place, u64)> {
        Some((self.places.get(split(word).0)?, self.address(word)))
    }

    #[inline]
    fn address(self, word: u64) -> u64 {
        let low = split(word).1;
        let span = 1u64 << ADDRESS_BITS;
        let addr = self.arena_base & !(span - 1) | low;
        if addr < self.arena_base {
            addr + span
        } else {
            addr
        }
    }
}

/// Reads, and writes shifted by 32: as places have them.
#[derive(Clone, Copy)]
struct Counts(u64);

impl Counts {
    fn reads(self) -> u64 {
        self.0 & u64::from(u32::MAX)
    }

    fn writes(self) -> u64 {
        self.0 >> 32
    }

    fn events(self) -> u64 {
        self.reads() + self.writes()
    }
}

/// What is kept for telling entries one by one.
pub(super) struct Singles {
    seen: Seen,
    /// Those that are to be told.
    fresh: Vec<Entry>,
    /// Words that mean nothing.
    unreadable: Vec<u64>,
}

impl Singles {
    pub(super) fn new() -> Singles {
        Singles {
            seen: Seen::new(),
            fresh: Vec::new(),
            unreadable: Vec::new(),
        }
    }
}

impl Pipeline {
    /// What words mean; none where there are no logs.
    pub(super) fn meaning(&self) -> Option<Words> {
        Some(Words {
            places: &self.merging.as_ref()?.translator.places,
            arena_base: self.session.arena_base,
        })
    }

    /// Takes words one by one, fewer than 2^31. `epoch` is the sink's.
    pub(super) fn singles(
        &mut self,
        tid: u32,
        words: &[u64],
        epoch: Option<u64>,
        sink: &mut dyn EventSink,
    ) {
        let (Some(meaning), Some(merging)) = (self.meaning(), &mut self.merging) else {
            return;
        };
        let Merging { singles, .. } = merging;
        let Singles {
            seen,
            fresh,
            unreadable,
        } = singles;
        fresh.clear();
        let now = epoch.and_then(|epoch| seen.at(epoch, words.len()));
        let mut counts = Counts(0);
        let first = self.totals.events;
        for word in words {
            let Some(place) = meaning.places.get(split(*word).0) else {
                unreadable.push(*word);
                continue;
            };
            if !now.is_some_and(|now| seen.contains(*word, now)) {
                fresh.push(Entry {
                    place,
                    addr: meaning.address(*word),
                    word: *word,
                    seq: first + counts.events(),
                });
            }
            counts.0 += place.counts;
        }
        let all = words.len() - unreadable.len();
        self.totals.reads += counts.reads();
        self.totals.writes += counts.writes();
        self.totals.events += counts.events();
        self.totals.translated += all as u64;
        self.totals.delivered += all as u64;
        for entry in &*fresh {
            if entry.place.is_new(self.number) {
                self.ips.insert(entry.place.ip);
            }
        }
        let settled = fresh.is_empty() || sink.series(&Series::new(fresh, tid));
        if let Some(now) = now {
            seen.judge(all);
            if settled {
                fresh
                    .iter()
                    .for_each(|entry| seen.remember(entry.word, now));
            }
        }
        if !unreadable.is_empty() {
            self.refuse_words(tid, sink);
        }
    }

    /// Words that mean nothing: somebody wrote where only translated code does.
    #[cold]
    fn refuse_words(&mut self, tid: u32, sink: &mut dyn EventSink) {
        let words = match &mut self.merging {
            Some(merging) => std::mem::take(&mut merging.singles.unreadable),
            None => return,
        };
        for word in words {
            self.totals.rejected += 1;
            sink.refused(&Refused {
                tid,
                ip: 0,
                addr: 0,
                kind: direction(0),
                what: format!("an entry of the log could not be read: {word:#x}"),
            });
        }
    }
}

impl Place {
    /// Whether it was not seen before in a count of sites.
    #[inline]
    pub(super) fn is_new(&self, number: u32) -> bool {
        let new = self.seen.load(Ordering::Relaxed) != number;
        if new {
            self.seen.store(number, Ordering::Relaxed);
        }
        new
    }
}
