//! Memory for structures that are rebuilt with moved pointers.
//!
//! ```text
//!  words: │ iovecs of a call that waits │ iovecs │ headers │ ······ free ······ │
//!         0                             mark     ·         used                 WORDS
//! ```
//! It is a stack: a handler of native code may interrupt a call that waits, and make calls of
//! its own on the same thread before the interrupted one is finished. A call that is never
//! finished, because its thread left by `longjmp` or began another program, leaves its words
//! behind until an earlier one is finished or the stack is [`reset`](Scratch::reset).

/// Size of [`Scratch`] in words of 8 bytes. As many buffers as one call takes at most (1,024)
/// need 4,096 words, and as many message headers with one buffer each 24,576.
pub const WORDS: usize = 32 << 10;

/// Fixed memory for one thread's rebuilt structures.
///
/// It is large, and to be lent from a mapping, so that only what is used costs memory. All-zero
/// bytes are a valid, empty one.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Scratch {
    used: u64,
    words: [u64; WORDS],
}

impl Scratch {
    /// Forgets all calls. For a thread on which none is under way.
    pub fn reset(&mut self) {
        self.used = 0;
    }

    /// How much is in use, for [`release`](Self::release).
    pub(super) fn mark(&self) -> usize {
        self.used as usize
    }

    /// Gives back all that was taken since `mark`.
    pub(super) fn release(&mut self, mark: usize) {
        self.used = mark as u64;
    }

    /// Takes `count` words, whose content is arbitrary, and returns the index of the first.
    pub(super) fn take(&mut self, count: usize) -> Option<usize> {
        let at = self.used as usize;
        let end = at.checked_add(count).filter(|end| *end <= WORDS)?;
        self.used = end as u64;
        Some(at)
    }

    /// `count` words from index `at` on.
    pub(super) fn words(&mut self, at: usize, count: usize) -> &mut [u64] {
        &mut self.words[at..at + count]
    }

    /// The word at index `at`.
    pub(super) fn word(&self, at: usize) -> u64 {
        self.words[at]
    }

    /// Address of the word at index `at`, for the kernel.
    pub(super) fn addr(&mut self, at: usize) -> u64 {
        (&raw mut self.words[at]).expose_provenance() as u64
    }
}
