//! Logs of translated code, merged with the records of their threads.
//!
//! ```text
//!  log of a thread    entry entry entry TAKE entry SKIP entry …
//!  its records                           │          └─ dropped: entries tell the same
//!                                        └─ decoded here, in its place
//! ```

use std::{
    collections::{HashMap, VecDeque},
    sync::atomic::Ordering,
};

use tracer_ebpf::{FaultRecord, TouchRecord};

use super::{
    Pipeline, Waiting,
    fold::{Folder, Next},
    lock,
    singles::Singles,
};
use crate::{
    access::{Access, AccessKind, EventSink, Loop, Repeated, Source},
    resume::{frame::TRAP_FLAG, signals::ERROR_FETCH},
    translate::{Log, Mark, Translator},
};

/// Entries that are looked at together, again and again: a part of a first-level cache.
const STRETCH: usize = 1 << 11;

/// What is kept of a thread that has a log.
pub(super) struct Thread {
    /// Records that have not had their mark yet, oldest first.
    records: VecDeque<Waiting>,
    folder: Folder,
}

impl Thread {
    fn new() -> Thread {
        Thread {
            records: VecDeque::new(),
            folder: Folder::new(),
        }
    }
}

/// What is kept of logs.
pub(super) struct Merging {
    pub(super) translator: &'static Translator,
    threads: HashMap<u32, Thread>,
    /// Records that wait in `threads`.
    pub(super) waiting: u64,
    /// Their threads, in the order in which the records came.
    order: VecDeque<u32>,
    /// The loop that is told at the moment.
    positions: Vec<Repeated>,
    pub(super) singles: Singles,
}

impl Merging {
    pub(super) fn new(translator: &'static Translator) -> Merging {
        Merging {
            translator,
            threads: HashMap::new(),
            waiting: 0,
            order: VecDeque::new(),
            positions: Vec::new(),
            singles: Singles::new(),
        }
    }

    /// Keeps a record until its mark is read; gives it back where its thread has no log.
    pub(super) fn keep(&mut self, tid: u32, record: Waiting) -> Option<Waiting> {
        if self.translator.logs.find(tid).is_none() {
            return Some(record);
        }
        let thread = self.threads.entry(tid).or_insert_with(Thread::new);
        thread.records.push_back(record);
        self.waiting += 1;
        self.order.push_back(tid);
        None
    }
}

/// Whether the handler marks a fault. It does not where it is no access for it: an instruction that
/// it steps itself, or an attempt to run the arena.
pub(super) fn is_marked(fault: &FaultRecord) -> bool {
    fault.regs.rflags & TRAP_FLAG == 0 && fault.error & ERROR_FETCH == 0
}

impl Pipeline {
    /// Whether this touch was recorded before: the kernel may fault twice for one.
    pub(super) fn is_repeated(&mut self, record: &TouchRecord) -> bool {
        let tid = record.header.tid;
        let again = self.last_touch.insert(tid, record.seq) == Some(record.seq);
        if again {
            self.totals.touches += 1;
            self.totals.repeated += 1;
            self.totals.delivered += 1;
        }
        again
    }

    /// Tells what is new in the logs, with the records that belong between. Returns whether there
    /// was anything.
    pub(crate) fn read_logs(&mut self) -> bool {
        let Some(translator) = self.merging.as_ref().map(|merging| merging.translator) else {
            return false;
        };
        let sink = std::sync::Arc::clone(&self.sink);
        let mut sink = lock(&sink);
        let mut any = false;
        // Records of several threads in the order in which they were made, as far as their marks
        // are there.
        let order = self
            .merging
            .as_mut()
            .map(|merging| std::mem::take(&mut merging.order));
        for tid in order.into_iter().flatten() {
            let log = translator.logs.find(tid);
            let mut one = 1;
            if let Some(log) = log {
                any |= self.read_log(&log, &mut one, &mut *sink);
            }
            if one > 0
                && let Some(merging) = self.merging.as_mut()
                && merging
                    .threads
                    .get(&tid)
                    .is_some_and(|thread| !thread.records.is_empty())
            {
                merging.order.push_back(tid);
            }
        }
        for log in translator.logs.all() {
            let mut all = usize::MAX;
            any |= self.read_log(&log, &mut all, &mut *sink);
        }
        any
    }

    /// Reads a log, up to so many of its records at most; what is left of that number says how many
    /// there were.
    fn read_log(&mut self, log: &Log<'_>, most: &mut usize, sink: &mut dyn EventSink) -> bool {
        // As mostly, at the beginning and the end of calls that translated code has no part in.
        if log.is_read() && !log.has_ended() {
            return false;
        }
        let tid = log.tid();
        // Taken out, so that the pipeline can be used meanwhile.
        let mut thread = match self.merging.as_mut() {
            Some(merging) => merging.threads.remove(&tid).unwrap_or_else(Thread::new),
            None => return false,
        };
        // If it has ended by now, all marks of it are there; a record may yet be missing.
        let ended = log.has_ended();
        let taken = log.read(&mut |words| self.words(tid, words, &mut thread, most, sink));
        let over = ended && thread.records.is_empty() && log.is_read();
        if over {
            log.give_back();
        } else if let Some(merging) = self.merging.as_mut() {
            merging.threads.insert(tid, thread);
        }
        taken > 0
    }

    /// Takes words of a log, and returns how many: fewer where a record is missing.
    fn words(
        &mut self,
        tid: u32,
        words: &[u64],
        thread: &mut Thread,
        most: &mut usize,
        sink: &mut dyn EventSink,
    ) -> usize {
        // The sink is locked: nobody comes between.
        let epoch = sink.epoch();
        let mut at = 0;
        while at < words.len() && *most > 0 {
            if let Some(mark) = Mark::of(words[at]) {
                if !self.marked(mark, thread, sink) {
                    return at;
                }
                at += 1;
                *most -= 1;
                continue;
            }
            let entries = words[at..]
                .iter()
                .take(STRETCH)
                .take_while(|word| Mark::of(**word).is_none());
            let end = at + entries.count();
            if let Some(merging) = &self.merging {
                merging.translator.logs.count_read((end - at) as u64);
            }
            while at < end {
                at += match thread.folder.next(&words[at..end]) {
                    Next::Single(count) => {
                        self.singles(tid, &words[at..at + count], epoch, sink);
                        count
                    }
                    Next::Loop(period, rounds) => {
                        self.repeated(tid, &words[at..], period, rounds, sink);
                        period * rounds
                    }
                };
            }
            self.totals_told();
        }
        at
    }

    /// What a mark stands for. False where its record, or what completes it, is not there yet.
    fn marked(&mut self, mark: Mark, thread: &mut Thread, sink: &mut dyn EventSink) -> bool {
        let Some(record) = thread.records.pop_front() else {
            return false;
        };
        let done = match mark {
            Mark::Take => self.take(&record, sink),
            Mark::Skip => {
                self.deliver_one();
                true
            }
        };
        if !done {
            thread.records.push_front(record);
        } else if let Some(merging) = self.merging.as_mut() {
            merging.waiting -= 1;
        }
        done
    }

    /// Takes all records of threads that no mark came for: the call is over.
    pub(super) fn take_unmarked(&mut self, sink: &mut dyn EventSink) {
        let Some(merging) = self.merging.as_mut() else {
            return;
        };
        merging.waiting = 0;
        merging.order.clear();
        let mut left = Vec::new();
        for thread in merging.threads.values_mut() {
            left.extend(thread.records.drain(..));
        }
        for record in left {
            if !self.take(&record, sink)
                && let Waiting::Fault(fault) = record
            {
                let what = super::NEVER_ARRIVED.to_owned();
                self.refuse(&fault, what, sink);
            }
        }
    }

    /// `rounds` times the same `period` words, each further on each time.
    fn repeated(
        &mut self,
        tid: u32,
        words: &[u64],
        period: usize,
        rounds: usize,
        sink: &mut dyn EventSink,
    ) {
        let (Some(meaning), Some(merging)) = (self.meaning(), self.merging.as_mut()) else {
            return;
        };
        let mut positions = std::mem::take(&mut merging.positions);
        positions.clear();
        let (mut reads, mut writes) = (0, 0);
        for index in 0..period {
            let Some((place, addr)) = meaning.resolve(words[index]) else {
                return self.singles(tid, &words[..period * rounds], None, sink);
            };
            let stride = words[index + period].wrapping_sub(words[index]) as i64;
            if place.is_new(self.number) {
                self.ips.insert(place.ip);
            }
            for effect in &place.effects {
                match effect.kind {
                    AccessKind::Read => reads += 1,
                    AccessKind::Write => writes += 1,
                }
                positions.push(Repeated {
                    access: Access {
                        kind: effect.kind,
                        certain: effect.certain,
                        addr,
                        len: effect.len,
                    },
                    stride,
                    ip: place.ip,
                });
            }
        }
        let rounds = rounds as u64;
        sink.repeated(&Loop {
            positions: &positions,
            rounds,
            seq: self.totals.events,
            tid,
            source: Source::Translated,
        });
        self.totals.reads += reads * rounds;
        self.totals.writes += writes * rounds;
        self.totals.events += (reads + writes) * rounds;
        self.totals.translated += period as u64 * rounds;
        self.totals.delivered += period as u64 * rounds;
        if let Some(merging) = self.merging.as_mut() {
            merging.positions = positions;
        }
    }

    fn totals_told(&self) {
        self.progress
            .store(self.totals.delivered, Ordering::Relaxed);
    }
}
