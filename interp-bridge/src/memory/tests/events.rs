//! What events and the interpreter change in an allocation.

use super::*;

#[test]
fn memory_can_move_between_threads() {
    fn sendable<T: Send>() {}
    sendable::<Memory>();
}

#[test]
fn events_change_bytes_in_order() {
    let mut memory = memory();
    let id = memory
        .allocate(&request("buf", 16, Init::Uninit, true))
        .expect("room");
    let base = memory.address(id).expect("live");
    assert_eq!(memory.apply(&read(base, 4)), None);
    assert_eq!(memory.apply(&write(base + 2, 6)), None);
    assert_eq!(memory.apply(&read(base + 1, 4)), None);
    let mut maybe = write(base + 10, 4);
    maybe.access.certain = false;
    assert_eq!(memory.apply(&maybe), None);
    let record = memory.get(id).expect("live");
    assert_eq!(ranges(record.read()), [(0, 5)]);
    assert_eq!(
        ranges(record.read_uninit()),
        [(0, 4)],
        "bytes 2 and 3 when they were uninit"
    );
    assert_eq!(ranges(record.written()), [(2, 8)]);
    assert_eq!(ranges(record.init()), [(2, 8)]);
    assert_eq!(ranges(record.maybe_written()), [(10, 14)]);

    assert_eq!(
        memory.touched().map(Allocation::id).collect::<Vec<_>>(),
        [id]
    );
    memory.reset_coverage();
    let record = memory.get(id).expect("live");
    assert!(record.read().is_empty() && record.written().is_empty());
    assert!(record.read_uninit().is_empty() && record.maybe_written().is_empty());
    assert_eq!(ranges(record.init()), [(2, 8)], "init is no coverage");
    assert_eq!(memory.touched().count(), 0);
    assert!(memory.violations().is_empty());
}

#[test]
fn contents_and_initialisation() {
    let mut memory = memory();
    let bytes = memory
        .allocate(&request("b", 5, Init::Bytes(b"hello"), false))
        .expect("room");
    let zeros = memory
        .allocate(&request("z", 5, Init::Zeroed, true))
        .expect("room");
    let uninit = memory
        .allocate(&request("u", 5, Init::Uninit, true))
        .expect("room");
    assert_eq!(memory.read_bytes(bytes, 1..4).expect("inside"), b"ell");
    assert_eq!(memory.read_bytes(zeros, 0..5).expect("inside"), [0; 5]);
    assert!(memory.get(bytes).expect("live").init().is_full());
    assert!(memory.get(zeros).expect("live").init().is_full());
    memory.write_bytes(uninit, 3, b"xy").expect("inside");
    memory
        .write_bytes(bytes, 0, b"J")
        .expect("the interpreter may");
    assert_eq!(memory.read_bytes(bytes, 0..5).expect("inside"), b"Jello");
    assert_eq!(ranges(memory.get(uninit).expect("live").init()), [(3, 5)]);
    assert!(
        memory.get(uninit).expect("live").written().is_empty(),
        "not native code"
    );
    memory.deinitialize(uninit, 4..5).expect("inside");
    assert_eq!(ranges(memory.get(uninit).expect("live").init()), [(3, 4)]);

    let error = memory
        .write_bytes(uninit, 4, b"xy")
        .expect_err("over the end")
        .to_string();
    assert_eq!(error, "bytes 4..6 are not inside `u` (5 bytes)");
    assert!(memory.write_bytes(uninit, u64::MAX, b"xy").is_err());
    let error = memory
        .allocate(&request("i", 5, Init::Bytes(b"hi"), true))
        .expect_err("short");
    assert!(matches!(
        error,
        MemoryError::InitLength { given: 2, size: 5 }
    ));
}

#[test]
fn read_only_memory() {
    let mut memory = memory();
    let id = memory
        .allocate(&request("s", 8, Init::Zeroed, false))
        .expect("room");
    let base = memory.address(id).expect("live");
    assert_eq!(memory.apply(&read(base, 8)), None);
    let mut event = write(base + 4, 4);
    let found = violation(&mut memory, &event);
    assert_eq!(
        (found.kind, found.offset),
        (ViolationKind::WriteToReadOnly, Some(4))
    );
    assert!(
        found.message.contains("read-only for native code"),
        "{}",
        found.message
    );
    event.access.certain = false;
    let found = violation(&mut memory, &event);
    assert!(
        !found.certain && found.message.starts_with("possible write"),
        "{}",
        found.message
    );
    assert_eq!(
        ranges(memory.get(id).expect("live").written()),
        [(4, 8)],
        "it happened"
    );
    memory.set_mutable(id, true).expect("live");
    assert_eq!(memory.apply(&event), None);
}
