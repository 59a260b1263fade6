//! The bridge as an interpreter uses it: memory, calls, and sessions one after the other.
//!
//! Signal handlers belong to the process, so these tests take turns. A recorder that this
//! process may not use is left out by name; the tests of the command line insist on it.
//!
//! # Safety
//! Native code here is functions of this file, which get the addresses that they expect; what
//! they do wrong on purpose stays inside the arena.
#![allow(unsafe_code)]

mod common;

use std::{
    collections::BTreeMap,
    ffi::c_void,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU32, Ordering},
    },
};

use interp_bridge::{
    bridge::{Bridge, CallOptions, Observer},
    memory::{Init, Memory, ViolationKind},
};
use tracer_user::{access::AccessEvent, backend::Backend};

use common::{TRACED, buffer, call, turn};

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
    common::each(TRACED, |bridge| {
        let id = buffer(&bridge, 12, Init::Uninit, true);
        bridge
            .memory()
            .write_bytes(id, 0, &[1, 2, 3, 4])
            .expect("writable");
        let address = bridge.address(id).expect("an address");
        let outcome = call(&bridge, copy_word, address as *mut c_void);
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
    common::each(TRACED, |bridge| {
        let id = buffer(&bridge, 8, Init::Zeroed, true);
        let address = bridge.address(id).expect("an address");
        bridge.memory().free(id).expect("live");
        let outcome = call(&bridge, copy_word, address as *mut c_void);
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
    common::each(TRACED, |bridge| {
        let outcome = call(&bridge, read_null, std::ptr::null_mut::<c_void>());
        assert!(!outcome.returned);
        assert_eq!(
            bridge.memory().violations().entries()[0].violation.kind,
            ViolationKind::WildAccess
        );
        bridge.memory().violations_mut().clear();
        let id = buffer(&bridge, 8, Init::Zeroed, true);
        let address = bridge.address(id).expect("an address");
        let outcome = call(&bridge, copy_word, address as *mut c_void);
        assert!(outcome.returned && outcome.stats.events == 2, "{outcome:?}");
        assert!(bridge.memory().violations().is_empty());
    });
}

#[test]
fn many_calls_and_sessions_leave_nothing_behind() {
    for _ in 0..5 {
        common::each(TRACED, |bridge| {
            let id = buffer(&bridge, 8, Init::Zeroed, true);
            let address = bridge.address(id).expect("an address");
            for _ in 0..50 {
                let outcome = call(&bridge, copy_word, address as *mut c_void);
                // The call in which it is translated has records of faults beside its entries.
                assert_eq!(outcome.stats.events, 2);
                assert!(outcome.stats.complete());
            }
        });
    }
    let children = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    assert_eq!(children.trim(), "", "a supervisor was left behind");
}

/// Events by thread.
#[derive(Clone, Default)]
struct ByThread(Arc<Mutex<BTreeMap<u32, u64>>>);

impl ByThread {
    fn counts(&self) -> MutexGuard<'_, BTreeMap<u32, u64>> {
        self.0.lock().expect("no panic while held")
    }
}

impl Observer for ByThread {
    fn event(&mut self, event: &AccessEvent, _: &Memory) {
        *self.counts().entry(event.tid).or_default() += 1;
    }
}

/// Ptrace follows the thread that began the session, and says so.
fn follows_all_threads(bridge: &Bridge) -> bool {
    bridge.backend() != Backend::Ptrace
}

#[test]
fn threads_of_the_interpreter_call_in_turn() {
    common::each(TRACED, |bridge| {
        let id = buffer(&bridge, 8, Init::Zeroed, true);
        let address = bridge.address(id).expect("an address");
        let seen = ByThread::default();
        bridge.observe(Some(Box::new(seen.clone())));
        if !follows_all_threads(&bridge) {
            std::thread::scope(|scope| {
                let refused = scope.spawn(|| {
                    let options = CallOptions::default();
                    // SAFETY: as in `call`.
                    unsafe { bridge.call(copy_word, address as *mut c_void, options) }
                        .expect_err("another thread")
                        .to_string()
                });
                let refused = refused.join().expect("no panic");
                assert!(refused.contains("only the thread that began"), "{refused}");
            });
            return;
        }
        let bridge = Mutex::new(bridge);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        let bridge = bridge.lock().expect("no panic while held");
                        let outcome = call(&bridge, copy_word, address as *mut c_void);
                        assert!(outcome.stats.complete() && outcome.stats.events == 2);
                    }
                });
            }
        });
        let counts: Vec<u64> = seen.counts().values().copied().collect();
        assert_eq!(counts, [50; 4]);
    });
}

/// What the thread beside the call works on, and how far it is.
struct Beside {
    at: u64,
    progress: AtomicU32,
}

const ROUNDS: u32 = 2000;

/// Works on the second half, as long as the other thread works on the first.
unsafe extern "C" fn work_beside(data: *mut c_void) {
    // SAFETY: the test gives it a `Beside`, alive during the call, with 16 bytes of arena memory.
    unsafe {
        let beside = &*data.cast::<Beside>();
        beside.progress.store(1, Ordering::Release);
        while beside.progress.load(Ordering::Acquire) <= ROUNDS {
            copy_word((beside.at + 8) as *mut c_void);
        }
    }
}

#[test]
fn a_thread_of_the_interpreter_runs_native_code_beside_the_call() {
    common::each(TRACED, |bridge| {
        if !follows_all_threads(&bridge) {
            return;
        }
        let id = buffer(&bridge, 16, Init::Zeroed, true);
        let beside = Beside {
            at: bridge.address(id).expect("an address"),
            progress: AtomicU32::new(0),
        };
        let seen = ByThread::default();
        bridge.observe(Some(Box::new(seen.clone())));
        let (other, outcome) = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                while beside.progress.load(Ordering::Acquire) == 0 {
                    std::thread::yield_now();
                }
                for _ in 0..ROUNDS {
                    // SAFETY: arena memory that lives longer than this thread.
                    unsafe { copy_word(beside.at as *mut c_void) };
                    beside.progress.fetch_add(1, Ordering::AcqRel);
                }
                // SAFETY: takes nothing and cannot fail.
                unsafe { libc::gettid() as u32 }
            });
            let data = (&raw const beside).cast_mut();
            let outcome = call(&bridge, work_beside, data);
            (thread.join().expect("no panic"), outcome)
        });
        assert!(outcome.stats.complete(), "{outcome:?}");
        let counts = seen.counts();
        assert_eq!(counts.get(&other), Some(&(2 * u64::from(ROUNDS))));
        assert_eq!(counts.len(), 2);
        assert_eq!(counts.values().sum::<u64>(), outcome.stats.events);
    });
}

/// What `qsort_words` sorts, and what its callback keeps: memory of the interpreter's own.
struct Sorting {
    at: *mut c_void,
    count: usize,
}

static COMPARED: Mutex<Vec<(u32, u32)>> = Mutex::new(Vec::new());

/// The interpreter's function: it reads the arena through native pointers, as C code would, and
/// uses locks and memory of its own.
unsafe extern "C" fn compare(left: *const c_void, right: *const c_void) -> i32 {
    // SAFETY: qsort passes pointers to two of the elements.
    let (left, right) = unsafe { (*left.cast::<u32>(), *right.cast::<u32>()) };
    COMPARED.lock().expect("no panic").push((left, right));
    left.cmp(&right) as i32
}

unsafe extern "C" fn qsort_words(data: *mut c_void) {
    // SAFETY: the test gives it a `Sorting` of that many words in the arena.
    unsafe {
        let sorting = &*data.cast::<Sorting>();
        libc::qsort(sorting.at, sorting.count, 4, Some(compare));
    }
}

#[test]
fn native_code_calls_a_function_of_the_interpreter() {
    common::each(TRACED, |bridge| {
        let words: Vec<u32> = (0..64u32).map(|n| n.wrapping_mul(2_654_435_769)).collect();
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let id = buffer(&bridge, 256, Init::Bytes(&bytes), true);
        let mut sorting = Sorting {
            at: bridge.address(id).expect("an address") as *mut c_void,
            count: words.len(),
        };
        COMPARED.lock().expect("no panic").clear();
        let outcome = call(&bridge, qsort_words, &raw mut sorting);
        assert!(outcome.returned && outcome.stats.complete(), "{outcome:?}");
        let compared = COMPARED.lock().expect("no panic").clone();
        assert!(compared.len() >= words.len() - 1, "{compared:?}");
        assert!(
            compared
                .iter()
                .all(|(left, right)| words.contains(left) && words.contains(right))
        );
        let memory = bridge.memory();
        let sorted = memory.read_bytes(id, 0..256).expect("readable");
        let mut expected = words.clone();
        expected.sort_unstable();
        let expected: Vec<u8> = expected
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .collect();
        assert_eq!(sorted, expected);
        let allocation = memory.get(id).expect("known");
        assert_eq!(allocation.read().ranges().collect::<Vec<_>>(), vec![0..256]);
        // The callback's reads are events like any: two for each comparison, at least.
        assert!(outcome.stats.reads >= 2 * compared.len() as u64);
        assert!(memory.violations().is_empty());
    });
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
