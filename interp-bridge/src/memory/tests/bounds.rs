//! Accesses that are not where they should be, in words.

use super::*;

#[test]
fn out_of_bounds_in_words() {
    let mut memory = memory();
    let id = memory
        .allocate(&request("buf", 44, Init::Zeroed, true))
        .expect("room");
    let base = memory.address(id).expect("live");
    let mut says = |event: AccessEvent, offset, message: &str| {
        let violation = violation(&mut memory, &event);
        assert_eq!(violation.kind, ViolationKind::OutOfBounds);
        assert_eq!(violation.allocation_name.as_deref(), Some("buf"));
        assert_eq!(
            (violation.offset, violation.size),
            (Some(offset), event.access.len)
        );
        assert_eq!(
            (violation.ip, violation.tid, violation.seq),
            (0x1234, 3, Some(7))
        );
        assert_eq!(violation.message, message);
    };
    says(
        read(base + 44, 4),
        44,
        "read of 4 bytes at offset 44 of `buf` (44 bytes): 0 bytes past its end",
    );
    says(
        write(base + 42, 4),
        42,
        "write of 4 bytes at offset 42 of `buf` (44 bytes): the last 2 bytes past its end",
    );
    says(
        read(base - 1, 1),
        -1,
        "read of 1 byte at offset -1 of `buf` (44 bytes): 1 byte before it",
    );
    says(
        read(base - 3, 4),
        -3,
        "read of 4 bytes at offset -3 of `buf` (44 bytes): the first 3 bytes before it",
    );
    says(
        read(base - 2, 64),
        -2,
        "read of 64 bytes at offset -2 of `buf` (44 bytes): 2 bytes before it to 18 bytes past \
         its end",
    );
    let record = memory.get(id).expect("live");
    assert_eq!(ranges(record.read()), [(0, 44)], "the parts inside count");
    assert_eq!(ranges(record.written()), [(42, 44)]);
}

#[test]
fn far_from_everything() {
    let mut memory = memory();
    let id = memory
        .allocate(&request("buf", 1, Init::Zeroed, true))
        .expect("room");
    let base = memory.address(id).expect("live");
    let found = violation(&mut memory, &read(base + 1_000_001, 8));
    assert_eq!(found.kind, ViolationKind::OutOfBounds);
    assert_eq!(found.offset, Some(1_000_001));
    let tail = "the nearest, `buf` (1 byte), ends 1000000 bytes below";
    assert!(found.message.ends_with(tail), "{}", found.message);
    let found = violation(&mut memory, &read(base - 1_000_000, 8));
    assert!(
        found.message.ends_with("begins 1000000 bytes above"),
        "{}",
        found.message
    );

    let mut empty = self::memory();
    let inside = empty.arena().session().arena_base + 5;
    let found = violation(&mut empty, &read(inside, 8));
    assert_eq!(
        (found.kind, found.allocation),
        (ViolationKind::OutOfBounds, None)
    );
    for addr in [0, 8, 0x7fff_0000_0000, u64::MAX - 3, inside + (1 << 30)] {
        let found = violation(&mut empty, &write(addr, 8));
        assert_eq!(
            (found.kind, found.offset),
            (ViolationKind::WildAccess, None),
            "{addr:#x}"
        );
        assert_eq!(found.message.contains("null pointer"), addr < 4096);
    }
    assert_eq!(empty.apply(&read(inside, 0)), None);
}

#[test]
fn freed_memory_is_known_while_in_quarantine() {
    let arena = Arena::with_quarantine(Quarantine::new(u64::MAX, 2)).expect("address space");
    let mut memory = Memory::over(arena).expect("shadow");
    let [a, b, c] = ["a", "b", "c"].map(|name| {
        memory
            .allocate(&request(name, 100, Init::Zeroed, true))
            .expect("room")
    });
    let base = memory.address(a).expect("live");
    assert_eq!(memory.apply(&read(base, 4)), None);
    memory.free(a).expect("live");
    assert_eq!(
        memory.free(a).expect_err("double").to_string(),
        "`a` (100 bytes) was freed already"
    );
    assert!(memory.read_bytes(a, 0..1).is_err());
    let found = violation(&mut memory, &write(base + 4, 4));
    assert_eq!(
        (found.kind, found.offset),
        (ViolationKind::UseAfterFree, Some(4))
    );
    assert!(
        found
            .message
            .ends_with("of `a` (100 bytes), which was freed"),
        "{}",
        found.message
    );
    assert!(memory.get(a).expect("remembered").written().is_empty());
    // Its red zones are its own: nothing live explains the access better.
    let found = violation(&mut memory, &read(base + 100, 4));
    assert_eq!(
        (found.kind, found.allocation),
        (ViolationKind::UseAfterFree, Some(a))
    );
    assert!(
        found.message.ends_with("freed: 0 bytes past its end"),
        "{}",
        found.message
    );
    // The neighbour's red zone is the neighbour's.
    let before_b = memory.address(b).expect("live") - 8;
    let found = violation(&mut memory, &read(before_b, 4));
    assert_eq!(
        (found.kind, found.offset),
        (ViolationKind::OutOfBounds, Some(-8))
    );

    memory.free(b).expect("live");
    memory.free(c).expect("live");
    assert!(memory.get(a).is_none(), "two newer ones are in quarantine");
    let again = memory
        .allocate(&request("d", 100, Init::Uninit, true))
        .expect("room");
    assert_eq!(memory.address(again).expect("live"), base, "reused at last");
    assert_eq!(memory.touched().count(), 0, "the touched one is gone");
    assert_eq!(memory.apply(&read(base, 100)), None);
    assert_eq!(
        memory.touched().map(Allocation::id).collect::<Vec<_>>(),
        [again]
    );
    assert!(matches!(memory.free(a), Err(MemoryError::Unknown(_))));
}

#[test]
fn no_bytes_at_all() {
    let mut memory = memory();
    let id = memory
        .allocate(&request("none", 0, Init::Uninit, true))
        .expect("room");
    let other = memory
        .allocate(&request("none", 0, Init::Bytes(b""), true))
        .expect("room");
    let base = memory.address(id).expect("live");
    assert_ne!(base, memory.address(other).expect("live"));
    let found = violation(&mut memory, &read(base, 1));
    assert_eq!((found.allocation, found.offset), (Some(id), Some(0)));
    assert!(
        found.message.ends_with("0 bytes past its end"),
        "{}",
        found.message
    );
}

#[test]
fn a_range_over_several_allocations() {
    let mut memory = memory();
    let [a, b] = ["a", "b"].map(|name| {
        memory
            .allocate(&request(name, 64, Init::Zeroed, true))
            .expect("room")
    });
    let (start, end) = (
        memory.address(a).expect("live"),
        memory.address(b).expect("live") + 10,
    );
    let found = violation(&mut memory, &read(start + 60, end - start - 60));
    assert_eq!((found.allocation, found.offset), (Some(a), Some(60)));
    assert_eq!(ranges(memory.get(a).expect("live").read()), [(60, 64)]);
    assert_eq!(ranges(memory.get(b).expect("live").read()), [(0, 10)]);
    let found = violation(&mut memory, &read(end - 20, 20));
    assert_eq!((found.allocation, found.offset), (Some(b), Some(-10)));
}
