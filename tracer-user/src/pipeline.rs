//! From records to access events, in order.
//!
//! ```text
//!  recorder ─records─► decode (cached by site) ─accesses─► arena only ─events─► sink
//!                        ▲ waits for the aux record where the form needs one
//! ```
//! Faults are decoded in the order of the ring. One whose form needs state that only the
//! handler sees waits for the handler's aux record, and those behind it wait with it.

mod faults;
mod sites;
mod syscalls;
mod totals;

use std::{
    collections::{HashMap, VecDeque},
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tracer_ebpf::{AuxRecord, FaultRecord, Session, TouchRecord};

use crate::{
    access::{Access, AccessEvent, AccessKind, EventSink, Refused, Source},
    resume::signals::ERROR_WRITE,
    wire::{self, Record},
};

use sites::CachedSite;
pub use totals::Totals;

/// Where events go: shared with the interpreter, which looks at it between calls.
pub type SharedSink = Arc<Mutex<dyn EventSink>>;

/// How a repeated string instruction executes under this recorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StringRule {
    /// As the resume engine does it: whole where it can be moved to the host view.
    Displaced,
    /// One iteration a fault: the thread is single-stepped.
    Stepped,
}

/// A record that waits for its turn.
enum Waiting {
    Fault(FaultRecord),
    Touch(TouchRecord),
}

/// See the module.
pub struct Pipeline {
    session: Session,
    copies: Range<u64>,
    rule: StringRule,
    sites: HashMap<u64, CachedSite>,
    waiting: VecDeque<Waiting>,
    /// Faults and touches taken in, waiting ones included.
    taken_in: u64,
    /// Number of the last touch of each thread.
    last_touch: HashMap<u32, u64>,
    aux: HashMap<(u32, u64), VecDeque<AuxRecord>>,
    accesses: Vec<Access>,
    sink: SharedSink,
    totals: Totals,
    progress: Arc<AtomicU64>,
}

impl Pipeline {
    /// A pipeline for the arena of `session`. `copies` is the address range of displaced copies;
    /// `progress` is kept at the number of delivered faults.
    pub fn new(
        session: Session,
        copies: Range<u64>,
        rule: StringRule,
        sink: SharedSink,
        progress: Arc<AtomicU64>,
    ) -> Pipeline {
        Pipeline {
            session,
            copies,
            rule,
            sites: HashMap::new(),
            waiting: VecDeque::new(),
            taken_in: 0,
            last_touch: HashMap::new(),
            aux: HashMap::new(),
            accesses: Vec::new(),
            sink,
            totals: Totals::default(),
            progress,
        }
    }

    /// Totals so far.
    pub fn totals(&self) -> Totals {
        Totals {
            sites: self.sites.len() as u64,
            ..self.totals
        }
    }

    /// How many faults and touches were taken in, and how many of those are done with. They are
    /// done with in order.
    pub fn progress(&self) -> (u64, u64) {
        (self.taken_in, self.taken_in - self.waiting.len() as u64)
    }

    /// Forgets the totals and sites, for a fresh count.
    pub fn reset(&mut self) {
        self.totals = Totals::default();
        self.sites.clear();
        self.last_touch.clear();
    }

    /// Sends events elsewhere from now on; returns where they went before.
    pub(crate) fn set_sink(&mut self, sink: SharedSink) -> SharedSink {
        std::mem::replace(&mut self.sink, sink)
    }

    /// Takes one record as it came from a ring.
    pub fn feed(&mut self, bytes: &[u8]) {
        let sink = Arc::clone(&self.sink);
        let mut sink = lock(&sink);
        match wire::read(bytes) {
            Ok(Record::Fault(fault)) => self.in_turn(Waiting::Fault(fault), &mut *sink),
            Ok(Record::Touch(touch)) => self.in_turn(Waiting::Touch(touch), &mut *sink),
            Ok(Record::Aux(aux)) => {
                // A supervisor sends it for more instructions than need it.
                let wanted = |site: &CachedSite| {
                    !site
                        .decoded
                        .as_ref()
                        .is_ok_and(|decoded| !decoded.needs_aux())
                };
                if !self.sites.get(&aux.ip).is_none_or(wanted) {
                    return;
                }
                self.aux
                    .entry((aux.header.tid, aux.ip))
                    .or_default()
                    .push_back(aux);
                while let Some(record) = self.waiting.pop_front() {
                    if !self.take(&record, &mut *sink) {
                        self.waiting.push_front(record);
                        break;
                    }
                }
            }
            Ok(Record::CallEnter(_)) => self.totals.calls_entered += 1,
            Ok(Record::CallReturn(_)) => self.totals.calls_returned += 1,
            Ok(Record::KernelFault(fault)) => self.kernel_fault(&fault, &mut *sink),
            Err(error) => {
                self.totals.rejected += 1;
                sink.refused(&Refused {
                    tid: 0,
                    ip: 0,
                    addr: 0,
                    kind: AccessKind::Read,
                    what: format!("a record could not be read: {error}"),
                });
            }
        }
    }

    /// Refuses what still waits for state that can no longer come: the call has ended.
    pub fn finish(&mut self) {
        let sink = Arc::clone(&self.sink);
        let mut sink = lock(&sink);
        for record in std::mem::take(&mut self.waiting) {
            let what = "the machine state that this access depends on never arrived".to_owned();
            if !self.take(&record, &mut *sink)
                && let Waiting::Fault(fault) = record
            {
                self.refuse(&fault, what, &mut *sink);
            }
        }
        self.aux.clear();
    }

    /// Whether nothing waits for what completes it.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether the sink wants native code to be stopped.
    pub(crate) fn stop_wanted(&self) -> bool {
        lock(&self.sink).stop()
    }

    /// Counts and reports an access that cannot be told exactly, for a reason found elsewhere.
    pub(crate) fn refuse_other(&mut self, refused: &Refused) {
        self.totals.rejected += 1;
        lock(&Arc::clone(&self.sink)).refused(refused);
    }

    /// Takes a record, or has it wait behind those that wait already.
    fn in_turn(&mut self, record: Waiting, sink: &mut dyn EventSink) {
        self.taken_in += 1;
        if !self.waiting.is_empty() || !self.take(&record, sink) {
            self.waiting.push_back(record);
        }
    }

    /// Takes one record. False where what completes it is not there yet.
    fn take(&mut self, record: &Waiting, sink: &mut dyn EventSink) -> bool {
        match record {
            Waiting::Fault(fault) => self.fault(fault, sink),
            Waiting::Touch(touch) => {
                self.touch(touch, sink);
                true
            }
        }
    }

    fn event(
        &mut self,
        access: Access,
        tid: u32,
        ip: u64,
        source: Source,
        sink: &mut dyn EventSink,
    ) {
        match access.kind {
            AccessKind::Read => self.totals.reads += 1,
            AccessKind::Write => self.totals.writes += 1,
        }
        sink.event(&AccessEvent {
            access,
            seq: self.totals.events,
            tid,
            ip,
            source,
        });
        self.totals.events += 1;
    }

    fn deliver_one(&mut self) {
        self.totals.delivered += 1;
        self.progress
            .store(self.totals.delivered, Ordering::Relaxed);
    }
}

fn direction(error: u32) -> AccessKind {
    if error & ERROR_WRITE != 0 {
        AccessKind::Write
    } else {
        AccessKind::Read
    }
}

/// A sink is plain data: what a panicking holder left is still what was applied so far.
fn lock<'a, T: ?Sized>(mutex: &'a Mutex<T>) -> MutexGuard<'a, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
