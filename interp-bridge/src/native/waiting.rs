//! Freed blocks of the real heap, on their way to the real `free`.
//!
//! While a block waits, nobody else gets its address, so that freeing it once more is known to be
//! a double free. The oldest goes first.

use std::collections::VecDeque;

/// Blocks of the real heap that wait before the real `free` gets them.
const WAITING_BLOCKS: usize = 1024;

/// Their sizes together, in bytes.
const WAITING_BYTES: u64 = 16 << 20;

/// See the module.
#[derive(Default)]
pub(super) struct Waiting {
    /// Bases and sizes.
    blocks: VecDeque<(u64, u64)>,
    bytes: u64,
}

impl Waiting {
    /// Has a block wait; returns those that have waited long enough.
    pub(super) fn push(&mut self, base: u64, size: u64) -> Vec<u64> {
        self.blocks.push_back((base, size));
        self.bytes += size;
        let mut expired = Vec::new();
        while self.blocks.len() > WAITING_BLOCKS || self.bytes > WAITING_BYTES {
            let Some((base, size)) = self.blocks.pop_front() else {
                break;
            };
            self.bytes -= size;
            expired.push(base);
        }
        expired
    }

    /// Takes out all of them.
    pub(super) fn clear(&mut self) -> Vec<u64> {
        self.bytes = 0;
        self.blocks.drain(..).map(|(base, _)| base).collect()
    }
}
