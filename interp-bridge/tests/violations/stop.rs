//! Calls that are stopped before their first violation.

use std::{
    ffi::c_void,
    sync::atomic::{AtomicU32, Ordering},
};

use interp_bridge::{
    bridge::{Bridge, CallOptions, StopAt},
    memory::ViolationKind,
};
use tracer_user::{access::AccessKind, backend::Backend};

use super::{Work, allocate, bytes, call, each, fill, turn};

/// Copies with one instruction.
unsafe extern "C" fn copy_at_once(data: *mut c_void) {
    // SAFETY: as in `fill`; the instruction changes what it says.
    unsafe {
        let work = &mut *data.cast::<Work>();
        std::arch::asm!(
            "rep movsb",
            inout("rdi") work.at => _,
            inout("rsi") work.from => _,
            inout("rcx") work.len => _,
        );
        work.done += 1;
    }
}

unsafe extern "C" fn length(data: *mut c_void) {
    // SAFETY: the test gives it a string in the arena.
    unsafe {
        let work = &mut *data.cast::<Work>();
        work.len = libc::strlen(work.at.cast());
        work.done += 1;
    }
}

/// Fills on a thread of its own.
unsafe extern "C" fn fill_elsewhere(data: *mut c_void) {
    extern "C" fn start(data: *mut c_void) -> *mut c_void {
        // SAFETY: passes on what the test gave `fill_elsewhere`.
        unsafe { fill(data) };
        std::ptr::null_mut()
    }
    // SAFETY: as in `fill`; the thread is waited for, so `data` lives.
    unsafe {
        let mut thread = std::mem::zeroed();
        libc::pthread_create(&raw mut thread, std::ptr::null(), start, data);
        libc::pthread_join(thread, std::ptr::null_mut());
    }
}

/// Reads from a pipe into the buffer, with the length that it is told.
unsafe extern "C" fn read_pipe(data: *mut c_void) {
    // SAFETY: as in `fill`.
    unsafe {
        let work = &mut *data.cast::<Work>();
        let mut ends = [0; 2];
        libc::pipe(ends.as_mut_ptr());
        libc::write(ends[1], [1u8; 64].as_ptr().cast(), 64);
        libc::close(ends[1]);
        libc::read(ends[0], work.at.cast(), work.len);
        work.done = 1;
        libc::close(ends[0]);
    }
}

#[test]
fn stops_before_the_first_wrong_access() {
    each(|bridge| {
        let (id, at) = allocate(&bridge, &[0; 24], true);
        for _ in 0..20 {
            bridge
                .memory()
                .write_bytes(id, 0, &[0; 24])
                .expect("writable");
            bridge.memory().violations_mut().clear();
            let mut work = Work::on(at, 40);
            let outcome = call(&bridge, fill, &mut work, StopAt::First);
            assert!(outcome.stats.complete(), "{outcome:?}");
            let stopped = outcome.stopped.expect("stopped");
            assert!(!outcome.returned && outcome.violations == 1);
            assert_eq!(stopped.kind, ViolationKind::OutOfBounds);
            assert_eq!(stopped.place.map(|place| place.offset), Some(24));
            assert_eq!(work.done, 24, "stopped at the instruction");
            assert_eq!(bytes(&bridge, id), [7; 24]);
            assert_eq!(bridge.memory().violations().total(), 1);
        }
        // The same call without that mode comes to its end, and is told of each.
        let mut work = Work::on(at, 40);
        let outcome = call(&bridge, fill, &mut work, StopAt::Never);
        assert!(outcome.returned && outcome.stopped.is_none());
        assert_eq!((work.done, outcome.violations), (40, 16));
    });
}

#[test]
fn read_only_memory_is_not_changed() {
    each(|bridge| {
        let (id, at) = allocate(&bridge, &[1; 16], false);
        let outcome = call(&bridge, fill, &mut Work::on(at, 1), StopAt::First);
        let stopped = outcome.stopped.expect("stopped");
        assert_eq!(stopped.kind, ViolationKind::WriteToReadOnly);
        assert_eq!(bytes(&bridge, id), [1; 16]);
        let outcome = call(&bridge, fill, &mut Work::on(at, 1), StopAt::Never);
        assert!(outcome.returned);
        assert_eq!(bytes(&bridge, id)[0], 7, "what a call that goes on does");
    });
}

#[test]
fn an_instruction_is_judged_as_a_whole() {
    each(|bridge| {
        let (_, from) = allocate(&bridge, &[9; 64], true);
        let (id, at) = allocate(&bridge, &[0; 48], true);
        let mut work = Work {
            from: from as *const u8,
            ..Work::on(at, 64)
        };
        // Its first bytes are good, those behind the end are not: nothing is copied.
        let outcome = call(&bridge, copy_at_once, &mut work, StopAt::First);
        let stopped = outcome.stopped.expect("stopped");
        assert_eq!(stopped.kind, ViolationKind::OutOfBounds);
        assert_eq!(stopped.event.access.kind, AccessKind::Write);
        assert_eq!((work.done, bytes(&bridge, id)), (0, vec![0; 48]));
        work.len = 48;
        let outcome = call(&bridge, copy_at_once, &mut work, StopAt::First);
        assert!(outcome.returned && outcome.violations == 0, "{outcome:?}");
        assert_eq!(bytes(&bridge, id), [9; 48]);
    });
}

#[test]
fn a_wrong_suspicion_costs_time_only() {
    each(|bridge| {
        let (_, at) = allocate(&bridge, b"twenty bytes long..\0", true);
        let mut work = Work::on(at, 0);
        for _ in 0..50 {
            let outcome = call(&bridge, length, &mut work, StopAt::First);
            assert!(outcome.returned && outcome.violations == 0, "{outcome:?}");
            assert_eq!(work.len, 19);
        }
        assert_eq!(work.done, 50);
    });
}

#[test]
fn another_thread_is_stopped_too() {
    each(|bridge| {
        let (id, at) = allocate(&bridge, &[0; 8], true);
        // Its own thread never comes back, so what it works on has to stay.
        let work = Box::leak(Box::new(Work::on(at, 12)));
        let outcome = call(&bridge, fill_elsewhere, work, StopAt::First);
        let stopped = outcome.stopped.expect("stopped");
        assert_eq!(stopped.place.map(|place| place.offset), Some(8));
        assert_eq!((work.done, bytes(&bridge, id)), (8, vec![7; 8]));
        let (_, at) = allocate(&bridge, &[0; 8], true);
        let outcome = call(&bridge, fill, &mut Work::on(at, 8), StopAt::First);
        assert!(outcome.returned && outcome.stats.complete());
    });
}

#[test]
fn a_system_call_ends_the_call_when_it_is_over() {
    each(|bridge| {
        if bridge.blind_spot().is_some() {
            return;
        }
        let (_, at) = allocate(&bridge, &[0; 8], true);
        let mut work = Work::on(at, 12);
        let outcome = call(&bridge, read_pipe, &mut work, StopAt::First);
        let stopped = outcome.stopped.expect("stopped");
        assert_eq!(stopped.kind, ViolationKind::OutOfBounds);
        assert_eq!(work.done, 0);
        let outcome = call(&bridge, read_pipe, &mut Work::on(at, 8), StopAt::First);
        assert!(outcome.returned && outcome.violations == 0, "{outcome:?}");
    });
}

/// Calls back, and fills then.
#[repr(C)]
struct Back {
    work: Work,
    back: unsafe extern "C" fn(i32),
}

unsafe extern "C" fn call_back_and_fill(data: *mut c_void) {
    // SAFETY: the test gives it a `Back`, whose first field is what `fill` takes.
    unsafe {
        ((*data.cast::<Back>()).back)(1);
        fill(data);
    }
}

#[test]
fn a_call_in_a_callback_has_its_own_mode() {
    each(|bridge| {
        for (inner, outer) in [
            (StopAt::Never, StopAt::First),
            (StopAt::First, StopAt::Never),
            (StopAt::First, StopAt::First),
        ] {
            let (_, at) = allocate(&bridge, &[0; 8], true);
            let inside = AtomicU32::new(0);
            let back = bridge.closure(|_: i32| {
                let mut work = Work::on(at, 12);
                let outcome = call(&bridge, fill, &mut work, inner);
                assert_eq!(outcome.stopped.is_some(), inner == StopAt::First);
                assert_eq!(outcome.returned, inner == StopAt::Never);
                inside.store(work.done, Ordering::Relaxed);
            });
            let mut data = Back {
                work: Work::on(at, 10),
                back: back.pointer(),
            };
            let outcome = call(&bridge, call_back_and_fill, &mut data, outer);
            let come = |stop, all| if stop == StopAt::First { 8 } else { all };
            assert_eq!(inside.load(Ordering::Relaxed), come(inner, 12));
            assert_eq!(data.work.done, come(outer, 10));
            assert_eq!(outcome.stopped.is_some(), outer == StopAt::First);
            // Its own alone, not those of the call in the middle of it.
            assert_eq!(
                outcome.violations,
                if outer == StopAt::First { 1 } else { 2 }
            );
        }
    });
}

#[test]
fn a_recorder_that_cannot_stop_says_so() {
    let _turn = turn();
    for backend in [Backend::Ptrace, Backend::None] {
        let Ok(bridge) = Bridge::new(Some(backend)) else {
            eprintln!("{backend} is left out");
            continue;
        };
        let (_, at) = allocate(&bridge, &[0; 8], true);
        let mut work = Work::on(at, 8);
        let options = CallOptions {
            stop: StopAt::First,
            ..CallOptions::default()
        };
        // SAFETY: as in `call`.
        let error = unsafe { bridge.call(fill, (&raw mut work).cast(), options) }
            .expect_err("refused")
            .to_string();
        assert!(
            error.contains(backend.name()) && error.contains("inproc"),
            "{error}"
        );
        assert_eq!(work.done, 0, "nothing was called");
    }
}

#[test]
fn the_command_line_stops_at_the_first() {
    let _turn = turn();
    let run = |backend: &str| {
        std::process::Command::new(env!("CARGO_BIN_EXE_ffitrace"))
            .args([
                "call",
                "libc.so.6",
                "char *strcpy(char *to, const char *from)",
            ])
            .args([
                "to=zero:4",
                "from=str:twenty-four characters..",
                "--backend",
                backend,
            ])
            .args(["--stop-at-first", "--format", "json"])
            .output()
            .expect("the program runs")
    };
    let stopped = run("inproc");
    let json: serde_json::Value = serde_json::from_slice(&stopped.stdout).expect("one object");
    assert_eq!(stopped.status.code(), Some(1), "{json}");
    assert_eq!(json["ret"], serde_json::Value::Null);
    let found = json["violations"].as_array().expect("a list");
    assert_eq!(found.len(), 1, "{json}");
    assert_eq!(found[0]["kind"], "out_of_bounds");
    assert_eq!(found[0]["allocation"], "to");
    let buffer = &json["allocations"][0];
    assert_eq!(
        (&buffer["name"], &buffer["bytes"]),
        (&"to".into(), &"00000000".into())
    );
    let refused = run("ptrace");
    assert_eq!(refused.status.code(), Some(3));
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(text.contains("--stop-at-first"), "{text}");
}
