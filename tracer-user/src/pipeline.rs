//! From records to access events, in order.
//!
//! ```text
//!  recorder ─records─► decode (cached by site) ─accesses─► arena only ─events─► sink
//!                        ▲ waits for the aux record where the form needs one
//! ```
//! Faults are decoded in the order of the ring. One whose form needs state that only the
//! handler sees waits for the handler's aux record, and those behind it wait with it. Records of
//! threads that have a log wait for their mark in it (`translated`).

mod faults;
mod fold;
mod seen;
mod singles;
mod sites;
mod syscalls;
mod totals;
mod translated;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use tracer_ebpf::{AuxRecord, FaultRecord, Session, TouchRecord};

use crate::{
    access::{Access, AccessEvent, AccessKind, EventSink, Refused, Source},
    resume::signals::ERROR_WRITE,
    translate::Translator,
    wire::{self, Record},
};

use sites::{CachedSite, expand, site};
pub use totals::Totals;
use translated::{Merging, is_marked};

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
    merging: Option<Merging>,
    /// Original instructions that touched the arena.
    ips: HashSet<u64>,
    /// Which count of those this is, among all of the process: places remember it.
    number: u32,
}

/// Why an access is refused whose aux record is missing.
const NEVER_ARRIVED: &str = "the machine state that this access depends on never arrived";

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
            merging: None,
            ips: HashSet::new(),
            number: next_number(),
        }
    }

    /// The same for threads that may have logs of `translator`.
    pub(crate) fn with_logs(self, translator: Option<&'static Translator>) -> Pipeline {
        Pipeline {
            merging: translator.map(Merging::new),
            ..self
        }
    }

    /// Totals so far.
    pub fn totals(&self) -> Totals {
        Totals {
            sites: self.ips.len() as u64,
            ..self.totals
        }
    }

    /// How many faults and touches were taken in, and how many of those are done with. They are
    /// done with in order.
    pub fn progress(&self) -> (u64, u64) {
        let marked = self.merging.as_ref().map_or(0, |merging| merging.waiting);
        let waiting = self.waiting.len() as u64 + marked;
        (self.taken_in, self.taken_in - waiting)
    }

    /// Forgets the totals, for a fresh count. Instructions stay known: records in short rely on it.
    pub fn reset(&mut self) {
        self.totals = Totals::default();
        self.ips.clear();
        self.number = next_number();
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
            Ok(Record::Fault(fault)) => {
                // Short records of the same site may come before this one has its turn.
                site(&mut self.sites, fault.regs.rip, &fault);
                let tid = is_marked(&fault).then_some(fault.header.tid);
                self.in_turn(tid, Waiting::Fault(fault), &mut *sink);
            }
            Ok(Record::KnownFault(known)) => match expand(&self.sites, &known) {
                Some(fault) => {
                    let tid = fault.header.tid;
                    self.in_turn(Some(tid), Waiting::Fault(fault), &mut *sink);
                }
                None => {
                    self.taken_in += 1;
                    self.totals.rejected += 1;
                    sink.refused(&Refused {
                        tid: known.header.tid,
                        ip: known.ip,
                        addr: known.addr,
                        kind: direction(known.error),
                        what: "a record in short of an instruction that none was in full of"
                            .to_owned(),
                    });
                }
            },
            Ok(Record::Touch(touch)) => {
                if !self.is_repeated(&touch) {
                    let tid = touch.header.tid;
                    self.in_turn(Some(tid), Waiting::Touch(touch), &mut *sink);
                }
            }
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
            let what = NEVER_ARRIVED.to_owned();
            if !self.take(&record, &mut *sink)
                && let Waiting::Fault(fault) = record
            {
                self.refuse(&fault, what, &mut *sink);
            }
        }
        self.take_unmarked(&mut *sink);
        self.aux.clear();
    }

    /// Whether nothing waits for what completes it.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
            && self
                .merging
                .as_ref()
                .is_none_or(|merging| merging.waiting == 0)
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

    /// Takes a record, or has it wait: for its mark in the log of thread `tid`, or behind those that
    /// wait already.
    fn in_turn(&mut self, tid: Option<u32>, record: Waiting, sink: &mut dyn EventSink) {
        self.taken_in += 1;
        let record = match (tid, &mut self.merging) {
            (Some(tid), Some(merging)) => match merging.keep(tid, record) {
                Some(record) => record,
                None => return,
            },
            _ => record,
        };
        if !self.waiting.is_empty() || !self.take(&record, sink) {
            self.waiting.push_back(record);
        }
    }

    /// The original instruction, where `ip` is one that a translation has as it was.
    fn original(&self, ip: u64) -> u64 {
        let merging = self.merging.as_ref();
        let original = merging.and_then(|merging| merging.translator.original(ip));
        original.unwrap_or(ip)
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
        self.ips.insert(ip);
    }

    fn deliver_one(&mut self) {
        self.totals.delivered += 1;
        self.progress
            .store(self.totals.delivered, Ordering::Relaxed);
    }
}

/// A number for a count of sites, never 0.
fn next_number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
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
