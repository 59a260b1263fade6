//! What is wrong with a free: of an address at which no live allocation begins.

use std::collections::BTreeMap;

use super::foreign::Foreign;
use super::heap::{MALLOC_ALIGN, NativeHeap};
use super::record::{Caller, NativeAllocation, Place};
use super::request::Released;
use crate::memory::{Memory, Violation, ViolationKind};

impl NativeHeap {
    /// An address at which no live allocation begins.
    pub(super) fn unknown(&mut self, memory: &mut Memory, addr: u64, by: &Caller) -> Released {
        let refuse = |heap: &mut NativeHeap, memory: &mut Memory, kind, about, message| {
            heap.violate(memory, kind, addr, by, about, message);
            Released::Refused
        };
        if let Some(inside) = holding(&self.live, addr).cloned() {
            let why = self.words.interior(&inside, addr, by);
            let kind = ViolationKind::InvalidFree;
            return refuse(self, memory, kind, Some(&inside), why);
        }
        let known = |allocation: &&NativeAllocation| match allocation.place {
            Place::Arena => allocation.id.is_some_and(|id| memory.get(id).is_some()),
            Place::Real => true,
        };
        if let Some(freed) = self.freed.get(&addr).filter(known).cloned() {
            let why = self.words.double(&freed, by);
            return refuse(self, memory, ViolationKind::DoubleFree, Some(&freed), why);
        }
        if let Some(inside) = holding(&self.freed, addr).filter(known).cloned() {
            let why = self.words.interior(&inside, addr, by);
            let kind = ViolationKind::InvalidFree;
            return refuse(self, memory, kind, Some(&inside), why);
        }
        let why = if let Some(native) = memory.arena().to_native(addr) {
            Some(self.words.interpreters(memory, native, by))
        } else {
            match self.mappings.look(addr) {
                Foreign::Heap if addr.is_multiple_of(MALLOC_ALIGN) => None,
                other => Some(self.words.foreign(&other, addr, by)),
            }
        };
        match why {
            Some(why) => refuse(self, memory, ViolationKind::InvalidFree, None, why),
            None => Released::Foreign,
        }
    }

    pub(super) fn violate(
        &mut self,
        memory: &mut Memory,
        kind: ViolationKind,
        addr: u64,
        by: &Caller,
        about: Option<&NativeAllocation>,
        message: String,
    ) {
        // What the interpreter made is named by the abstract memory.
        let place = match about {
            Some(_) => None,
            None => memory
                .arena()
                .to_native(addr)
                .and_then(|native| memory.locate(native)),
        };
        let (allocation, name, offset) = match (about, place) {
            (Some(about), _) => (
                about.id,
                Some(about.name()),
                Some(addr.wrapping_sub(about.base) as i64),
            ),
            (None, Some(place)) => (
                Some(place.allocation),
                memory
                    .get(place.allocation)
                    .and_then(|record| record.name().map(str::to_owned)),
                Some(place.offset),
            ),
            (None, None) => (None, None, None),
        };
        memory.violations_mut().push(Violation {
            kind,
            access: None,
            certain: true,
            addr,
            size: 0,
            allocation,
            allocation_name: name,
            offset,
            ip: self.sites.call_before(by.site),
            tid: by.tid,
            seq: None,
            message,
        });
    }
}

/// The allocation with the byte at `addr`.
pub(super) fn holding(
    map: &BTreeMap<u64, NativeAllocation>,
    addr: u64,
) -> Option<&NativeAllocation> {
    let (_, allocation) = map.range(..=addr).next_back()?;
    allocation.contains(addr).then_some(allocation)
}
