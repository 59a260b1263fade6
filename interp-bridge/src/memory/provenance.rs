//! Which allocation the pointers stored in memory belong to, byte by byte.
//!
//! ```text
//!  offset     0 1 2 3 4 5 6 7 8 9 …
//!  contents   └── pointer ──┘ a pointer written here is one entry: 0 ──► #3
//!             · · w w └─····┘ after bytes 0..4 were overwritten, bytes 4..8 are still bytes 4..8
//!                             of a pointer to #3, and w, written by native code, is a wildcard
//! ```
//!
//! A pointer is an address and a permission, its provenance. An interpreter's own writes say what
//! they write; native code writes plain bytes, so what it wrote has **wildcard** provenance: as a
//! pointer it may reach any allocation whose address native code can know, that is, any that is
//! *exposed*.

use std::{collections::BTreeMap, ops::Range};

use super::AllocId;

/// Bytes of a pointer.
pub const POINTER_SIZE: u64 = 8;

/// What a pointer may reach.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Provenance {
    /// Nothing: it is a number.
    #[default]
    None,
    /// Any live allocation that is exposed: it comes from native code.
    Wildcard,
    /// One allocation.
    Alloc(AllocId),
}

/// A pointer as an interpreter knows it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Pointer {
    /// The address, as native code would use it.
    pub addr: u64,
    /// What it may reach.
    pub provenance: Provenance,
}

impl Pointer {
    /// A pointer into an allocation.
    pub fn to(id: AllocId, addr: u64) -> Pointer {
        Pointer {
            addr,
            provenance: Provenance::Alloc(id),
        }
    }

    /// What native code returned or wrote: it may reach what is exposed.
    pub fn from_native(addr: u64) -> Pointer {
        Pointer {
            addr,
            provenance: Provenance::Wildcard,
        }
    }

    /// A number that is no pointer.
    pub fn from_number(addr: u64) -> Pointer {
        Pointer {
            addr,
            provenance: Provenance::None,
        }
    }

    /// The pointer `bytes` farther on (or back), with the same provenance.
    #[must_use]
    pub fn offset(self, bytes: i64) -> Pointer {
        Pointer {
            addr: self.addr.wrapping_add_signed(bytes),
            ..self
        }
    }
}

/// What is known of one byte in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteProvenance {
    /// A plain byte.
    None,
    /// Native code wrote it, or may have.
    Wildcard,
    /// It is byte `index` of a pointer into `id`.
    Pointer {
        /// The allocation.
        id: AllocId,
        /// 0 to 7.
        index: u8,
    },
}

/// The pointers in one allocation. Bytes of native code are not in here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PointerMap {
    /// Pointers that are whole, by their first byte.
    whole: BTreeMap<u64, AllocId>,
    /// Bytes of others.
    bytes: BTreeMap<u64, (AllocId, u8)>,
}

impl PointerMap {
    pub(super) fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.bytes.is_empty()
    }

    /// Takes down that a pointer into `id` was written at `offset`.
    pub(super) fn put(&mut self, offset: u64, id: AllocId) {
        self.clear(offset..offset + POINTER_SIZE);
        self.whole.insert(offset, id);
    }

    fn put_byte(&mut self, offset: u64, id: AllocId, index: u8) {
        self.clear(offset..offset + 1);
        self.bytes.insert(offset, (id, index));
    }

    /// Forgets the bytes of `range`; the rest of a pointer that is cut stays.
    pub(super) fn clear(&mut self, range: Range<u64>) {
        if range.is_empty() || self.is_empty() {
            return;
        }
        for at in [range.start, range.end] {
            self.split(at);
        }
        let whole = self.whole.extract_if(range.clone(), |_, _| true);
        whole.for_each(drop);
        self.bytes.extract_if(range, |_, _| true).for_each(drop);
    }

    /// Turns a pointer of which `at` is a byte but not the first into single bytes.
    fn split(&mut self, at: u64) {
        let first = at.saturating_sub(POINTER_SIZE - 1);
        let Some((start, id)) = self.whole.range(first..at).next_back() else {
            return;
        };
        let (start, id) = (*start, *id);
        self.whole.remove(&start);
        for index in 0..POINTER_SIZE {
            self.bytes.insert(start + index, (id, index as u8));
        }
    }

    /// The byte at `offset`, if it is one of a pointer.
    pub(super) fn at(&self, offset: u64) -> Option<(AllocId, u8)> {
        let first = offset.saturating_sub(POINTER_SIZE - 1);
        match self.whole.range(first..=offset).next_back() {
            Some((start, id)) => Some((*id, (offset - start) as u8)),
            None => self.bytes.get(&offset).copied(),
        }
    }

    /// The pointer that begins at `offset`, if it is whole.
    pub(super) fn whole_at(&self, offset: u64) -> Option<AllocId> {
        self.whole.get(&offset).copied()
    }

    /// The allocations that pointers with a byte in `range` belong to, some more than once.
    pub(super) fn targets(&self, range: Range<u64>) -> impl Iterator<Item = AllocId> + '_ {
        let first = range.start.saturating_sub(POINTER_SIZE - 1);
        // An empty or reversed range would be a panic of the map.
        let whole = self.whole.range(first..range.end.max(first));
        let bytes = self.bytes.range(range.start..range.end.max(range.start));
        whole
            .map(|(_, id)| *id)
            .chain(bytes.map(|(_, (id, _))| *id))
    }

    /// Where the whole pointers of `range` begin, and what they belong to.
    pub(super) fn whole_in(&self, range: Range<u64>) -> impl Iterator<Item = (u64, AllocId)> + '_ {
        let range = range.start..range.end.max(range.start);
        self.whole.range(range).map(|(offset, id)| (*offset, *id))
    }

    /// The part of the map that lies in `range`, counted from its start.
    pub(super) fn cut(&self, range: &Range<u64>) -> PointerMap {
        let mut part = self.clone_in(range);
        for at in [range.start, range.end] {
            part.split(at);
        }
        let inside = |offset: &u64| range.contains(offset);
        PointerMap {
            whole: part
                .whole
                .into_iter()
                .filter(|(offset, _)| inside(offset))
                .map(|(offset, id)| (offset - range.start, id))
                .collect(),
            bytes: part
                .bytes
                .into_iter()
                .filter(|(offset, _)| inside(offset))
                .map(|(offset, byte)| (offset - range.start, byte))
                .collect(),
        }
    }

    /// Entries with a byte in `range`, the cut ones whole.
    fn clone_in(&self, range: &Range<u64>) -> PointerMap {
        let first = range.start.saturating_sub(POINTER_SIZE - 1);
        let end = range.end.max(range.start);
        PointerMap {
            whole: self
                .whole
                .range(first..end)
                .map(|(offset, id)| (*offset, *id))
                .collect(),
            bytes: self
                .bytes
                .range(range.start..end)
                .map(|(offset, byte)| (*offset, *byte))
                .collect(),
        }
    }

    /// Puts what [`cut`](Self::cut) took out to `offset`, where the map was cleared.
    pub(super) fn paste(&mut self, offset: u64, part: &PointerMap) {
        for (at, id) in &part.whole {
            self.put(offset + at, *id);
        }
        for (at, (id, index)) in &part.bytes {
            self.put_byte(offset + at, *id, *index);
        }
    }
}
