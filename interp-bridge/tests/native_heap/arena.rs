//! The heap in the arena: every byte of it is recorded.

use super::*;

fn arena(fixture: &'static Fixture, body: impl FnMut(&Case)) {
    each(fixture, NativeHeapMode::Arena, body);
}

#[test]
fn what_is_right_is_right() {
    arena(c(), |case| {
        assert_eq!(case.clean("fine", 0), 45);
        assert_eq!(case.clean("resize", 0), 3);
        assert_eq!(case.clean("strings", 0), 1);
        assert_eq!(case.clean("zeroed", 0), 1);
        assert_eq!(case.clean("aligned", 0), 1);
        assert_eq!(case.clean("none", 0), 2);
        assert_eq!(case.clean("libcs_own", 0), 1);
        let live = case.watch.live();
        // Only `aligned` leaks, a block of one byte.
        assert_eq!(live.len(), 1, "{live:?}");
        assert_eq!(live[0].size, 1);
        let totals = case.watch.totals();
        assert_eq!(totals.allocations, totals.frees + 1);
        assert_eq!(totals.live_bytes, 1);
    });
}

#[test]
fn an_overrun_by_one_byte() {
    arena(c(), |case| {
        let found = case.wrong("overrun", ViolationKind::OutOfBounds).violation;
        assert_eq!((found.offset, found.size), (Some(10), 1));
        assert!(found.message.contains("10 bytes from malloc"), "{found:?}");
        let block = case.watch.find(found.allocation.expect("an allocation"));
        let block = block.expect("known");
        assert_eq!(block.size, 10);
        assert!(block.freed.is_some());
    });
}

#[test]
fn uses_after_free() {
    arena(c(), |case| {
        let found = case.wrong("use_after_free", ViolationKind::UseAfterFree);
        assert_eq!(found.violation.offset, Some(3));
        assert!(
            found.violation.message.contains("freed by native code"),
            "{found:?}"
        );
        let found = case.wrong("use_old_pointer", ViolationKind::UseAfterFree);
        assert_eq!(found.violation.offset, Some(1));
    });
}

#[test]
fn wrong_frees() {
    arena(c(), wrong_frees_of);
}

/// The same on either heap.
pub(super) fn wrong_frees_of(case: &Case) {
    let found = case
        .wrong("double_free", ViolationKind::DoubleFree)
        .violation;
    assert!(
        found.message.contains("malloc in double_free+"),
        "{found:?}"
    );
    assert!(
        found
            .message
            .contains("freed already by free in double_free+"),
        "{found:?}"
    );
    assert!(found.message.contains("heap.c:"), "{found:?}");
    // SAFETY: a symbol of the fixture.
    let start = *unsafe { case.fixture.library.get::<Native>("double_free") }.expect("there");
    let range = start as usize as u64..start as usize as u64 + 256;
    assert!(range.contains(&found.ip), "{found:?}");
    let found = case
        .wrong("free_inside", ViolationKind::InvalidFree)
        .violation;
    assert_eq!(found.offset, Some(8));
    let found = case
        .wrong("free_static", ViolationKind::InvalidFree)
        .violation;
    assert!(found.message.contains("data of heap.c.so"), "{found:?}");
    let found = case
        .wrong("free_stack", ViolationKind::InvalidFree)
        .violation;
    assert!(found.message.contains("stack"), "{found:?}");
}

#[test]
fn a_free_of_the_interpreters() {
    arena(c(), |case| {
        let request = AllocRequest {
            name: Some("buffer"),
            size: 32,
            align: 16,
            init: Init::Zeroed,
            ..AllocRequest::default()
        };
        let id = case.bridge.memory().allocate(&request).expect("memory");
        let address = case.bridge.address(id).expect("an address");
        case.call("free_interpreters", address as i64);
        let found = case.violations().remove(0).violation;
        assert_eq!(found.kind, ViolationKind::InvalidFree);
        assert_eq!(found.allocation_name.as_deref(), Some("buffer"));
        assert!(case.bridge.memory().get(id).expect("known").is_live());
    });
}

#[test]
fn what_is_handed_over_is_reached_by_its_address() {
    arena(c(), |case| {
        let address = case.call("leak", 0) as u64;
        let memory = case.bridge.memory();
        let pointer = memory.with_exposed_provenance(address).expect("known");
        let (id, offset) = memory.resolve(pointer, 5).expect("inside");
        assert_eq!(offset, 0);
        assert_eq!(memory.read_bytes(id, 0..5).expect("there"), b"kept\0");
    });
}

#[test]
fn threads_in_parallel() {
    arena(c(), |case| {
        assert_eq!(case.clean("threads", 0), 1);
        let totals = case.watch.totals();
        assert_eq!((totals.allocations, totals.live), (1600, 0));
    });
}

#[test]
fn children_and_handlers() {
    arena(c(), |case| {
        assert_eq!(case.clean("forks", 0), 1);
        assert_eq!(case.clean("in_handler", 0), 1);
        assert_eq!(case.watch.totals().live, 0);
    });
}

#[test]
fn a_crash_ends_the_call_and_not_the_heap() {
    arena(c(), |case| {
        let found = case.crash("crash");
        assert_eq!(found.kind, ViolationKind::WildAccess);
        assert_eq!(case.watch.live().len(), 1);
        assert_eq!(case.clean("fine", 0), 45);
        assert_eq!(case.clean("threads", 0), 1);
    });
}

#[test]
fn what_is_freed_is_used_again() {
    arena(c(), |case| {
        let pairs = 100_000;
        case.clean("pairs", pairs);
        let segments = case.bridge.memory().arena().views().segments();
        assert_eq!(segments, 1);
        assert_eq!(case.watch.totals().frees, pairs as u64);
        assert!(case.bridge.memory().allocations().len() < 70_000);
    });
}

#[test]
fn what_is_not_freed_is_listed() {
    arena(c(), |case| {
        let address = case.clean("leak", 0) as u64;
        let live = case.watch.live();
        assert_eq!(live.len(), 1);
        assert_eq!((live[0].base, live[0].size), (address, 5));
        assert_eq!(live[0].made.function.name(), "strdup");
        let memory = case.bridge.memory();
        let id = live[0].id.expect("an allocation");
        assert_eq!(memory.read_bytes(id, 0..5).expect("readable"), b"kept\0");
        assert_eq!(memory.get(id).expect("known").init().count(), 5);
    });
}

#[test]
fn the_interpreter_gives_back() {
    for mode in [NativeHeapMode::Arena, NativeHeapMode::Observe] {
        each(c(), mode, |case| {
            let address = case.clean("leak", 0) as u64;
            let refused = case.watch.release(address + 1).expect_err("inside");
            assert!(refused.to_string().contains("inside `heap#1`"), "{refused}");
            case.watch.release(address).expect("live");
            assert_eq!(case.watch.totals().live, 0);
            let refused = case.watch.release(address).expect_err("freed");
            assert_eq!(refused.to_string(), "`heap#1` was given back already");
            assert!(case.watch.release(0x1000).is_err());
            // Native code may not do so again.
            case.call("free_interpreters", address as i64);
            let found = case.violations().remove(0).violation;
            assert_eq!(found.kind, ViolationKind::DoubleFree);
            assert!(found.message.ends_with("freed already by the interpreter"));
        });
    }
}

#[test]
fn what_the_arena_does_not_take() {
    arena(c(), |case| {
        assert_eq!(case.clean("huge", 0), 2);
        assert_eq!(case.watch.totals().live, 0);
    });
}

#[test]
fn cpp() {
    arena(super::cpp(), |case| {
        let coverage = case.watch.coverage();
        let names: Vec<_> = coverage
            .objects
            .iter()
            .map(|(path, _)| path.display().to_string())
            .collect();
        assert!(
            names.iter().any(|name| name.contains("libstdc++")),
            "{names:?}"
        );
        assert_eq!(case.clean("containers", 0), 1225);
        assert_eq!(case.clean("operators", 0), 2);
        assert_eq!(case.clean("exceptions", 0), 3);
        assert_eq!(case.watch.totals().live, 0, "{:?}", case.watch.live());
        cpp_mismatches(case);
    });
}

/// The same on either heap.
pub(super) fn cpp_mismatches(case: &Case) {
    for (name, words) in [
        ("free_of_new", "free of `heap#"),
        (
            "delete_of_malloc",
            "what malloc makes is given back by free",
        ),
        ("delete_of_array", "is given back by operator delete[]"),
        ("delete_as_other_type", "as if it had 16 bytes"),
    ] {
        let found = case.wrong(name, ViolationKind::MismatchedFree).violation;
        assert!(found.message.contains(words), "{name}: {found:?}");
    }
}

#[test]
fn one_heap_at_a_time_and_none_afterwards() {
    arena(c(), |case| {
        let second = NativeHeapWatch::begin(&case.bridge, &[&c().path], NativeHeapMode::Observe);
        assert!(
            second
                .err()
                .expect("refused")
                .to_string()
                .contains("watched already")
        );
    });
    let _turn = turn();
    let bridge = Bridge::new(Some(Backend::Inproc)).expect("a bridge");
    let watch =
        NativeHeapWatch::begin(&bridge, &[&c().path], NativeHeapMode::Arena).expect("again");
    drop(watch);
    let nowhere = NativeHeapWatch::begin(&bridge, &[Path::new("/nowhere")], NativeHeapMode::Arena);
    assert!(
        nowhere
            .err()
            .expect("refused")
            .to_string()
            .contains("not loaded")
    );
    let other = [super::cpp().path.as_path()];
    let watch = NativeHeapWatch::begin(&bridge, &other, NativeHeapMode::Arena);
    let case = Case {
        watch: watch.expect("after a failure"),
        bridge,
        fixture: c(),
    };
    // Not this one's heap: it goes to libc, unseen.
    assert_eq!(case.clean("fine", 0), 45);
    assert_eq!(case.watch.totals().allocations, 0);
}
