//! What is to be told once the result of a call is known.
//!
//! A result above -4096 and below 0 is an error number, negated. Most calls that fail touched
//! nothing that they would have written, but `EFAULT` may come after the fact, when one of
//! several addresses was bad; then writes are told as uncertain.

use tracer_ebpf::Session;

use super::shape::When;
use super::{Scratch, Touch, arena, buffers, entries, memory, message, strings};
use crate::access::AccessKind::{self, Read, Write};
use crate::resume::safe::Safe;

/// How many [`Effect`]s one call has at most: three for each argument.
pub(super) const MAX_EFFECTS: usize = 18;

/// Something that a call does to memory, depending on its result. Addresses are native code's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// A fixed range.
    Range {
        kind: AccessKind,
        addr: u64,
        len: u64,
        when: When,
    },
    /// As many bytes as the result, times `unit`, says.
    Data {
        kind: AccessKind,
        addr: u64,
        max: u64,
        unit: u64,
        certain: bool,
    },
    /// The buffers whose native copies are at index `natives` of the scratch memory, one after
    /// the other.
    Buffers {
        kind: AccessKind,
        natives: usize,
        count: usize,
    },
    /// As many bytes as the length word says, and no more than there was room for.
    Sized { addr: u64, room: u64, word: u64 },
    /// As many bytes as the first word there says, certainly, and no more than `max`.
    Headed { addr: u64, max: u64 },
    /// Directory entries.
    Entries { addr: u64, old: bool },
    /// An array of `pollfd`: descriptors and events are read, answers written. The kernel copies
    /// whole entries, but nothing comes of the answers that were in them.
    Polled { addr: u64, count: u64 },
    /// A list of strings, whose native copy is at index `natives` of the scratch memory.
    Strings {
        addr: u64,
        natives: usize,
        count: usize,
    },
    /// Words that are compared, whose native addresses are every `stride` words from index
    /// `natives` of the scratch memory on.
    Compared {
        natives: usize,
        stride: usize,
        count: usize,
    },
    /// Message headers, see [`message`].
    Messages(message::Rebuilt),
}

impl Effect {
    /// Whether it is told before the call is made, whatever its result.
    pub(super) fn is_before(&self) -> bool {
        matches!(
            self,
            Effect::Range {
                when: When::Before,
                ..
            } | Effect::Strings { .. }
                | Effect::Compared { .. }
        )
    }

    /// Whether it only reads: what a call reads it reads before it writes.
    pub(super) fn is_read(&self) -> bool {
        match self {
            Effect::Range { kind, .. }
            | Effect::Data { kind, .. }
            | Effect::Buffers { kind, .. } => *kind == Read,
            _ => false,
        }
    }
}

/// Where touches go: only those of the arena are told.
pub(super) struct Telling<'a> {
    pub(super) safe: Safe,
    pub(super) arena: Session,
    pub(super) touch: &'a mut dyn FnMut(Touch),
    /// Set when a field of native code's structure could not be written.
    pub(super) fault: bool,
}

impl Telling<'_> {
    /// Tells a touch, if it is one of arena memory.
    pub(super) fn tell(&mut self, kind: AccessKind, addr: u64, len: u64, certain: bool) {
        if len > 0 && self.arena.is_native(addr) {
            (self.touch)(Touch {
                addr,
                len,
                kind,
                certain,
            });
        }
    }

    /// Tells what is read before the call is made.
    pub(super) fn before(&mut self, effect: &Effect, scratch: &Scratch) {
        match *effect {
            Effect::Range {
                kind, addr, len, ..
            } => self.tell(kind, addr, len, true),
            Effect::Strings {
                addr,
                natives,
                count,
            } => strings::tell(self, scratch, addr, natives, count),
            Effect::Compared {
                natives,
                stride,
                count,
            } => {
                for word in (natives..).step_by(stride).take(count) {
                    self.tell(Read, scratch.word(word), 4, true);
                }
            }
            _ => {}
        }
    }

    /// Tells what `effect` was, given the result.
    pub(super) fn effect(&mut self, effect: &Effect, result: i64, scratch: &mut Scratch) {
        match *effect {
            Effect::Range {
                kind,
                addr,
                len,
                when,
            } => {
                if let Some(certain) = happened(kind, when, result) {
                    self.tell(kind, addr, len, certain);
                }
            }
            Effect::Data {
                kind,
                addr,
                max,
                unit,
                certain,
            } => {
                if let Some((count, sure)) = touched(kind, result) {
                    let len = count.saturating_mul(unit).min(max);
                    self.tell(kind, addr, len, certain && sure);
                }
            }
            Effect::Buffers {
                kind,
                natives,
                count,
            } => {
                if let Some((bytes, certain)) = touched(kind, result) {
                    buffers::tell(self, scratch, (natives, count), kind, bytes, certain);
                }
            }
            Effect::Sized { addr, room, word } => self.sized(addr, room, word, result),
            Effect::Headed { addr, max } => self.headed(addr, max, result),
            Effect::Entries { addr, old } => {
                if let Some(bytes) = done(result) {
                    entries::tell(self, addr, bytes, old);
                }
            }
            Effect::Polled { addr, count } => {
                if let Some(certain) = happened(Write, When::Waited, result) {
                    for entry in (addr..).step_by(8).take(count as usize) {
                        self.tell(Read, entry, 6, certain);
                    }
                    for entry in (addr..).step_by(8).take(count as usize) {
                        self.tell(Write, entry + 6, 2, certain);
                    }
                }
            }
            Effect::Messages(rebuilt) => message::tell(self, &rebuilt, result, scratch),
            Effect::Strings { .. } | Effect::Compared { .. } => {}
        }
    }

    fn headed(&mut self, addr: u64, max: u64, result: i64) {
        let Some((_, certain)) = touched(Write, result) else {
            return;
        };
        let head = memory::load_u32(self.safe, arena::address(self.arena, addr));
        let len = head.map_or(0, u64::from).min(max);
        self.tell(Write, addr, len, certain);
        self.tell(Write, addr.wrapping_add(len), max - len, false);
    }

    fn sized(&mut self, addr: u64, room: u64, word: u64, result: i64) {
        let Some((_, certain)) = touched(Write, result) else {
            return;
        };
        let there = memory::load_u32(self.safe, arena::address(self.arena, word));
        let len = match there {
            Some(there) if certain => u64::from(there).min(room),
            _ => room,
        };
        self.tell(Write, addr, len, certain && there.is_some());
        self.tell(Write, word, 4, certain);
    }
}

/// How much of its data a call touched, given its result, and whether that is certain.
pub(super) fn touched(kind: AccessKind, result: i64) -> Option<(u64, bool)> {
    match failed(result) {
        None => Some((result as u64, true)),
        Some(libc::EFAULT) if kind == Write => Some((u64::MAX, false)),
        Some(_) => None,
    }
}

/// The result of a call that succeeded.
pub(super) fn done(result: i64) -> Option<u64> {
    match failed(result) {
        None => Some(result as u64),
        Some(_) => None,
    }
}

/// The error number of a call that failed.
pub(super) fn failed(result: i64) -> Option<i32> {
    (-4095..0).contains(&result).then(|| -result as i32)
}

/// Whether something that is done `when` was done, given the result: `None` if not, and else
/// whether that is certain.
pub(super) fn happened(kind: AccessKind, when: When, result: i64) -> Option<bool> {
    let Some(error) = failed(result) else {
        return match when {
            When::Before | When::Interrupted => None,
            When::Found => (result > 0).then_some(true),
            When::Perhaps => Some(false),
            _ => Some(true),
        };
    };
    match (kind, when) {
        (_, When::Before) => None,
        (_, When::Interrupted | When::Waited) if error == libc::EINTR => Some(true),
        (Write, _) if error == libc::EFAULT => Some(false),
        (_, When::Always) => (error != libc::ENOSYS).then_some(error != libc::EINVAL),
        (Read, When::AtOnce) => match error {
            libc::ENOSYS => None,
            libc::EFAULT | libc::EINVAL | libc::EPERM | libc::ENOMEM => Some(false),
            _ => Some(true),
        },
        (Read, When::OnceOpen) => match error {
            libc::EBADF | libc::ENOTSOCK | libc::ENOTTY | libc::ESRCH | libc::ENOSYS => None,
            libc::EFAULT
            | libc::EINVAL
            | libc::EPERM
            | libc::ENOMEM
            | libc::EMSGSIZE
            | libc::EOPNOTSUPP
            | libc::ENOPROTOOPT => Some(false),
            _ => Some(true),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(number: i32) -> i64 {
        -i64::from(number)
    }

    #[test]
    fn results_tell() {
        use When::{AtOnce, Before, Done, Found, Interrupted, OnceOpen, Perhaps, Waited};
        assert_eq!(happened(Write, Done, 0), Some(true));
        assert_eq!(happened(Write, Done, i64::MIN), Some(true));
        assert_eq!(happened(Write, Done, error(libc::EAGAIN)), None);
        assert_eq!(happened(Write, Done, error(libc::EFAULT)), Some(false));
        assert_eq!(happened(Write, Found, 0), None);
        assert_eq!(happened(Write, Found, 1), Some(true));
        assert_eq!(happened(Write, Interrupted, 0), None);
        assert_eq!(happened(Write, Interrupted, error(libc::EINTR)), Some(true));
        assert_eq!(happened(Write, Waited, error(libc::EINTR)), Some(true));
        assert_eq!(happened(Write, Waited, error(libc::EINVAL)), None);
        assert_eq!(happened(Write, Perhaps, 0), Some(false));
        assert_eq!(happened(Read, Before, 0), None);
        assert_eq!(happened(Read, AtOnce, error(libc::ENOENT)), Some(true));
        assert_eq!(happened(Read, AtOnce, error(libc::EFAULT)), Some(false));
        assert_eq!(happened(Read, OnceOpen, error(libc::EBADF)), None);
        assert_eq!(
            happened(Read, OnceOpen, error(libc::ECONNREFUSED)),
            Some(true)
        );
    }
}
