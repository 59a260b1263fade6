//! Fault-driven translation: code that touches the arena often is run as a translation of it that
//! checks, logs and makes each access itself.
//!
//! ```text
//!  fault, for the n-th time at this site ─► the preparing thread translates the region around it
//!                                              scan ─► live ─► emit: checked, transfer ─► cache
//!  the thread goes on there ─► access: segment? shadow? entry, host view      (a few nanoseconds)
//!                           ─► call, return, jump: looked up, stays in translations
//!                           ─► looks wrong, system call, unknown return: back in original code
//!  a signal, wherever ─► back in original code, with the registers that it would have   region
//!  log ─► whoever drains ─► events, in order with the thread's records         pipeline/translated
//! ```
//! A library's own code is never changed, and every instruction of a translation stands for one
//! original instruction. What cannot be translated runs as it was, and faults if it touches the
//! arena: then it is recorded by that fault. So a translation may leave out whatever it likes, but
//! may not make anything up.

mod asm;
mod build;
mod cache;
mod checked;
mod declined;
mod emit;
mod functions;
mod live;
mod log;
mod pace;
mod places;
mod region;
mod runs;
mod scan;
mod segment;
mod tables;
mod transfer;

use std::{
    collections::HashMap,
    io,
    ops::Range,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
};

use tracer_ebpf::Session;

use crate::{resume::safe::Safe, shadow::ShadowView};
use cache::CodeCache;
pub(crate) use declined::Declined;
use emit::Emitter;
use functions::Functions;
use log::slot;
pub(crate) use log::{Log, Logs, Mark, split};
pub(crate) use pace::Pace;
pub(crate) use places::{ADDRESS_BITS, Place, Places};
use region::{Region, Resume, State};
use segment::Gs;
use tables::Tables;
pub(crate) use transfer::ExitAt;

/// Faults of a site before it is translated, unless told otherwise.
pub const DEFAULT_HOT: u32 = 16;

/// How often code may change while a region is made of it, before that is given up.
const CHANGES: usize = 3;

/// Mapped files of which code can be translated.
const ORIGINS: usize = 128;

/// What an address is wanted translated for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Wanted {
    /// It touched the arena often.
    Site = 0,
    /// Translated code goes there by its constant address.
    Direct = 1,
    /// Translated code calls it, or jumps there.
    Indirect = 2,
    /// Translated code returns there.
    Return = 3,
}

/// What a thread asks for.
pub(crate) struct Help {
    /// The original address that it goes to.
    pub(crate) target: u64,
    /// How it goes there.
    pub(crate) wanted: Wanted,
    /// Through which exit, where the address is constant.
    pub(crate) exit: Option<&'static ExitAt>,
}

/// What has been translated so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Translations {
    /// Regions.
    pub regions: u64,
    /// Original instructions in them.
    pub instructions: u64,
    /// Bytes of translated code.
    pub bytes: u64,
    /// What is left to faults, and how often that was found.
    pub declined: Vec<(&'static str, u64)>,
}

/// See the module. One for the process.
pub(crate) struct Translator {
    pub(crate) tables: Tables,
    pub(crate) logs: Logs,
    pub(crate) places: Places,
    pub(crate) cache: CodeCache,
    pub(crate) declined: Declined,
    gs: Gs,
    /// Faults of a site before it is translated, 0 for never.
    hot: AtomicU32,
    regions: AtomicU64,
    instructions: AtomicU64,
    /// Mapped code of which something is translated.
    origins: [(AtomicU64, AtomicU64); ORIGINS],
    /// Whether threads are looked at from time to time.
    looking: AtomicBool,
    /// Code has gone, so that what is remembered of addresses may be wrong.
    stale: AtomicBool,
    /// What is mapped has changed somewhere.
    moved: AtomicBool,
    /// How often all translations were forgotten.
    changes: AtomicU32,
    /// That was so since threads were last looked at.
    leaving: AtomicBool,
    memory: Mutex<Memory>,
}

/// What the preparing thread remembers.
#[derive(Default)]
struct Memory {
    /// Translated addresses of original instructions.
    known: HashMap<u64, u64>,
    functions: Functions,
    /// Code that leaves for the address in the slot of targets, once it is there.
    leave: u64,
}

impl Translator {
    /// One that has translated nothing. Its cache holds `capacity` bytes of code.
    ///
    /// # Errors
    /// What `mmap(2)` says, or that the processor lacks BMI2.
    pub(crate) fn new(capacity: Option<u64>) -> io::Result<Translator> {
        if !std::arch::is_x86_feature_detected!("bmi2") {
            return Err(io::Error::other("the processor has no BMI2 instructions"));
        }
        Ok(Translator {
            tables: Tables::new()?,
            logs: Logs::new()?,
            places: Places::new()?,
            cache: CodeCache::new(capacity.unwrap_or(cache::CAPACITY)),
            declined: Declined::default(),
            gs: Gs::of_this_machine(),
            hot: AtomicU32::new(0),
            regions: AtomicU64::new(0),
            instructions: AtomicU64::new(0),
            origins: [const { (AtomicU64::new(0), AtomicU64::new(0)) }; ORIGINS],
            looking: AtomicBool::new(false),
            stale: AtomicBool::new(false),
            moved: AtomicBool::new(false),
            changes: AtomicU32::new(0),
            leaving: AtomicBool::new(false),
            memory: Mutex::default(),
        })
    }

    /// A session begins or ends: its arena and shadow, and after how many faults a site is
    /// translated.
    pub(crate) fn set_arena(&self, arena: Option<(Session, &ShadowView)>, hot: Option<u32>) {
        self.hot.store(0, Ordering::SeqCst);
        self.tables.set_arena(arena);
        self.logs.discard();
        let hot = if arena.is_some() { hot.unwrap_or(0) } else { 0 };
        self.hot.store(hot, Ordering::SeqCst);
    }

    /// Has translated code of the calling thread find its log. False where native code uses `gs`
    /// itself. Async-signal-safe.
    pub(crate) fn use_log(&self, safe: Safe, log: &Log<'_>) -> bool {
        self.gs.set(safe, log.area(), &self.logs.areas()).is_ok()
    }

    /// From now on a site is translated after so many faults, or never.
    pub(crate) fn set_hot(&self, hot: Option<u32>) {
        self.hot.store(hot.unwrap_or(0), Ordering::SeqCst);
    }

    /// After how many faults a site is translated, 0 for never. Async-signal-safe.
    pub(crate) fn hot(&self) -> u32 {
        self.hot.load(Ordering::Relaxed)
    }

    /// What has been translated so far.
    pub(crate) fn translations(&self) -> Translations {
        Translations {
            regions: self.regions.load(Ordering::Relaxed),
            instructions: self.instructions.load(Ordering::Relaxed),
            bytes: self.cache.used(),
            declined: self.declined.counts().collect(),
        }
    }

    /// Whether the code at `ip` is mapped from a file and cannot be written. Allocates.
    pub(crate) fn is_fixed(&self, ip: u64) -> bool {
        self.memory().functions.fixed(ip).is_some()
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if self.stale.swap(false, Ordering::AcqRel) {
            memory.known.clear();
            memory.functions.forget();
        }
        if self.moved.swap(false, Ordering::AcqRel) {
            memory.functions.look_again();
        }
        memory
    }

    /// Translates what `ip` reaches; returns where it is translated, 0 where it is not. `touched`
    /// says of which instructions it is known that they touched the arena. Allocates.
    pub(crate) fn translate(&self, ip: u64, wanted: Wanted, touched: &dyn Fn(u64) -> bool) -> u64 {
        let mut memory = self.memory();
        let mut translated = self.translate_once(&mut memory, ip, wanted, touched);
        // Code may have changed meanwhile: what was just made may be of the old, or lead to it.
        for _ in 0..CHANGES {
            if !self.stale.load(Ordering::Acquire) {
                return translated;
            }
            drop(memory);
            memory = self.memory();
            self.cut_links();
            translated = self.translate_once(&mut memory, ip, wanted, touched);
        }
        0
    }

    /// Nothing leads to any translation any more. Async-signal-safe.
    fn cut_links(&self) {
        self.tables.forget();
        self.cache.ask_anew();
    }

    fn translate_once(
        &self,
        memory: &mut Memory,
        ip: u64,
        wanted: Wanted,
        touched: &dyn Fn(u64) -> bool,
    ) -> u64 {
        match self.translate_with(memory, ip, wanted, touched) {
            Ok(address) => {
                if wanted != Wanted::Direct && !self.tables.enter(ip, address) {
                    self.declined.add(Declined::TABLES_FULL);
                }
                address
            }
            Err(reason) => {
                self.declined.add(reason);
                // Asked once is enough.
                if matches!(wanted, Wanted::Indirect | Wanted::Return)
                    && let Some(leave) = self.leave(memory)
                {
                    self.tables.enter(ip, leave);
                }
                0
            }
        }
    }

    fn translate_with(
        &self,
        memory: &mut Memory,
        ip: u64,
        wanted: Wanted,
        touched: &dyn Fn(u64) -> bool,
    ) -> Result<u64, usize> {
        let function = memory.functions.around(ip).ok_or(Declined::NOT_FILE)?;
        if function.ours && matches!(wanted, Wanted::Indirect | Wanted::Return) {
            return Err(Declined::OURS);
        }
        if let Some(address) = memory.known.get(&ip) {
            return Ok(*address);
        }
        if !self.remember_origin(&function.mapped) {
            return Err(Declined::TABLES_FULL);
        }
        let start = function.range.start;
        let mut entries = vec![ip];
        if wanted == Wanted::Site && function.is_known && !memory.known.contains_key(&start) {
            entries.push(start);
        }
        let built = build::build(self, &function, &entries, &memory.known, touched)?;
        self.regions.fetch_add(1, Ordering::Relaxed);
        self.instructions
            .fetch_add(built.instructions, Ordering::Relaxed);
        memory.known.extend(built.addresses.iter().copied());
        for entry in built.returns.iter().chain(&entries[1..]) {
            if let Some(address) = memory.known.get(entry)
                && !self.tables.enter(*entry, *address)
            {
                self.declined.add(Declined::TABLES_FULL);
            }
        }
        memory.known.get(&ip).copied().ok_or(Declined::STAYS)
    }

    /// Code that goes to the address in the slot of targets.
    fn leave(&self, memory: &mut Memory) -> Option<u64> {
        if memory.leave == 0 {
            let (base, _) = self.cache.room_anywhere(64)?;
            let mut emitter = Emitter::new(base);
            emitter.set(State {
                resume: Resume::Target,
                ..State::at(0)
            });
            emitter.leave();
            let code = std::mem::take(&mut emitter.asm.code);
            let region = Region {
                base,
                len: code.len() as u32,
                marks: emitter.into_marks(),
                held: 0,
                exits: Box::default(),
                made: self.changes.load(Ordering::Acquire),
            };
            memory.leave = self.cache.add(&code, region)?.base;
        }
        Some(memory.leave)
    }

    fn remember_origin(&self, mapped: &Range<u64>) -> bool {
        for (start, end) in &self.origins {
            if start.load(Ordering::Relaxed) == mapped.start
                && end.load(Ordering::Relaxed) == mapped.end
            {
                return true;
            }
        }
        let free = self
            .origins
            .iter()
            .find(|(_, end)| end.load(Ordering::Relaxed) == 0);
        if let Some((start, end)) = free {
            start.store(mapped.start, Ordering::Relaxed);
            end.store(mapped.end, Ordering::Release);
        }
        free.is_some()
    }

    /// Threads go into translated code: whether that is news to whoever looks at them.
    /// Async-signal-safe.
    pub(crate) fn is_to_be_woken(&self) -> bool {
        !self.looking.swap(true, Ordering::AcqRel)
    }

    /// Whether threads are to be looked at.
    pub(crate) fn is_looking(&self) -> bool {
        self.looking.load(Ordering::Acquire)
    }

    /// Looks at all threads: `calm` is told those that are better off in original code, and all that
    /// may be in code that was forgotten. Threads are to be looked at again if one of them is active.
    pub(crate) fn look(&self, mut calm: impl FnMut(u32)) {
        self.looking.store(false, Ordering::Release);
        let all = self.leaving.swap(false, Ordering::AcqRel);
        for log in self.logs.all() {
            let (active, idle) = log.look();
            if idle || (all && active && log.sampled().is_there()) {
                calm(log.tid());
            }
            if active {
                self.looking.store(true, Ordering::Release);
            }
        }
    }

    /// Whether `ip` lies in translated code that was forgotten. Async-signal-safe.
    pub(crate) fn is_forgotten(&self, ip: u64) -> bool {
        let made = self.cache.region(ip).map(|region| region.made);
        made.is_some_and(|made| made != self.changes.load(Ordering::Acquire))
    }

    /// What a thread at `ip` in translated code asks for. Async-signal-safe, for the log's thread.
    pub(crate) fn asked(&self, ip: u64, log: &Log<'_>) -> Option<Help> {
        let region = self.cache.region(ip)?;
        if let Some(exit) = region.exit(ip) {
            return Some(Help {
                target: region.point(ip)?.original()?,
                wanted: Wanted::Direct,
                exit: Some(exit),
            });
        }
        let wanted = if log.read_slot(slot::PATIENCE) == 0 {
            log.write_slot(slot::PATIENCE, log::PATIENCE);
            Wanted::Return
        } else {
            Wanted::Indirect
        };
        Some(Help {
            target: log.read_slot(slot::TARGET),
            wanted,
            exit: None,
        })
    }

    /// The original instruction of a point in translated code. Async-signal-safe.
    pub(crate) fn original(&self, ip: u64) -> Option<u64> {
        self.cache.point(ip)?.original()
    }

    /// What is mapped in a range changes: returns whether something of it was translated. Then all
    /// translations are forgotten: no code that was made before leads to another region, so a thread
    /// that is in one leaves for original code, or for what is translated from now on.
    /// One that stays in it is sent out when its log is full, or at the next [`look`](Self::look).
    /// Async-signal-safe.
    pub(crate) fn code_changes(&self, range: &Range<u64>) -> bool {
        self.moved.store(true, Ordering::Release);
        let mut any = false;
        for (start, end) in &self.origins {
            let origin = start.load(Ordering::Relaxed)..end.load(Ordering::Acquire);
            if origin.start < range.end && range.start < origin.end {
                end.store(0, Ordering::Release);
                self.stale.store(true, Ordering::Release);
                any = true;
            }
        }
        if any {
            self.changes.fetch_add(1, Ordering::AcqRel);
            self.cut_links();
            self.leaving.store(true, Ordering::Release);
        }
        any
    }
}
