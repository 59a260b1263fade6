use super::*;
use crate::memory::{Init, Pointer};

fn memory() -> Memory {
    Memory::new().expect("address space")
}

fn call(length: u64) -> MmapCall {
    MmapCall {
        addr: 0,
        length,
        prot: PROT_READ | PROT_WRITE,
        flags: MAP_PRIVATE | MAP_ANONYMOUS,
        fd: -1,
        offset: 0,
    }
}

fn errno(error: &MmapError) -> Option<i32> {
    match error.fate() {
        Fate::Errno(number) => Some(number),
        _ => None,
    }
}

#[test]
fn mappings_are_whole_zeroed_pages() {
    let mut memory = memory();
    let hinted = MmapCall {
        addr: 0x1234_5000,
        ..call(5000)
    };
    let id = mmap(&mut memory, &hinted).expect("room");
    let mapping = memory.get(id).expect("live");
    assert_eq!((mapping.size(), mapping.kind()), (8192, AllocKind::Mmap));
    assert!(mapping.base().is_multiple_of(PAGE) && mapping.base() != hinted.addr);
    assert!(mapping.is_mutable() && mapping.init().is_full());
    let bytes = memory.read_init(id, 0..8192).expect("live");
    assert!(bytes.iter().all(|byte| *byte == 0));

    // Unmapped and mapped again, it is zero again.
    let base = memory.address(id).expect("live");
    memory.write_bytes(id, 4090, b"not zero").expect("inside");
    assert_eq!(munmap(&mut memory, base, 5000).expect("whole"), id);
    assert_eq!(
        memory.get(id).expect("known").freed(),
        Some(Freer::Unmapped)
    );
    let again = mmap(&mut memory, &call(8192)).expect("room");
    let bytes = memory.read_init(again, 0..8192).expect("live");
    assert!(bytes.iter().all(|byte| *byte == 0));
}

#[test]
fn the_host_view_is_the_same_mapping() {
    let mut memory = memory();
    let id = mmap(&mut memory, &call(1)).expect("room");
    let host = memory
        .address_in(id, crate::arena::View::Host)
        .expect("live");
    assert_eq!(munmap(&mut memory, host, PAGE).expect("whole"), id);
}

#[test]
fn what_the_kernel_would_refuse() {
    let mut memory = memory();
    let mut fails = |call: MmapCall, expected: i32| {
        let error = mmap(&mut memory, &call).expect_err("refused");
        assert_eq!(errno(&error), Some(expected), "{error}");
        error
    };
    assert!(matches!(fails(call(0), libc::EINVAL), MmapError::Empty));
    for flags in [MAP_ANONYMOUS, MAP_ANONYMOUS | MAP_PRIVATE | MAP_SHARED] {
        let error = fails(MmapCall { flags, ..call(1) }, libc::EINVAL);
        assert!(matches!(error, MmapError::Sharing));
    }
    for length in [u64::MAX, u64::MAX - 4094, i64::MAX as u64] {
        let error = fails(call(length), libc::EINVAL);
        assert!(matches!(error, MmapError::TooLong(_)), "{length}");
    }
    let error = fails(call(MAX_SIZE + 1), libc::ENOMEM);
    assert!(matches!(error, MmapError::NoMemory { .. }));
    assert_eq!(memory.allocations().len(), 0, "nothing was mapped");
}

#[test]
fn what_is_not_supported_has_a_name() {
    let mut memory = memory();
    let anonymous = MAP_PRIVATE | MAP_ANONYMOUS;
    let with_flags = |flags| MmapCall { flags, ..call(1) };
    let with_prot = |prot| MmapCall { prot, ..call(1) };
    let cases = [
        (with_flags(anonymous | MAP_FIXED), Unsupported::Fixed),
        (
            with_flags(anonymous | MAP_FIXED_NOREPLACE),
            Unsupported::Fixed,
        ),
        (with_flags(MAP_PRIVATE), Unsupported::File(-1)),
        (MmapCall { fd: 3, ..call(1) }, Unsupported::File(3)),
        (
            with_flags(MAP_SHARED | MAP_ANONYMOUS),
            Unsupported::Flags(MAP_SHARED | MAP_ANONYMOUS),
        ),
        (
            with_flags(anonymous | libc::MAP_NORESERVE),
            Unsupported::Flags(anonymous | libc::MAP_NORESERVE),
        ),
        (with_prot(PROT_READ), Unsupported::Protection(PROT_READ)),
        (with_prot(0), Unsupported::Protection(0)),
        (with_prot(7), Unsupported::Protection(7)),
        (
            MmapCall {
                offset: 4096,
                ..call(1)
            },
            Unsupported::Offset(4096),
        ),
    ];
    for (call, expected) in cases {
        let error = mmap(&mut memory, &call).expect_err("refused");
        assert_eq!(error.fate(), Fate::Unsupported);
        assert!(error.to_string().contains("not supported"), "{error}");
        match error {
            MmapError::Unsupported(found) => assert_eq!(found, expected),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn unmapping_as_the_kernel_would_refuse() {
    let mut memory = memory();
    let id = mmap(&mut memory, &call(PAGE)).expect("room");
    let base = memory.address(id).expect("live");
    for (addr, length) in [
        (base + 1, PAGE),
        (base + 8, 0),
        (base, 0),
        (base, u64::MAX),
        (u64::MAX - 4095, PAGE),
    ] {
        let error = munmap(&mut memory, addr, length).expect_err("refused");
        assert_eq!(error.fate(), Fate::Errno(libc::EINVAL), "{error}");
    }
    assert!(memory.get(id).expect("known").is_live());
}

#[test]
fn unmapping_what_is_not_a_mapping_is_undefined() {
    let mut memory = memory();
    let id = mmap(&mut memory, &call(3 * PAGE)).expect("room");
    let base = memory.address(id).expect("live");
    let heap = memory
        .allocate(&AllocRequest {
            name: Some("heap"),
            size: PAGE,
            align: PAGE,
            init: Init::Uninit,
            ..AllocRequest::default()
        })
        .expect("room");
    let heap = memory.address(heap).expect("live");
    let mut undefined = |addr: u64, length: u64, says: &str| {
        let error = munmap(&mut memory, addr, length).expect_err("undefined");
        let Fate::Undefined(violation) = error.fate() else {
            panic!("{error:?}")
        };
        assert_eq!(violation.kind, ViolationKind::InvalidFree);
        assert!(violation.message.contains(says), "{}", violation.message);
        *violation
    };
    let part = undefined(
        base,
        PAGE,
        "a part of the mapping allocation #0 (12288 bytes)",
    );
    assert_eq!((part.allocation, part.offset), (Some(id), Some(0)));
    let part = undefined(base + PAGE, 2 * PAGE, "a part of the mapping");
    assert_eq!(part.offset, Some(4096));
    undefined(base, 4 * PAGE, "more than the mapping");
    undefined(base - PAGE, 2 * PAGE, "more than the mapping");
    undefined(
        heap,
        PAGE,
        "`heap` (4096 bytes) is no mapping, but heap memory",
    );
    undefined(0x10_0000, PAGE, "where nothing is mapped");
    munmap(&mut memory, base, 3 * PAGE).expect("whole");
    let error = munmap(&mut memory, base, 3 * PAGE).expect_err("twice");
    assert!(
        error.to_string().ends_with("was freed already by munmap"),
        "{error}"
    );
    let late = memory.resolve(Pointer::to(id, base), 1).expect_err("freed");
    assert!(late.to_string().ends_with("was freed by munmap"), "{late}");
}
