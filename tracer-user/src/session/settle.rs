//! Accounts: the counters at one moment, and waiting until all that was counted has arrived.
//!
//! ```text
//!  before the call ── mark ──┐
//!  after it: drain, mark … until delivered + rejected + dropped = emitted, or time is up
//!            what the recorder knows that it could not see is refused by name
//! ```

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use super::{TraceSession, reader::Draining, stats::Mark};
use crate::{
    access::{AccessKind, Refused},
    backend::BackendError,
    translate::Logs,
};

/// How long the end of a call waits for records of other threads that are still on their way.
const SETTLE: Duration = Duration::from_millis(200);

/// Time that is only looked at where there is something to wait for.
#[derive(Default)]
struct Patience {
    deadline: Option<Instant>,
}

impl Patience {
    /// Whether [`SETTLE`] has passed since this was first asked.
    fn is_over(&mut self) -> bool {
        let now = Instant::now();
        now > *self.deadline.get_or_insert(now + SETTLE)
    }
}

impl TraceSession {
    /// Applies every access that was recorded before now, of all threads.
    pub fn catch_up(&self) {
        let (kernel, user) = self.engine.written();
        let mut waiting = None;
        loop {
            let mut draining = self.draining();
            draining.drain(self.engine);
            let (taken_out, progress) = (self.engine.taken_out(), draining.pipeline.progress());
            drop(draining);
            if taken_out.0 >= kernel && taken_out.1 >= user {
                // Behind a record of another thread that waits for what completes it.
                let (until, since) = *waiting.get_or_insert((progress.0, None::<Instant>));
                if progress.1 >= until || since.is_some_and(|since| since.elapsed() > SETTLE) {
                    return;
                }
                waiting = Some((until, since.or_else(|| Some(Instant::now()))));
            }
            std::thread::yield_now();
        }
    }

    pub(super) fn mark(&self, draining: &mut Draining) -> Result<Mark, BackendError> {
        // Before the kernel's count, which may only be larger then.
        let handled = self.engine.handled.load(Ordering::Acquire);
        // Before the drain, which finds at least as many: more of a thread that goes on.
        let logs = self.engine.translator().map(|translator| &translator.logs);
        let logged = logs.map_or(0, Logs::entries);
        draining.drain(self.engine);
        let logged = logs.map_or(0, Logs::entries_read).max(logged);
        Ok(Mark {
            handled,
            logged,
            emitted: draining.recorder.emitted()?,
            totals: draining.pipeline.totals(),
            steps: self.engine.steps.load(Ordering::Relaxed),
            blind: self.engine.blind_steps.load(Ordering::Relaxed),
            uncopied: self.engine.uncopied.load(Ordering::Relaxed),
            changed: self.engine.known.changed.load(Ordering::Relaxed),
            foreign: self.engine.foreign.load(Ordering::Relaxed),
            failed: self
                .engine
                .words()
                .supervisor_failed
                .load(Ordering::Relaxed),
        })
    }

    /// Drains until every fault that was counted has arrived, and refuses by name what the
    /// recorder knows that it could not see.
    pub(super) fn settle(&self, before: Mark) -> Result<Mark, BackendError> {
        let mut patience = Patience::default();
        let mut draining = self.draining();
        let after = loop {
            let now = self.mark(&mut draining)?;
            let stats = now.since(&before);
            let accounted = stats.delivered + stats.rejected + stats.dropped;
            if accounted >= stats.emitted || patience.is_over() {
                break now;
            }
            drop(draining);
            std::thread::yield_now();
            draining = self.draining();
        };
        draining.pipeline.finish();
        let blind = after.blind - before.blind;
        let uncopied = after.uncopied - before.uncopied;
        let changed = after.changed - before.changed;
        let failed = after.failed - before.failed;
        let elsewhere =
            after.foreign - before.foreign + after.unrecorded().saturating_sub(before.unrecorded());
        // Who was to record them has gone: they are lost, and no fault of native code's.
        let gone = elsewhere > 0 && draining.recorder.gone().is_some();
        let (elsewhere, lost) = if gone { (0, elsewhere) } else { (elsewhere, 0) };
        // The trap flag marks the engine's own steps; without one it is somebody else's.
        let stepped = after.totals.stepping - before.totals.stepping;
        let foreign = if after.steps == before.steps {
            stepped
        } else {
            0
        };
        let mut unseen = |count: u64, what: &dyn Fn() -> String| {
            if count > 0 {
                draining.pipeline.refuse_other(&Refused {
                    tid: 0,
                    ip: 0,
                    addr: 0,
                    kind: AccessKind::Read,
                    what: what(),
                });
            }
            u64::from(count > 0)
        };
        let extra = unseen(uncopied, &|| {
            format!(
                "{uncopied} string instructions or pushes of flags were stepped one by one, \
                 because the area for copies of instructions is full; what is told of them may \
                 be wrong; begin a new process"
            )
        }) + unseen(changed, &|| {
            format!(
                "{changed} accesses were made by code that had been changed since it was looked at, \
                 though it is mapped from a file and not writable; what is told of them may be wrong; \
                 have the library loaded before the session begins, as it will stay"
            )
        }) + unseen(blind, &|| {
            format!(
                "{blind} instructions were single-stepped with the arena open while a thread \
                 that blocks all signals ran; accesses of it may be missing"
            )
        }) + unseen(elsewhere, &|| {
            format!(
                "{elsewhere} accesses were resumed and not recorded, because the kernel's part did not \
                 know whose they are; the inproc recorder sees them"
            )
        }) + unseen(failed, &|| {
            format!("the supervisor could not follow {failed} accesses")
        }) + unseen(foreign, &|| {
            format!("{foreign} accesses were made under a debugger's single step and not recorded")
        });
        let nothing_new = extra + lost == 0 && draining.pipeline.totals() == after.totals;
        if nothing_new && after.since(&before).balanced() {
            return Ok(after);
        }
        // Threads that outlive the call go on between a drain and the look at the counter; at
        // some moment soon nothing is on its way.
        let mut patience = Patience::default();
        loop {
            let mut end = self.mark(&mut draining)?;
            end.emitted.emitted += extra + lost;
            end.emitted.dropped += lost;
            if end.since(&before).balanced() || patience.is_over() {
                return Ok(end);
            }
            drop(draining);
            std::thread::yield_now();
            draining = self.draining();
        }
    }
}
