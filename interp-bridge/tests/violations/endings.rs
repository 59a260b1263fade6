//! Calls that end badly, a thousand of each kind, and a good one after each.

use std::{ffi::c_void, time::Duration};

use interp_bridge::{
    bridge::{Bridge, CallOptions, StopAt},
    memory::ViolationKind,
};

use super::{Native, Work, allocate, bytes, call, each, fill};

unsafe extern "C" fn read_null(_: *mut c_void) {
    let null = std::hint::black_box(std::ptr::null::<u32>());
    // SAFETY: not sound, on purpose: the session ends the call at the fault.
    let _ = unsafe { std::ptr::read_volatile(null) };
}

unsafe extern "C" fn run_for_ever(_: *mut c_void) {
    while std::hint::black_box(true) {
        std::hint::spin_loop();
    }
}

unsafe extern "C" fn give_up(_: *mut c_void) {
    // SAFETY: raises SIGABRT, which ends the call.
    unsafe { libc::abort() }
}

unsafe extern "C" fn leave(_: *mut c_void) {
    // SAFETY: what the process does at its end is not begun, since the call ends first.
    unsafe { libc::exit(3) }
}

#[allow(unconditional_recursion, reason = "that is what it is for")]
unsafe extern "C" fn recurse(data: *mut c_void) {
    let data = std::hint::black_box(data);
    let mut room = [0u8; 4096];
    std::hint::black_box(&mut room);
    // SAFETY: not sound, on purpose: the stack ends, and with it the call.
    unsafe { recurse(data) };
    std::hint::black_box(&mut room);
}

/// Resident memory in KiB and the number of threads.
fn footprint() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").expect("readable");
    let number = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        let word = line.and_then(|line| line.split_whitespace().nth(1));
        word.and_then(|word| word.parse().ok()).expect(name)
    };
    (number("VmRSS:"), number("Threads:"))
}

/// Rounds of the sequence: as many as it takes to see a leak of a page in each.
const ROUNDS: u32 = 1000;

/// Runs `body` on a thread of its own: `exit` runs the destructors of the calling thread's
/// thread-local values before anything else, and the test harness has some on its threads.
fn apart(body: impl FnOnce() + Send + 'static) {
    std::thread::spawn(body).join().expect("no panic");
}

#[test]
fn calls_that_end_badly_leave_nothing_behind() {
    apart(|| each(bad_endings));
}

fn bad_endings(bridge: Bridge) {
    let (id, at) = allocate(&bridge, &[0; 8], true);
    let ends: [(Native, u64, ViolationKind); 5] = [
        (read_null, 20_000, ViolationKind::WildAccess),
        (run_for_ever, 2, ViolationKind::Timeout),
        (give_up, 20_000, ViolationKind::NativeCrash),
        (leave, 20_000, ViolationKind::NativeCrash),
        (recurse, 20_000, ViolationKind::NativeCrash),
    ];
    let mut settled = (0, 0);
    for round in 0..ROUNDS {
        for (bad, timeout, kind) in ends {
            let options = CallOptions {
                timeout: Some(Duration::from_millis(timeout)),
                ..CallOptions::default()
            };
            // SAFETY: the functions take nothing; each ends the call in its own way.
            let outcome = unsafe { bridge.call(bad, std::ptr::null_mut(), options) };
            let outcome = outcome.expect("a call");
            assert!(!outcome.returned && outcome.violations == 1, "{outcome:?}");
            let mut memory = bridge.memory();
            let found = &memory.violations().entries()[0].violation;
            assert_eq!(found.kind, kind, "round {round}: {}", found.message);
            memory.violations_mut().clear();
            memory.write_bytes(id, 0, &[0; 8]).expect("writable");
            drop(memory);
            let outcome = call(&bridge, fill, &mut Work::on(at, 8), StopAt::Never);
            assert!(outcome.returned && outcome.stats.complete(), "{outcome:?}");
            assert_eq!((outcome.stats.events, outcome.violations), (8, 0));
            assert_eq!(bytes(&bridge, id), [7; 8]);
        }
        if round == ROUNDS / 4 {
            settled = footprint();
        }
    }
    let (memory, threads) = footprint();
    assert_eq!(threads, settled.1, "threads");
    let grown = memory.saturating_sub(settled.0);
    assert!(grown < 1024, "{grown} KiB more after {ROUNDS} rounds");
}
