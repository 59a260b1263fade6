//! What a pipeline counts.

/// Running totals of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Faults that became events (or provably touched nothing), and entries of logs.
    pub delivered: u64,
    /// Of those, entries of logs.
    pub translated: u64,
    /// Faults, system calls and calls refused by name.
    pub rejected: u64,
    /// Access events.
    pub events: u64,
    /// Of those, reads.
    pub reads: u64,
    /// Of those, writes.
    pub writes: u64,
    /// Of the delivered faults, those of an instruction that was recorded before and is now
    /// being stepped: the kernel maps the page that it needs.
    pub stepping: u64,
    /// System calls that were handed memory of the arena.
    pub syscalls: u64,
    /// Records of what they touched, and of calls that were not made.
    pub touches: u64,
    /// Of those, ones that the kernel made twice.
    pub repeated: u64,
    /// Of the system calls, those that failed because nobody made them on the host view.
    pub failed_syscalls: u64,
    /// Distinct sites seen in the session.
    pub sites: u64,
    /// Entries into the probed function that wrote a record.
    pub calls_entered: u64,
    /// Returns from it.
    pub calls_returned: u64,
}
