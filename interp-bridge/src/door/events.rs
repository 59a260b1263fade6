//! The accesses of native code, in the words of Miri's tracer.

use serde::{Deserialize, Serialize};
use tracer_user::access::{AccessEvent as Event, AccessKind};

/// What native code did to the arena, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemEvents {
    /// The accesses, in the order in which they happened; of several threads, in the order in
    /// which they were recorded.
    pub acc_events: Vec<AccessEvent>,
}

/// One access.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccessEvent {
    /// The bytes were read.
    Read(AccessRange),
    /// The bytes were written: certainly if the flag is true, else the instruction may have left
    /// them as they were.
    Write(AccessRange, bool),
}

/// The bytes of an access.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessRange {
    /// Address of the first, as native code knows it.
    pub addr: usize,
    /// How many, at least 1.
    pub size: usize,
}

impl AccessRange {
    /// Address behind the last.
    pub fn end(&self) -> usize {
        self.addr.saturating_add(self.size)
    }
}

impl AccessEvent {
    /// The bytes, whatever was done to them.
    pub fn range(&self) -> &AccessRange {
        match self {
            AccessEvent::Read(range) | AccessEvent::Write(range, _) => range,
        }
    }
}

impl From<&Event> for AccessEvent {
    fn from(event: &Event) -> AccessEvent {
        let access = &event.access;
        let range = AccessRange {
            addr: access.addr as usize,
            size: access.len as usize,
        };
        match access.kind {
            AccessKind::Read => AccessEvent::Read(range),
            AccessKind::Write => AccessEvent::Write(range, access.certain),
        }
    }
}
