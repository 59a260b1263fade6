//! From records to access events, in order.
//!
//! ```text
//!  recorder ─records─► decode (cached by site) ─accesses─► arena only ─events─► sink
//!                        ▲ waits for the aux record where the form needs one
//! ```
//! Faults are decoded in the order of the ring. One whose form needs state that only the
//! handler sees waits for the handler's aux record, and those behind it wait with it.

use std::{
    collections::{HashMap, VecDeque},
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tracer_ebpf::{AuxRecord, FaultRecord, Session, TouchRecord, touch};

use crate::{
    access::{Access, AccessEvent, AccessKind, EventSink, Refused, Source},
    decode::{Decoded, Refusal, Rep, WholeRep, runs_whole},
    resume::{
        displace,
        frame::TRAP_FLAG,
        refusal,
        safe::{self, Safe},
        signals::{ERROR_FETCH, ERROR_WRITE},
    },
    wire::{self, Record},
};

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

/// Running totals of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Faults that became events (or provably touched nothing).
    pub delivered: u64,
    /// Faults, system calls and calls refused by name.
    pub rejected: u64,
    /// Access events.
    pub events: u64,
    /// Of those, reads.
    pub reads: u64,
    /// Of those, writes.
    pub writes: u64,
    /// Of the delivered faults, those of an instruction that was recorded before and is now
    /// being stepped: the kernel maps the page that it needs.
    pub stepping: u64,
    /// System calls that were handed memory of the arena.
    pub syscalls: u64,
    /// Records of what they touched, and of calls that were not made.
    pub touches: u64,
    /// Of those, ones that the kernel made twice.
    pub repeated: u64,
    /// Of the system calls, those that failed because nobody made them on the host view.
    pub failed_syscalls: u64,
    /// Distinct sites seen in the session.
    pub sites: u64,
    /// Entries into the probed function that wrote a record.
    pub calls_entered: u64,
    /// Returns from it.
    pub calls_returned: u64,
}

struct CachedSite {
    bytes: [u8; 15],
    len: usize,
    decoded: Result<Decoded, Refusal>,
    /// Whether the resume engine has copies for this string instruction.
    string_copies: bool,
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

    /// Forgets the totals and sites, for a fresh count.
    pub fn reset(&mut self) {
        self.totals = Totals::default();
        self.sites.clear();
        self.last_touch.clear();
    }

    /// Sends events elsewhere from now on; returns where they went before.
    pub fn set_sink(&mut self, sink: SharedSink) -> SharedSink {
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
            Ok(Record::KernelFault(fault)) => {
                self.totals.syscalls += 1;
                self.totals.failed_syscalls += 1;
                self.totals.rejected += 1;
                sink.refused(&Refused {
                    tid: fault.header.tid,
                    // The kernel shows the address after the `syscall` instruction, of 2 bytes.
                    ip: fault.ip.saturating_sub(2),
                    addr: fault.addr,
                    kind: direction(fault.error),
                    what: format!(
                        "system call {} was given interpreter memory, and fails with EFAULT",
                        syscall_name(fault.syscall)
                    ),
                });
            }
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

    /// Counts and reports an access that cannot be told exactly, for a reason found elsewhere.
    pub fn refuse_other(&mut self, refused: &Refused) {
        self.totals.rejected += 1;
        lock(&Arc::clone(&self.sink)).refused(refused);
    }

    /// Takes a record, or has it wait behind those that wait already.
    fn in_turn(&mut self, record: Waiting, sink: &mut dyn EventSink) {
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

    /// What a system call touched, as its dispatcher told it.
    fn touch(&mut self, record: &TouchRecord, sink: &mut dyn EventSink) {
        let tid = record.header.tid;
        self.totals.touches += 1;
        if self.last_touch.insert(tid, record.seq) == Some(record.seq) {
            self.totals.repeated += 1;
            self.totals.delivered += 1;
            return;
        }
        if record.flags & touch::FIRST != 0 {
            self.totals.syscalls += 1;
        }
        let kind = if record.flags & touch::WRITE != 0 {
            AccessKind::Write
        } else {
            AccessKind::Read
        };
        if record.flags & touch::REFUSED != 0 {
            self.totals.rejected += 1;
            let reason = (record.flags >> touch::REASON_SHIFT) as u8;
            let mut what = format!(
                "system call {} was not made: {}",
                syscall_name(record.syscall),
                refusal::text(reason)
            );
            if record.len != 0 {
                what += &format!(" ({:#x})", record.len);
            }
            // The kernel's record of a refusal that is about no address has the arena's first one,
            // where nothing is ever allocated.
            let somewhere = record.addr != self.session.arena_base;
            return sink.refused(&Refused {
                tid,
                ip: record.ip,
                addr: if somewhere { record.addr } else { 0 },
                kind,
                what,
            });
        }
        if record.len == 0 || record.addr.checked_add(record.len).is_none() {
            self.totals.rejected += 1;
            return sink.refused(&Refused {
                tid,
                ip: record.ip,
                addr: record.addr,
                kind,
                what: format!(
                    "system call {} was recorded with {:#x} bytes, which is no range of memory",
                    syscall_name(record.syscall),
                    record.len
                ),
            });
        }
        let access = Access {
            kind,
            certain: record.flags & touch::CERTAIN != 0,
            addr: record.addr,
            len: record.len,
        };
        self.event(access, tid, record.ip, Source::Syscall, sink);
        self.deliver_one();
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

    /// Decodes one fault. False where its aux record is not there yet.
    fn fault(&mut self, fault: &FaultRecord, sink: &mut dyn EventSink) -> bool {
        let ip = fault.regs.rip;
        if fault.error & ERROR_FETCH != 0 {
            self.refuse(
                fault,
                "interpreter memory was executed as code".to_owned(),
                sink,
            );
            return true;
        }
        if self.rule == StringRule::Displaced && fault.regs.rflags & TRAP_FLAG != 0 {
            self.totals.stepping += 1;
            self.totals.delivered += 1;
            return true;
        }
        if self.copies.contains(&ip) {
            let what = "an access crosses the edge of the arena".to_owned();
            self.refuse(fault, what, sink);
            return true;
        }
        let site = site(&mut self.sites, ip, fault);
        let decoded = match &site.decoded {
            Ok(decoded) => decoded,
            Err(refusal) => {
                let what = refusal.to_string();
                self.refuse(fault, what, sink);
                return true;
            }
        };
        let aux = if decoded.needs_aux() {
            let key = (fault.header.tid, ip);
            match self.aux.get_mut(&key).and_then(VecDeque::pop_front) {
                Some(aux) => Some(aux),
                None => return false,
            }
        } else {
            None
        };
        let whole = self.rule == StringRule::Displaced
            && site.string_copies
            && decoded
                .string_op()
                .is_some_and(|op| runs_whole(&op, &fault.regs, &self.session) != WholeRep::No);
        let rep = if whole { Rep::Whole } else { Rep::Once };
        self.accesses.clear();
        match decoded.accesses(&fault.regs, aux.as_ref(), rep, &mut self.accesses) {
            // What the decoder says must account for what the processor did.
            Ok(()) if !decoded.explains(&fault.regs, aux.as_ref(), &self.accesses, fault.addr) => {
                let what = format!(
                    "`{}` does not account for the fault at {:#x}",
                    decoded.text(),
                    fault.addr
                );
                self.refuse(fault, what, sink);
            }
            Ok(()) => {
                for index in 0..self.accesses.len() {
                    let access = self.accesses[index];
                    if self.touches_arena(&access) {
                        self.event(access, fault.header.tid, ip, Source::Fault, sink);
                    }
                }
                self.deliver_one();
            }
            Err(refusal) => {
                let what = refusal.to_string();
                self.refuse(fault, what, sink);
            }
        }
        true
    }

    fn touches_arena(&self, access: &Access) -> bool {
        let last = access.addr.wrapping_add(access.len - 1);
        self.session.is_native(access.addr) || self.session.is_native(last)
    }

    fn refuse(&mut self, fault: &FaultRecord, what: String, sink: &mut dyn EventSink) {
        self.totals.rejected += 1;
        sink.refused(&Refused {
            tid: fault.header.tid,
            ip: fault.regs.rip,
            addr: fault.addr,
            kind: direction(fault.error),
            what,
        });
    }
}

/// `read`, or the number of a system call without a known name.
fn syscall_name(number: u32) -> String {
    usize::try_from(number)
        .ok()
        .and_then(syscalls::Sysno::new)
        .map_or_else(|| number.to_string(), |call| call.name().to_owned())
}

fn direction(error: u32) -> AccessKind {
    if error & ERROR_WRITE != 0 {
        AccessKind::Write
    } else {
        AccessKind::Read
    }
}

/// The decoded instruction of a fault, from the cache while its bytes are the same.
fn site<'a>(
    sites: &'a mut HashMap<u64, CachedSite>,
    ip: u64,
    fault: &FaultRecord,
) -> &'a CachedSite {
    let read = usize::from(fault.insn_len).min(fault.insn.len());
    let fresh = || {
        let mut bytes = fault.insn;
        let mut decoded = Decoded::parse(&bytes[..read], ip);
        if read < bytes.len() && matches!(decoded, Err(Refusal::Undecodable { .. })) {
            // The kernel does not wait for a page that has to be read in; here that is possible.
            let safe = Safe::promise();
            let got = safe::read_memory(safe, safe::process_id(safe), ip, &mut bytes);
            if bytes[..read] == fault.insn[..read] {
                decoded = Decoded::parse(&bytes[..got], ip);
            }
        }
        CachedSite {
            bytes,
            len: decoded.as_ref().map_or(read, Decoded::len),
            string_copies: decoded.as_ref().is_ok_and(displace::has_string_copies),
            decoded,
        }
    };
    let site = sites.entry(ip).or_insert_with(fresh);
    let same = site.len.min(read);
    if site.bytes[..same] != fault.insn[..same] {
        *site = fresh();
    }
    site
}

/// A sink is plain data: what a panicking holder left is still what was applied so far.
fn lock<'a, T: ?Sized>(mutex: &'a Mutex<T>) -> MutexGuard<'a, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
