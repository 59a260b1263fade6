//! The native heap of a library, watched: in the arena and on the real heap, under each recorder.
//!
//! # Safety
//! Native code here are the fixtures beside this file, whose functions take a word of this
//! process; what they do wrong on purpose is what the heap does not carry out.
#![allow(unsafe_code)]

#[path = "../common/mod.rs"]
mod common;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use interp_bridge::bridge::{Bridge, CallOutcome};
use interp_bridge::memory::{AllocRequest, Init, Logged, Violation, ViolationKind};
use interp_bridge::native::{NativeHeapMode, NativeHeapWatch};
use tracer_user::backend::Backend;

use common::{IN_PROCESS, Native, turn, within};

mod arena;
mod observe;

/// A fixture, compiled once.
struct Fixture {
    path: PathBuf,
    library: libloading::Library,
    _dir: tempfile::TempDir,
}

fn compile(compiler: &str, source: &str, flags: &[&str]) -> Fixture {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join(format!("{source}.so"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/native_heap")
        .join(source);
    let flags = [&["-g", "-O1", "-pthread"], flags].concat();
    common::compile(compiler, &source, &path, &flags);
    // SAFETY: the fixtures have no constructors.
    let library = unsafe { libloading::Library::new(&path) }.expect("loads");
    Fixture {
        path,
        library,
        _dir: dir,
    }
}

fn c() -> &'static Fixture {
    static C: OnceLock<Fixture> = OnceLock::new();
    C.get_or_init(|| compile("cc", "heap.c", &[]))
}

fn cpp() -> &'static Fixture {
    static CPP: OnceLock<Fixture> = OnceLock::new();
    CPP.get_or_init(|| compile("c++", "heap.cpp", &["-std=c++17"]))
}

/// A bridge that watches a fixture's heap.
struct Case {
    watch: NativeHeapWatch,
    bridge: Bridge,
    fixture: &'static Fixture,
}

impl Case {
    /// Calls a function and returns the word that it left.
    fn call(&self, name: &str, word: i64) -> i64 {
        let (outcome, word) = self.run(name, word);
        assert!(
            outcome.returned && outcome.stats.complete(),
            "{name}: {outcome:?}, {:?}",
            self.violations()
        );
        word
    }

    /// Calls a function that does not return, and returns why.
    fn crash(&self, name: &str) -> Violation {
        let (outcome, _) = self.run(name, 0);
        assert!(!outcome.returned);
        let found = self.violations().remove(0).violation;
        self.bridge.memory().violations_mut().clear();
        found
    }

    fn run(&self, name: &str, word: i64) -> (CallOutcome, i64) {
        // SAFETY: all functions of the fixtures have this signature.
        let function = unsafe { self.fixture.library.get::<Native>(name) }.expect("a function");
        let mut word = word;
        // SAFETY: the function takes a word, and nothing here has to be dropped.
        let outcome = unsafe {
            self.bridge
                .call(*function, (&raw mut word).cast(), within(60))
        };
        (outcome.expect("a call"), word)
    }

    fn violations(&self) -> Vec<Logged> {
        self.bridge.memory().violations().entries().to_vec()
    }

    /// Calls a function that does nothing wrong, and returns its word.
    fn clean(&self, name: &str, word: i64) -> i64 {
        let word = self.call(name, word);
        assert_eq!(self.violations(), [], "{name}");
        word
    }

    /// Calls a function that breaks one rule, and returns what is said of it.
    fn wrong(&self, name: &str, kind: ViolationKind) -> Logged {
        self.call(name, 0);
        let mut found = self.violations();
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        let found = found.remove(0);
        assert_eq!(found.violation.kind, kind, "{name}: {found:?}");
        self.bridge.memory().violations_mut().clear();
        found
    }
}

/// Runs `body` with each traced recorder that can be had here.
fn each(fixture: &'static Fixture, mode: NativeHeapMode, mut body: impl FnMut(&Case)) {
    common::each(IN_PROCESS, |bridge| {
        let watch = NativeHeapWatch::begin(&bridge, &[&fixture.path], mode).expect("a watch");
        body(&Case {
            watch,
            bridge,
            fixture,
        });
    });
}
