//! The arena: where every interpreter allocation that native code may reach lives.
//!
//! ```text
//!  segment (1 GiB of the native view)
//!  │ 2 MiB │ red │ object │ red │ red │ object │ red │ … free … │ quarantined │ … │ 2 MiB │
//!    never   └───── block ─────┘                                                    never
//! ```
//!
//! * A **block** is an object between two red zones. Accesses are recorded byte by byte, so the
//!   red zones need not catch an off-by-one (the abstract memory does); they keep objects apart,
//!   so that an access past one object is not taken for a proper access to its neighbour. What
//!   goes wrong in practice goes wrong by a fraction of the object, a row or an element too many,
//!   so their size grows with it: an eighth of the object, at least [`MIN_RED_ZONE`], at most
//!   [`MAX_RED_ZONE`]. The upper one is longer by [`OVERREAD_ROOM`], which is how far the string
//!   functions of a C library look beyond an object on purpose: they do not reach its neighbour.
//! * Freed blocks wait in a **quarantine**, first in, first out, and are not reused before more
//!   than [`Quarantine::bytes`] or [`Quarantine::blocks`] came after them, or the arena is
//!   otherwise full. The block freed last always waits. So a use after free is told from a use of
//!   something new for a good while.
//! * The first and last [`MARGIN`] bytes of a segment are never allocated, so a negative index or
//!   a run over the end still lands in arena memory, where it is recorded.
//! * **Contents.** Every new block is zero, whether zeroed memory was asked for or not, and
//!   whatever native code wrote there through a dangling pointer. Uninitialised memory so never
//!   shows old data, and a run is repeatable; reads of it are told by the abstract memory, which
//!   knows each uninitialised byte, not by a fill pattern. The bytes behind an object are
//!   [`BEYOND`]: a search for the NUL that a string lacks does not end there by chance, as if all
//!   were well, but goes on until it is out of bounds without doubt. Blocks from [`DISCARD_FROM`] bytes on
//!   are zeroed by giving their pages back, at once when they are freed and again when they are
//!   reused, so large blocks cost only what is touched.

mod extents;
mod quarantine;

use tracer_ebpf::{DELTA, SEGMENT_SIZE, Session};
use tracer_user::views::{Views, ViewsError};

use extents::Extents;
pub use quarantine::Quarantine;

/// Largest object, in bytes.
pub const MAX_SIZE: u64 = 512 << 20;
/// Largest alignment, in bytes.
pub const MAX_ALIGN: u64 = 1 << 20;
/// Smallest distance of an object to the edge of its block, in bytes.
pub const MIN_RED_ZONE: u64 = 64;
/// Largest red zone on one side of an object, in bytes.
pub const MAX_RED_ZONE: u64 = 64 << 10;
/// Bytes behind an object, beyond its red zone proper, that only string functions look at: four
/// vectors of 64 bytes, which is the most that they read at once.
pub const OVERREAD_ROOM: u64 = 256;
/// What the first bytes behind an object hold: neither a NUL nor, as a pointer, an address.
pub const BEYOND: u8 = 0xbe;
/// Bytes at either end of a segment that are never allocated.
pub const MARGIN: u64 = 2 << 20;
/// From this size on, a block is zeroed by giving its pages back instead of by writing them.
pub const DISCARD_FROM: u64 = 64 << 10;

/// Objects begin at multiples of this, as `malloc`'s do, and as the shadow table needs.
const GRANULE: u64 = tracer_user::shadow::GRANULE;

/// Why the arena cannot do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArenaError {
    /// The object is larger than [`MAX_SIZE`].
    #[error(
        "an allocation of {0} bytes is over the limit of 512 MiB; split it, or keep it out of the \
         arena"
    )]
    TooLarge(u64),
    /// The alignment is 0, not a power of two, or over [`MAX_ALIGN`].
    #[error("an alignment of {0} bytes is not possible: it must be a power of two up to 1 MiB")]
    Alignment(u64),
    /// No room, not even after adding segments and emptying the quarantine.
    #[error("no room for {size} bytes: {source}")]
    Full {
        /// Size asked for, in bytes.
        size: u64,
        /// Why no segment could be added.
        source: ViewsError,
    },
    /// The block does not belong to this arena or was freed before.
    #[error("no live block at {0:#x}: it was freed before, or belongs to another arena")]
    NotLive(u64),
    /// Memory of the arena could not be reached.
    #[error(transparent)]
    Views(#[from] ViewsError),
}

/// What is asked of [`Arena::allocate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Size of the object in bytes, 0 to [`MAX_SIZE`].
    pub size: u64,
    /// A power of two up to [`MAX_ALIGN`].
    pub align: u64,
    /// Whether the caller relies on zero bytes. New blocks are zero in any case (see the module);
    /// the field says so in the callers' code, and would matter to another fill policy.
    pub zeroed: bool,
}

/// A live object of the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Address of the object in the native view.
    pub base: u64,
    /// Size of the object in bytes.
    pub size: u64,
    /// First byte of the lower red zone.
    slot: u64,
    /// Bytes from `slot` to the end of the upper red zone.
    slot_len: u64,
}

impl Block {
    /// The block with its red zones, in the native view.
    pub fn slot(&self) -> std::ops::Range<u64> {
        self.slot..self.slot + self.slot_len
    }
}

/// Which mapping an address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// The protected mapping: accesses are recorded.
    Native,
    /// The interpreter's own mapping: nothing is recorded. What `--backend none` hands out.
    Host,
}

impl View {
    /// The address in this view of a byte of the native view.
    pub fn address(self, native: u64) -> u64 {
        match self {
            View::Native => native,
            View::Host => native + DELTA,
        }
    }
}

/// The allocator over the two views.
#[derive(Debug)]
pub struct Arena {
    views: Views,
    free: Extents,
    quarantine: Quarantine,
    /// Slots of the live blocks by object address, to tell a double free.
    live: std::collections::HashMap<u64, Block>,
}

impl Arena {
    /// An arena with the default quarantine. Address space is reserved; memory is mapped as it
    /// is needed.
    ///
    /// # Errors
    ///
    /// [`ArenaError::Views`] when no address space can be reserved.
    pub fn new() -> Result<Arena, ArenaError> {
        Arena::with_quarantine(Quarantine::default())
    }

    /// An arena with a quarantine of another size.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_quarantine(quarantine: Quarantine) -> Result<Arena, ArenaError> {
        Ok(Arena {
            views: Views::new()?,
            free: Extents::default(),
            quarantine,
            live: std::collections::HashMap::new(),
        })
    }

    /// Places an object. Its bytes are zero.
    ///
    /// # Errors
    ///
    /// [`ArenaError::TooLarge`], [`ArenaError::Alignment`] or [`ArenaError::Full`]; nothing is
    /// allocated.
    pub fn allocate(&mut self, request: Request) -> Result<Block, ArenaError> {
        let Request {
            size,
            align,
            zeroed: _,
        } = request;
        if size > MAX_SIZE {
            return Err(ArenaError::TooLarge(size));
        }
        if !align.is_power_of_two() || align > MAX_ALIGN {
            return Err(ArenaError::Alignment(align));
        }
        let red = red_zone(size);
        let fit = Fit {
            red,
            size: size.next_multiple_of(GRANULE) + red + OVERREAD_ROOM,
            align: align.max(GRANULE),
        };
        let slot = loop {
            if let Some(slot) = self.free.take(&fit) {
                break slot;
            }
            match self.views.add_segment() {
                Ok(base) => self.free.insert(base + MARGIN, SEGMENT_SIZE - 2 * MARGIN),
                // Rather give up the quarantine than refuse.
                Err(source) => match self.quarantine.release_oldest() {
                    Some(block) => self.free.insert(block.slot, block.slot_len),
                    None => return Err(ArenaError::Full { size, source }),
                },
            }
        };
        let base = (slot + red).next_multiple_of(fit.align);
        let block = Block {
            base,
            size,
            slot,
            slot_len: red + fit.size,
        };
        debug_assert_eq!(base - slot, red);
        self.clear(&block)?;
        self.live.insert(base, block);
        Ok(block)
    }

    /// Maps the first segment, if none is mapped yet, so that the arena is there to be traced.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub fn ensure_segment(&mut self) -> Result<(), ArenaError> {
        if self.views.segments() == 0 {
            let base = self.views.add_segment()?;
            self.free.insert(base + MARGIN, SEGMENT_SIZE - 2 * MARGIN);
        }
        Ok(())
    }

    /// Moves the block into quarantine. Its content is lost from [`DISCARD_FROM`] bytes on.
    ///
    /// # Errors
    ///
    /// [`ArenaError::NotLive`] for a block that was freed before.
    pub fn free(&mut self, block: Block) -> Result<(), ArenaError> {
        if self.live.get(&block.base) != Some(&block) {
            return Err(ArenaError::NotLive(block.base));
        }
        self.live.remove(&block.base);
        if block.size >= DISCARD_FROM {
            self.views.discard(block.base, block.size)?;
        }
        self.quarantine.push(block);
        while let Some(block) = self.quarantine.release_surplus() {
            self.free.insert(block.slot, block.slot_len);
        }
        Ok(())
    }

    /// Bases of the blocks that left the quarantine since the last call: their addresses may be
    /// reused from now on.
    pub fn released(&mut self) -> impl Iterator<Item = u64> + '_ {
        self.quarantine.released()
    }

    /// Whether [`released`](Self::released) has anything to say.
    pub fn has_released(&self) -> bool {
        self.quarantine.has_released()
    }

    /// Base and length of the reserved address range, for the recorders.
    pub fn session(&self) -> Session {
        self.views.session()
    }

    /// The views, for reading.
    pub fn views(&self) -> &Views {
        &self.views
    }

    /// The views, for writing. Objects' contents only: the allocator's own state is not there.
    pub fn views_mut(&mut self) -> &mut Views {
        &mut self.views
    }

    /// The address in the native view of an address of either view; `None` outside the arena.
    pub fn to_native(&self, addr: u64) -> Option<u64> {
        let session = self.session();
        match (session.is_arena(addr), session.is_native(addr)) {
            (false, _) => None,
            (true, true) => Some(addr),
            (true, false) => Some(addr - DELTA),
        }
    }

    fn clear(&mut self, block: &Block) -> Result<(), ArenaError> {
        if block.size >= DISCARD_FROM {
            self.views.discard(block.base, block.size)?;
        } else {
            self.views.zero(block.base, block.size)?;
        }
        let beyond = [BEYOND; (MIN_RED_ZONE + OVERREAD_ROOM) as usize];
        Ok(self.views.write(block.base + block.size, &beyond)?)
    }
}

/// What a block needs of a free extent.
#[derive(Clone, Copy, Debug)]
struct Fit {
    /// Bytes below the object.
    red: u64,
    /// Bytes from the object's base to the end of the block.
    size: u64,
    /// Alignment of the object's base.
    align: u64,
}

impl Fit {
    /// Where the block begins in an extent, if it fits there.
    fn place(&self, start: u64, len: u64) -> Option<u64> {
        let base = (start + self.red).next_multiple_of(self.align);
        (base + self.size <= start + len).then_some(base - self.red)
    }

    /// Length of the block.
    fn len(&self) -> u64 {
        self.red + self.size
    }
}

/// Bytes between an object and the edge of its block, on either side.
fn red_zone(size: u64) -> u64 {
    (size / 8)
        .clamp(MIN_RED_ZONE, MAX_RED_ZONE)
        .next_multiple_of(GRANULE)
}

#[cfg(test)]
mod tests;
