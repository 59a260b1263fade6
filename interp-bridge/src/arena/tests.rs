use super::*;
use proptest::prelude::*;

fn arena(bytes: u64, blocks: usize) -> Arena {
    Arena::with_quarantine(Quarantine::new(bytes, blocks)).expect("address space")
}

fn get(arena: &mut Arena, size: u64, align: u64) -> Block {
    arena
        .allocate(Request {
            size,
            align,
            zeroed: true,
        })
        .expect("room")
}

#[test]
fn limits_are_named() {
    let mut arena = arena(0, 0);
    let refuse = |arena: &mut Arena, size, align| {
        let result = arena.allocate(Request {
            size,
            align,
            zeroed: false,
        });
        result.expect_err("over a limit").to_string()
    };
    assert!(refuse(&mut arena, MAX_SIZE + 1, 1).contains("512 MiB"));
    for align in [0, 3, 24, MAX_ALIGN * 2] {
        assert!(refuse(&mut arena, 8, align).contains("power of two up to 1 MiB"));
    }
    assert!(refuse(&mut arena, u64::MAX, 1).contains("512 MiB"));
    let block = get(&mut arena, MAX_SIZE, MAX_ALIGN);
    assert_eq!(block.base % MAX_ALIGN, 0);
}

#[test]
fn red_zones_grow_with_the_object() {
    assert_eq!(red_zone(0), 64);
    assert_eq!(red_zone(512), 64);
    assert_eq!(red_zone(4096), 512);
    assert_eq!(red_zone(MAX_SIZE), 64 << 10);
}

#[test]
fn freed_blocks_wait_and_are_reused_in_order() {
    let mut arena = arena(1 << 20, 2);
    let first = get(&mut arena, 100, 16);
    let others = [get(&mut arena, 100, 16), get(&mut arena, 100, 16)];
    arena.free(first).expect("live");
    assert!(
        matches!(arena.free(first), Err(ArenaError::NotLive(_))),
        "double free"
    );
    for block in others {
        assert!(!arena.has_released());
        arena.free(block).expect("live");
    }
    assert_eq!(arena.released().collect::<Vec<_>>(), [first.base]);
    assert_eq!(
        get(&mut arena, 100, 16).base,
        first.base,
        "best fit takes the hole"
    );
    assert!(
        get(&mut arena, 100, 16).base > others[1].base,
        "the others still wait"
    );
}

#[test]
fn the_last_freed_block_always_waits() {
    let mut arena = arena(0, 0);
    let first = get(&mut arena, 300 << 20, 16);
    arena.free(first).expect("live");
    let second = get(&mut arena, 300 << 20, 16);
    assert!(second.slot().end <= first.slot().start || second.slot().start >= first.slot().end);
    arena.free(second).expect("live");
    assert_eq!(arena.released().collect::<Vec<_>>(), [first.base]);
}

#[test]
fn new_blocks_are_zero_even_after_dangling_writes() {
    let mut arena = arena(0, 0);
    for size in [40, DISCARD_FROM - 1, DISCARD_FROM, 3 << 20] {
        let block = get(&mut arena, size, 16);
        arena
            .views_mut()
            .write(block.base, &vec![1; size as usize])
            .expect("own block");
        arena.free(block).expect("live");
        // Written through a dangling pointer, after its pages were given back.
        arena
            .views_mut()
            .write(block.base, &vec![2; size as usize])
            .expect("own block");
        let other = get(&mut arena, size, 16);
        arena.free(other).expect("live");
        let again = get(&mut arena, size, 16);
        assert_eq!(again.base, block.base, "the test needs the same memory");
        let mut bytes = vec![3; size as usize];
        arena
            .views()
            .read(again.base, &mut bytes)
            .expect("own block");
        assert!(bytes.iter().all(|byte| *byte == 0), "{size}");
        arena.free(again).expect("live");
        arena = self::arena(0, 0);
    }
}

#[test]
fn a_full_arena_uses_the_quarantine_then_says_so() {
    let mut arena = arena(u64::MAX, usize::MAX);
    let mut blocks = Vec::new();
    let error = loop {
        match arena.allocate(Request {
            size: MAX_SIZE,
            align: 16,
            zeroed: false,
        }) {
            Ok(block) => blocks.push(block),
            Err(error) => break error,
        }
    };
    let text = error.to_string();
    assert!(
        text.contains("no room") && text.contains("free allocations"),
        "{text}"
    );
    let pairs = arena.session().arena_len / (2 * SEGMENT_SIZE);
    assert_eq!(
        blocks.len() as u64,
        pairs,
        "one of the largest in each segment"
    );
    arena.free(blocks[3 % blocks.len()]).expect("live");
    assert_eq!(
        get(&mut arena, MAX_SIZE, 16).base,
        blocks[3 % blocks.len()].base
    );
}

#[test]
fn addresses_for_either_view() {
    let mut arena = arena(0, 0);
    let block = get(&mut arena, 8, 8);
    assert_eq!(View::Native.address(block.base), block.base);
    let host = View::Host.address(block.base);
    assert_eq!(host, arena.views().host(block.base) as u64);
    assert_eq!(arena.to_native(host), Some(block.base));
    assert_eq!(arena.to_native(block.base), Some(block.base));
    assert_eq!(arena.to_native(0x1000), None);
}

fn sizes() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 1u64..200, 200u64..70_000, 1u64 << 20..64 << 20]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn blocks_are_apart_aligned_and_inside(
        steps in prop::collection::vec((sizes(), 0u32..21, any::<prop::sample::Index>(), 0u8..3), 1..150),
        budget in prop_oneof![Just(0u64), 1u64 << 10..1 << 24],
    ) {
        let mut arena = arena(budget, 20);
        let mut live: Vec<Block> = Vec::new();
        for (size, align, index, action) in steps {
            if action == 0 && !live.is_empty() {
                let block = live.swap_remove(index.index(live.len()));
                arena.free(block).expect("live");
                continue;
            }
            let block = get(&mut arena, size, 1 << align);
            prop_assert_eq!(block.base % (1 << align), 0);
            prop_assert_eq!((block.base % 16, block.size), (0, size));
            let slot = block.slot();
            prop_assert!(block.base - slot.start >= 64 && slot.end - (block.base + size) >= 64);
            let offset = (slot.start - arena.session().arena_base) % (2 * SEGMENT_SIZE);
            prop_assert!(offset >= MARGIN);
            prop_assert!(offset + (slot.end - slot.start) <= SEGMENT_SIZE - MARGIN);
            for other in &live {
                let other = other.slot();
                prop_assert!(slot.end <= other.start || other.end <= slot.start);
            }
            live.push(block);
        }
        // When everything is free again and nothing waits, each segment is one range.
        for block in live {
            arena.free(block).expect("live");
        }
        while let Some(block) = arena.quarantine.release_oldest() {
            arena.free.insert(block.slot, block.slot_len);
        }
        let ranges = arena.free.ranges();
        prop_assert_eq!(ranges.len(), arena.views.segments());
        for (_, len) in ranges {
            prop_assert_eq!(len, SEGMENT_SIZE - 2 * MARGIN);
        }
    }
}
