//! The test accesses at the start of a session: no recorder is trusted before it has shown them.
//!
//! # Safety
//! The accesses go to the guard at the start of the first segment, where nothing is ever
//! allocated, and write back what they read.
#![allow(unsafe_code)]

use std::sync::{Arc, Mutex, PoisonError, atomic::Ordering};

use super::{CallEnd, SessionError, TraceSession};
use crate::{
    access::{AccessEvent, AccessKind, EventSink, Refused},
    backend::{Backend, BackendError},
    pipeline::SharedSink,
};

/// Where the test access goes: inside the guard at the start of the first segment.
const SELF_TEST_OFFSET: u64 = 64;

#[derive(Default)]
struct Seen {
    events: Vec<(AccessKind, u64, u64)>,
    refused: String,
}

impl EventSink for Seen {
    fn event(&mut self, event: &AccessEvent) {
        self.events
            .push((event.access.kind, event.access.addr, event.access.len));
    }

    fn refused(&mut self, refused: &Refused) {
        self.refused.clone_from(&refused.what);
    }
}

impl TraceSession {
    /// Makes one access of each kind and checks that exactly it arrives.
    pub(super) fn self_test(&mut self) -> Result<(), SessionError> {
        if self.backend == Backend::None {
            return Ok(());
        }
        let seen = Arc::new(Mutex::new(Seen::default()));
        let sink: SharedSink = seen.clone();
        let real = self.draining().pipeline.set_sink(sink);
        let target = self.engine.session().arena_base + SELF_TEST_OFFSET;
        let end = self.self_test_call(target);
        let mut draining = self.draining();
        draining.pipeline.set_sink(real);
        draining.pipeline.reset();
        drop(draining);
        self.pulse.delivered.store(0, Ordering::Relaxed);
        let end = end?;
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let expected = [
            (AccessKind::Read, target, 8),
            (AccessKind::Write, target, 8),
        ];
        if end.crash.is_none() && end.stats.complete() && seen.events == expected {
            return Ok(());
        }
        let detail = format!(
            "expected a read and a write of 8 bytes, got {} events; {}; {:?}",
            seen.events.len(),
            if seen.refused.is_empty() {
                "nothing refused"
            } else {
                &seen.refused
            },
            end.crash.map(|crash| crash.signal),
        );
        Err(BackendError::SelfTest {
            backend: self.backend,
            detail,
        }
        .into())
    }

    fn self_test_call(&mut self, target: u64) -> Result<CallEnd, SessionError> {
        unsafe extern "C" fn touch(target: *mut libc::c_void) {
            let target = target.cast::<u64>();
            // SAFETY: in the native view of a mapped segment, where nothing is ever allocated;
            // the engine makes the access work.
            unsafe {
                let value = target.read_volatile();
                target.write_volatile(value);
            }
        }
        // SAFETY: `touch` owns nothing.
        unsafe { self.call(touch, target as *mut libc::c_void, 1, None) }
    }
}
