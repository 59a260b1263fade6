//! Memory outside of the arena.
//!
//! # Safety
//!
//! What is registered is pages of the tests' own, or addresses that are never written.
#![allow(unsafe_code)]

use super::*;
use tracer_user::mapping::Mapping;

/// Pages of this process that no Rust value is in, and the first address after them.
fn pages(count: usize) -> (Mapping, u64) {
    let pages = Mapping::stack(count * 4096).expect("address space");
    let end = pages.addr() + pages.len() as u64;
    (pages, end)
}

fn external<'a>(name: &'a str, base: u64, size: u64) -> ExternalRequest<'a> {
    ExternalRequest {
        name: Some(name),
        base,
        size,
        align: 16,
        kind: AllocKind::NativeHeap,
        origin: "malloc",
        site: Some(0x77),
        initialised: false,
        mutable: true,
    }
}

fn register(memory: &mut Memory, request: &ExternalRequest<'_>) -> Result<AllocId, MemoryError> {
    // SAFETY: the tests register pages of their own, which nothing in Rust refers to, or addresses
    // that they only read or that are refused.
    unsafe { memory.register_external(request) }
}

#[test]
fn external_bytes_are_read_and_written_where_they_are() {
    let (_pages, end) = pages(2);
    let base = end - 4096 - 96;
    let mut memory = memory();
    let id = register(&mut memory, &external("x", base, 200)).expect("free");
    assert_eq!(memory.address(id).expect("live"), base);
    assert_eq!(memory.address_in(id, View::Host).expect("live"), base);
    assert!(memory.read_init(id, 0..1).is_err(), "as malloc left it");
    let bytes: Vec<u8> = (0..200).collect();
    memory.write_bytes(id, 0, &bytes).expect("mapped");
    assert_eq!(
        memory.read_init(id, 90..110).expect("written"),
        bytes[90..110]
    );
    // It is the same memory for others.
    let twin = Memory::new().and_then(|mut other| {
        let twin = register(&mut other, &external("y", base + 100, 4))?;
        other.read_bytes(twin, 0..4)
    });
    assert_eq!(twin.expect("mapped"), [100, 101, 102, 103]);

    let inner = memory
        .allocate(&request("in", 8, Init::Zeroed, true))
        .expect("room");
    let pointer = memory.pointer(inner, 0).expect("live");
    memory.write_pointer(id, 8, pointer).expect("mapped");
    assert_eq!(memory.read_pointer(id, 8).expect("there"), pointer);
    memory.copy(id, 8..16, id, 24).expect("inside");
    assert_eq!(memory.read_pointer(id, 24).expect("there"), pointer);
    // Native code may have done anything with it, and may know the pointer.
    memory.native_ran(true);
    let wild = memory.read_pointer(id, 8).expect("there");
    assert_eq!(wild.provenance, Provenance::Wildcard);
    assert_eq!(memory.resolve(wild, 8), Ok((inner, 0)));

    let title = memory.get(id).expect("live").title();
    assert_eq!(title, "`x` (200 bytes from malloc)");
    assert_eq!(memory.external_at(base).map(Allocation::id), Some(id));
    assert!(memory.external_at(base + 1).is_none());
    let held = memory.containing(base + 199).map(Allocation::id);
    assert_eq!(held, Some(id));
    assert!(memory.containing(base + 200).is_none());
    assert_eq!(memory.externals().count(), 1);
    let resolved = memory.with_exposed_provenance(base + 5).expect("exposed");
    assert_eq!(memory.resolve(resolved, 4), Ok((id, 5)));
}

#[test]
fn memory_that_is_gone_is_an_error() {
    let (pages, end) = pages(1);
    let mut memory = memory();
    let request = external("x", end - 4096, 4096);
    let id = register(&mut memory, &request).expect("free");
    drop(pages);
    let error = memory.read_bytes(id, 0..16).expect_err("unmapped");
    assert!(
        matches!(
            &error,
            MemoryError::External(ExternalError::Unreachable {
                how: "read",
                done: 0,
                ..
            })
        ),
        "{error}"
    );
    let error = memory.write_bytes(id, 8, &[1; 4]).expect_err("unmapped");
    assert!(error.to_string().contains("cannot be written"), "{error}");
    assert!(memory.get(id).expect("live").init().is_empty(), "unchanged");
    memory.free_by(id, Freer::Unmapped).expect("live");
    let error = memory.read_bytes(id, 0..1).expect_err("freed").to_string();
    assert!(error.ends_with("was freed already by munmap"), "{error}");
    let late = memory.locate(end - 1).expect("remembered");
    assert_eq!(late.allocation, id);
}

#[test]
fn overlaps_are_refused_and_reuse_is_not() {
    let mut memory = memory();
    let (_pages, end) = pages(1);
    let base = end - 4096;
    let first = register(&mut memory, &external("x", base + 64, 64)).expect("free");
    for (start, size) in [(64, 64), (0, 65), (127, 1), (0, 4096), (80, 0), (64, 0)] {
        let again = register(&mut memory, &external("y", base + start, size));
        let overlaps = matches!(
            &again,
            Err(MemoryError::External(ExternalError::Overlaps { id, .. })) if *id == first
        );
        assert!(overlaps, "{start} {size}: {again:?}");
    }
    let beside = register(&mut memory, &external("z", base + 128, 64)).expect("free");
    // One access may reach both, for there is nothing between them.
    assert_eq!(memory.apply(&write(base + 120, 16)), None);
    assert_eq!(
        ranges(memory.get(beside).expect("live").written()),
        [(0, 8)]
    );

    let freer = Freer::Native { ip: 5, tid: 6 };
    memory.free_by(first, freer).expect("live");
    let freed = memory.freed_external_at(base + 64).expect("remembered");
    assert_eq!((freed.id(), freed.freed()), (first, Some(freer)));
    let again = register(&mut memory, &external("again", base + 100, 8)).expect("reused");
    assert!(memory.get(first).is_none() && memory.get(again).is_some());

    let inside = memory.arena().session().arena_base + 100;
    for (base, expected) in [(inside, "arena"), (0, "null"), (u64::MAX - 3, "beyond")] {
        let error = register(&mut memory, &external("bad", base, 8)).expect_err("no memory");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn wild_accesses_name_what_is_near() {
    let mut memory = memory();
    let (_pages, end) = pages(1);
    let end = end - 1024;
    let id = register(&mut memory, &external("x", end - 64, 64)).expect("free");
    assert_eq!(memory.apply(&read(end - 8, 8)), None);
    let found = violation(&mut memory, &write(end - 4, 8));
    assert_eq!(
        (found.kind, found.offset),
        (ViolationKind::WildAccess, Some(60))
    );
    assert!(
        found
            .message
            .ends_with("`x` (64 bytes from malloc): the last 4 bytes past its end"),
        "{}",
        found.message
    );
    let found = violation(&mut memory, &write(end + (1 << 20), 8));
    assert_eq!(found.allocation, None);
    memory
        .free_by(id, Freer::Native { ip: 1, tid: 2 })
        .expect("live");
    let found = violation(&mut memory, &write(end - 4, 4));
    assert_eq!(found.kind, ViolationKind::UseAfterFree);
    assert_eq!(memory.locate(end - 4).expect("near").offset, 60);
}

#[test]
fn few_freed_ones_are_remembered() {
    let mut memory = memory();
    for number in 0..10_000u64 {
        let base = 0x1000_0000 + 64 * number;
        let id = register(&mut memory, &external("x", base, 64)).expect("free");
        memory.free(id).expect("live");
    }
    assert_eq!(memory.allocations().len(), 4096);
    assert!(memory.freed_external_at(0x1000_0000).is_none());
    assert!(memory.freed_external_at(0x1000_0000 + 64 * 9_999).is_some());
}
