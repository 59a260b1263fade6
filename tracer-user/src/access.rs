//! The vocabulary of accesses. It belongs to no recorder: the kernel, the in-process handler
//! and the ptrace supervisor all end in these types.

use std::fmt;

/// Direction of an access.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum AccessKind {
    /// The instruction loaded the bytes.
    Read,
    /// The instruction stored to the bytes.
    Write,
}

impl fmt::Display for AccessKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AccessKind::Read => "read",
            AccessKind::Write => "write",
        })
    }
}

/// What one memory operand of one executed instruction did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Access {
    /// Direction.
    pub kind: AccessKind,
    /// False only where the instruction may leave the bytes alone (a write of `cmpxchg`).
    pub certain: bool,
    /// First address, in the native view for arena memory.
    pub addr: u64,
    /// Length in bytes, at least 1.
    pub len: u64,
}

/// Where an event comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A page fault.
    Fault,
    /// Translated code.
    Translated,
    /// A system call of native code.
    Syscall,
    /// A callback into the interpreter.
    Callback,
}

/// One access to arena memory, in the order in which the thread made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessEvent {
    /// Direction, range and certainty.
    pub access: Access,
    /// Position in the trace, from 0, over all threads.
    pub seq: u64,
    /// Kernel thread id.
    pub tid: u32,
    /// Address of the instruction (the site).
    pub ip: u64,
    /// What recorded it.
    pub source: Source,
}

/// A recorded access whose exact effect is not known. It is named, never guessed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Kernel thread id.
    pub tid: u32,
    /// Address of the instruction.
    pub ip: u64,
    /// Faulting address.
    pub addr: u64,
    /// Direction that the fault showed.
    pub kind: AccessKind,
    /// What could not be done exactly, with the instruction or system call named.
    pub what: String,
}

/// Takes what native code did, in order. The bridge's abstract memory is one.
pub trait EventSink: Send {
    /// One access to arena memory.
    fn event(&mut self, event: &AccessEvent);
    /// One access that cannot be described exactly.
    fn refused(&mut self, refused: &Refused);
    /// Whether native code is to be stopped for what has been found so far. Asked after each
    /// drain of a call that [`stops`](crate::session::TraceSession::stop_at_first).
    fn stop(&mut self) -> bool {
        false
    }
}
