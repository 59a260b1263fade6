//! Free address ranges: best fit, neighbours merged.

use std::collections::{BTreeMap, BTreeSet};

use super::Fit;

/// Free ranges, by address and by length. Ranges that touch are one, so the margins of the
/// segments keep segments apart.
#[derive(Debug, Default)]
pub(super) struct Extents {
    by_start: BTreeMap<u64, u64>,
    by_len: BTreeSet<(u64, u64)>,
}

/// How many ranges that are long enough but badly aligned are looked at before one is taken that
/// fits at any address.
const TRIES: usize = 8;

impl Extents {
    /// Cuts a block out of the shortest range that holds it and returns its first address.
    pub(super) fn take(&mut self, fit: &Fit) -> Option<u64> {
        let tight = self.by_len.range((fit.len(), 0)..).take(TRIES);
        // With the alignment added, any range of that length will do.
        let roomy = self.by_len.range((fit.len() + fit.align, 0)..).take(1);
        let found = tight
            .chain(roomy)
            .find_map(|(len, start)| Some((*start, *len, fit.place(*start, *len)?)));
        let (start, len, slot) = match found {
            Some(found) => found,
            // Between the two lies a range that may fit by luck; full memory is rare enough to
            // look at all of them.
            None => self
                .by_len
                .range((fit.len(), 0)..(fit.len() + fit.align, 0))
                .find_map(|(len, start)| Some((*start, *len, fit.place(*start, *len)?)))?,
        };
        self.remove(start, len);
        self.add(start, slot - start);
        let end = slot + fit.len();
        self.add(end, start + len - end);
        Some(slot)
    }

    /// Gives a range back.
    pub(super) fn insert(&mut self, mut start: u64, mut len: u64) {
        if let Some((&below, &below_len)) = self.by_start.range(..start).next_back()
            && below + below_len == start
        {
            self.remove(below, below_len);
            start = below;
            len += below_len;
        }
        if let Some(&above_len) = self.by_start.get(&(start + len)) {
            self.remove(start + len, above_len);
            len += above_len;
        }
        self.add(start, len);
    }

    fn add(&mut self, start: u64, len: u64) {
        if len > 0 {
            self.by_start.insert(start, len);
            self.by_len.insert((len, start));
        }
    }

    fn remove(&mut self, start: u64, len: u64) {
        self.by_start.remove(&start);
        self.by_len.remove(&(len, start));
    }

    #[cfg(test)]
    pub(super) fn ranges(&self) -> Vec<(u64, u64)> {
        assert_eq!(self.by_start.len(), self.by_len.len());
        self.by_start
            .iter()
            .map(|(start, len)| (*start, *len))
            .collect()
    }
}
