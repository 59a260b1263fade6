//! Callbacks by run-time signatures, many of them, and what may go wrong around them.
//!
//! Signal handlers belong to the process, so these tests take turns.
//!
//! # Safety
//! Native code here is functions of this file and of libc, which get the addresses and callbacks
//! that they expect; what they do wrong on purpose is what the tests are about.
#![allow(unsafe_code)]

mod common;

use std::{
    cell::{Cell, RefCell},
    ffi::c_void,
    rc::Rc,
    sync::{Arc, Mutex},
    time::Duration,
};

use interp_bridge::{
    bridge::{Bridge, BridgeError, CallOptions, Invoked},
    callback::{CallbackError, Invocation, Leave},
    ctype::{CType, StructType},
    diagnosis::{Context, Diagnoser},
    ffi::{Aggregate, Library, NativeCall, Signature, Value},
    memory::{AllocId, AllocRequest, Init, ViolationKind},
};
use tracer_user::backend::Backend;

use common::{OR_NONE, turn, within};

/// A bridge with each recorder that can be had here.
fn each(mut body: impl FnMut(&Bridge)) {
    common::each(OR_NONE, |bridge| body(&bridge));
}

fn invoke(bridge: &Bridge, call: &mut NativeCall, values: &[Value]) -> Invoked {
    // SAFETY: each test gives its function what it expects.
    unsafe { bridge.invoke(call, values, within(60)) }.expect("a call")
}

fn prepared(prototype: &str, address: *const ()) -> NativeCall {
    let signature = Signature::parse(prototype, &[]).expect("a prototype");
    NativeCall::new(signature, address as u64).expect("a signature")
}

fn pointer(bridge: &Bridge, id: AllocId) -> Value {
    Value::from(bridge.address(id).expect("live") as *const c_void)
}

#[test]
fn qsort_by_signature() {
    each(|bridge| {
        let numbers: Vec<u64> = (0..300).map(|n: u64| n * 2_654_435_761 % 1000).collect();
        let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        let request = AllocRequest {
            size: bytes.len() as u64,
            align: 8,
            init: Init::Bytes(&bytes),
            ..AllocRequest::default()
        };
        let id = bridge.memory().allocate(&request).expect("room");
        let base = bridge.address(id).expect("live");
        let signature = Signature::parse("int compare(const void *a, const void *b)", &[]);
        let compare = bridge
            .local_callback(signature.expect("a prototype"), |invocation| {
                let word = |value: &Value| {
                    let offset = value.as_address().expect("a pointer") - base;
                    let memory = invocation.bridge.memory();
                    let bytes = memory.read_bytes(id, offset..offset + 8);
                    u64::from_le_bytes(bytes.expect("inside").try_into().expect("eight"))
                };
                let (a, b) = (word(&invocation.args[0]), word(&invocation.args[1]));
                Ok(Value::Int(a.cmp(&b) as i128))
            })
            .expect("a callback");
        let mut call = prepared(
            "void qsort(void *base, size_t n, size_t size, int (*compare)(const void *, const void *))",
            libc::qsort as *const (),
        );
        let values = [
            pointer(bridge, id),
            Value::Uint(300),
            Value::Uint(8),
            compare.value(),
        ];
        let done = invoke(bridge, &mut call, &values);
        assert!(done.outcome.returned, "{done:?}");
        let sorted = bridge.memory().read_bytes(id, 0..2400).expect("live");
        let words = sorted.chunks_exact(8);
        let sorted: Vec<u64> = words
            .map(|w| u64::from_le_bytes(w.try_into().expect("eight")))
            .collect();
        let mut expected = numbers;
        expected.sort_unstable();
        assert_eq!(sorted, expected);
        assert!(bridge.memory().violations().is_empty());
    });
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Mixed {
    number: f64,
    tag: i8,
}

unsafe extern "C" fn passes_structs(f: unsafe extern "C" fn(Mixed, i16, f32) -> Mixed) -> f64 {
    // SAFETY: the test's callback takes these.
    let back = unsafe {
        f(
            Mixed {
                number: 1.5,
                tag: -3,
            },
            -300,
            0.25,
        )
    };
    back.number + f64::from(back.tag)
}

#[test]
fn structs_go_both_ways() {
    each(|bridge| {
        let mixed = StructType::new(
            "struct mixed",
            [("number", CType::Double), ("tag", CType::int(1, true))],
        );
        let mixed = Arc::new(mixed);
        let ty = CType::Struct(mixed.clone());
        let signature = Signature::new([ty.clone(), CType::int(2, true), CType::Float], ty);
        let f = bridge
            .callback(signature, |invocation| {
                let [Value::Struct(given), Value::Int(short), Value::F32(float)] = invocation.args
                else {
                    return Err(format!("{:?}", invocation.args).into());
                };
                assert_eq!((*short, *float), (-300, 0.25));
                let number = given
                    .field("number")
                    .and_then(|n| n.as_f64())
                    .ok_or("a number")?;
                let tag = given.field("tag").ok_or("a tag")?;
                let fields = [Value::F64(number * 2.0), tag];
                Ok(Value::Struct(Aggregate::from_fields(&mixed, &fields)?))
            })
            .expect("a callback");
        let mut call = NativeCall::new(
            Signature::new([CType::function_pointer()], CType::Double),
            passes_structs as *const () as u64,
        )
        .expect("a signature");
        let done = invoke(bridge, &mut call, &[f.value()]);
        assert!(
            matches!(done.value, Some(Ok(Value::F64(value))) if value == 0.0),
            "{done:?}"
        );
    });
}

unsafe extern "C" fn apply(f: unsafe extern "C" fn(i64) -> i64, times: u64) -> i64 {
    let mut value = 0;
    for _ in 0..times {
        // SAFETY: the tests' callbacks take a number.
        value = unsafe { f(value) };
    }
    value
}

const APPLY: &str = "int64_t apply(int64_t (*f)(int64_t), uint64_t times)";

fn number(text: &str) -> Signature {
    Signature::parse(text, &[]).expect("a prototype")
}

/// Resident memory of this process, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("proc");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let word = line.and_then(|line| line.split_whitespace().nth(1));
    word.and_then(|word| word.parse().ok()).expect("a number")
}

#[test]
fn a_million_callbacks_take_no_memory() {
    each(|bridge| {
        let step = bridge
            .callback(number("int64_t step(int64_t n)"), |invocation| {
                let n = invocation.args[0].as_int().ok_or("a number")?;
                Ok(Value::Int(n + 1))
            })
            .expect("a callback");
        let typed = bridge.closure(|n: i64| -> i64 { n + 1 });
        let mut call = prepared(APPLY, apply as *const ());
        let mut both = |times: u64| {
            for f in [step.address(), typed.address()] {
                let values = [Value::from(f as *const c_void), Value::Uint(times.into())];
                let done = invoke(bridge, &mut call, &values);
                assert!(
                    matches!(done.value, Some(Ok(Value::Int(n))) if n == times.into()),
                    "{done:?}"
                );
            }
        };
        both(10_000);
        let before = resident();
        both(500_000);
        let grown = resident().saturating_sub(before);
        assert!(grown < 4096, "{}: grown by {grown} KiB", bridge.backend());
    });
}

#[test]
fn callbacks_made_and_freed_leave_nothing_behind() {
    each(|bridge| {
        let mut call = prepared(APPLY, apply as *const ());
        let signature = Arc::new(number("int64_t step(int64_t n)"));
        let mut round = |count: usize| {
            for n in 0..count {
                let text = vec![n as u8; 1000];
                let f = bridge.closure(move |value: i64| -> i64 { value + text.len() as i64 });
                let g = bridge
                    .callback(Arc::clone(&signature), |_| Ok(Value::Int(7)))
                    .expect("a callback");
                if n % 64 == 0 {
                    let values = [Value::from(f.address() as *const c_void), Value::Uint(2)];
                    let done = invoke(bridge, &mut call, &values);
                    assert!(matches!(done.value, Some(Ok(Value::Int(2000)))), "{done:?}");
                    let done = invoke(bridge, &mut call, &[g.value(), Value::Uint(2)]);
                    assert!(matches!(done.value, Some(Ok(Value::Int(7)))), "{done:?}");
                }
            }
        };
        round(6000);
        let before = resident();
        round(20_000);
        let grown = resident().saturating_sub(before);
        assert!(grown < 4096, "{}: grown by {grown} KiB", bridge.backend());
    });
}

#[test]
fn the_interpreters_own_error_comes_back() {
    each(|bridge| {
        let fail = bridge
            .callback(
                number("int64_t step(int64_t n)"),
                |invocation| match invocation.args[0].as_int() {
                    Some(3) => Err("three is too much".into()),
                    Some(n) => Ok(Value::Int(n + 1)),
                    None => Err("no number".into()),
                },
            )
            .expect("a callback");
        let mut call = prepared(APPLY, apply as *const ());
        let done = invoke(bridge, &mut call, &[fail.value(), Value::Uint(10)]);
        assert!(done.value.is_none());
        let Some(Leave::Stopped(error)) = done.outcome.left else {
            panic!("{:?}", done.outcome);
        };
        assert_eq!(error.to_string(), "three is too much");
        assert!(bridge.memory().violations().is_empty());
        let done = invoke(bridge, &mut call, &[fail.value(), Value::Uint(3)]);
        assert!(matches!(done.value, Some(Ok(Value::Int(3)))), "{done:?}");
    });
}

#[test]
fn results_are_checked() {
    each(|bridge| {
        let wrong = bridge
            .callback(number("int64_t step(int64_t n)"), |_| Ok(Value::F64(1.0)))
            .expect("a callback");
        let mut call = prepared(APPLY, apply as *const ());
        let done = invoke(bridge, &mut call, &[wrong.value(), Value::Uint(10)]);
        let text = done.outcome.left.expect("left").to_string();
        assert!(text.starts_with("a callback's result: "), "{text}");
    });
    let _turn = turn();
    let bridge = Bridge::new(Some(Backend::Inproc)).expect("a bridge");
    let variadic = number("int f(const char *format, ...)");
    let error = bridge.callback(variadic, |_| Ok(Value::Int(0))).err();
    assert!(matches!(error, Some(CallbackError::Variadic)), "{error:?}");
}

#[test]
fn a_freed_one_is_reported() {
    each(|bridge| {
        let address = {
            let gone = bridge
                .callback(number("int64_t step(int64_t n)"), |_| Ok(Value::Int(0)))
                .expect("a callback");
            gone.address()
        };
        let others: Vec<_> = (0..200)
            .map(|_| bridge.callback(number("int64_t step(int64_t n)"), |_| Ok(Value::Int(1))))
            .collect();
        let mut call = prepared(APPLY, apply as *const ());
        let values = [Value::from(address as *const c_void), Value::Uint(1)];
        let done = invoke(bridge, &mut call, &values);
        assert!(matches!(done.outcome.left, Some(Leave::Freed)), "{done:?}");
        let memory = bridge.memory();
        let entry = &memory.violations().entries()[0];
        assert_eq!(entry.violation.kind, ViolationKind::FreedCallback);
        assert!(others.iter().all(Result::is_ok));
    });
}

#[test]
fn one_may_be_dropped_while_it_runs() {
    each(|bridge| {
        let typed = Rc::new(RefCell::new(None));
        let dynamic = Rc::new(RefCell::new(None));
        let own = Rc::clone(&typed);
        *typed.borrow_mut() = Some(bridge.local_closure(move |n: i64| -> i64 {
            drop(own.take());
            n + 1
        }));
        let own = Rc::clone(&dynamic);
        let body = move |_: &Invocation<'_>| {
            drop(own.take());
            Ok(Value::Int(1))
        };
        let signature = number("int64_t step(int64_t n)");
        *dynamic.borrow_mut() = bridge.local_callback(signature, body).ok();
        let addresses = [
            typed.borrow().as_ref().map(|f| f.address()),
            dynamic.borrow().as_ref().map(|f| f.address()),
        ];
        let mut call = prepared(APPLY, apply as *const ());
        for address in addresses {
            let f = Value::from(address.expect("a callback") as *const c_void);
            let done = invoke(bridge, &mut call, &[f.clone(), Value::Uint(1)]);
            assert!(matches!(done.value, Some(Ok(Value::Int(1)))), "{done:?}");
            let done = invoke(bridge, &mut call, &[f, Value::Uint(1)]);
            assert!(matches!(done.outcome.left, Some(Leave::Freed)), "{done:?}");
        }
    });
}

unsafe extern "C" fn crash(_: *mut c_void) {
    // SAFETY: not sound, on purpose: the session ends the call at the fault.
    unsafe { std::ptr::null_mut::<u32>().write_volatile(1) };
}

unsafe extern "C" fn spin(_: *mut c_void) {
    loop {
        std::hint::spin_loop();
    }
}

#[test]
fn a_nested_call_ends_by_itself() {
    each(|bridge| {
        let inner = |f: unsafe extern "C" fn(*mut c_void), millis: u64| {
            let options = CallOptions {
                timeout: Some(Duration::from_millis(millis)),
                ..CallOptions::default()
            };
            // SAFETY: the functions take nothing.
            unsafe { bridge.call(f, std::ptr::null_mut(), options) }.expect("a call")
        };
        let seen = Cell::new((false, false));
        let outer = bridge.local_closure(|n: i64| -> i64 {
            let crashed = !inner(crash, 5000).returned;
            let late = !inner(spin, 50).returned;
            seen.set((crashed, late));
            n + 1
        });
        let mut call = prepared(APPLY, apply as *const ());
        let values = [
            Value::from(outer.address() as *const c_void),
            Value::Uint(2),
        ];
        let done = invoke(bridge, &mut call, &values);
        assert!(matches!(done.value, Some(Ok(Value::Int(2)))), "{done:?}");
        assert_eq!(seen.get(), (true, true));
        let memory = bridge.memory();
        let kinds: Vec<_> = memory
            .violations()
            .entries()
            .iter()
            .map(|e| e.violation.kind)
            .collect();
        assert!(
            kinds.contains(&ViolationKind::WildAccess) && kinds.contains(&ViolationKind::Timeout),
            "{kinds:?}"
        );
    });
}

#[test]
fn a_call_whose_time_is_up_in_a_callback_ends_after_it() {
    each(|bridge| {
        let finished = Cell::new(0);
        let slow = bridge.local_closure(|n: i64| -> i64 {
            std::thread::sleep(Duration::from_millis(120));
            finished.set(finished.get() + 1);
            n + 1
        });
        let mut call = prepared(APPLY, apply as *const ());
        let values = [
            Value::from(slow.address() as *const c_void),
            Value::Uint(1_000_000),
        ];
        let options = CallOptions {
            timeout: Some(Duration::from_millis(50)),
            ..CallOptions::default()
        };
        // SAFETY: as in `invoke`.
        let done = unsafe { bridge.invoke(&mut call, &values, options) }.expect("a call");
        assert!(
            done.value.is_none() && finished.get() <= 2,
            "{done:?} {}",
            finished.get()
        );
        assert_eq!(
            bridge.memory().violations().entries()[0].violation.kind,
            ViolationKind::Timeout
        );
    });
}

static HANDLED_IN: Mutex<Vec<bool>> = Mutex::new(Vec::new());
static IN_CALLBACK: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

unsafe extern "C" fn handles_signals(f: unsafe extern "C" fn(i64) -> i64) -> i64 {
    static HANDLED: std::sync::atomic::AtomicI64 = std::sync::atomic::AtomicI64::new(0);
    static EARLY: std::sync::atomic::AtomicI64 = std::sync::atomic::AtomicI64::new(0);
    extern "C" fn handler(_: i32) {
        use std::sync::atomic::Ordering::SeqCst;
        HANDLED.fetch_add(1, SeqCst);
        EARLY.fetch_add(i64::from(IN_CALLBACK.load(SeqCst)), SeqCst);
    }
    use std::sync::atomic::Ordering::SeqCst;
    HANDLED.store(0, SeqCst);
    EARLY.store(0, SeqCst);
    // SAFETY: a handler for SIGUSR1, put back before this returns.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        let mut before: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGUSR1, &raw const action, &raw mut before);
        f(1);
        libc::sigaction(libc::SIGUSR1, &raw const before, std::ptr::null_mut());
    }
    HANDLED.load(SeqCst) * 10 + EARLY.load(SeqCst)
}

#[test]
fn handlers_of_native_code_wait_for_the_interpreter() {
    use std::sync::atomic::Ordering::SeqCst;
    each(|bridge| {
        if bridge.backend() == Backend::None {
            return;
        }
        let raise = bridge.local_closure(|n: i64| -> i64 {
            IN_CALLBACK.store(true, SeqCst);
            // SAFETY: sends a signal to this thread.
            unsafe { libc::raise(libc::SIGUSR1) };
            HANDLED_IN.lock().expect("free").push(true);
            IN_CALLBACK.store(false, SeqCst);
            n
        });
        let mut call = prepared(
            "int64_t handles_signals(int64_t (*f)(int64_t))",
            handles_signals as *const (),
        );
        let values = [Value::from(raise.address() as *const c_void)];
        let done = invoke(bridge, &mut call, &values);
        assert!(matches!(done.value, Some(Ok(Value::Int(10)))), "{done:?}");
    });
}

unsafe extern "C" fn keeps_errno(f: unsafe extern "C" fn(i64) -> i64) -> i64 {
    // SAFETY: this thread's errno.
    unsafe {
        *libc::__errno_location() = 123;
        f(1);
        i64::from(*libc::__errno_location())
    }
}

#[test]
fn errno_is_native_codes_own() {
    each(|bridge| {
        let fails = bridge.closure(|n: i64| -> i64 {
            // SAFETY: closes nothing, and sets errno.
            unsafe { libc::close(-1) };
            n
        });
        let mut call = prepared("int64_t f(int64_t (*f)(int64_t))", keeps_errno as *const ());
        let values = [Value::from(fails.address() as *const c_void)];
        let done = invoke(bridge, &mut call, &values);
        assert!(matches!(done.value, Some(Ok(Value::Int(123)))), "{done:?}");
    });
}

#[test]
fn a_call_while_the_memory_is_held_is_refused() {
    each(|bridge| {
        let memory = bridge.memory();
        // SAFETY: nothing is called.
        let refused = unsafe { bridge.call(crash, std::ptr::null_mut(), within(5)) };
        assert!(
            matches!(refused, Err(BridgeError::MemoryHeld)),
            "{refused:?}"
        );
        drop(memory);
        assert!(bridge.memory().violations().is_empty());
    });
}

/// Set where this program is to end in a callback: the recorder's name.
const ENDS: &str = "FFITRACE_TEST_ENDS_IN_A_CALLBACK";

#[test]
fn ends_in_a_callback() {
    let Ok(name) = std::env::var(ENDS) else {
        return;
    };
    let known = [Backend::Inproc, Backend::Ebpf, Backend::None];
    let backend = known.into_iter().find(|backend| backend.name() == name);
    let bridge = Bridge::new(backend).expect("a bridge");
    let end = bridge.closure(|_: i64| -> i64 { std::process::exit(3) });
    let mut call = prepared(APPLY, apply as *const ());
    let values = [Value::from(end.address() as *const c_void), Value::Uint(1)];
    invoke(&bridge, &mut call, &values);
}

#[test]
fn the_interpreter_may_end_the_process() {
    let mut names = Vec::new();
    each(|bridge| names.push(bridge.backend().name()));
    for name in names {
        let status = std::process::Command::new(std::env::current_exe().expect("a path"))
            .args(["--exact", "ends_in_a_callback"])
            .env(ENDS, name)
            .stdout(std::process::Stdio::null())
            .status()
            .expect("this program runs");
        assert_eq!(status.code(), Some(3), "{name}");
    }
}

#[test]
fn who_called_a_freed_one_is_told() {
    let place = tempfile::tempdir().expect("a directory");
    let (source, file) = (
        place.path().join("calls.c"),
        place.path().join("libcalls.so"),
    );
    let text = "static int middle(int (*f)(int), int n) { return f(n) + 1; }\n\
                int outer(int (*f)(int)) { return middle(f, 5) * 2; }\n";
    std::fs::write(&source, text).expect("the source");
    common::compile("cc", &source, &file, &["-O1", "-g", "-fno-inline"]);
    let library = Library::load(file.as_os_str()).expect("a library");
    let outer = library.function("outer").expect("exported");
    let signature = Signature::new([CType::function_pointer()], CType::i32());
    let mut call = NativeCall::of(signature, &outer).expect("a call");
    each(|bridge| {
        let typed = bridge.closure(|n: i32| -> i32 { n + 1 });
        let step = number("int step(int n)");
        let dynamic = bridge
            .callback(step, |_| Ok(Value::Int(6)))
            .expect("a callback");
        let functions = [
            Value::from(typed.address() as *const c_void),
            dynamic.value(),
        ];
        for function in &functions {
            let done = invoke(bridge, &mut call, std::slice::from_ref(function));
            assert!(matches!(done.value, Some(Ok(Value::Int(14)))), "{done:?}");
        }
        drop((typed, dynamic));
        for function in functions {
            let done = invoke(bridge, &mut call, &[function]);
            let mut memory = bridge.memory();
            let context = Context::of(&done.outcome);
            let found = Diagnoser::new().diagnose(&memory.violations().entries()[0], &context);
            assert_eq!(found.kind, ViolationKind::FreedCallback);
            let names: Vec<_> = found
                .backtrace
                .iter()
                .map(|frame| frame.function.clone())
                .collect();
            let expected = ["middle", "outer"].map(|name| Some(name.to_owned()));
            assert_eq!(names, expected, "{found}");
            memory.violations_mut().clear();
        }
    });
}
