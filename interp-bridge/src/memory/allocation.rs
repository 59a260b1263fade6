//! One allocation, and what is known of each of its bytes.

use std::fmt;
use std::ops::Range;

use tracer_user::access::{Access, AccessKind};

use super::ByteSet;
use crate::arena::Block;

/// Names an allocation for ever: numbers are not reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AllocId(pub(super) u64);

impl AllocId {
    /// The number: 0 for the first allocation of a memory.
    pub fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for AllocId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// What a new allocation contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Init<'a> {
    /// Nothing that may be relied on (zero bytes, in fact).
    Uninit,
    /// Zero bytes.
    Zeroed,
    /// These bytes, exactly as many as the allocation has.
    Bytes(&'a [u8]),
}

/// What is asked of [`Memory::allocate`](super::Memory::allocate).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocRequest<'a> {
    /// Name for messages, as the user knows it.
    pub name: Option<&'a str>,
    /// Size in bytes, 0 to [`MAX_SIZE`](crate::arena::MAX_SIZE).
    pub size: u64,
    /// A power of two up to [`MAX_ALIGN`](crate::arena::MAX_ALIGN).
    pub align: u64,
    /// Initial contents.
    pub init: Init<'a>,
    /// Whether native code may write it.
    pub mutable: bool,
}

/// The record of an allocation. Offsets in its sets count from its base.
#[derive(Debug)]
pub struct Allocation {
    /// Its id.
    pub(super) id: AllocId,
    name: Option<String>,
    pub(super) block: Block,
    align: u64,
    pub(super) mutable: bool,
    pub(super) live: bool,
    /// Whether a coverage set changed since the last reset.
    pub(super) touched: bool,
    pub(super) init: ByteSet,
    read: ByteSet,
    read_uninit: ByteSet,
    written: ByteSet,
    maybe_written: ByteSet,
}

impl Allocation {
    pub(super) fn new(
        id: AllocId,
        name: Option<String>,
        block: Block,
        align: u64,
        mutable: bool,
        initialised: bool,
    ) -> Allocation {
        let none = ByteSet::empty(block.size);
        let init = if initialised {
            ByteSet::full(block.size)
        } else {
            none.clone()
        };
        Allocation {
            id,
            name,
            block,
            align,
            mutable,
            live: true,
            touched: false,
            init,
            read: none.clone(),
            read_uninit: none.clone(),
            written: none.clone(),
            maybe_written: none,
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
        format!(
            "{} ({})",
            self.label(),
            super::violation::bytes(self.size())
        )
    }

    /// Address of its first byte in the native view.
    pub fn base(&self) -> u64 {
        self.block.base
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.block.size
    }

    /// First address after it, in the native view.
    pub fn end(&self) -> u64 {
        self.block.base + self.block.size
    }

    /// Alignment that was asked for, in bytes.
    pub fn align(&self) -> u64 {
        self.align
    }

    /// Whether native code may write it.
    pub fn is_mutable(&self) -> bool {
        self.mutable
    }

    /// False once it was freed.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Initialised bytes.
    pub fn init(&self) -> &ByteSet {
        &self.init
    }

    /// Bytes that native code read since the last reset.
    pub fn read(&self) -> &ByteSet {
        &self.read
    }

    /// Bytes that native code read while they were uninitialised: a hint at a bug, not a
    /// violation, for native code may well copy padding.
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

    /// Takes down an access to `range`, which lies inside. A certain write initialises.
    #[inline]
    pub(super) fn mark(&mut self, range: Range<u64>, access: &Access) {
        match (access.kind, access.certain) {
            (AccessKind::Read, _) => {
                if !self.init.contains_range(range.clone()) {
                    for gap in self.init.gaps(range.clone()) {
                        self.read_uninit.insert(gap);
                    }
                }
                self.read.insert(range);
            }
            (AccessKind::Write, true) => {
                self.init.insert(range.clone());
                self.written.insert(range);
            }
            (AccessKind::Write, false) => {
                self.maybe_written.insert(range);
            }
        }
    }

    pub(super) fn reset_coverage(&mut self) {
        self.touched = false;
        for set in [
            &mut self.read,
            &mut self.read_uninit,
            &mut self.written,
            &mut self.maybe_written,
        ] {
            set.clear();
        }
    }
}
