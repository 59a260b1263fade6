//! How violations are counted and named.

use super::*;

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
        (ViolationKind::UninitRead, "uninit_read"),
        (ViolationKind::InvalidFree, "invalid_free"),
        (ViolationKind::DoubleFree, "double_free"),
        (ViolationKind::MismatchedFree, "mismatched_free"),
        (ViolationKind::NativeCrash, "native_crash"),
        (ViolationKind::Timeout, "timeout"),
    ] {
        assert_eq!(serde_json::to_value(kind).expect("a string"), name);
        assert_eq!(kind.to_string(), name);
    }
}
