use super::*;
use crate::arena::Quarantine;
use proptest::prelude::*;
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

#[test]
fn a_million_equal_violations_are_one_entry() {
    let mut memory = memory();
    let id = memory
        .allocate(&request("buf", 4, Init::Zeroed, true))
        .expect("room");
    let base = memory.address(id).expect("live");
    for index in 0..100_000 {
        memory.observe(&read(base + 4 + index % 50, 1));
    }
    let log = memory.violations();
    assert_eq!(
        (log.total(), log.entries().len(), log.unlisted()),
        (100_000, 1, 0)
    );
    let entry = &log.entries()[0];
    assert_eq!(
        (entry.count, entry.violation.offset, entry.last_offset),
        (100_000, Some(4), Some(53))
    );

    memory.violations_mut().clear();
    for ip in 0..2 * MAX_ENTRIES as u64 {
        memory.observe(&AccessEvent {
            ip,
            ..read(base + 4, 1)
        });
    }
    let log = memory.violations();
    assert_eq!(
        (log.entries().len(), log.unlisted()),
        (MAX_ENTRIES, MAX_ENTRIES as u64)
    );
    assert_eq!(log.total(), 2 * MAX_ENTRIES as u64);
}

#[test]
fn refused_accesses_are_named() {
    let mut memory = memory();
    let what = "`vgatherdps` with an unknown mask".to_owned();
    memory.refuse(&Refused {
        tid: 1,
        ip: 2,
        addr: 0x30,
        kind: AccessKind::Read,
        what,
    });
    let violation = &memory.violations().entries()[0].violation;
    assert_eq!(violation.kind, ViolationKind::Unsupported);
    assert!(violation.message.contains("vgatherdps"));
}

#[test]
fn kinds_have_the_names_that_scripts_rely_on() {
    for (kind, name) in [
        (ViolationKind::OutOfBounds, "out_of_bounds"),
        (ViolationKind::UseAfterFree, "use_after_free"),
        (ViolationKind::WriteToReadOnly, "write_to_read_only"),
        (ViolationKind::WildAccess, "wild_access"),
        (ViolationKind::Overread, "overread"),
        (ViolationKind::Unsupported, "unsupported"),
        (ViolationKind::NativeCrash, "native_crash"),
        (ViolationKind::Timeout, "timeout"),
    ] {
        assert_eq!(serde_json::to_value(kind).expect("a string"), name);
        assert_eq!(kind.to_string(), name);
    }
}

/// One byte of the arena as a plain model sees it.
#[derive(Clone, Copy, Default)]
struct ModelByte {
    owner: Option<(AllocId, bool, bool)>,
    init: bool,
    read: bool,
    read_uninit: bool,
    written: bool,
    maybe: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Allocate(u64, u8, bool),
    Free(prop::sample::Index),
    Touch {
        at: prop::sample::Index,
        offset: i64,
        len: u64,
        kind: u8,
    },
    Reset,
}

fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![Just(0u64), 1u64..80, 4000u64..5000];
    prop_oneof![
        2 => (size, 0u8..3, any::<bool>()).prop_map(|(s, i, m)| Step::Allocate(s, i, m)),
        1 => any::<prop::sample::Index>().prop_map(Step::Free),
        9 => (any::<prop::sample::Index>(), -100i64..5000, 1u64..300, 0u8..3)
            .prop_map(|(at, offset, len, kind)| Step::Touch { at, offset, len, kind }),
        9 => (any::<prop::sample::Index>(), -40i64..90, 1u64..70, 0u8..3)
            .prop_map(|(at, offset, len, kind)| Step::Touch { at, offset, len, kind }),
        1 => Just(Step::Reset),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn agrees_with_a_model_of_single_bytes(steps in prop::collection::vec(step(), 1..80)) {
        let mut memory = memory();
        // Everything below stays near the start of the first segment.
        let origin = memory.arena().session().arena_base + crate::arena::MARGIN - 4096;
        let mut model = vec![ModelByte::default(); 600 << 10];
        let mut known: Vec<(AllocId, u64, u64, bool)> = Vec::new();
        for step in steps {
            match step {
                Step::Allocate(size, init, mutable) => {
                    let init = [Init::Uninit, Init::Zeroed, Init::Zeroed][usize::from(init)];
                    let id = memory.allocate(&request("m", size, init, mutable)).expect("room");
                    let base = memory.address(id).expect("live");
                    known.push((id, base, size, true));
                    let at = (base - origin) as usize;
                    for byte in &mut model[at..at + size as usize] {
                        prop_assert!(byte.owner.is_none(), "reused too early");
                        let init = init != Init::Uninit;
                        *byte = ModelByte { owner: Some((id, true, mutable)), init, ..*byte };
                    }
                }
                Step::Free(index) if !known.is_empty() => {
                    let index = index.index(known.len());
                    let (id, base, size, live) = &mut known[index];
                    prop_assert_eq!(memory.free(*id).is_ok(), *live);
                    *live = false;
                    let at = (*base - origin) as usize;
                    for byte in &mut model[at..at + *size as usize] {
                        if let Some((_, live, _)) = &mut byte.owner { *live = false; }
                    }
                }
                Step::Touch { at, offset, len, kind } if !known.is_empty() => {
                    let (_, base, ..) = known[at.index(known.len())];
                    let addr = base.wrapping_add_signed(offset);
                    let mut event = if kind == 0 { read(addr, len) } else { write(addr, len) };
                    event.access.certain = kind != 2;
                    let found = memory.apply(&event).map(|finding| finding.kind);
                    let range = (addr - origin) as usize..(addr - origin + len) as usize;
                    let bytes = &mut model[range];
                    let owned = |byte: &&ModelByte| byte.owner.is_some_and(|owner| owner.1);
                    if bytes.iter().filter(owned).count() as u64 == len {
                        let writable = bytes.iter().all(|byte| byte.owner.is_some_and(|o| o.2));
                        let expected = (kind != 0 && !writable)
                            .then_some(ViolationKind::WriteToReadOnly);
                        prop_assert_eq!(found, expected);
                    } else {
                        let first = bytes.iter().find_map(|byte| byte.owner);
                        match (bytes[0].owner, first) {
                            (Some((_, false, _)), _) => {
                                prop_assert_eq!(found, Some(ViolationKind::UseAfterFree));
                            }
                            (Some(_), _) => prop_assert_eq!(found, Some(ViolationKind::OutOfBounds)),
                            _ => prop_assert!(matches!(
                                found,
                                Some(ViolationKind::OutOfBounds | ViolationKind::UseAfterFree)
                            )),
                        }
                    }
                    for byte in bytes.iter_mut().filter(|byte| byte.owner.is_some_and(|o| o.1)) {
                        match kind {
                            0 => {
                                byte.read = true;
                                byte.read_uninit |= !byte.init;
                            }
                            1 => (byte.written, byte.init) = (true, true),
                            _ => byte.maybe = true,
                        }
                    }
                }
                Step::Reset => {
                    memory.reset_coverage();
                    for byte in &mut model {
                        *byte = ModelByte { owner: byte.owner, init: byte.init, ..Default::default() };
                    }
                }
                Step::Free(_) | Step::Touch { .. } => {}
            }
        }
        for (id, base, size, live) in known {
            let record = memory.get(id).expect("in quarantine at most");
            prop_assert_eq!(record.is_live(), live);
            for offset in 0..size {
                let byte = model[(base - origin + offset) as usize];
                prop_assert_eq!(record.init().contains(offset), byte.init);
                prop_assert_eq!(record.read().contains(offset), byte.read);
                prop_assert_eq!(record.read_uninit().contains(offset), byte.read_uninit);
                prop_assert_eq!(record.written().contains(offset), byte.written);
                prop_assert_eq!(record.maybe_written().contains(offset), byte.maybe);
                // The handler's shadow agrees on what is live and writable.
                let (_, _, mutable) = byte.owner.expect("owned");
                let shadow = memory.shadow();
                prop_assert_eq!(shadow.suspicious(base + offset, 1, false), !live);
                prop_assert_eq!(shadow.suspicious(base + offset, 1, true), !live || !mutable);
            }
            prop_assert!(memory.shadow().suspicious(base + size, 1, false));
            prop_assert!(memory.shadow().suspicious(base - 1, 1, false));
        }
    }
}
