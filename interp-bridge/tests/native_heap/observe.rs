//! The real heap, observed.

use interp_bridge::memory::AllocKind;

use super::arena::{cpp_mismatches, wrong_frees_of};
use super::*;

fn observe(fixture: &'static Fixture, body: impl FnMut(&Case)) {
    each(fixture, NativeHeapMode::Observe, body);
}

#[test]
fn what_is_right_is_right() {
    observe(c(), |case| {
        assert_eq!(case.clean("fine", 0), 45);
        assert_eq!(case.clean("resize", 0), 3);
        assert_eq!(case.clean("strings", 0), 1);
        assert_eq!(case.clean("zeroed", 0), 1);
        assert_eq!(case.clean("aligned", 0), 1);
        assert_eq!(case.clean("none", 0), 2);
        assert_eq!(case.clean("libcs_own", 0), 1);
        assert_eq!(case.clean("threads", 0), 1);
        assert_eq!(case.clean("huge", 0), 2);
        assert_eq!(case.watch.live().len(), 1, "{:?}", case.watch.live());
    });
}

#[test]
fn what_is_handed_over_is_the_interpreters_to_read() {
    observe(c(), |case| {
        let address = case.clean("leak", 0) as u64;
        let block = case.watch.containing(address + 2).expect("registered");
        assert_eq!((block.base, block.size), (address, 5));
        let mut memory = case.bridge.memory();
        let id = block.id.expect("an allocation");
        let record = memory.get(id).expect("known");
        assert_eq!(record.kind(), AllocKind::NativeHeap);
        assert!(record.is_external());
        assert_eq!(memory.read_bytes(id, 0..5).expect("readable"), b"kept\0");
        memory.write_bytes(id, 0, b"K").expect("writable");
        assert!(memory.read_bytes(id, 4..6).is_err());
    });
}

#[test]
fn wrong_frees() {
    observe(c(), wrong_frees_of);
    observe(cpp(), cpp_mismatches);
}

#[test]
fn cpp_that_is_right() {
    observe(cpp(), |case| {
        assert_eq!(case.clean("containers", 0), 1225);
        assert_eq!(case.clean("operators", 0), 2);
        assert_eq!(case.clean("exceptions", 0), 3);
        assert_eq!(case.watch.totals().live, 0, "{:?}", case.watch.live());
    });
}

#[test]
fn mappings() {
    observe(c(), |case| {
        let base = case.clean("maps", 0) as u64;
        let memory = case.bridge.memory();
        let map = memory.external_at(base + 4096).expect("registered");
        assert_eq!((map.size(), map.kind()), (2 * 4096, AllocKind::Mmap));
        assert!(memory.external_at(base).is_none());
        assert_eq!(memory.read_bytes(map.id(), 0..1).expect("readable"), [3]);
    });
}

#[test]
fn nothing_is_left_behind() {
    let _turn = turn();
    let mut bridge = Bridge::new(Some(Backend::Inproc)).expect("a bridge");
    for _ in 0..3 {
        let watch = NativeHeapWatch::begin(&bridge, &[&c().path], NativeHeapMode::Observe);
        let case = Case {
            watch: watch.expect("a watch"),
            bridge,
            fixture: c(),
        };
        case.clean("leak", 0);
        case.clean("maps", 0);
        case.clean("pairs", 100);
        assert_eq!(case.bridge.memory().externals().count(), 2);
        let Case {
            watch,
            bridge: last,
            ..
        } = case;
        drop(watch);
        assert_eq!(last.memory().externals().count(), 0);
        bridge = last;
    }
}

#[test]
fn many_pairs() {
    observe(c(), |case| {
        case.clean("pairs", 100_000);
        assert_eq!(case.watch.totals().frees, 100_000);
        assert!(case.bridge.memory().allocations().len() < 10_000);
    });
}
