//! Callbacks, as native code calls them: sorted by, nested, on other threads, freed, panicking.
//!
//! Signal handlers belong to the process, so these tests take turns.
//!
//! # Safety
//! Native code here is functions of this file and of libc, which get the addresses and callbacks
//! that they expect; what they do wrong on purpose is what the tests are about.
#![allow(unsafe_code)]

mod common;

use std::{
    cell::Cell,
    ffi::c_void,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use interp_bridge::{
    bridge::Bridge,
    callback::{Leave, stop},
    memory::{AllocId, AllocRequest, Init, ViolationKind},
};
use tracer_user::backend::Backend;

use common::{ALL, buffer_of, call};

/// A bridge with each recorder that can be had here.
fn each(mut body: impl FnMut(&Bridge)) {
    common::each(ALL, |bridge| body(&bridge));
}

fn words(bridge: &Bridge, values: &[i32]) -> AllocId {
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    buffer_of(bridge, &bytes)
}

fn values(bridge: &Bridge, id: AllocId) -> Vec<i32> {
    let memory = bridge.memory();
    let size = memory.get(id).expect("known").size();
    let bytes = memory.read_bytes(id, 0..size).expect("live");
    let words = bytes.chunks_exact(4);
    words
        .map(|word| i32::from_le_bytes(word.try_into().expect("four")))
        .collect()
}

/// The offset in `id` of an address that native code handed over.
fn word_at(bridge: &Bridge, id: AllocId, address: *const i32) -> i32 {
    let base = bridge.address(id).expect("live");
    let offset = address as u64 - base;
    let bytes = bridge
        .memory()
        .read_bytes(id, offset..offset + 4)
        .expect("inside");
    i32::from_le_bytes(bytes.try_into().expect("four"))
}

type Compare = unsafe extern "C" fn(*const i32, *const i32) -> i32;

#[repr(C)]
struct Sort {
    base: u64,
    len: usize,
    compare: Compare,
}

unsafe extern "C" fn sort(data: *mut c_void) {
    type Generic = unsafe extern "C" fn(*const c_void, *const c_void) -> i32;
    // SAFETY: the tests give it a `Sort` of live arena memory.
    unsafe {
        let sort = &*data.cast::<Sort>();
        let compare: Generic = std::mem::transmute(sort.compare);
        libc::qsort(sort.base as *mut c_void, sort.len, 4, Some(compare));
    }
}

#[test]
fn qsort_compares_by_the_interpreter() {
    each(|bridge| {
        let mut expected: Vec<i32> = (0..500).map(|i| i * 7919 % 1009 - 500).collect();
        let id = words(bridge, &expected);
        let calls = AtomicU32::new(0);
        let compare = bridge.closure(|a: *const i32, b: *const i32| -> i32 {
            calls.fetch_add(1, Ordering::Relaxed);
            word_at(bridge, id, a).cmp(&word_at(bridge, id, b)) as i32
        });
        let mut data = Sort {
            base: bridge.address(id).expect("live"),
            len: expected.len(),
            compare: compare.pointer(),
        };
        let outcome = call(bridge, sort, &mut data);
        assert!(outcome.returned, "{outcome:?}");
        expected.sort_unstable();
        assert_eq!(values(bridge, id), expected);
        assert!(calls.load(Ordering::Relaxed) > 500);
        assert!(bridge.memory().violations().is_empty());
        if bridge.backend() != Backend::None {
            assert!(outcome.stats.complete(), "{outcome:?}");
        }
    });
}

#[repr(C)]
struct Touch {
    at: *mut i32,
    look: unsafe extern "C" fn(i32) -> i32,
    result: i32,
}

/// Writes, calls back, reads what the callback wrote.
unsafe extern "C" fn write_look_read(data: *mut c_void) {
    // SAFETY: the tests give it a `Touch` of live arena memory, two words long.
    unsafe {
        let touch = &mut *data.cast::<Touch>();
        touch.at.write_volatile(41);
        let told = (touch.look)(1);
        touch.result = touch.at.add(1).read_volatile() + told;
    }
}

#[test]
fn a_callback_sees_what_was_written_before_it() {
    each(|bridge| {
        let id = bridge
            .memory()
            .allocate(&AllocRequest {
                name: Some("words"),
                size: 8,
                align: 8,
                init: Init::Uninit,
                mutable: true,
                ..AllocRequest::default()
            })
            .expect("an allocation");
        let look = bridge.local_closure_mut(|value: i32| -> i32 {
            let mut memory = bridge.memory();
            if bridge.backend() != Backend::None {
                let ranges: Vec<_> = memory.get(id).expect("live").init().ranges().collect();
                assert_eq!(ranges, vec![0..4], "{}", bridge.backend());
            }
            memory
                .write_bytes(id, 4, &7i32.to_le_bytes())
                .expect("inside");
            value + 100
        });
        let mut data = Touch {
            at: bridge.address(id).expect("live") as *mut i32,
            look: look.pointer(),
            result: 0,
        };
        let outcome = call(bridge, write_look_read, &mut data);
        assert!(outcome.returned, "{outcome:?}");
        assert_eq!(data.result, 108);
    });
}

#[repr(C)]
struct Countdown {
    next: unsafe extern "C" fn(u32) -> u32,
    from: u32,
    result: u32,
}

unsafe extern "C" fn count_down(data: *mut c_void) {
    // SAFETY: the tests give it a `Countdown`.
    unsafe {
        let data = &mut *data.cast::<Countdown>();
        data.result = (data.next)(data.from) + 1;
    }
}

#[test]
fn callbacks_make_calls_that_call_back() {
    each(|bridge| {
        let pointer = Cell::new(None);
        let next = bridge.local_closure(|from: u32| -> u32 {
            if from == 0 {
                return 0;
            }
            let mut data = Countdown {
                next: pointer.get().expect("set below"),
                from: from - 1,
                result: 0,
            };
            let outcome = call(bridge, count_down, &mut data);
            assert!(outcome.returned);
            data.result
        });
        pointer.set(Some(next.pointer()));
        let mut data = Countdown {
            next: next.pointer(),
            from: 40,
            result: 0,
        };
        let outcome = call(bridge, count_down, &mut data);
        assert!(outcome.returned && data.result == 41, "{}", data.result);
    });
}

unsafe extern "C" fn on_a_thread(data: *mut c_void) {
    extern "C" fn begin(data: *mut c_void) -> *mut c_void {
        // SAFETY: as for `write_look_read`.
        unsafe { write_look_read(data) };
        std::ptr::null_mut()
    }
    // SAFETY: the thread is waited for, so its data outlives it.
    unsafe {
        let mut thread = std::mem::zeroed();
        libc::pthread_create(&raw mut thread, std::ptr::null(), begin, data);
        libc::pthread_join(thread, std::ptr::null_mut());
    }
}

#[test]
fn native_threads_call_back() {
    each(|bridge| {
        let id = words(bridge, &[0, 5]);
        let here = std::thread::current().id();
        let seen = Mutex::new(None);
        let look = bridge.closure(|value: i32| -> i32 {
            *seen.lock().expect("free") = Some(std::thread::current().id() == here);
            assert_eq!(values(bridge, id), [41, 5]);
            value
        });
        let mut data = Touch {
            at: bridge.address(id).expect("live") as *mut i32,
            look: look.pointer(),
            result: 0,
        };
        let outcome = call(bridge, on_a_thread, &mut data);
        assert!(outcome.returned, "{outcome:?}");
        assert_eq!(data.result, 6);
        assert_eq!(*seen.lock().expect("free"), Some(false));
    });
}

#[test]
fn a_callback_bound_to_its_thread_is_refused_elsewhere() {
    each(|bridge| {
        let id = words(bridge, &[0, 5]);
        let look = bridge.local_closure(|value: i32| -> i32 { value });
        let mut data = Touch {
            at: bridge.address(id).expect("live") as *mut i32,
            look: look.pointer(),
            result: 0,
        };
        let outcome = call(bridge, on_a_thread, &mut data);
        assert!(!outcome.returned);
        assert!(
            matches!(outcome.left, Some(Leave::OtherThread)),
            "{outcome:?}"
        );
        let memory = bridge.memory();
        let entries = memory.violations().entries();
        assert_eq!(entries[0].violation.kind, ViolationKind::Unsupported);
    });
}

#[test]
fn a_panic_goes_on_behind_the_native_call() {
    each(|bridge| {
        let id = words(bridge, &[0, 5]);
        let dropped = Cell::new(false);
        struct Flag<'a>(&'a Cell<bool>);
        impl Drop for Flag<'_> {
            fn drop(&mut self) {
                self.0.set(true);
            }
        }
        let look = bridge.local_closure(|value: i32| -> i32 {
            let _flag = Flag(&dropped);
            if value == 1 {
                panic!("out of the callback");
            }
            value
        });
        let mut data = Touch {
            at: bridge.address(id).expect("live") as *mut i32,
            look: look.pointer(),
            result: 0,
        };
        let caught = catch_unwind(AssertUnwindSafe(|| {
            call(bridge, write_look_read, &mut data)
        }));
        let payload = caught.expect_err("the panic");
        assert_eq!(payload.downcast_ref(), Some(&"out of the callback"));
        assert!(dropped.get());
        assert_eq!(data.result, 0, "native code went on");
        // The next call works.
        let fine = bridge.closure(|value: i32| -> i32 { value });
        data.look = fine.pointer();
        assert!(call(bridge, write_look_read, &mut data).returned);
        assert_eq!(data.result, 6);
    });
}

#[test]
fn a_callback_may_end_the_call_with_an_error() {
    each(|bridge| {
        let id = words(bridge, &[0, 5]);
        let look = bridge.closure(|_: i32| -> i32 { stop("seen enough") });
        let mut data = Touch {
            at: bridge.address(id).expect("live") as *mut i32,
            look: look.pointer(),
            result: 0,
        };
        for function in [write_look_read, on_a_thread] {
            let outcome = call(bridge, function, &mut data);
            let Some(Leave::Stopped(error)) = outcome.left else {
                panic!("{outcome:?}");
            };
            assert_eq!(error.to_string(), "seen enough");
            assert!(!outcome.returned && bridge.memory().violations().is_empty());
        }
    });
}

#[test]
fn a_freed_callback_is_reported() {
    each(|bridge| {
        let id = words(bridge, &[0, 5]);
        let look = bridge.closure(|value: i32| -> i32 { value + id.number() as i32 });
        let mut data = Touch {
            at: bridge.address(id).expect("live") as *mut i32,
            look: look.pointer(),
            result: 0,
        };
        drop(look);
        // Others do not take its place at once.
        let others: Vec<_> = (0..100)
            .map(|n| bridge.closure(move |value: i32| -> i32 { value + n }))
            .collect();
        let outcome = call(bridge, write_look_read, &mut data);
        assert!(!outcome.returned);
        assert!(matches!(outcome.left, Some(Leave::Freed)), "{outcome:?}");
        assert_eq!(
            bridge.memory().violations().entries()[0].violation.kind,
            ViolationKind::FreedCallback
        );
        drop(others);
    });
}

#[test]
fn one_that_changes_itself_is_not_entered_twice() {
    each(|bridge| {
        let pointer = Cell::new(None);
        let mut count = 0;
        let next = bridge.local_closure_mut(|from: u32| -> u32 {
            count += 1;
            let mut data = Countdown {
                next: pointer.get().expect("set below"),
                from: from - 1,
                result: 0,
            };
            let outcome = call(bridge, count_down, &mut data);
            assert!(
                matches!(outcome.left, Some(Leave::Reentered)),
                "{outcome:?}"
            );
            from
        });
        pointer.set(Some(next.pointer()));
        let mut data = Countdown {
            next: next.pointer(),
            from: 3,
            result: 0,
        };
        assert!(call(bridge, count_down, &mut data).returned);
        drop(next);
        assert_eq!((data.result, count), (4, 1));
    });
}

#[test]
fn one_for_a_single_call_is_gone_after_it() {
    each(|bridge| {
        let text = String::from("moved in");
        let once = bridge.closure_once(move |from: u32| -> u32 { from + text.len() as u32 });
        let mut data = Countdown {
            next: once.pointer(),
            from: 3,
            result: 0,
        };
        assert!(call(bridge, count_down, &mut data).returned);
        assert_eq!(data.result, 12);
        let outcome = call(bridge, count_down, &mut data);
        assert!(matches!(outcome.left, Some(Leave::Freed)), "{outcome:?}");
    });
}
