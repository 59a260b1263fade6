//! What was found has names, and the interpreter's own call stack.

use std::{
    ffi::c_void,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use interp_bridge::{
    bridge::{CallOptions, StopAt},
    diagnosis::{Context, Diagnoser},
    ffi::Library,
};

use super::{Native, allocate, common, each};

const SOURCE: &str = "\
#include <stddef.h>
__attribute__((noinline)) static void innermost(volatile char *at) {
    *at = 1;
    __asm__ volatile(\"\");
}
__attribute__((noinline)) static void middle(volatile char *at) {
    innermost(at + 8);
    __asm__ volatile(\"\");
}
void outermost(void *at) {
    middle(at);
    __asm__ volatile(\"\");
}
";

#[test]
fn a_violation_has_names_and_the_interpreters_stack() {
    let directory = tempfile::tempdir().expect("a directory");
    let (source, library) = (
        directory.path().join("w.c"),
        directory.path().join("libw.so"),
    );
    std::fs::write(&source, SOURCE).expect("writable");
    common::compile("cc", &source, &library, &["-g", "-O1"]);
    let library = Library::load(library.as_os_str()).expect("loadable");
    let function = library.function("outermost").expect("exported");
    // SAFETY: the function has this signature.
    let outermost: Native = unsafe { std::mem::transmute(function.address) };
    each(|bridge| {
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        bridge.set_call_stack_provider(Some(Arc::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
            vec!["prog.rs:3 in main".to_owned()]
        })));
        let (_, good) = allocate(&bridge, &[0; 9], true);
        let (id, at) = allocate(&bridge, &[0; 8], true);
        for stop in [StopAt::Never, StopAt::First] {
            bridge.memory().violations_mut().clear();
            let options = CallOptions {
                stop,
                ..CallOptions::default()
            };
            // SAFETY: the function writes one byte eight bytes behind the pointer, in the arena.
            let made = |at: u64| unsafe { bridge.call(outermost, at as *mut c_void, options) };
            asked.store(0, Ordering::Relaxed);
            let outcome = made(good).expect("a call");
            assert_eq!((outcome.violations, asked.load(Ordering::Relaxed)), (0, 0));
            let outcome = made(at).expect("a call");
            assert_eq!((outcome.violations, asked.load(Ordering::Relaxed)), (1, 1));
            assert_eq!(outcome.stopped.is_some(), stop == StopAt::First);
            let memory = bridge.memory();
            let context = Context {
                function: Some("outermost"),
                address: Some(function.address),
                memory: Some(&memory),
                ..Context::of(&outcome)
            };
            let found = Diagnoser::new().diagnose(&memory.violations().entries()[0], &context);
            let names = found
                .backtrace
                .iter()
                .map(|frame| frame.function.as_deref());
            let names: Vec<_> = names.flatten().collect();
            assert_eq!(names, ["innermost", "middle", "outermost"], "{found}");
            let lines = found.backtrace.iter().map(|frame| frame.source.as_ref());
            let lines: Vec<_> = lines.flatten().map(|line| line.line).collect();
            assert_eq!(lines, [3, 7, 11], "{found}");
            assert_eq!(found.backtrace[0].module.as_deref(), Some("libw.so"));
            let note = found.allocation.as_ref().expect("known");
            assert_eq!(
                (note.id, note.base, note.size, note.offset),
                (id, at, Some(8), 8)
            );
            assert_eq!(found.interpreter_stack, ["prog.rs:3 in main"]);
            assert!(
                found
                    .instruction
                    .as_deref()
                    .is_some_and(|text| text.contains("mov"))
            );
        }
    });
}
