//! The bridge as an interpreter uses it: memory, calls, and sessions one after the other.
//!
//! Signal handlers belong to the process, so these tests take turns. A recorder that this
//! process may not use is left out by name; the tests of the command line insist on it.
//!
//! # Safety
//! Native code here is functions of this file, which get the addresses that they expect; what
//! they do wrong on purpose stays inside the arena.
#![allow(unsafe_code)]

use std::{
    ffi::c_void,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use interp_bridge::{
    bridge::{Bridge, BridgeError, CallOptions, CallOutcome},
    memory::{AllocId, AllocRequest, Init, ViolationKind},
};
use tracer_user::{backend::Backend, session::SessionError};

static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A bridge with each traced recorder that can be had here.
fn each(mut body: impl FnMut(Bridge)) {
    let _turn = turn();
    for backend in [Backend::Inproc, Backend::Ptrace, Backend::Ebpf] {
        match Bridge::new(Some(backend)) {
            Ok(bridge) => body(bridge),
            Err(BridgeError::Session(SessionError::Backend(why))) if backend != Backend::Inproc => {
                eprintln!("{backend} is left out: {why}");
            }
            Err(error) => panic!("{backend}: {error}"),
        }
    }
}

fn allocate(bridge: &Bridge, size: u64, init: Init<'_>, mutable: bool) -> AllocId {
    let request = AllocRequest {
        name: Some("buffer"),
        size,
        align: 16,
        init,
        mutable,
    };
    bridge.memory().allocate(&request).expect("an allocation")
}

fn call(
    bridge: &mut Bridge,
    f: unsafe extern "C" fn(*mut c_void),
    data: *mut c_void,
) -> CallOutcome {
    // SAFETY: each test gives its function the data that it expects; none of them owns anything.
    unsafe {
        bridge.call(
            f,
            data,
            CallOptions {
                timeout: Some(Duration::from_secs(20)),
            },
        )
    }
    .expect("a call")
}

/// Copies the first four bytes to the next four.
unsafe extern "C" fn copy_word(at: *mut c_void) {
    let at = at.cast::<u32>();
    // SAFETY: the tests give it eight bytes of arena memory, live or freed.
    unsafe { at.add(1).write_volatile(at.read_volatile()) };
}

unsafe extern "C" fn read_null(_: *mut c_void) {
    let null = std::hint::black_box(std::ptr::null::<u32>());
    // SAFETY: not sound, on purpose: the session ends the call at the fault.
    let _ = unsafe { std::ptr::read_volatile(null) };
}

#[test]
fn sees_what_a_call_does() {
    each(|mut bridge| {
        let id = allocate(&bridge, 12, Init::Uninit, true);
        bridge
            .memory()
            .write_bytes(id, 0, &[1, 2, 3, 4])
            .expect("writable");
        let address = bridge.address(id).expect("an address");
        let outcome = call(&mut bridge, copy_word, address as *mut c_void);
        assert!(outcome.returned && outcome.stats.complete(), "{outcome:?}");
        let memory = bridge.memory();
        let allocation = memory.get(id).expect("known");
        assert_eq!(allocation.read().ranges().collect::<Vec<_>>(), vec![0..4]);
        assert_eq!(
            allocation.written().ranges().collect::<Vec<_>>(),
            vec![4..8]
        );
        assert_eq!(allocation.init().ranges().collect::<Vec<_>>(), vec![0..8]);
        assert_eq!(memory.read_bytes(id, 4..8).expect("readable"), [1, 2, 3, 4]);
        assert!(memory.violations().is_empty());
    });
}

#[test]
fn a_dangling_pointer_is_named() {
    each(|mut bridge| {
        let id = allocate(&bridge, 8, Init::Zeroed, true);
        let address = bridge.address(id).expect("an address");
        bridge.memory().free(id).expect("live");
        let outcome = call(&mut bridge, copy_word, address as *mut c_void);
        assert!(outcome.returned);
        let memory = bridge.memory();
        let found = memory.violations().entries();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().all(|entry| {
            entry.violation.kind == ViolationKind::UseAfterFree
                && entry.violation.allocation_name.as_deref() == Some("buffer")
        }));
        assert_eq!(
            [found[0].violation.offset, found[1].violation.offset],
            [Some(0), Some(4)]
        );
    });
}

#[test]
fn a_crash_ends_the_call_and_not_the_session() {
    each(|mut bridge| {
        let outcome = call(&mut bridge, read_null, std::ptr::null_mut());
        assert!(!outcome.returned);
        assert_eq!(
            bridge.memory().violations().entries()[0].violation.kind,
            ViolationKind::WildAccess
        );
        bridge.memory().violations_mut().clear();
        let id = allocate(&bridge, 8, Init::Zeroed, true);
        let address = bridge.address(id).expect("an address");
        let outcome = call(&mut bridge, copy_word, address as *mut c_void);
        assert!(outcome.returned && outcome.stats.events == 2, "{outcome:?}");
        assert!(bridge.memory().violations().is_empty());
    });
}

#[test]
fn many_calls_and_sessions_leave_nothing_behind() {
    for _ in 0..5 {
        each(|mut bridge| {
            let id = allocate(&bridge, 8, Init::Zeroed, true);
            let address = bridge.address(id).expect("an address");
            for _ in 0..50 {
                let outcome = call(&mut bridge, copy_word, address as *mut c_void);
                assert_eq!((outcome.stats.emitted, outcome.stats.events), (2, 2));
                assert!(outcome.stats.complete());
            }
        });
    }
    let children = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    assert_eq!(children.trim(), "", "a supervisor was left behind");
}

#[test]
fn one_session_at_a_time() {
    let _turn = turn();
    let first = Bridge::new(Some(Backend::Inproc)).expect("a session");
    let second = Bridge::new(Some(Backend::Inproc)).err().expect("refused");
    assert!(second.to_string().contains("session already"), "{second}");
    drop(first);
    Bridge::new(Some(Backend::Inproc)).expect("a session again");
}
