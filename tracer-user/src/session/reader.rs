//! The reader: takes records out of the rings when a handler asks, on a thread of its own.
//!
//! ```text
//!  handler ── a byte ──► pipe ──► reader: recorder ─► pipeline ─► sink
//! ```
//! The sink is the interpreter's, and may be slow, or wait for somebody: so nothing else is done here.
//! [`Pulse`] lets others see whether it moves.

use std::{
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use rustix::{event, io::Errno};

use crate::{
    backend::Recorder,
    pipeline::Pipeline,
    resume::{Engine, safe::Safe},
};

/// Whether records are being taken out at this moment, and how many were.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    busy: AtomicBool,
    /// Accesses delivered, as the pipeline counts them.
    pub(super) delivered: Arc<AtomicU64>,
}

impl Pulse {
    /// What was delivered so far, if somebody is at it.
    pub(super) fn beat(&self) -> Option<u64> {
        let busy = self.busy.load(Ordering::Acquire);
        busy.then(|| self.delivered.load(Ordering::Relaxed))
    }
}

/// What the calling thread and the reader take turns at.
pub(super) struct Draining {
    pub(super) recorder: Box<dyn Recorder>,
    pub(super) pipeline: Pipeline,
    pub(super) pulse: Arc<Pulse>,
}

impl Draining {
    /// Takes all records that are there through the pipeline.
    pub(super) fn drain(&mut self, engine: &Engine) {
        self.pulse.busy.store(true, Ordering::Release);
        engine.drain_begins();
        let number = engine.stop.drain_begins();
        let pipeline = &mut self.pipeline;
        let records = self.recorder.drain(&mut |record| pipeline.feed(record));
        // After the records: what a log marks of them is there by now.
        let entries = pipeline.read_logs();
        if records > 0 || entries {
            engine.drain_ended();
        }
        if engine.stop.is_armed() && pipeline.is_idle() {
            let wanted = pipeline.stop_wanted();
            engine.stop.drain_judged(Safe::promise(), number, wanted);
        }
        self.pulse.busy.store(false, Ordering::Release);
    }
}

/// Runs until `stop` is set and a byte written to the other end of `wake`. `drained` is called after each
/// time.
pub(super) fn run(
    engine: &'static Engine,
    draining: &Mutex<Draining>,
    wake: &OwnedFd,
    stop: &AtomicBool,
    mut drained: impl FnMut(),
) {
    let mut requests = [0; 64];
    loop {
        let mut readable = [event::PollFd::new(wake, event::PollFlags::IN)];
        match event::poll(&mut readable, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return tracing::error!(%error, "the reader cannot wait for its pipe"),
        }
        // Nothing to read is a spurious wake-up; draining once more is harmless.
        let _ = rustix::io::read(wake, &mut requests);
        if stop.load(Ordering::Acquire) {
            return;
        }
        draining
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(engine);
        drained();
    }
}
