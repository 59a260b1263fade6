//! How accesses, and the interpreter's own doings, change what is known of bytes.

use std::ops::Range;

use tracer_user::access::{Access, AccessKind};

use super::{Allocation, Tracked, each_gap};
use crate::memory::provenance::PointerMap;
use crate::memory::{AllocId, ByteSet, POINTER_SIZE};

impl Allocation {
    /// Takes down an access to `range`, which lies inside. A certain write initialises. Returns
    /// whether the access calls for more than that.
    #[inline]
    pub(in crate::memory) fn mark(&mut self, range: Range<u64>, access: &Access) -> bool {
        let [quick_read, quick_write] = self.quick;
        match (access.kind, access.certain) {
            (AccessKind::Read, _) => {
                let init = self.init.contains_range(range.clone());
                if !init && !self.read_uninit.contains_range(range.clone()) {
                    self.mark_uninit(range.clone());
                }
                self.read.insert(range);
                !(quick_read && init)
            }
            (AccessKind::Write, true) => {
                self.init.insert(range.clone());
                self.written.insert(range);
                !quick_write
            }
            (AccessKind::Write, false) => {
                self.maybe_written.insert(range);
                !quick_write
            }
        }
    }

    /// The same for `count` accesses of one kind, each `stride` bytes after the one before and none
    /// touching another; all that is read is initialised.
    pub(in crate::memory) fn mark_strided(
        &mut self,
        first: Range<u64>,
        stride: u64,
        count: u64,
        access: &Access,
    ) {
        let (start, len) = (first.start, first.end - first.start);
        let sets = match (access.kind, access.certain) {
            (AccessKind::Read, _) => [Some(&mut self.read), None],
            (AccessKind::Write, true) => [Some(&mut self.init), Some(&mut self.written)],
            (AccessKind::Write, false) => [Some(&mut self.maybe_written), None],
        };
        for set in sets.into_iter().flatten() {
            set.insert_strided(start, len, stride, count);
        }
    }

    /// Takes down that a coverage set changed. Returns false if that was known.
    pub(in crate::memory) fn touch(&mut self) -> bool {
        let before = std::mem::replace(&mut self.touched, true);
        self.refresh();
        !before
    }

    /// Whether there are pointers here, or wildcard bytes that are kept explicitly.
    pub(in crate::memory) fn is_tracked(&self) -> bool {
        self.tracked.is_some()
    }

    /// Brings `quick` up to date.
    fn refresh(&mut self) {
        let quick = self.touched && self.tracked.is_none();
        self.quick = [quick, quick && self.mutable];
    }

    /// Marks what of a read may not be read.
    #[inline(never)]
    fn mark_uninit(&mut self, range: Range<u64>) {
        let sets = match &self.tracked {
            Some(tracked) => [Some(&tracked.wildcard), None, None],
            None => {
                let maybe = self.mutable.then_some(&self.maybe_written);
                [Some(&self.past), Some(&self.written), maybe]
            }
        };
        let marks = &mut self.read_uninit;
        each_gap(&self.init, sets, range, |gap| {
            marks.insert(gap);
        });
    }

    /// The allocations that pointers with a byte in `range` belong to.
    pub(in crate::memory) fn targets(
        &self,
        range: Range<u64>,
    ) -> impl Iterator<Item = AllocId> + '_ {
        self.tracked
            .iter()
            .flat_map(move |tracked| tracked.pointers.targets(range.clone()))
    }

    /// The pointer that begins at `offset`, if it is whole.
    pub(in crate::memory) fn whole_pointer(&self, offset: u64) -> Option<AllocId> {
        self.tracked.as_ref()?.pointers.whole_at(offset)
    }

    /// Native code wrote `range`, or may have: what it holds comes from nobody knows where.
    pub(in crate::memory) fn make_wildcard(&mut self, range: Range<u64>) {
        if range.start == 0 && range.end >= self.size {
            self.tracked = None;
            self.past = ByteSet::full(self.size);
            self.refresh();
        } else if let Some(tracked) = &mut self.tracked {
            tracked.pointers.clear(range.clone());
            tracked.wildcard.insert(range);
        } else {
            self.past.insert(range);
        }
    }

    /// The interpreter wrote plain bytes to `range`.
    pub(in crate::memory) fn make_plain(&mut self, range: Range<u64>) {
        self.init.insert(range.clone());
        self.forget_provenance(range);
    }

    /// The interpreter wrote a pointer to `offset`.
    pub(in crate::memory) fn make_pointer(&mut self, offset: u64, id: AllocId) {
        let range = offset..offset + POINTER_SIZE;
        self.init.insert(range.clone());
        let tracked = self.track();
        tracked.wildcard.remove(range);
        tracked.pointers.put(offset, id);
    }

    /// `range` holds nothing any more.
    pub(in crate::memory) fn make_uninit(&mut self, range: Range<u64>) {
        self.init.remove(range.clone());
        self.forget_provenance(range);
    }

    fn forget_provenance(&mut self, range: Range<u64>) {
        let wild = |set: &ByteSet| set.intersects(range.clone());
        let held = self.wild_sets().into_iter().flatten().any(wild);
        if held || self.tracked.is_some() {
            let tracked = self.track();
            tracked.wildcard.remove(range.clone());
            tracked.pointers.clear(range);
        }
    }

    /// What is known of `range`, to [`paste`](Self::paste) it elsewhere.
    pub(in crate::memory) fn cut(&self, range: &Range<u64>) -> Piece {
        let relative = |found: Range<u64>| found.start - range.start..found.end - range.start;
        let mut wildcard = Vec::new();
        for set in self.wild_sets().into_iter().flatten() {
            wildcard.extend(set.ranges_in(range.clone()).map(relative));
        }
        let pointers = self.tracked.as_ref();
        Piece {
            len: range.end - range.start,
            init: self.init.ranges_in(range.clone()).map(relative).collect(),
            wildcard,
            pointers: pointers.map(|tracked| tracked.pointers.cut(range)),
        }
    }

    /// Puts what is known of other bytes to `offset`, where there is room for it.
    pub(in crate::memory) fn paste(&mut self, offset: u64, piece: &Piece) {
        let absolute = |found: &Range<u64>| found.start + offset..found.end + offset;
        self.make_uninit(offset..offset + piece.len);
        for range in &piece.init {
            self.init.insert(absolute(range));
        }
        let pointers = piece.pointers.as_ref().filter(|map| !map.is_empty());
        if piece.wildcard.is_empty() && pointers.is_none() {
            return;
        }
        let tracked = self.track();
        for range in &piece.wildcard {
            tracked.wildcard.insert(absolute(range));
        }
        if let Some(pointers) = pointers {
            tracked.pointers.paste(offset, pointers);
        }
    }

    /// Allows or forbids native code to write.
    pub(in crate::memory) fn set_mutable(&mut self, mutable: bool) {
        if self.mutable != mutable && !self.maybe_written.is_empty() {
            // Whether those bytes are wildcard was decided when they were marked.
            self.track();
        }
        self.mutable = mutable;
        self.refresh();
    }

    /// Forgets what native code read and wrote, but not that it did.
    pub(in crate::memory) fn reset_coverage(&mut self) {
        self.touched = false;
        match self.tracked.take() {
            Some(tracked) if tracked.pointers.is_empty() => self.past = tracked.wildcard,
            Some(tracked) => self.tracked = Some(tracked),
            None => {
                self.past.insert_all(&self.written);
                if self.mutable {
                    self.past.insert_all(&self.maybe_written);
                }
            }
        }
        for set in [
            &mut self.read,
            &mut self.read_uninit,
            &mut self.written,
            &mut self.maybe_written,
        ] {
            set.clear();
        }
        self.refresh();
    }

    /// Begins to keep wildcard bytes and pointers explicitly.
    fn track(&mut self) -> &mut Tracked {
        let tracked = self.tracked.take().unwrap_or_else(|| {
            Box::new(Tracked {
                pointers: PointerMap::default(),
                wildcard: self.wildcard(),
            })
        });
        self.quick = [false; 2];
        self.tracked.insert(tracked)
    }
}

/// What is known of a range of bytes, counted from its start.
#[derive(Clone, Debug)]
pub(in crate::memory) struct Piece {
    len: u64,
    init: Vec<Range<u64>>,
    wildcard: Vec<Range<u64>>,
    pointers: Option<PointerMap>,
}
