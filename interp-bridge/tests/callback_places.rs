//! Callbacks from unusual places: a thread's first function, a handler of a signal, the end of a
//! thread, another stack, a library's own machinery.
//!
//! Signal handlers belong to the process, so these tests take turns.
//!
//! # Safety
//! Native code here is functions of this file and of libc, which get the addresses and callbacks
//! that they expect.
#![allow(unsafe_code)]

mod common;

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    ptr::null_mut,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
};

use interp_bridge::{
    bridge::{Bridge, Invoked},
    ctype::CType,
    ffi::{NativeCall, Signature, Value},
    memory::{AllocRequest, Init, ViolationKind},
};

use common::{OR_NONE, within};

/// A bridge with each recorder that can be had here.
fn each(mut body: impl FnMut(&Bridge)) {
    common::each(OR_NONE, |bridge| body(&bridge));
}

/// Calls a function of one address and returns its number.
fn apply(bridge: &Bridge, f: *const (), argument: u64) -> i128 {
    let signature = Signature::new([CType::ptr()], CType::int(8, true));
    let mut call = NativeCall::new(signature, f as u64).expect("a signature");
    let values = [Value::from(argument as *const ())];
    // SAFETY: each test gives its function what it expects.
    let done = unsafe { bridge.invoke(&mut call, &values, within(20)) };
    let Invoked { value, outcome } = done.expect("a call");
    assert!(outcome.returned, "{}: {outcome:?}", bridge.backend());
    assert!(bridge.memory().violations().is_empty());
    value
        .expect("returned")
        .expect("a number")
        .as_int()
        .expect("a number")
}

#[test]
fn a_threads_first_function() {
    unsafe extern "C" fn start(f: extern "C" fn(*mut c_void) -> *mut c_void) -> i64 {
        let mut results = [null_mut(); 4];
        // SAFETY: the threads are waited for.
        unsafe {
            let mut threads = [0; 4];
            for (index, thread) in threads.iter_mut().enumerate() {
                libc::pthread_create(thread, std::ptr::null(), f, index as *mut c_void);
            }
            for (thread, result) in threads.iter().zip(&mut results) {
                libc::pthread_join(*thread, result);
            }
        }
        results.iter().map(|result| *result as i64).sum()
    }
    each(|bridge| {
        let count = AtomicU32::new(0);
        let begin = bridge.closure(|index: usize| -> usize {
            count.fetch_add(1, SeqCst);
            index * 10
        });
        assert_eq!(apply(bridge, start as *const (), begin.address()), 60);
        assert_eq!(count.load(SeqCst), 4);
    });
}

#[test]
fn a_handler_of_a_signal() {
    unsafe extern "C" fn handle(f: usize) -> i64 {
        // SAFETY: the callback takes a signal's number; what was set is put back.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = f;
            let mut before: libc::sigaction = std::mem::zeroed();
            libc::sigaction(libc::SIGUSR2, &raw const action, &raw mut before);
            for _ in 0..3 {
                libc::raise(libc::SIGUSR2);
            }
            libc::sigaction(libc::SIGUSR2, &raw const before, null_mut());
        }
        7
    }
    each(|bridge| {
        let seen = AtomicU32::new(0);
        let handler = bridge.closure(|signal: i32| {
            seen.fetch_add(signal as u32, SeqCst);
        });
        assert_eq!(apply(bridge, handle as *const (), handler.address()), 7);
        assert_eq!(seen.load(SeqCst), 3 * libc::SIGUSR2 as u32);
    });
}

#[test]
fn the_end_of_a_thread() {
    unsafe extern "C" fn key(f: unsafe extern "C" fn(*mut c_void)) -> i64 {
        extern "C" fn body(key: *mut c_void) -> *mut c_void {
            // SAFETY: the key was made just now.
            unsafe { libc::pthread_setspecific(key as usize as u32, 5 as *const c_void) };
            null_mut()
        }
        // SAFETY: the thread is waited for.
        unsafe {
            let mut key = 0;
            libc::pthread_key_create(&raw mut key, Some(f));
            let mut thread = 0;
            libc::pthread_create(
                &raw mut thread,
                std::ptr::null(),
                body,
                key as usize as *mut c_void,
            );
            libc::pthread_join(thread, null_mut());
            libc::pthread_key_delete(key);
        }
        1
    }
    each(|bridge| {
        let seen = AtomicU32::new(0);
        let end = bridge.closure(|value: usize| {
            seen.fetch_add(value as u32, SeqCst);
        });
        assert_eq!(apply(bridge, key as *const (), end.address()), 1);
        assert_eq!(seen.load(SeqCst), 5);
    });
}

#[test]
fn another_stack() {
    unsafe extern "C" fn switch(f: extern "C" fn()) -> i64 {
        let mut stack = vec![0u8; 256 << 10];
        // SAFETY: both contexts live until the second one has come back to the first.
        unsafe {
            let mut here: libc::ucontext_t = std::mem::zeroed();
            let mut there: libc::ucontext_t = std::mem::zeroed();
            libc::getcontext(&raw mut there);
            there.uc_stack.ss_sp = stack.as_mut_ptr().cast();
            there.uc_stack.ss_size = stack.len();
            there.uc_link = &raw mut here;
            libc::makecontext(&raw mut there, f, 0);
            libc::swapcontext(&raw mut here, &raw const there);
        }
        3
    }
    each(|bridge| {
        let seen = AtomicU32::new(0);
        let body = bridge.closure(|| {
            seen.fetch_add(1, SeqCst);
        });
        assert_eq!(apply(bridge, switch as *const (), body.address()), 3);
        assert_eq!(seen.load(SeqCst), 1);
    });
}

#[test]
fn a_timers_own_thread() {
    unsafe extern "C" fn timer(f: usize) -> i64 {
        // SAFETY: a timer of this process, deleted below; `sigev_notify_function` follows the
        // public part of the structure (sigevent(3type)).
        unsafe {
            let mut event: libc::sigevent = std::mem::zeroed();
            event.sigev_notify = 2; // SIGEV_THREAD
            event.sigev_value.sival_ptr = 9 as *mut c_void;
            let at = (&raw mut event.sigev_notify_thread_id).cast::<usize>();
            at.write_unaligned(f);
            let mut timer: libc::timer_t = null_mut();
            if libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) != 0 {
                return -1;
            }
            let mut spec: libc::itimerspec = std::mem::zeroed();
            spec.it_value.tv_nsec = 1_000_000;
            libc::timer_settime(timer, 0, &raw const spec, null_mut());
            libc::usleep(100_000);
            libc::timer_delete(timer);
        }
        2
    }
    each(|bridge| {
        let seen = AtomicU32::new(0);
        let fired = bridge.closure(|value: usize| {
            seen.fetch_add(value as u32, SeqCst);
        });
        assert_eq!(apply(bridge, timer as *const (), fired.address()), 2);
        assert_eq!(seen.load(SeqCst), 9);
    });
}

#[test]
fn a_walk_over_files() {
    unsafe extern "C" {
        fn ftw(
            path: *const c_char,
            f: unsafe extern "C" fn(*const c_char, *const libc::stat, c_int) -> c_int,
            descriptors: c_int,
        ) -> c_int;
    }
    #[repr(C)]
    struct Walk {
        path: *const c_char,
        f: unsafe extern "C" fn(*const c_char, *const libc::stat, c_int) -> c_int,
    }
    unsafe extern "C" fn walk(data: *mut Walk) -> i64 {
        // SAFETY: the test gives it a path in the arena.
        unsafe { i64::from(ftw((*data).path, (*data).f, 8)) }
    }
    each(|bridge| {
        let place = tempfile::tempdir().expect("a directory");
        for name in ["one", "two"] {
            std::fs::write(place.path().join(name), name).expect("a file");
        }
        let mut path = place.path().as_os_str().as_encoded_bytes().to_vec();
        path.push(0);
        let request = AllocRequest {
            size: path.len() as u64,
            init: Init::Bytes(&path),
            mutable: false,
            ..AllocRequest::default()
        };
        let id = bridge.memory().allocate(&request).expect("room");
        let names = Mutex::new(Vec::new());
        let visit = bridge.closure(
            |path: *const c_char, _: *const libc::stat, _: c_int| -> c_int {
                // SAFETY: libc's own copy of a path.
                let path = unsafe { CStr::from_ptr(path) };
                let path = path.to_string_lossy().into_owned();
                names.lock().expect("free").push(path);
                0
            },
        );
        let mut data = Walk {
            path: bridge.address(id).expect("live") as *const c_char,
            f: visit.pointer(),
        };
        assert_eq!(apply(bridge, walk as *const (), (&raw mut data) as u64), 0);
        assert_eq!(names.lock().expect("free").len(), 3);
    });
}

#[test]
fn many_threads_at_once() {
    unsafe extern "C" fn many(f: extern "C" fn(*mut c_void) -> *mut c_void) -> i64 {
        static CALLBACK: Mutex<usize> = Mutex::new(0);
        extern "C" fn body(index: *mut c_void) -> *mut c_void {
            let f = *CALLBACK.lock().expect("free");
            // SAFETY: what `many` was given.
            let f: extern "C" fn(*mut c_void) -> *mut c_void = unsafe { std::mem::transmute(f) };
            let mut sum = 0;
            for _ in 0..500 {
                sum += f(index) as usize;
            }
            sum as *mut c_void
        }
        *CALLBACK.lock().expect("free") = f as *const () as usize;
        let mut sum = 0;
        // SAFETY: the threads are waited for.
        unsafe {
            let mut threads = [0; 8];
            for (index, thread) in threads.iter_mut().enumerate() {
                libc::pthread_create(thread, std::ptr::null(), body, index as *mut c_void);
            }
            for thread in threads {
                let mut result = null_mut();
                libc::pthread_join(thread, &raw mut result);
                sum += result as i64;
            }
        }
        sum
    }
    each(|bridge| {
        let inside = AtomicU32::new(0);
        let request = AllocRequest {
            size: 64,
            init: Init::Zeroed,
            ..AllocRequest::default()
        };
        let id = bridge.memory().allocate(&request).expect("room");
        let step = bridge.closure(|index: usize| -> usize {
            assert_eq!(inside.fetch_add(1, SeqCst), 0, "two at once");
            let mut memory = bridge.memory();
            let at = index as u64 * 8;
            let count = memory.read_scalar(id, at, 8).expect("inside") + 1;
            memory.write_scalar(id, at, count, 8).expect("inside");
            inside.fetch_sub(1, SeqCst);
            index
        });
        assert_eq!(apply(bridge, many as *const (), step.address()), 28 * 500);
        for index in 0..8 {
            assert_eq!(
                bridge
                    .memory()
                    .read_scalar(id, index * 8, 8)
                    .expect("inside"),
                500
            );
        }
    });
}

#[test]
fn a_thread_that_crashes_between_calls() {
    unsafe extern "C" fn leave_behind(_: usize) -> i64 {
        extern "C" fn body(_: *mut c_void) -> *mut c_void {
            // SAFETY: not sound, on purpose: the thread stays at the fault.
            unsafe {
                libc::usleep(30_000);
                null_mut::<u32>().write_volatile(1);
            }
            null_mut()
        }
        // SAFETY: nobody waits for the thread.
        unsafe {
            let mut thread = 0;
            libc::pthread_create(&raw mut thread, std::ptr::null(), body, null_mut());
            libc::pthread_detach(thread);
        }
        4
    }
    each(|bridge| {
        if bridge.backend() == tracer_user::backend::Backend::None {
            return;
        }
        assert_eq!(apply(bridge, leave_behind as *const (), 8), 4);
        std::thread::sleep(std::time::Duration::from_millis(200));
        let signature = Signature::new([CType::ptr()], CType::int(8, true));
        let mut call = NativeCall::new(signature, leave_behind as *const () as u64);
        let call = call.as_mut().expect("a signature");
        let argument = [Value::from(8 as *const ())];
        // SAFETY: it takes any pointer.
        let told = unsafe { bridge.invoke(call, &argument, common::within(20)) };
        assert!(
            !told.expect("a call").outcome.returned,
            "{}",
            bridge.backend()
        );
        let kinds: Vec<_> = bridge
            .memory()
            .violations()
            .entries()
            .iter()
            .map(|e| e.violation.kind)
            .collect();
        assert_eq!(kinds, [ViolationKind::WildAccess]);
        bridge.memory().violations_mut().clear();
        let empty = AtomicU32::new(0);
        let begin = bridge.closure(|| {
            empty.fetch_add(1, SeqCst);
        });
        unsafe extern "C" fn once(f: extern "C" fn()) -> i64 {
            f();
            5
        }
        assert_eq!(apply(bridge, once as *const (), begin.address()), 5);
    });
}
