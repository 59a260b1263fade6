//! The agent thread: drains the rings when it is told to, and ends calls whose time is up.

use std::{
    os::fd::OwnedFd,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{net::unix::pipe::Receiver, sync::mpsc};

use crate::{
    backend::Recorder,
    pipeline::Pipeline,
    resume::{CallKey, Engine, Reason, safe::Safe},
    translate::Translator,
};

/// How often threads in translated code are looked at.
const PERIOD: Duration = Duration::from_millis(5);

/// What the calling thread and the agent thread take turns at.
pub(super) struct Draining {
    pub(super) recorder: Box<dyn Recorder>,
    pub(super) pipeline: Pipeline,
}

impl Draining {
    /// Takes all records that are there through the pipeline.
    pub(super) fn drain(&mut self, engine: &Engine) {
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
    }
}

/// What the agent thread is told.
pub(super) enum Command {
    /// End the call when the time is up.
    Watch(CallKey, Instant),
    /// The call ended.
    Unwatch(CallKey),
    /// End the agent thread.
    Stop,
}

/// Runs until it is told to stop. `wake` is the pipe that the handlers write to.
pub(super) fn run(
    engine: &'static Engine,
    draining: &Mutex<Draining>,
    wake: OwnedFd,
    mut inbox: mpsc::UnboundedReceiver<Command>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!(%error, "the agent's event loop did not start"),
    };
    runtime.block_on(async {
        let wake = match Receiver::from_owned_fd(wake) {
            Ok(wake) => wake,
            Err(error) => return tracing::error!(%error, "the agent cannot wait for its pipe"),
        };
        let mut requests = [0; 64];
        // Calls in the middle of others may have limits of their own.
        let mut watched: Vec<(CallKey, Instant)> = Vec::new();
        // Whether translated code pays is looked at while there are threads in it.
        let mut look: Option<tokio::time::Instant> = None;
        loop {
            let first = watched.iter().map(|(_, deadline)| *deadline).min();
            let deadline = first.map(tokio::time::Instant::from_std);
            tokio::select! {
                _ = wake.readable() => {
                    // Nothing to read is a spurious wake-up; draining once more is harmless.
                    let _ = wake.try_read(&mut requests);
                    draining.lock().unwrap_or_else(PoisonError::into_inner).drain(engine);
                    // There may always be more: clocks are looked at in between.
                    tokio::task::yield_now().await;
                    if look.is_none() && engine.translator().is_some_and(Translator::is_looking) {
                        look = Some(tokio::time::Instant::now() + PERIOD);
                    }
                }
                () = tokio::time::sleep_until(look.unwrap_or_else(tokio::time::Instant::now)),
                    if look.is_some() =>
                {
                    let again = engine.look_at_threads();
                    look = again.then(|| tokio::time::Instant::now() + PERIOD);
                }
                command = inbox.recv() => match command {
                    Some(Command::Watch(key, deadline)) => watched.push((key, deadline)),
                    Some(Command::Unwatch(key)) => watched.retain(|(known, _)| *known != key),
                    Some(Command::Stop) | None => return,
                },
                () = tokio::time::sleep_until(deadline.unwrap_or_else(tokio::time::Instant::now)),
                    if deadline.is_some() =>
                {
                    let now = Instant::now();
                    for (key, deadline) in &mut watched {
                        if *deadline <= now {
                            engine.request_end(Safe::promise(), *key, Reason::Timeout);
                            // Asked again until the call is over: it may be in the middle of
                            // code that cannot be left.
                            *deadline = now + Duration::from_millis(100);
                        }
                    }
                }
            }
        }
    });
}
