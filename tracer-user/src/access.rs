//! The vocabulary of accesses. It belongs to no recorder: the kernel, the in-process handler
//! and the ptrace supervisor all end in these types.

use std::fmt;

use crate::translate::Place;

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

/// One access of a loop: what its first round does, and how far on the next one does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeated {
    /// The access of the first round.
    pub access: Access,
    /// Bytes from the address of one round to that of the next.
    pub stride: i64,
    /// Address of the instruction (the site).
    pub ip: u64,
}

/// The same accesses over and over, each a stride further on every time: what a native loop does,
/// told at once.
#[derive(Clone, Copy, Debug)]
pub struct Loop<'a> {
    /// The accesses of one round, in order.
    pub positions: &'a [Repeated],
    /// How many rounds there are.
    pub rounds: u64,
    /// Position in the trace of the first access.
    pub seq: u64,
    /// Kernel thread id.
    pub tid: u32,
    /// What recorded it.
    pub source: Source,
}

impl Loop<'_> {
    /// Its accesses one by one, in order.
    pub fn events(&self) -> impl Iterator<Item = AccessEvent> + '_ {
        let all = (0..self.rounds).flat_map(move |round| {
            self.positions.iter().map(move |position| {
                let distance = position.stride.wrapping_mul(round as i64);
                let addr = position.access.addr.wrapping_add_signed(distance);
                let access = Access {
                    addr,
                    ..position.access
                };
                (access, position.ip)
            })
        });
        (self.seq..)
            .zip(all)
            .map(|(seq, (access, ip))| AccessEvent {
                access,
                seq,
                tid: self.tid,
                ip,
                source: self.source,
            })
    }
}

/// One entry of a log: an instruction, and the address that it touched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// What the instruction does.
    pub place: &'static Place,
    /// Address of the first byte.
    pub addr: u64,
    /// The entry as it was logged.
    pub word: u64,
    /// Position in the trace of its first access.
    pub seq: u64,
}

/// Accesses of translated code one after the other, in order.
#[derive(Clone, Copy, Debug)]
pub struct Series<'a> {
    entries: &'a [Entry],
    tid: u32,
}

impl<'a> Series<'a> {
    /// Those of thread `tid`.
    pub(crate) fn new(entries: &'a [Entry], tid: u32) -> Series<'a> {
        Series { entries, tid }
    }

    /// Its accesses one by one, in order.
    #[inline]
    pub fn events(&self) -> impl Iterator<Item = AccessEvent> + '_ {
        self.entries.iter().flat_map(move |entry| {
            let effects = entry.place.effects.iter();
            effects
                .zip(entry.seq..)
                .map(move |(effect, seq)| AccessEvent {
                    access: Access {
                        kind: effect.kind,
                        certain: effect.certain,
                        addr: entry.addr,
                        len: effect.len,
                    },
                    seq,
                    tid: self.tid,
                    ip: entry.place.ip,
                    source: Source::Translated,
                })
        })
    }
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
    /// Names a time in which the same event once more may change nothing, see
    /// [`series`](Self::series); `None` where each event counts.
    fn epoch(&self) -> Option<u64> {
        None
    }
    /// Accesses one after the other, and whether each of them once more in this epoch would change
    /// nothing, so that none need be told again.
    fn series(&mut self, series: &Series<'_>) -> bool {
        for event in series.events() {
            self.event(&event);
        }
        false
    }
    /// Accesses of a loop. What is done with them must come to the same as one
    /// [`event`](Self::event) for each, in order.
    fn repeated(&mut self, repeated: &Loop<'_>) {
        for event in repeated.events() {
            self.event(&event);
        }
    }
    /// One access that cannot be described exactly.
    fn refused(&mut self, refused: &Refused);
    /// Whether native code is to be stopped for what has been found so far. Asked after each
    /// drain of a call that [`stops`](crate::session::TraceSession::stop_at_first).
    fn stop(&mut self) -> bool {
        false
    }
}
