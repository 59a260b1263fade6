//! Tests of the abstract memory, a file for each concept.

mod bounds;
mod coverage;
mod events;
mod external;
mod log;
mod own_memory;
mod provenance;
mod reference;

use super::*;
use crate::arena::Quarantine;
use tracer_user::access::{Access, AccessEvent, AccessKind, Refused, Source};

fn memory() -> Memory {
    Memory::new().expect("address space")
}

fn request<'a>(name: &'a str, size: u64, init: Init<'a>, mutable: bool) -> AllocRequest<'a> {
    AllocRequest {
        name: Some(name),
        size,
        align: 8,
        init,
        mutable,
        ..AllocRequest::default()
    }
}

fn event(kind: AccessKind, addr: u64, len: u64) -> AccessEvent {
    let access = Access {
        kind,
        certain: true,
        addr,
        len,
    };
    AccessEvent {
        access,
        seq: 7,
        tid: 3,
        ip: 0x1234,
        source: Source::Fault,
    }
}

fn read(addr: u64, len: u64) -> AccessEvent {
    event(AccessKind::Read, addr, len)
}

fn write(addr: u64, len: u64) -> AccessEvent {
    event(AccessKind::Write, addr, len)
}

/// Applies an event that breaks a rule, and returns how the log tells it.
fn violation(memory: &mut Memory, event: &AccessEvent) -> Violation {
    memory.violations_mut().clear();
    memory.observe(event);
    assert_eq!(memory.violations().total(), 1, "no violation: {event:?}");
    memory.violations().entries()[0].violation.clone()
}

fn ranges(set: &ByteSet) -> Vec<(u64, u64)> {
    set.ranges().map(|range| (range.start, range.end)).collect()
}
