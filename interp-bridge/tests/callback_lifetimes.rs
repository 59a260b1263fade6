//! Callbacks and bridges that go while threads of native code still call.
//!
//! # Safety
//! Native code here is functions of this file and of libc, which get a callback's address; that
//! it is freed meanwhile is what the tests are about.
#![allow(unsafe_code)]

mod common;

use std::{
    ffi::c_void,
    ptr::null,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use common::{ALL, TRACED, call, each, if_possible, turn};
use interp_bridge::{
    bridge::Bridge,
    callback::{Leave, QUARANTINE},
    memory::ViolationKind,
};

extern "C" fn call_back(f: *mut c_void) -> *mut c_void {
    // SAFETY: the address is that of a callback without arguments.
    unsafe { std::mem::transmute::<*mut c_void, extern "C" fn()>(f)() };
    std::ptr::null_mut()
}

extern "C" fn call_back_later(f: *mut c_void) -> *mut c_void {
    // SAFETY: always.
    unsafe { libc::usleep(50_000) };
    call_back(f)
}

/// Starts a thread that calls back a little later, when the call is over.
unsafe extern "C" fn call_later(data: *mut c_void) {
    // SAFETY: the thread stays in the callback, or ends by itself.
    unsafe {
        let mut thread = std::mem::zeroed();
        let f = *data.cast::<*mut c_void>();
        libc::pthread_create(&raw mut thread, null(), call_back_later, f);
        libc::pthread_detach(thread);
    }
}

/// Starts a thread that calls back, and waits for it.
unsafe extern "C" fn call_on_a_thread(data: *mut c_void) {
    // SAFETY: the thread has ended when this returns.
    unsafe {
        let mut thread = std::mem::zeroed();
        let f = *data.cast::<*mut c_void>();
        libc::pthread_create(&raw mut thread, null(), call_back, f);
        libc::pthread_join(thread, std::ptr::null_mut());
    }
}

unsafe extern "C" fn sleep_long(_: *mut c_void) {
    // SAFETY: always.
    unsafe { libc::usleep(2_000_000) };
}

unsafe extern "C" fn do_nothing(_: *mut c_void) {}

/// Has a thread call back between two calls: it waits for its turn afterwards.
fn make_a_thread_wait(bridge: &Bridge, address: u64) {
    let mut address = address;
    assert!(call(bridge, call_later, &raw mut address).returned);
    std::thread::sleep(Duration::from_millis(200));
}

#[test]
fn one_that_is_freed_while_a_thread_waits_does_not_run() {
    // Without a recorder threads of native code do not wait between calls.
    each(TRACED, |bridge| {
        let ran = AtomicBool::new(false);
        let look = bridge.closure(|| ran.store(true, Ordering::SeqCst));
        make_a_thread_wait(&bridge, look.address());
        drop(look);
        let outcome = call(&bridge, sleep_long, std::ptr::null_mut::<()>());
        assert!(!ran.load(Ordering::SeqCst));
        let backend = bridge.backend();
        let freed = matches!(outcome.left, Some(Leave::Freed));
        assert!(freed, "{backend}: {outcome:?}");
        let memory = bridge.memory();
        let entries = memory.violations().entries();
        assert_eq!(entries[0].violation.kind, ViolationKind::FreedCallback);
    });
}

#[test]
fn a_bridge_may_go_while_a_thread_waits() {
    let _turn = turn();
    for backend in TRACED {
        let Some(bridge) = if_possible(*backend, Bridge::new(Some(*backend))) else {
            continue;
        };
        let look = bridge.closure(|| ());
        make_a_thread_wait(&bridge, look.address());
        drop(bridge);
        let next = Bridge::new(Some(*backend)).expect("the session before is over");
        assert!(call(&next, do_nothing, std::ptr::null_mut::<()>()).returned);
        drop(look);
    }
}

#[test]
fn one_that_was_freed_long_ago_is_reported_on_a_thread_too() {
    each(ALL, |bridge| {
        let mut address = bridge.closure(|| ()).address();
        for _ in 0..QUARANTINE + 10 {
            drop(bridge.closure(|| ()));
        }
        let outcome = call(&bridge, call_on_a_thread, &raw mut address);
        assert!(!outcome.returned);
        let freed = matches!(outcome.left, Some(Leave::Freed));
        assert!(freed, "{}: {outcome:?}", bridge.backend());
        assert_eq!(outcome.violations, 1);
    });
}
