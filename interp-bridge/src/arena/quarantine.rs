//! Freed blocks that are not reused yet.

use std::collections::VecDeque;

use super::Block;

/// Freed blocks in the order in which they were freed.
#[derive(Debug)]
pub struct Quarantine {
    /// Address space that freed blocks may hold, in bytes. Their memory is already given back if
    /// they are large.
    pub bytes: u64,
    /// How many freed blocks may wait: each costs the abstract memory a record.
    pub blocks: usize,
    queue: VecDeque<Block>,
    queued: u64,
    released: Vec<u64>,
}

impl Quarantine {
    /// A quarantine of that many bytes and blocks.
    pub fn new(bytes: u64, blocks: usize) -> Quarantine {
        Quarantine {
            bytes,
            blocks,
            queue: VecDeque::new(),
            queued: 0,
            released: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, block: Block) {
        self.queued += block.slot_len;
        self.queue.push_back(block);
    }

    /// The oldest block, if there is more in quarantine than it may hold. The newest one stays,
    /// however large it is.
    pub(super) fn release_surplus(&mut self) -> Option<Block> {
        let surplus = self.queued > self.bytes || self.queue.len() > self.blocks;
        if surplus && self.queue.len() > 1 {
            self.release_oldest()
        } else {
            None
        }
    }

    pub(super) fn release_oldest(&mut self) -> Option<Block> {
        let block = self.queue.pop_front()?;
        self.queued -= block.slot_len;
        self.released.push(block.base);
        Some(block)
    }

    pub(super) fn released(&mut self) -> impl Iterator<Item = u64> + '_ {
        self.released.drain(..)
    }

    pub(super) fn has_released(&self) -> bool {
        !self.released.is_empty()
    }
}

impl Default for Quarantine {
    /// An eighth of a segment, and at most 65,536 blocks.
    fn default() -> Quarantine {
        Quarantine::new(tracer_ebpf::SEGMENT_SIZE / 8, 1 << 16)
    }
}
