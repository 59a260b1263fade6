//! What the tests of traced calls share: turns, a bridge for each recorder, buffers, calls, and C
//! sources built at test time.
//!
//! Signal handlers belong to the process, so tests that trace take turns. A recorder that the host
//! does not allow is left out by name; what it allows has to work. What it allows is found out
//! without the product (`ffitrace_tests::host`).
//!
//! # Safety
//! A test gives each function the data that it expects; what native code does wrong on purpose
//! stays inside the arena, or ends the call.
#![allow(unsafe_code)]
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::{
    ffi::c_void,
    path::Path,
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ffitrace_tests::host::{self, Need};
use interp_bridge::{
    bridge::{Bridge, BridgeError, CallOptions, CallOutcome},
    memory::{AllocId, AllocRequest, Init},
};
use tracer_user::backend::Backend;

/// Every recorder that traces.
pub(crate) const TRACED: &[Backend] = &[Backend::Inproc, Backend::Ptrace, Backend::Ebpf];
/// Those that interpreters run with: they can stop native code.
pub(crate) const IN_PROCESS: &[Backend] = &[Backend::Inproc, Backend::Ebpf];
/// Those, and no recorder at all.
pub(crate) const OR_NONE: &[Backend] = &[Backend::Inproc, Backend::Ebpf, Backend::None];
/// All of them.
pub(crate) const ALL: &[Backend] = &[
    Backend::Inproc,
    Backend::Ptrace,
    Backend::Ebpf,
    Backend::None,
];

/// A native function as a bridge calls it.
pub(crate) type Native = unsafe extern "C" fn(*mut c_void);

/// Waits for this test's turn, which lasts until the guard is dropped.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was made with a recorder; `None` where this process may not use that one.
pub(crate) fn if_possible<T>(backend: Backend, made: Result<T, BridgeError>) -> Option<T> {
    match made {
        Ok(made) => Some(made),
        Err(error) => {
            let need = match backend {
                Backend::Ebpf => Some(Need::Bpf),
                Backend::Ptrace => Some(Need::Ptrace),
                _ => None,
            };
            match need.and_then(host::missing) {
                Some(missing) => eprintln!("{backend} is left out: {missing}; {error}"),
                None => panic!("{backend} can be had here: {error}"),
            }
            None
        }
    }
}

/// A bridge with each of these recorders that can be had here, one after the other.
pub(crate) fn each(backends: &[Backend], body: impl FnMut(Bridge)) {
    let _turn = turn();
    backends
        .iter()
        .filter_map(|backend| if_possible(*backend, Bridge::new(Some(*backend))))
        .for_each(body);
}

/// Options of a call that is ended after so many seconds.
pub(crate) fn within(seconds: u64) -> CallOptions {
    CallOptions {
        timeout: Some(Duration::from_secs(seconds)),
        ..CallOptions::default()
    }
}

/// A buffer of the interpreter, aligned to 16 bytes.
pub(crate) fn buffer(bridge: &Bridge, size: u64, init: Init<'_>, mutable: bool) -> AllocId {
    let request = AllocRequest {
        name: Some("buffer"),
        size,
        align: 16,
        init,
        mutable,
        ..AllocRequest::default()
    };
    bridge.memory().allocate(&request).expect("an allocation")
}

/// A writable buffer with this content.
pub(crate) fn buffer_of(bridge: &Bridge, bytes: &[u8]) -> AllocId {
    buffer(bridge, bytes.len() as u64, Init::Bytes(bytes), true)
}

/// Calls `f(data)`, within twenty seconds.
pub(crate) fn call<T>(bridge: &Bridge, f: Native, data: *mut T) -> CallOutcome {
    // SAFETY: see the module; no frame of these functions owns anything.
    unsafe { bridge.call(f, data.cast(), within(20)) }.expect("a call")
}

/// Compiles a source to a shared library, with the compiler's further `flags`.
pub(crate) fn compile(compiler: &str, source: &Path, library: &Path, flags: &[&str]) {
    let built = Command::new(compiler)
        .args(["-shared", "-fPIC", "-w", "-o"])
        .args([library, source])
        .args(flags)
        .output()
        .unwrap_or_else(|error| panic!("`{compiler}`: {error}"));
    let words = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{words}");
}
