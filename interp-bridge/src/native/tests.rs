//! The heap against a simple model, without native code.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::NativeHeapMode;
use super::functions::Function;
use super::heap::NativeHeap;
use super::record::Caller;
use super::request::{Allocated, Release, Released, Resized, Wanted};
use crate::arena::View;
use crate::memory::{Memory, ViolationKind};

fn caller(function: Function) -> Caller {
    Caller {
        function,
        site: 0x1000,
        tid: 1,
    }
}

fn wanted(function: Function, size: u64) -> Wanted {
    Wanted {
        size,
        align: 16,
        zeroed: false,
        caller: caller(function),
    }
}

fn release(function: Function, addr: u64) -> Release {
    Release {
        addr,
        by: caller(function),
        size: None,
        align: None,
    }
}

#[derive(Clone, Debug)]
enum Step {
    Make(u64),
    Resize(usize, u64),
    Free(usize),
    FreeAgain(usize),
    FreeInside(usize, u64),
    Mismatch(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![0u64..40, 0u64..5000];
    prop_oneof![
        4 => size.clone().prop_map(Step::Make),
        2 => (any::<usize>(), size).prop_map(|(at, size)| Step::Resize(at, size.max(1))),
        3 => any::<usize>().prop_map(Step::Free),
        1 => any::<usize>().prop_map(Step::FreeAgain),
        1 => (any::<usize>(), 1u64..100).prop_map(|(at, by)| Step::FreeInside(at, by)),
        1 => any::<usize>().prop_map(Step::Mismatch),
    ]
}

/// A heap, and what it should hold: content by address, and what was freed.
struct Case {
    memory: Memory,
    heap: NativeHeap,
    live: BTreeMap<u64, Vec<u8>>,
    freed: Vec<u64>,
    wrong: u64,
    stamp: u8,
}

impl Case {
    fn new() -> Case {
        let memory = Memory::new().expect("memory");
        Case {
            heap: NativeHeap::new(NativeHeapMode::Arena, View::Native, Vec::new()),
            memory,
            live: BTreeMap::new(),
            freed: Vec::new(),
            wrong: 0,
            stamp: 0,
        }
    }

    fn pick(&self, at: usize) -> Option<u64> {
        let index = at.checked_rem(self.live.len())?;
        self.live.keys().nth(index).copied()
    }

    fn fill(&mut self, addr: u64, content: &[u8]) {
        let id = self.heap.containing(addr).and_then(|block| block.id);
        if let Some(id) = id {
            self.memory.write_bytes(id, 0, content).expect("writable");
        }
        self.live.insert(addr, content.to_vec());
    }

    fn refused(&mut self, release: &Release, kind: ViolationKind) {
        self.wrong += 1;
        assert_eq!(
            self.heap.release(&mut self.memory, release),
            Released::Refused
        );
        let log = self.memory.violations_mut();
        assert_eq!(log.total(), 1);
        assert_eq!(log.entries()[0].violation.kind, kind);
        log.clear();
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Make(size) => {
                let wanted = wanted(Function::Malloc, size);
                let Allocated::At(addr) = self.heap.allocate(&mut self.memory, &wanted) else {
                    panic!("no memory");
                };
                assert_eq!(addr % 16, 0);
                assert!(!self.live.contains_key(&addr), "handed out twice");
                self.freed.retain(|freed| *freed != addr);
                self.stamp = self.stamp.wrapping_add(1);
                let content = vec![self.stamp; size as usize];
                self.fill(addr, &content);
            }
            Step::Resize(at, size) => {
                let Some(addr) = self.pick(at) else { return };
                let wanted = wanted(Function::Realloc, size);
                let Resized::At(to) = self.heap.resize(&mut self.memory, addr, &wanted) else {
                    panic!("no memory");
                };
                assert_ne!(to, addr);
                let mut content = self.live.remove(&addr).expect("live");
                self.freed.retain(|freed| *freed != to);
                self.freed.push(addr);
                let kept = content.len().min(size as usize);
                let id = self.heap.containing(to).and_then(|block| block.id);
                let id = id.expect("an allocation");
                let found = self
                    .memory
                    .read_init(id, 0..kept as u64)
                    .expect("initialised");
                assert_eq!(found, content[..kept]);
                content.resize(size as usize, 0);
                self.fill(to, &content);
            }
            Step::Free(at) => {
                let Some(addr) = self.pick(at) else { return };
                let release = release(Function::Free, addr);
                assert_eq!(
                    self.heap.release(&mut self.memory, &release),
                    Released::Done
                );
                self.live.remove(&addr);
                self.freed.push(addr);
            }
            Step::FreeAgain(at) => {
                if let Some(index) = at.checked_rem(self.freed.len()) {
                    let release = release(Function::Free, self.freed[index]);
                    self.refused(&release, ViolationKind::DoubleFree);
                }
            }
            Step::FreeInside(at, by) => {
                let Some(addr) = self.pick(at) else { return };
                if by < self.live[&addr].len() as u64 {
                    let release = release(Function::Free, addr + by);
                    self.refused(&release, ViolationKind::InvalidFree);
                }
            }
            Step::Mismatch(at) => {
                let Some(addr) = self.pick(at) else { return };
                let release = release(Function::DeleteArray, addr);
                self.refused(&release, ViolationKind::MismatchedFree);
            }
        }
    }

    fn check(&mut self) {
        let totals = self.heap.totals();
        assert_eq!(totals.live, self.live.len() as u64);
        let bytes: usize = self.live.values().map(Vec::len).sum();
        assert_eq!(totals.live_bytes, bytes as u64);
        assert_eq!(totals.allocations, totals.frees + totals.live);
        for (addr, content) in &self.live {
            let block = self
                .heap
                .live()
                .into_iter()
                .find(|block| block.base == *addr);
            let id = block.and_then(|block| block.id).expect("live");
            let len = content.len() as u64;
            assert_eq!(
                self.memory.read_bytes(id, 0..len).expect("readable"),
                *content
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn agrees_with_a_model(steps in prop::collection::vec(step(), 1..120)) {
        let mut case = Case::new();
        for step in &steps {
            case.run(step);
        }
        case.check();
    }
}

#[test]
fn sizes_and_alignments_of_cpp() {
    let mut case = Case::new();
    let wanted = Wanted {
        align: 64,
        ..wanted(Function::NewAligned, 48)
    };
    let Allocated::At(addr) = case.heap.allocate(&mut case.memory, &wanted) else {
        panic!("no memory");
    };
    assert_eq!(addr % 64, 0);
    let plain = release(Function::Delete, addr);
    case.refused(&plain, ViolationKind::MismatchedFree);
    let other = Release {
        align: Some(32),
        ..release(Function::DeleteAligned, addr)
    };
    case.refused(&other, ViolationKind::MismatchedFree);
    let size = Release {
        size: Some(40),
        align: Some(64),
        ..release(Function::DeleteSizedAligned, addr)
    };
    case.refused(&size, ViolationKind::MismatchedFree);
    let right = Release {
        size: Some(48),
        ..size
    };
    assert_eq!(case.heap.release(&mut case.memory, &right), Released::Done);
}

#[test]
fn real_blocks_wait_and_expire() {
    let memory = &mut Memory::new().expect("memory");
    let mut heap = NativeHeap::new(NativeHeapMode::Observe, View::Native, Vec::new());
    let wanted = wanted(Function::Malloc, 100);
    assert_eq!(heap.allocate(memory, &wanted), Allocated::Real);
    let mut expired = Vec::new();
    for number in 0..3000u64 {
        let base = 0x10_0000_0000 + number * 128;
        heap.adopt(memory, base, &wanted);
        match heap.release(memory, &release(Function::Free, base)) {
            Released::Done => {}
            Released::Expired(blocks) => expired.extend(blocks),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(expired.len(), 3000 - 1024);
    assert_eq!(expired[0], 0x10_0000_0000);
    assert!(memory.violations().is_empty());
    // One that still waits was freed before; one that does not may be anyone's.
    let last = 0x10_0000_0000 + 2999 * 128;
    let again = heap.release(memory, &release(Function::Free, last));
    assert_eq!(again, Released::Refused);
    assert_eq!(heap.clear(memory).len(), 1024);
    assert_eq!(memory.externals().count(), 0);
}

#[test]
fn what_libc_gives_back_by_itself_is_forgotten() {
    let memory = &mut Memory::new().expect("memory");
    let mut heap = NativeHeap::new(NativeHeapMode::Observe, View::Native, Vec::new());
    let base = 0x10_0000_0000;
    heap.adopt(memory, base, &wanted(Function::Malloc, 64));
    heap.adopt(memory, base + 32, &wanted(Function::Malloc, 16));
    let live: Vec<u64> = heap.live().iter().map(|block| block.base).collect();
    assert_eq!(live, [base + 32]);
    assert_eq!(memory.externals().count(), 1);
}
