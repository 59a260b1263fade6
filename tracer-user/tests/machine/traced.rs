//! Cases through the real engine: a session records them, its handlers resume them, by copies and
//! by steps; what the program can see afterwards is what it sees without a session, and the
//! events are the account.

use std::sync::{Arc, Mutex, PoisonError};

use tracer_user::access::{Access, AccessEvent, AccessKind, EventSink, Refused};
use tracer_user::backend::Backend;
use tracer_user::session::{Place, TraceSession};
use tracer_user::shadow::Shadow;

use crate::hardware::{self, End};
use crate::judge::{Reference, Trial};
use crate::thread_state::{ThreadState, run_watched};
use crate::world::World;

#[derive(Default)]
struct Seen {
    accesses: Vec<Access>,
    refused: Vec<String>,
}

impl EventSink for Seen {
    fn event(&mut self, event: &AccessEvent) {
        self.accesses.push(event.access);
    }

    fn refused(&mut self, refused: &Refused) {
        self.refused.push(refused.what.clone());
    }
}

/// A session over the world's arena.
pub(crate) struct Traced {
    session: TraceSession,
    seen: Arc<Mutex<Seen>>,
    _shadow: Shadow,
}

impl Traced {
    /// Starts a session with this recorder.
    pub(crate) fn new(world: &World, backend: Backend) -> Traced {
        let shadow = Shadow::new(world.session()).expect("a shadow");
        let place = Place {
            session: world.session(),
            segments: 1,
            shadow: world.shadow(&shadow),
        };
        let seen = Arc::new(Mutex::new(Seen::default()));
        let session = TraceSession::start(backend, place, seen.clone());
        Traced {
            session: session.expect("a session"),
            seen,
            _shadow: shadow,
        }
    }

    /// Whether another process runs in the middle of each access.
    pub(crate) fn is_switched_away(&self) -> bool {
        self.session.backend() == Backend::Ptrace
    }

    /// Forgets what was recorded up to now.
    fn nothing(&mut self) {
        extern "C" fn nothing() {}
        let (mut before, mut after) = (ThreadState::default(), ThreadState::default());
        run_watched(&mut self.session, nothing, &mut before, &mut after);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Seen::default();
    }

    /// Runs a case with the native view closed.
    pub(crate) fn check(&mut self, trial: &Trial<'_>, reference: &Reference) -> Result<(), String> {
        // The kernel also recorded the pages that it mapped for runs outside of any call.
        self.nothing();
        trial.fill(0);
        trial.open_outside();
        let mut before = ThreadState::default();
        let mut after = ThreadState::default();
        let mut crash = None;
        let mut complete = false;
        let outcome = hardware::execute_by(&trial.start(), |enter| {
            let end = run_watched(&mut self.session, enter, &mut before, &mut after);
            crash = end.crash.map(|crash| (crash.signal, crash.regs.rip));
            complete = end.stats.complete();
        });
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = std::mem::take(&mut *seen);
        // A division that overflows has read its operand.
        let fails = match reference.outcome.end {
            End::Signal { signal, .. } => Some((signal, trial.case.regs.rip)),
            _ => None,
        };
        if crash != fails {
            return Err(format!("traced, it crashes: {crash:x?}, not {fails:x?}"));
        }
        if !seen.refused.is_empty() || !complete {
            return Err(format!("traced: refused {:?}", seen.refused));
        }
        if fails.is_none() {
            if before != after {
                return Err(format!("traced: {before:x?} becomes {after:x?}"));
            }
            trial
                .compare(reference, &outcome)
                .map_err(|what| format!("traced, it does otherwise: {what}"))?;
        }
        let session = trial.world.session();
        let in_arena = |access: &&Access| {
            session.is_native(access.addr) || session.is_native(access.addr + access.len - 1)
        };
        let claimed: Vec<Access> = trial
            .claim
            .accesses
            .iter()
            .filter(in_arena)
            .copied()
            .collect();
        let same = if trial.claim.decoded.string_op().is_some() {
            // A stepped repetition gives one event for each iteration.
            bytes(&claimed) == bytes(&seen.accesses)
        } else {
            claimed == seen.accesses
        };
        if same {
            Ok(())
        } else {
            Err(format!("traced: events {:x?}", seen.accesses))
        }
    }
}

/// Each byte of each access.
fn bytes(accesses: &[Access]) -> Vec<(bool, u64)> {
    let mut all: Vec<(bool, u64)> = accesses
        .iter()
        .flat_map(|it| (it.addr..it.addr + it.len).map(|at| (it.kind == AccessKind::Write, at)))
        .collect();
    all.sort_unstable();
    all
}
