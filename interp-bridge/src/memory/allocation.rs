//! One allocation, and what is known of each of its bytes.
//!
//! ```text
//!  init       surely initialised: by the interpreter, or by a certain write of native code
//!  wildcard   from native code, or perhaps from it (an uncertain write, an untraced call)
//!  readable   init or wildcard: what an interpreter's program may read
//!  pointers   bytes of pointers that the interpreter wrote; never wildcard as well
//! ```
//!
//! `init` is what the command line prints as `initialized`: it promises what surely happened. An
//! interpreter's program may read more, for an uncertain write counts there as if it happened, so
//! that no read is refused that may be right.
//!
//! Most allocations never hold a pointer, and every native write is wildcard, so the set of
//! wildcard bytes need not be kept: it is what was `written` (or `maybe_written`) since the last
//! reset, and in the `past` before. Only when the interpreter overwrites such bytes, or stores a
//! pointer, it is kept explicitly ([`Tracked`]). So native writes cost what they cost without.

mod changes;

use std::ops::Range;

use super::provenance::PointerMap;
use super::{AllocId, AllocKind, ByteProvenance, ByteSet, Freer, Origin};
use crate::arena::Block;

/// Where the bytes of an allocation are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Home {
    /// In the arena.
    Arena(Block),
    /// Elsewhere in this process.
    External,
}

/// What is kept of an allocation whose wildcard bytes are not just the written ones.
#[derive(Clone, Debug)]
pub(super) struct Tracked {
    pointers: PointerMap,
    wildcard: ByteSet,
}

/// The record of an allocation. Offsets in its sets count from its base.
#[derive(Debug)]
pub struct Allocation {
    /// Its id.
    pub(super) id: AllocId,
    name: Option<String>,
    base: u64,
    size: u64,
    pub(super) home: Home,
    align: u64,
    pub(super) mutable: bool,
    pub(super) freed: Option<Freer>,
    pub(super) exposed: bool,
    /// Whether a coverage set changed since the last reset.
    touched: bool,
    /// Whether reads, and writes, call for their marks and nothing else: the allocation is
    /// touched already, holds nothing tracked, and allows them.
    quick: [bool; 2],
    kind: AllocKind,
    pub(super) origin: Option<Box<Origin>>,
    init: ByteSet,
    read: ByteSet,
    read_uninit: ByteSet,
    written: ByteSet,
    maybe_written: ByteSet,
    /// Wildcard bytes from before the last reset; unused once `tracked` is there.
    past: ByteSet,
    tracked: Option<Box<Tracked>>,
}

/// What a record is made of.
pub(super) struct Parts {
    pub(super) id: AllocId,
    pub(super) name: Option<String>,
    pub(super) base: u64,
    pub(super) size: u64,
    pub(super) home: Home,
    pub(super) align: u64,
    pub(super) mutable: bool,
    pub(super) kind: AllocKind,
    pub(super) initialised: bool,
}

impl Allocation {
    pub(super) fn new(parts: Parts) -> Allocation {
        let none = ByteSet::empty(parts.size);
        let init = if parts.initialised {
            ByteSet::full(parts.size)
        } else {
            none.clone()
        };
        Allocation {
            id: parts.id,
            name: parts.name,
            base: parts.base,
            size: parts.size,
            home: parts.home,
            align: parts.align,
            mutable: parts.mutable,
            freed: None,
            exposed: false,
            touched: false,
            quick: [false; 2],
            kind: parts.kind,
            origin: None,
            init,
            read: none.clone(),
            read_uninit: none.clone(),
            written: none.clone(),
            maybe_written: none.clone(),
            past: none,
            tracked: None,
        }
    }

    /// Its id.
    pub fn id(&self) -> AllocId {
        self.id
    }

    /// The name it was given.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// How messages call it: `` `buf` `` or `allocation #3`.
    pub fn label(&self) -> String {
        match &self.name {
            Some(name) => format!("`{name}`"),
            None => format!("allocation {}", self.id),
        }
    }

    /// How messages introduce it: `` `buf` (44 bytes) ``.
    pub fn title(&self) -> String {
        let size = super::violation::bytes(self.size);
        match &self.origin {
            Some(origin) => format!("{} ({size} from {})", self.label(), origin.what),
            None => format!("{} ({size})", self.label()),
        }
    }

    /// Address of its first byte in the native view; the real address of an external one.
    #[inline]
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Size in bytes.
    #[inline]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// First address after it, in the native view.
    #[inline]
    pub fn end(&self) -> u64 {
        self.base + self.size
    }

    /// Whether an address is its own: inside, or in its red zones.
    pub(super) fn owns(&self, addr: u64) -> bool {
        match &self.home {
            Home::Arena(block) => block.slot().contains(&addr),
            Home::External => addr.wrapping_sub(self.base) < self.size,
        }
    }

    /// Alignment that was asked for, in bytes.
    pub fn align(&self) -> u64 {
        self.align
    }

    /// What kind of memory it is.
    pub fn kind(&self) -> AllocKind {
        self.kind
    }

    /// What made it, where that was told.
    pub fn origin(&self) -> Option<&Origin> {
        self.origin.as_deref()
    }

    /// Whether its bytes lie outside of the arena.
    pub fn is_external(&self) -> bool {
        self.home == Home::External
    }

    /// Whether native code may write it.
    pub fn is_mutable(&self) -> bool {
        self.mutable
    }

    /// False once it was freed.
    pub fn is_live(&self) -> bool {
        self.freed.is_none()
    }

    /// Who freed it, once it was freed.
    pub fn freed(&self) -> Option<Freer> {
        self.freed
    }

    /// Whether native code may know its address, so that a wildcard pointer may reach it.
    pub fn is_exposed(&self) -> bool {
        self.exposed
    }

    /// Bytes that are surely initialised. See [`readable`](Self::readable) for those that an
    /// interpreter's program may read.
    pub fn init(&self) -> &ByteSet {
        &self.init
    }

    /// Bytes that native code wrote, or may have written, and the interpreter did not overwrite.
    pub fn wildcard(&self) -> ByteSet {
        let mut all = ByteSet::empty(self.size);
        for set in self.wild_sets().into_iter().flatten() {
            all.insert_all(set);
        }
        all
    }

    /// Bytes that an interpreter's program may read: those that are initialised for sure, and
    /// those that an uncertain write or an untraced call may have initialised.
    pub fn readable(&self) -> ByteSet {
        let mut all = self.init.clone();
        for set in self.wild_sets().into_iter().flatten() {
            all.insert_all(set);
        }
        all
    }

    /// The first bytes of `range` that may not be read, as far as they go; `None` if all may be.
    pub fn first_unreadable(&self, range: Range<u64>) -> Option<Range<u64>> {
        if self.init.contains_range(range.clone()) {
            return None;
        }
        let mut first: Option<Range<u64>> = None;
        let sets = self.wild_sets();
        each_gap(&self.init, sets, range, |gap| match &mut first {
            None => first = Some(gap),
            Some(first) if first.end == gap.start => first.end = gap.end,
            Some(_) => {}
        });
        first
    }

    /// What is known of the byte at `offset`.
    pub fn byte_provenance(&self, offset: u64) -> ByteProvenance {
        let pointer = self
            .tracked
            .as_ref()
            .and_then(|tracked| tracked.pointers.at(offset));
        if let Some((id, index)) = pointer {
            return ByteProvenance::Pointer { id, index };
        }
        let mut sets = self.wild_sets().into_iter().flatten();
        if sets.any(|set| set.contains(offset)) {
            ByteProvenance::Wildcard
        } else {
            ByteProvenance::None
        }
    }

    /// Pointers that the interpreter stored and nothing overwrote since, even in part: offset and
    /// allocation, in ascending order.
    pub fn pointers(&self) -> impl Iterator<Item = (u64, AllocId)> + '_ {
        let all = 0..self.size;
        self.tracked
            .iter()
            .flat_map(move |tracked| tracked.pointers.whole_in(all.clone()))
    }

    /// Bytes that native code read since the last reset.
    pub fn read(&self) -> &ByteSet {
        &self.read
    }

    /// Bytes that native code read while they were not [`readable`](Self::readable): a hint at a
    /// bug, not a violation, for native code may well copy padding.
    pub fn read_uninit(&self) -> &ByteSet {
        &self.read_uninit
    }

    /// Bytes that native code certainly wrote since the last reset.
    pub fn written(&self) -> &ByteSet {
        &self.written
    }

    /// Bytes of writes that may not have happened, whether or not another write was certain.
    pub fn maybe_written(&self) -> &ByteSet {
        &self.maybe_written
    }

    /// The sets that together are the wildcard bytes.
    fn wild_sets(&self) -> [Option<&ByteSet>; 3] {
        match &self.tracked {
            Some(tracked) => [Some(&tracked.wildcard), None, None],
            None => {
                let maybe = self.mutable.then_some(&self.maybe_written);
                [Some(&self.past), Some(&self.written), maybe]
            }
        }
    }
}

/// Calls `each` with what of `range` is neither in `init` nor in one of `sets`, in order.
fn each_gap(
    init: &ByteSet,
    sets: [Option<&ByteSet>; 3],
    range: Range<u64>,
    mut each: impl FnMut(Range<u64>),
) {
    let none = ByteSet::empty(init.len());
    let [a, b, c] = sets.map(|set| set.unwrap_or(&none));
    for gap in init.gaps(range) {
        for gap in a.gaps(gap) {
            for gap in b.gaps(gap) {
                c.gaps(gap).for_each(&mut each);
            }
        }
    }
}
