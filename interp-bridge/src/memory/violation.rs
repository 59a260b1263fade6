//! What can be wrong with an access, and how to say it to people.

use std::fmt;

use tracer_user::access::{AccessEvent, AccessKind};

use super::{AllocId, Allocation};
use crate::arena::MAX_RED_ZONE;

/// The kinds of violations, with the names that scripts rely on.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum ViolationKind {
    /// In the arena, but not inside a live allocation.
    OutOfBounds,
    /// In an allocation that was freed, or in its red zones.
    UseAfterFree,
    /// A write to an allocation that native code may only read.
    WriteToReadOnly,
    /// No arena memory at all: null, unmapped, another's.
    WildAccess,
    /// A string function read past its string, inside an aligned block.
    Overread,
    /// An access that could not be described exactly.
    Unsupported,
    /// Native code read bytes that nobody initialised: a lint, off unless asked for.
    UninitRead,
    /// Memory was freed or unmapped in a way that its kind does not allow, or what is no
    /// allocation was.
    InvalidFree,
    /// Memory was freed that was freed before.
    DoubleFree,
    /// Memory was freed by another function than belongs to the one that made it.
    MismatchedFree,
    /// Native code died of a signal.
    NativeCrash,
    /// Native code ran longer than it may.
    Timeout,
    /// Native code called a callback that was freed.
    FreedCallback,
}

impl ViolationKind {
    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            ViolationKind::OutOfBounds => "out_of_bounds",
            ViolationKind::UseAfterFree => "use_after_free",
            ViolationKind::WriteToReadOnly => "write_to_read_only",
            ViolationKind::WildAccess => "wild_access",
            ViolationKind::Overread => "overread",
            ViolationKind::Unsupported => "unsupported",
            ViolationKind::UninitRead => "uninit_read",
            ViolationKind::InvalidFree => "invalid_free",
            ViolationKind::DoubleFree => "double_free",
            ViolationKind::MismatchedFree => "mismatched_free",
            ViolationKind::NativeCrash => "native_crash",
            ViolationKind::Timeout => "timeout",
            ViolationKind::FreedCallback => "freed_callback",
        }
    }
}

impl fmt::Display for ViolationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An address, told as an allocation and an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The allocation, live or freed.
    pub allocation: AllocId,
    /// Bytes from its base, negative before it; not below its size after its end.
    pub offset: i64,
}

/// What [`Memory::apply`](super::Memory::apply) found wrong. Small and cheap, for there may be
/// millions; [`Violation`] is for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong.
    pub kind: ViolationKind,
    /// The access.
    pub event: AccessEvent,
    /// The allocation it is about, and where in it the access begins.
    pub place: Option<Place>,
}

/// A broken rule, with all that is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which rule.
    pub kind: ViolationKind,
    /// Direction of the access, if it was one.
    pub access: Option<AccessKind>,
    /// False where the instruction may not have written.
    pub certain: bool,
    /// First address of the access.
    pub addr: u64,
    /// Its length in bytes, 0 if not known.
    pub size: u64,
    /// The allocation it is about.
    pub allocation: Option<AllocId>,
    /// That allocation's name.
    pub allocation_name: Option<String>,
    /// Bytes from the allocation's base to `addr`, negative before it.
    pub offset: Option<i64>,
    /// Address of the instruction.
    pub ip: u64,
    /// Kernel thread id.
    pub tid: u32,
    /// Position in the trace, if it is an event of it.
    pub seq: Option<u64>,
    /// One sentence for people.
    pub message: String,
}

impl Finding {
    /// Puts the finding into words. `allocation` is the record that `place` names, if it is
    /// still known.
    pub fn describe(&self, allocation: Option<&Allocation>) -> Violation {
        let AccessEvent {
            access,
            seq,
            tid,
            ip,
            ..
        } = self.event;
        Violation {
            kind: self.kind,
            access: Some(access.kind),
            certain: access.certain,
            addr: access.addr,
            size: access.len,
            allocation: self.place.map(|place| place.allocation),
            allocation_name: allocation.and_then(|record| record.name().map(str::to_owned)),
            offset: self.place.map(|place| place.offset),
            ip,
            tid,
            seq: Some(seq),
            message: self.message(allocation),
        }
    }

    fn message(&self, allocation: Option<&Allocation>) -> String {
        let access = &self.event.access;
        let possible = if access.certain { "" } else { "possible " };
        let what = format!("{possible}{} of {}", access.kind, bytes(access.len));
        let (Some(place), Some(record)) = (self.place, allocation) else {
            return match self.kind {
                ViolationKind::WildAccess if access.addr < 4096 => format!(
                    "{what} at {:#x}: a null pointer, or one with a small offset added",
                    access.addr
                ),
                ViolationKind::WildAccess => format!(
                    "{what} at {:#x}: not memory of the interpreter, and not mapped",
                    access.addr
                ),
                _ => format!(
                    "{what} at {:#x}: no allocation is there or near",
                    access.addr
                ),
            };
        };
        let at = format!("{what} at offset {} of {}", place.offset, record.title());
        match self.kind {
            ViolationKind::WriteToReadOnly => format!(
                "{at}, which is read-only for native code; if the function may write it, pass it \
                 as mutable"
            ),
            ViolationKind::UseAfterFree => {
                format!(
                    "{at}, which was freed{}{}",
                    record
                        .freed()
                        .map(|freer| freer.to_string())
                        .unwrap_or_default(),
                    beyond(place.offset, access.len, record)
                )
            }
            ViolationKind::Overread => {
                format!(
                    "{at}: a string function reads past its string, inside an aligned block{}",
                    beyond(place.offset, access.len, record)
                )
            }
            ViolationKind::UninitRead => {
                let start = u64::try_from(place.offset).unwrap_or(0);
                let range = start..start.saturating_add(access.len).min(record.size());
                match record.first_unreadable(range) {
                    Some(range) => format!(
                        "{at}, of which bytes {}..{} were never initialised",
                        range.start, range.end
                    ),
                    None => format!("{at}, which was not all initialised"),
                }
            }
            _ => match far(place.offset, record.size()) {
                Some(Far::Above(distance)) => format!(
                    "{what} at {:#x}: no allocation is there; the nearest, {}, ends {} below",
                    access.addr,
                    record.title(),
                    bytes(distance)
                ),
                Some(Far::Below(distance)) => format!(
                    "{what} at {:#x}: no allocation is there; the nearest, {}, begins {} above",
                    access.addr,
                    record.title(),
                    bytes(distance)
                ),
                None => format!("{at}{}", beyond(place.offset, access.len, record)),
            },
        }
    }
}

/// `1 byte`, `44 bytes`.
pub(super) fn bytes(count: u64) -> String {
    if count == 1 {
        "1 byte".to_owned()
    } else {
        format!("{count} bytes")
    }
}

enum Far {
    Above(u64),
    Below(u64),
}

/// Beyond any red zone an offset into the nearest allocation says little.
fn far(offset: i64, size: u64) -> Option<Far> {
    match u64::try_from(offset) {
        Ok(offset) if offset.saturating_sub(size) > MAX_RED_ZONE => Some(Far::Above(offset - size)),
        Err(_) if offset.unsigned_abs() > MAX_RED_ZONE => Some(Far::Below(offset.unsigned_abs())),
        _ => None,
    }
}

/// `: 0 bytes past its end` and the like; nothing for what lies inside.
fn beyond(offset: i64, len: u64, record: &Allocation) -> String {
    let (start, size) = (i128::from(offset), i128::from(record.size()));
    let end = start + i128::from(len);
    let count = |count: i128| bytes(u64::try_from(count).unwrap_or(u64::MAX));
    if start >= size {
        format!(": {} past its end", count(start - size))
    } else if end <= 0 {
        format!(": {} before it", count(-start))
    } else if start < 0 && end > size {
        format!(
            ": {} before it to {} past its end",
            count(-start),
            count(end - size)
        )
    } else if start < 0 {
        format!(": the first {} before it", count(-start))
    } else if end > size {
        format!(": the last {} past its end", count(end - size))
    } else {
        String::new()
    }
}
