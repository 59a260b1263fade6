//! What native code does to pointers in the interpreter's memory, recorded and not.
//!
//! Signal handlers belong to the process, so these tests take turns. A recorder that this
//! process may not use is left out by name.
//!
//! # Safety
//! Native code here is functions of this file, which get the addresses that they expect.
#![allow(unsafe_code)]

mod common;

use std::{
    ffi::c_void,
    sync::{Mutex, PoisonError},
};

use interp_bridge::{
    bridge::Bridge,
    memory::{AllocId, AllocRequest, Init, MemoryError, Pointer, Provenance},
};
use tracer_user::backend::Backend;

use common::{ALL, Native, TRACED, each};
/// Calls `f` with the address of an allocation, which is thereby exposed.
fn call(bridge: &Bridge, f: Native, id: AllocId) {
    bridge.memory().expose(id).expect("known");
    let address = bridge.address(id).expect("known");
    let outcome = common::call(bridge, f, address as *mut c_void);
    assert!(outcome.returned && outcome.stats.complete(), "{outcome:?}");
    let memory = bridge.memory();
    let found = memory.violations().entries();
    assert!(found.is_empty(), "{found:?}");
}

fn allocate(bridge: &Bridge, name: &str, init: Init<'_>) -> AllocId {
    let request = AllocRequest {
        name: Some(name),
        size: 16,
        align: 16,
        init,
        ..AllocRequest::default()
    };
    bridge.memory().allocate(&request).expect("room")
}

/// Stores a pointer to `to` in `at`, as native code would use it.
fn link(bridge: &Bridge, at: AllocId, offset: u64, to: AllocId) -> Pointer {
    let pointer = Pointer::to(to, bridge.address(to).expect("known"));
    let mut memory = bridge.memory();
    memory.write_pointer(at, offset, pointer).expect("inside");
    pointer
}

#[repr(C)]
struct Node {
    next: *mut Node,
    value: u64,
}

/// Adds the value of the second node to that of the first.
unsafe extern "C" fn add_second(list: *mut c_void) {
    let list = list.cast::<Node>();
    // SAFETY: the tests give it a list of at least two nodes.
    unsafe {
        let second = (&raw const (*list).next).read_volatile();
        let value = (&raw const (*second).value).read_volatile();
        let sum = (&raw const (*list).value).read_volatile() + value;
        (&raw mut (*list).value).write_volatile(sum);
    }
}

/// Exchanges two pointers.
unsafe extern "C" fn swap(pair: *mut c_void) {
    let pair = pair.cast::<*mut c_void>();
    // SAFETY: the tests give it two words.
    unsafe {
        let (first, second) = (pair.read_volatile(), pair.add(1).read_volatile());
        pair.write_volatile(second);
        pair.add(1).write_volatile(first);
    }
}

/// Where `keep` keeps what it was given.
static KEPT: Mutex<usize> = Mutex::new(0);

unsafe extern "C" fn keep(pointer: *mut c_void) {
    *KEPT.lock().unwrap_or_else(PoisonError::into_inner) = pointer as usize;
}

/// Stores what `keep` was given in the first word.
unsafe extern "C" fn give_back(to: *mut c_void) {
    let kept = *KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: the tests give it a word.
    unsafe { to.cast::<usize>().write_volatile(kept) };
}

/// Writes bytes 1 to 3.
unsafe extern "C" fn write_two(to: *mut c_void) {
    // SAFETY: the tests give it sixteen bytes.
    unsafe {
        to.cast::<u8>().add(1).write_volatile(1);
        to.cast::<u8>().add(2).write_volatile(2);
    }
}

#[test]
fn a_call_exposes_what_it_reads_and_no_more() {
    each(TRACED, |bridge| {
        let [a, b, c] = ["a", "b", "c"].map(|name| allocate(&bridge, name, Init::Zeroed));
        link(&bridge, a, 0, b);
        let kept = link(&bridge, b, 0, c);
        call(&bridge, add_second, a);
        let memory = bridge.memory();
        assert_eq!(memory.exposed().collect::<Vec<_>>(), [a, b], "not `c`");
        assert_eq!(memory.read_pointer(b, 0).expect("there"), kept);
        let hidden = address(&memory, c);
        assert!(memory.with_exposed_provenance(hidden).is_err());
        let given = address(&memory, b);
        assert!(memory.with_exposed_provenance(given).is_ok());
    });
}

fn address(memory: &interp_bridge::memory::Memory, id: AllocId) -> u64 {
    memory.address(id).expect("known")
}

#[test]
fn swapped_pointers_lead_where_they_should() {
    // Without a record, both are reachable from the argument, so both may have been read.
    each(ALL, |bridge| {
        let [pair, a, b] = ["pair", "a", "b"].map(|name| allocate(&bridge, name, Init::Zeroed));
        let apart = allocate(&bridge, "apart", Init::Zeroed);
        link(&bridge, pair, 0, a);
        link(&bridge, pair, 8, b);
        call(&bridge, swap, pair);
        let memory = bridge.memory();
        for (offset, expected) in [(0, b), (8, a)] {
            let pointer = memory.read_pointer(pair, offset).expect("written");
            assert_eq!(pointer.provenance, Provenance::Wildcard);
            assert_eq!(memory.resolve(pointer, 16), Ok((expected, 0)));
        }
        assert!(!memory.get(apart).expect("live").is_exposed());
        assert!(memory.get(apart).expect("live").wildcard().is_empty());
    });
}

#[test]
fn a_pointer_that_native_code_kept_comes_back() {
    each(ALL, |bridge| {
        let kept = allocate(&bridge, "kept", Init::Zeroed);
        let word = allocate(&bridge, "word", Init::Uninit);
        call(&bridge, keep, kept);
        call(&bridge, give_back, word);
        let memory = bridge.memory();
        let pointer = memory.read_pointer(word, 0).expect("written");
        assert_eq!(memory.resolve(pointer, 16), Ok((kept, 0)));
    });
}

#[test]
fn what_a_call_did_not_initialise_may_not_be_read() {
    each(TRACED, |bridge| {
        let id = allocate(&bridge, "u", Init::Uninit);
        call(&bridge, write_two, id);
        let memory = bridge.memory();
        assert_eq!(memory.read_scalar(id, 1, 2).expect("written"), 0x201);
        let error = memory.read_scalar(id, 0, 4).expect_err("in part");
        assert!(
            matches!(&error, MemoryError::Uninit { uninit, .. } if *uninit == (0..1)),
            "{error}"
        );
    });
    // Nobody knows: all of it may be.
    each(&[Backend::None], |bridge| {
        let id = allocate(&bridge, "u", Init::Uninit);
        call(&bridge, write_two, id);
        let memory = bridge.memory();
        assert!(memory.read_init(id, 0..16).is_ok());
        assert!(
            memory.get(id).expect("live").init().is_empty(),
            "not for sure"
        );
    });
}
