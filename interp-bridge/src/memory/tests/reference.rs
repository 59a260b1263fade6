//! The whole memory against a naive one: a list of bytes for each allocation, and loops over it.
//!
//! # Safety
//!
//! External allocations are pages of the test's own, of which nothing in Rust knows.
#![allow(unsafe_code)]

mod questions;
mod steps;

use prop::sample::Index;
use proptest::prelude::*;
use tracer_user::mapping::Mapping;

use super::*;
use steps::{Room, Step, step};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Plain,
    Wildcard,
    /// Byte of a pointer to the allocation with this index.
    Pointer(usize, u8),
}

#[derive(Clone, Copy, Debug)]
struct Byte {
    value: u8,
    init: bool,
    origin: Origin,
}

impl Byte {
    fn readable(self) -> bool {
        self.init || self.origin == Origin::Wildcard
    }
}

/// The naive allocation.
#[derive(Clone, Debug)]
struct Naive {
    id: AllocId,
    base: u64,
    bytes: Vec<Byte>,
    live: bool,
    mutable: bool,
    exposed: bool,
    external: bool,
}

/// The naive memory beside the real one.
struct Pair {
    memory: Memory,
    naive: Vec<Naive>,
    /// Room for external allocations, side by side.
    room: Room,
}

impl Pair {
    fn run(&mut self, step: Step) -> Result<(), TestCaseError> {
        if let Step::Allocate(size, init, mutable) = step {
            return self.allocate(size, init, mutable);
        }
        if let Step::Register(size, init, mutable) = step {
            self.register(size, init, mutable);
            return Ok(());
        }
        if self.naive.is_empty() {
            return Ok(());
        }
        let count = self.naive.len();
        let at = |index: &Index| index.index(count);
        match step {
            Step::Allocate(..) | Step::Register(..) => {}
            Step::Free(index) => {
                let one = &mut self.naive[at(&index)];
                prop_assert_eq!(self.memory.free(one.id).is_ok(), one.live);
                one.live = false;
            }
            Step::Write(index, offset, bytes) => {
                let one = &mut self.naive[at(&index)];
                let done = self.memory.write_bytes(one.id, offset, &bytes);
                prop_assert_eq!(done.is_ok(), one.allows(offset, bytes.len() as u64));
                if done.is_ok() {
                    for (byte, value) in one.bytes[offset as usize..].iter_mut().zip(bytes) {
                        (byte.value, byte.init, byte.origin) = (value, true, Origin::Plain);
                    }
                }
            }
            Step::WritePointer(index, offset, target, kind) => {
                self.write_pointer(at(&index), offset, at(&target), kind)?;
            }
            Step::Deinitialize(index, offset, len) => {
                let one = &mut self.naive[at(&index)];
                let done = self.memory.deinitialize(one.id, offset..offset + len);
                prop_assert_eq!(done.is_ok(), one.allows(offset, len));
                if done.is_ok() {
                    for byte in &mut one.bytes[offset as usize..(offset + len) as usize] {
                        (byte.init, byte.origin) = (false, Origin::Plain);
                    }
                }
            }
            Step::Copy(from, start, len, to, offset) => {
                let (from, to) = (at(&from), at(&to));
                let (source, target) = (&self.naive[from], &self.naive[to]);
                let done = self
                    .memory
                    .copy(source.id, start..start + len, target.id, offset);
                let allowed = source.allows(start, len) && target.allows(offset, len);
                prop_assert_eq!(done.is_ok(), allowed);
                if allowed {
                    let bytes = source.bytes[start as usize..(start + len) as usize].to_vec();
                    self.naive[to].bytes[offset as usize..][..len as usize].copy_from_slice(&bytes);
                }
            }
            Step::Expose(index) => {
                let index = at(&index);
                let known = self.memory.expose(self.naive[index].id);
                prop_assert!(known.is_ok(), "nothing is forgotten so soon");
                self.expose(index);
            }
            Step::SetMutable(index, mutable) => {
                let one = &mut self.naive[at(&index)];
                prop_assert_eq!(self.memory.set_mutable(one.id, mutable).is_ok(), one.live);
                if one.live {
                    one.mutable = mutable;
                }
            }
            Step::Event(index, offset, len, kind) => {
                let addr = self.naive[at(&index)].base.wrapping_add_signed(offset);
                self.event(addr, len, kind)?;
            }
            Step::Untraced(arguments) => {
                let arguments: Vec<usize> = arguments.iter().map(at).collect();
                let ids: Vec<AllocId> = arguments.iter().map(|i| self.naive[*i].id).collect();
                self.memory.untraced_call(&ids);
                arguments.into_iter().for_each(|index| self.expose(index));
                self.reach();
            }
            Step::Traced => {
                self.memory.native_ran(true);
                self.externals_change();
            }
            Step::Reset => self.memory.reset_coverage(),
        }
        Ok(())
    }

    fn allocate(&mut self, size: u64, init: bool, mutable: bool) -> Result<(), TestCaseError> {
        let what = if init { Init::Zeroed } else { Init::Uninit };
        let id = self.memory.allocate(&request("m", size, what, mutable));
        let id = id.expect("room");
        let byte = Byte {
            value: 0,
            init,
            origin: Origin::Plain,
        };
        self.naive.push(Naive {
            id,
            base: self.memory.address(id).expect("live"),
            bytes: vec![byte; size as usize],
            live: true,
            mutable,
            exposed: false,
            external: false,
        });
        Ok(())
    }

    fn register(&mut self, size: u64, initialised: bool, mutable: bool) {
        let base = self.room.next;
        self.room.next += size;
        let request = ExternalRequest {
            name: None,
            base,
            size,
            align: 1,
            kind: AllocKind::NativeHeap,
            origin: "malloc",
            site: None,
            initialised,
            mutable,
        };
        // SAFETY: nothing in Rust refers to these pages.
        let id = unsafe { self.memory.register_external(&request) };
        let origin = if initialised {
            Origin::Wildcard
        } else {
            Origin::Plain
        };
        let byte = Byte {
            value: 0,
            init: false,
            origin,
        };
        self.naive.push(Naive {
            id: id.expect("nothing is there"),
            base,
            bytes: vec![byte; size as usize],
            live: true,
            mutable,
            exposed: true,
            external: true,
        });
    }

    /// Native code ran, and external memory is not recorded.
    fn externals_change(&mut self) {
        for index in 0..self.naive.len() {
            let one = &self.naive[index];
            if !(one.live && one.external) {
                continue;
            }
            for byte in one.bytes.clone() {
                if let Origin::Pointer(target, _) = byte.origin {
                    self.expose(target);
                }
            }
            let one = &mut self.naive[index];
            if one.mutable {
                for byte in &mut one.bytes {
                    byte.origin = Origin::Wildcard;
                }
            }
        }
    }

    fn write_pointer(
        &mut self,
        index: usize,
        offset: u64,
        target: usize,
        kind: u8,
    ) -> Result<(), TestCaseError> {
        let to = &self.naive[target];
        let (addr, id) = (to.base + u64::from(kind), to.id);
        let pointer = match kind {
            0 => Pointer::from_number(addr),
            1 => Pointer::from_native(addr),
            _ => Pointer::to(id, addr),
        };
        let one = &mut self.naive[index];
        let done = self.memory.write_pointer(one.id, offset, pointer);
        prop_assert_eq!(done.is_ok(), one.allows(offset, 8));
        if done.is_ok() {
            let bytes = &mut one.bytes[offset as usize..][..8];
            for (place, (byte, value)) in bytes.iter_mut().zip(addr.to_le_bytes()).enumerate() {
                (byte.value, byte.init) = (value, true);
                byte.origin = match kind {
                    0 => Origin::Plain,
                    1 => Origin::Wildcard,
                    _ => Origin::Pointer(target, place as u8),
                };
            }
        }
        Ok(())
    }

    fn event(&mut self, addr: u64, len: u64, kind: u8) -> Result<(), TestCaseError> {
        let mut event = if kind == 0 {
            read(addr, len)
        } else {
            write(addr, len)
        };
        event.access.certain = kind != 2;
        let found = self.memory.apply(&event);
        let mut exposed = Vec::new();
        let mut inside = 0;
        let mut forbidden = false;
        for one in self.naive.iter_mut().filter(|one| one.live) {
            for (byte, at) in one.bytes.iter_mut().zip(one.base..) {
                if !(addr..addr + len).contains(&at) {
                    continue;
                }
                inside += 1;
                forbidden |= kind != 0 && !one.mutable;
                if kind == 2 && !one.mutable {
                    continue;
                }
                if let Origin::Pointer(target, _) = byte.origin
                    && kind != 1
                {
                    exposed.push(target);
                }
                if kind != 0 {
                    byte.init |= kind == 1;
                    byte.origin = Origin::Wildcard;
                }
            }
        }
        prop_assert_eq!(found.is_some(), inside < len || forbidden);
        exposed.into_iter().for_each(|index| self.expose(index));
        Ok(())
    }

    fn expose(&mut self, index: usize) {
        let one = &mut self.naive[index];
        one.exposed |= one.live;
    }

    /// Exposes until nothing changes, then overwrites.
    fn reach(&mut self) {
        loop {
            let before: Vec<bool> = self.naive.iter().map(|one| one.exposed).collect();
            for index in 0..self.naive.len() {
                let one = &self.naive[index];
                if !(one.exposed && one.live) {
                    continue;
                }
                for byte in one.bytes.clone() {
                    if let Origin::Pointer(target, _) = byte.origin {
                        self.expose(target);
                    }
                }
            }
            if before.iter().eq(self.naive.iter().map(|one| &one.exposed)) {
                break;
            }
        }
        let reached = |one: &&mut Naive| one.exposed && one.live && one.mutable;
        for one in self.naive.iter_mut().filter(reached) {
            for byte in &mut one.bytes {
                byte.origin = Origin::Wildcard;
            }
        }
    }

    fn compare(&self) -> Result<(), TestCaseError> {
        for one in &self.naive {
            let record = self.memory.get(one.id).expect("in quarantine at most");
            prop_assert_eq!(record.is_live(), one.live);
            prop_assert_eq!(record.is_mutable(), one.mutable);
            prop_assert_eq!(record.is_exposed(), one.exposed);
            let (wildcard, readable) = (record.wildcard(), record.readable());
            for (offset, byte) in (0u64..).zip(&one.bytes) {
                prop_assert_eq!(record.init().contains(offset), byte.init);
                prop_assert_eq!(readable.contains(offset), byte.readable());
                prop_assert_eq!(wildcard.contains(offset), byte.origin == Origin::Wildcard);
                let expected = match byte.origin {
                    Origin::Plain => ByteProvenance::None,
                    Origin::Wildcard => ByteProvenance::Wildcard,
                    Origin::Pointer(target, index) => ByteProvenance::Pointer {
                        id: self.naive[target].id,
                        index,
                    },
                };
                prop_assert_eq!(
                    record.byte_provenance(offset),
                    expected,
                    "offset {}",
                    offset
                );
            }
            if one.live {
                let all = self.memory.read_bytes(one.id, 0..record.size());
                let values: Vec<u8> = one.bytes.iter().map(|byte| byte.value).collect();
                prop_assert_eq!(all.expect("live"), values);
            }
        }
        let exposed = self.naive.iter().filter(|one| one.exposed && one.live);
        let mut expected: Vec<AllocId> = exposed.map(|one| one.id).collect();
        let mut actual: Vec<AllocId> = self.memory.exposed().collect();
        expected.sort();
        actual.sort();
        prop_assert_eq!(actual, expected);
        Ok(())
    }
}

impl Naive {
    fn allows(&self, offset: u64, len: u64) -> bool {
        self.live && offset + len <= self.bytes.len() as u64
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]
    #[test]
    fn agrees_with_a_naive_memory(
        steps in prop::collection::vec(step(), 1..70),
        questions in prop::collection::vec((any::<Index>(), 0u64..50, 0u64..20), 30),
    ) {
        let mut pair = Pair { memory: memory(), naive: Vec::new(), room: Room::new() };
        for (number, step) in steps.into_iter().enumerate() {
            pair.run(step)?;
            if number % 16 == 0 {
                pair.compare()?;
            }
        }
        pair.compare()?;
        for (index, offset, size) in questions {
            if !pair.naive.is_empty() {
                pair.question(index.index(pair.naive.len()), offset, size)?;
            }
        }
    }
}
