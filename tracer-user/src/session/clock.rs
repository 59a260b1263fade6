//! The clock: ends calls whose time is up, looks whether translated code pays, and notices a reader
//! that does not move.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{sync::mpsc, time::sleep_until};

use super::reader::Pulse;
use crate::resume::{CallKey, Engine, Reason, safe::Safe};

/// How often threads in translated code are looked at.
const PERIOD: Duration = Duration::from_millis(5);

/// How often the reader is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// At how many looks in a row it must not have moved to be told of.
const PATIENCE: u32 = 5;

/// What the clock is told.
pub(super) enum Command {
    /// End the call when the time is up.
    Watch(CallKey, Instant),
    /// The call ended.
    Unwatch(CallKey),
    /// There may be threads in translated code.
    Look,
    /// End.
    Stop,
}

/// Who is told of a reader that does not move, and for how long it has not.
pub(super) type OnStuck = Arc<Mutex<Box<dyn FnMut(Duration) + Send>>>;

/// Runs until it is told to stop.
pub(super) fn run(
    engine: &'static Engine,
    mut inbox: mpsc::UnboundedReceiver<Command>,
    pulse: &Pulse,
    on_stuck: &OnStuck,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!(%error, "the session's clock did not start"),
    };
    runtime.block_on(async {
        // Calls in the middle of others may have limits of their own.
        let mut watched: Vec<(CallKey, Instant)> = Vec::new();
        // Whether translated code pays is looked at while there are threads in it.
        let mut look: Option<tokio::time::Instant> = None;
        let mut beats = tokio::time::interval(LOOK);
        let mut stuck = Stuck::default();
        loop {
            let first = watched.iter().map(|(_, deadline)| *deadline).min();
            let deadline = first.map(tokio::time::Instant::from_std);
            tokio::select! {
                command = inbox.recv() => match command {
                    Some(Command::Watch(key, deadline)) => watched.push((key, deadline)),
                    Some(Command::Unwatch(key)) => watched.retain(|(known, _)| *known != key),
                    Some(Command::Look) => {
                        look.get_or_insert_with(|| tokio::time::Instant::now() + PERIOD);
                    }
                    Some(Command::Stop) | None => return,
                },
                () = sleep_until(look.unwrap_or_else(tokio::time::Instant::now)),
                    if look.is_some() =>
                {
                    let again = engine.look_at_threads();
                    look = again.then(|| tokio::time::Instant::now() + PERIOD);
                }
                _ = beats.tick() => if let Some(looks) = stuck.look(pulse.beat()) {
                    let mut told = on_stuck.lock().unwrap_or_else(PoisonError::into_inner);
                    told(LOOK * looks);
                },
                () = sleep_until(deadline.unwrap_or_else(tokio::time::Instant::now)),
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

/// Whether the reader moves, look by look.
#[derive(Debug, Default)]
struct Stuck {
    last: Option<u64>,
    looks: u32,
}

impl Stuck {
    /// Takes what the pulse shows; the number of looks without a change, once that is too many.
    fn look(&mut self, beat: Option<u64>) -> Option<u32> {
        if beat.is_some() && beat == self.last {
            self.looks += 1;
        } else {
            self.looks = 0;
        }
        self.last = beat;
        (self.looks == PATIENCE).then_some(self.looks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_or_rests_is_not_stuck_and_what_is_is_told_once() {
        let mut stuck = Stuck::default();
        assert!((0..20).all(|count| stuck.look(Some(count)).is_none()));
        assert!((0..20).all(|_| stuck.look(None).is_none()));
        let told: Vec<_> = (0..20).filter_map(|_| stuck.look(Some(7))).collect();
        assert_eq!(told, [PATIENCE]);
    }
}
