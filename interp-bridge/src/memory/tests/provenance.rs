//! Pointers in memory: stored, overwritten in part, copied, exposed, resolved.

use super::*;

/// Allocations with these names, of 64 bytes of zeros.
fn three(memory: &mut Memory) -> [AllocId; 3] {
    ["a", "b", "c"].map(|name| {
        let request = request(name, 64, Init::Zeroed, true);
        memory.allocate(&request).expect("room")
    })
}

fn uncertain(addr: u64, len: u64) -> AccessEvent {
    let mut event = write(addr, len);
    event.access.certain = false;
    event
}

fn exposed(memory: &Memory) -> Vec<u64> {
    let mut ids: Vec<u64> = memory.exposed().map(AllocId::number).collect();
    ids.sort_unstable();
    ids
}

#[test]
fn a_read_exposes_what_was_read_and_nothing_else() {
    let mut memory = memory();
    let [a, b, c] = three(&mut memory);
    let base = memory.address(a).expect("live");
    for (offset, target) in [(0, b), (8, c)] {
        let pointer = memory.pointer(target, 4).expect("live");
        memory.write_pointer(a, offset, pointer).expect("inside");
    }
    assert_eq!(memory.apply(&read(base + 16, 8)), None);
    assert_eq!(exposed(&memory), [0u64; 0]);
    assert_eq!(memory.apply(&read(base + 7, 1)), None, "its last byte");
    assert_eq!(exposed(&memory), [1]);
    assert_eq!(
        memory.apply(&write(base + 8, 8)),
        None,
        "overwritten unread"
    );
    assert_eq!(memory.apply(&read(base, 64)), None);
    assert_eq!(exposed(&memory), [1]);
    memory.free(b).expect("live");
    assert_eq!(exposed(&memory), [0u64; 0], "only what is live");
}

#[test]
fn writes_of_native_code_are_wildcards() {
    let mut memory = memory();
    let [a, b, _] = three(&mut memory);
    let base = memory.address(a).expect("live");
    let pointer = memory.pointer(b, 0).expect("live");
    memory.write_pointer(a, 0, pointer).expect("inside");
    assert_eq!(memory.read_pointer(a, 0).expect("there"), pointer);

    // One byte from native code: the best that it can be is the byte that was there.
    assert_eq!(memory.apply(&write(base + 2, 1)), None);
    let read_back = memory.read_pointer(a, 0).expect("there");
    assert_eq!(read_back.provenance, Provenance::Alloc(b));
    // One byte of the interpreter's: no longer a pointer.
    memory.write_bytes(a, 3, &[0]).expect("inside");
    let read_back = memory.read_pointer(a, 0).expect("there");
    assert_eq!(read_back.provenance, Provenance::None);
    // All of it from native code.
    assert_eq!(memory.apply(&write(base, 8)), None);
    let read_back = memory.read_pointer(a, 0).expect("there");
    assert_eq!(read_back.provenance, Provenance::Wildcard);
    assert_eq!(exposed(&memory), [0u64; 0], "nothing was read");
}

#[test]
fn an_uncertain_write_counts_where_it_may_have_happened() {
    let mut memory = memory();
    let [target, ..] = three(&mut memory);
    let pointer = memory.pointer(target, 0).expect("live");
    let open = memory
        .allocate(&request("open", 16, Init::Uninit, true))
        .expect("room");
    let closed = memory
        .allocate(&request("closed", 16, Init::Uninit, false))
        .expect("room");
    for id in [open, closed] {
        memory.write_pointer(id, 8, pointer).expect("inside");
    }
    let at = |memory: &Memory, id| memory.address(id).expect("live");
    let event = uncertain(at(&memory, closed), 16);
    let found = memory.apply(&event).expect("read-only");
    assert_eq!(found.kind, ViolationKind::WriteToReadOnly);
    let error = memory.read_init(closed, 4..12).expect_err("uninitialised");
    assert_eq!(
        error.to_string(),
        "bytes 4..8 of `closed` (16 bytes) are not initialised; bytes 4..12 were to be read"
    );
    assert_eq!(memory.read_pointer(closed, 8).expect("there"), pointer);
    assert_eq!(exposed(&memory), [0u64; 0]);

    let event = uncertain(at(&memory, open), 16);
    assert_eq!(memory.apply(&event), None);
    assert!(memory.read_init(open, 0..16).is_ok(), "may be initialised");
    assert!(
        ranges(memory.get(open).expect("live").init()) == [(8, 16)],
        "for sure only those"
    );
    let read_back = memory.read_pointer(open, 8).expect("there");
    assert_eq!(read_back.provenance, Provenance::Wildcard);
    // If it did not happen, the old pointer is still there, and must stay good.
    assert_eq!(memory.resolve(read_back, 4), Ok((target, 0)));
    // The verdict outlives the call, and a change of mind about who may write.
    memory.set_mutable(open, false).expect("live");
    memory.reset_coverage();
    assert!(memory.read_init(open, 0..16).is_ok());
    assert!(memory.read_init(closed, 0..16).is_err());
}

#[test]
fn copies_keep_what_is_known() {
    let mut memory = memory();
    let [a, b, c] = three(&mut memory);
    let pointer = memory.pointer(c, 1).expect("live");
    memory.write_pointer(a, 0, pointer).expect("inside");
    memory.deinitialize(a, 12..14).expect("inside");
    memory.copy(a, 0..16, b, 3).expect("inside");
    assert_eq!(memory.read_pointer(b, 3).expect("there"), pointer);
    let error = memory.read_scalar(b, 11, 8).expect_err("uninitialised");
    assert!(matches!(error, MemoryError::Uninit { uninit, .. } if uninit == (15..17)));
    assert_eq!(memory.read_scalar(b, 17, 2).expect("initialised"), 0);
    // In two halves, and over itself.
    memory.copy(a, 4..8, b, 44).expect("inside");
    memory.copy(a, 0..4, b, 40).expect("inside");
    assert_eq!(memory.read_pointer(b, 40).expect("there"), pointer);
    memory.copy(b, 40..60, b, 36).expect("inside");
    assert_eq!(memory.read_pointer(b, 36).expect("there"), pointer);
    assert_eq!(
        memory.get(b).expect("live").pointers().count(),
        1,
        "the first copy"
    );
    assert!(memory.copy(a, 0..60, b, 5).is_err());
}

#[test]
fn wildcards_lead_to_what_is_exposed_and_live() {
    let mut memory = memory();
    let [a, b, _] = three(&mut memory);
    let base = memory.address(a).expect("live");
    let error = memory
        .with_exposed_provenance(base + 4)
        .expect_err("hidden");
    assert!(
        error
            .to_string()
            .ends_with("; `a` (64 bytes) is there, but its address was never given away"),
        "{error}"
    );
    memory.expose(a).expect("known");
    let pointer = memory.with_exposed_provenance(base + 4).expect("exposed");
    assert_eq!(pointer.provenance, Provenance::Wildcard);
    assert_eq!(memory.resolve(pointer, 60), Ok((a, 4)));
    assert!(memory.resolve(pointer, 61).is_err());
    let host = memory.address_in(a, View::Host).expect("live");
    let pointer = memory.with_exposed_provenance(host).expect("either view");
    assert_eq!(memory.resolve(pointer, 1), Ok((a, 0)));
    let end = memory.with_exposed_provenance(base + 64).expect("its end");
    assert_eq!(memory.resolve(end, 0), Ok((a, 64)));
    assert!(memory.with_exposed_provenance(base + 65).is_err());
    assert!(memory.with_exposed_provenance(0).is_err());

    let number = Pointer::from_number(base);
    assert!(matches!(
        memory.resolve(number, 0),
        Err(PointerError::NoProvenance { .. })
    ));
    let own = memory.pointer(b, 0).expect("live");
    assert_eq!(memory.resolve(own, 64), Ok((b, 0)), "exposed or not");
    let error = memory.resolve(own.offset(-1), 1).expect_err("outside");
    assert_eq!(
        error.to_string(),
        "1 bytes at offset -1 are not inside `b` (64 bytes), which the pointer is for"
    );

    memory
        .free_by(a, Freer::Native { ip: 0x99, tid: 7 })
        .expect("live");
    let error = memory.with_exposed_provenance(base).expect_err("freed");
    assert!(
        error
            .to_string()
            .ends_with("`a` (64 bytes) was freed by native code at 0x99 (thread 7)"),
        "{error}"
    );
    let late = violation(&mut memory, &read(base, 4));
    assert!(
        late.message
            .ends_with("which was freed by native code at 0x99 (thread 7)"),
        "{}",
        late.message
    );
}

#[test]
fn untraced_calls_reach_what_pointers_reach() {
    let mut memory = memory();
    let [a, b, c] = three(&mut memory);
    let bytes: &[u8] = &[1; 16];
    let constant = memory
        .allocate(&request("k", 16, Init::Bytes(bytes), false))
        .expect("room");
    for (from, to) in [(a, constant), (constant, b)] {
        let pointer = memory.pointer(to, 0).expect("live");
        memory.write_pointer(from, 0, pointer).expect("inside");
    }
    let uninit = memory
        .allocate(&request("u", 8, Init::Uninit, true))
        .expect("room");
    memory.untraced_call(&[a, uninit]);
    assert_eq!(exposed(&memory), [0, 1, 3, 4], "not `c`");
    let record = |id| memory.get(id).expect("live");
    assert!(record(a).wildcard().is_full() && record(b).wildcard().is_full());
    assert!(
        record(constant).wildcard().is_empty(),
        "nobody may write it"
    );
    assert_eq!(record(constant).pointers().collect::<Vec<_>>(), [(0, b)]);
    assert!(record(c).wildcard().is_empty());
    assert!(record(uninit).readable().is_full());
    assert!(record(uninit).init().is_empty(), "not for sure");
    assert_eq!(memory.touched().count(), 0, "no coverage was seen");
}

#[test]
fn scalars_of_all_sizes() {
    let mut memory = memory();
    let [a, ..] = three(&mut memory);
    let value = 0x1122_3344_5566_7788_99aa_bbcc_ddee_ff00_u128;
    for size in 1..=16 {
        memory.write_scalar(a, 3, value, size).expect("inside");
        let kept = value & (u128::MAX >> (128 - 8 * size));
        assert_eq!(memory.read_scalar(a, 3, size).expect("there"), kept);
    }
    for size in [0, 17] {
        assert!(matches!(
            memory.read_scalar(a, 0, size),
            Err(MemoryError::ScalarSize(_))
        ));
    }
    assert!(memory.read_scalar(a, 60, 8).is_err());
    assert!(memory.write_scalar(a, u64::MAX, 0, 8).is_err());
}

#[test]
fn reads_of_uninitialised_bytes_are_a_lint() {
    let mut memory = memory();
    let id = memory
        .allocate(&request("u", 16, Init::Uninit, true))
        .expect("room");
    memory.write_bytes(id, 0, &[1, 2]).expect("inside");
    let event = read(memory.address(id).expect("live"), 4);
    assert_eq!(memory.apply(&event), None);
    assert!(memory.uninit_reads().is_empty(), "off unless asked for");

    memory.set_uninit_reads(Level::Warn);
    memory.observe(&event);
    assert_eq!(memory.uninit_reads().total(), 1);
    assert!(memory.violations().is_empty());
    let found = &memory.uninit_reads().entries()[0].violation;
    assert_eq!(found.kind, ViolationKind::UninitRead);
    assert_eq!(
        found.message,
        "read of 4 bytes at offset 0 of `u` (16 bytes), of which bytes 2..4 were never initialised"
    );

    memory.set_uninit_reads(Level::Deny);
    memory.observe(&event);
    assert_eq!(memory.uninit_reads().total(), 2);
    assert_eq!(memory.violations().total(), 1);
    let fine = read(event.access.addr, 2);
    assert_eq!(memory.apply(&fine), None);
}

#[test]
fn what_was_exposed_and_freed_takes_no_memory() {
    let mut memory = memory();
    for _ in 0..10_000 {
        let request = request("argument", 8, Init::Zeroed, true);
        let id = memory.allocate(&request).expect("memory");
        memory.expose(id).expect("live");
        memory.free(id).expect("live");
    }
    assert!(memory.exposed.len() < 200, "{}", memory.exposed.len());
}
