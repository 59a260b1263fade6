//! An interpreter that keeps a memory of its own, on the trait alone.

use std::ops::Range;

use super::*;
use crate::arena::{Block, Request};

/// One list of blocks, and a count for each.
struct Tiny {
    arena: Arena,
    shadow: Shadow,
    blocks: Vec<(Block, u64)>,
    complaints: Vec<String>,
}

impl Tiny {
    fn new() -> Tiny {
        let arena = Arena::new().expect("address space");
        let shadow = Shadow::new(arena.session()).expect("address space");
        Tiny {
            arena,
            shadow,
            blocks: Vec::new(),
            complaints: Vec::new(),
        }
    }

    fn allocate(&mut self, bytes: &[u8]) -> u64 {
        let size = bytes.len() as u64;
        let block = self.arena.allocate(Request {
            size,
            align: 16,
            zeroed: true,
        });
        let block = block.expect("room");
        let views = self.arena.views_mut();
        views.write(block.base, bytes).expect("inside");
        self.shadow.set_live(block.base, size, true);
        self.blocks.push((block, 0));
        block.base
    }
}

impl InterpreterMemory for Tiny {
    fn arena(&self) -> &Arena {
        &self.arena
    }

    fn arena_mut(&mut self) -> &mut Arena {
        &mut self.arena
    }

    fn shadow(&self) -> &Shadow {
        &self.shadow
    }

    fn apply(&mut self, event: &AccessEvent) -> Option<Finding> {
        let access = &event.access;
        let holds = |block: &Block| {
            access.addr >= block.base && access.addr + access.len <= block.base + block.size
        };
        match self.blocks.iter_mut().find(|(block, _)| holds(block)) {
            Some((_, count)) => {
                *count += access.len;
                None
            }
            None => Some(Finding {
                kind: ViolationKind::OutOfBounds,
                event: *event,
                place: self.blocks.first().map(|(block, _)| Place {
                    allocation: AllocId::from_number(0),
                    offset: access.addr.wrapping_sub(block.base) as i64,
                }),
            }),
        }
    }

    fn neighbour(&self, range: &Range<u64>) -> Option<Range<u64>> {
        let distance = |block: &Block| block.base.abs_diff(range.start);
        let nearest = self.blocks.iter().min_by_key(|(block, _)| distance(block));
        nearest.map(|(block, _)| block.base..block.base + block.size)
    }

    fn title_at(&self, addr: u64) -> Option<String> {
        let object = self.neighbour(&(addr..addr + 1))?;
        object
            .contains(&addr)
            .then(|| format!("{} bytes", object.end - object.start))
    }

    fn report(&mut self, finding: &Finding) {
        self.complaints.push(finding.describe(None).message);
    }

    fn note_overread(&mut self, _: &Finding) {}

    fn refuse(&mut self, refused: &Refused) {
        self.complaints.push(refused.what.clone());
    }

    fn violation(&mut self, violation: Violation) {
        self.complaints.push(violation.message);
    }

    fn native_ran(&mut self, traced: bool) {
        assert!(traced, "this one cannot do without");
    }
}

/// What the bridge does with any memory.
fn deliver<M: InterpreterMemory>(memory: &mut M, event: &AccessEvent) {
    if let Some(finding) = memory.apply(event) {
        memory.report(&finding);
    }
}

#[test]
fn a_memory_of_ones_own_needs_the_trait_alone() {
    let mut tiny = Tiny::new();
    let base = tiny.allocate(b"hello");
    deliver(&mut tiny, &read(base, 5));
    assert!(tiny.complaints.is_empty());
    assert_eq!(tiny.blocks[0].1, 5);
    assert!(!tiny.shadow().suspicious(base, 5, true));
    deliver(&mut tiny, &read(base + 4, 2));
    assert!(tiny.shadow().suspicious(base + 4, 2, false));
    assert_eq!(tiny.complaints.len(), 1);
    assert_eq!(tiny.neighbour(&(base + 4..base + 6)), Some(base..base + 5));
    assert_eq!(tiny.title_at(base).as_deref(), Some("5 bytes"));
    tiny.native_ran(true);

    // Ours, by the same door.
    let mut ours = memory();
    let id = ours
        .allocate(&request("buf", 5, Init::Zeroed, true))
        .expect("room");
    let base = ours.address(id).expect("live");
    deliver(&mut ours, &read(base + 4, 2));
    assert_eq!(ours.violations().total(), 1);
    assert!(InterpreterMemory::arena(&ours).views().segments() > 0);
}
