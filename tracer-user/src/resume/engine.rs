//! The resume engine: everything that the signal handlers use, made once for the process.
//!
//! Signal handlers belong to the process, so there is one engine and at most one session that
//! uses it at a time. The handlers read it through a `OnceLock` and atomics only.
//!
//! ```text
//!  room     the rings: records in, drains asked for
//!  opening  the native view, open for one instruction
//!  call     native calls, and who asks them to end
//! ```
//!
//! # Safety
//! Values that a session lends to the handlers (ring view, shadow view) are leaked copies, so a
//! handler that is late may still read them; the memory behind them is the session's, which
//! switches the recorder off before it lets go of it.
#![allow(unsafe_code)]

mod call;
mod opening;
mod room;

use std::{
    io,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering},
    },
};

use tracer_ebpf::{SEGMENT_SIZE, Session};

use super::{
    code::CodePages,
    displaced::Displaced,
    ends::EndRequests,
    exit, gate,
    guard::Guard,
    install,
    known::{Known, Table},
    other_crash::OtherCrash,
    prepare::PrepareQueue,
    roster::Roster,
    safe::{self, Safe},
    site::SiteTable,
    stacks::StackPool,
    stop::Stop,
    thread,
    xstate::Offsets,
};
use crate::{
    backend::ebpf::RingView, mapping::Mapping, ring::UserRing, shadow::ShadowView,
    translate::Translator,
};

pub(crate) use call::CallKey;

/// Records that the user ring holds: 7.25 MiB.
const RING_RECORDS: u64 = 1 << 15;
/// Who writes the fault records, and what the handler does about an arena fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Recording {
    /// No session, or an untraced one: a fault in the native view is a crash.
    Off = 0,
    /// The handler writes the record.
    Handler = 1,
    /// The kernel has written it.
    Kernel = 2,
    /// A supervisor process takes the fault before the handler sees it.
    Supervisor = 3,
}

impl Recording {
    /// Whether records are of the thread's own faults and system calls, which it marks in its log.
    pub(crate) fn is_by_thread(self) -> bool {
        matches!(self, Recording::Handler | Recording::Kernel)
    }
}

/// Words shared with a forked supervisor.
#[repr(C)]
pub(crate) struct SharedWords {
    /// 1 while a request to drain is under way.
    drain_asked: AtomicU32,
    /// Counts drained batches; who waits for room waits on it.
    pub drained: AtomicU32,
    /// State of the supervisor, see `backend::ptrace`.
    pub supervisor: AtomicU32,
    /// Processor on which the traced thread entered native code, plus one; 0 if not known.
    pub processor: AtomicU32,
    /// Accesses that the supervisor could not record for a reason other than room.
    pub supervisor_failed: AtomicU64,
    /// Faults that user space recorded, or tried to.
    faults: AtomicU64,
}

/// See the module.
pub(crate) struct Engine {
    /// Known sites.
    pub sites: SiteTable,
    /// Displaced copies.
    pub code: CodePages<Displaced>,
    /// Records written in user space.
    pub ring: UserRing,
    /// Stack snapshots.
    pub stacks: StackPool,
    pub(super) prepare: PrepareQueue,
    /// Where an xsave area holds vector registers.
    pub offsets: Offsets,
    words: Mapping,
    process: i32,
    busy: AtomicBool,
    recording: AtomicU32,
    arena_base: AtomicU64,
    arena_len: AtomicU64,
    segments: AtomicU64,
    kernel_ring: AtomicPtr<RingView>,
    shadow: AtomicPtr<ShadowView>,
    drain_fd: AtomicI32,
    /// Instructions that were single-stepped with the native view open.
    pub steps: AtomicU64,
    /// Of those, how many while another thread could not be stopped and may have run unseen.
    pub blind_steps: AtomicU64,
    /// Steps of instructions that are not the same when stepped, for want of room for a copy.
    pub uncopied: AtomicU64,
    /// Accesses of processes that share this one's memory (`vfork`) and are not recorded.
    pub foreign: AtomicU64,
    /// Faults that the handler resumed in this session and left to the kernel to record.
    pub handled: AtomicU64,
    touches: AtomicU64,
    /// Sites that the kernel's part is told of.
    pub(crate) known: Known,
    /// Kernel id of the thread that has the native view open, or is about to; 0 if none.
    step_owner: AtomicU32,
    pub(super) roster: Roster,
    /// Stopping at the first violation.
    pub stop: Stop,
    /// The outermost native call that is under way, or null, and its thread.
    current_guard: AtomicPtr<Guard>,
    current_thread: AtomicU32,
    pub(super) ends: EndRequests,
    pub(super) other_crash: OtherCrash,
    translator: OnceLock<Result<Translator, String>>,
}

static ENGINE: OnceLock<Engine> = OnceLock::new();

/// What a session lends to the handlers.
pub(crate) struct Lent {
    /// Where the arena is.
    pub session: Session,
    /// Who records.
    pub recording: Recording,
    /// The kernel's ring, where the kernel records.
    pub kernel_ring: Option<RingView>,
    /// What is live.
    pub shadow: Option<ShadowView>,
    /// Where the kernel's part looks for sites that it needs to say less of, or null.
    pub known: *mut Table,
    /// Pipe that wakes who drains the rings; writing to it does not block.
    pub drain_fd: i32,
    /// After how many faults a site is translated, if at all.
    pub hot: Option<u32>,
}

impl Engine {
    /// The engine, if it was ever started. Async-signal-safe.
    pub(super) fn get() -> Option<&'static Engine> {
        ENGINE.get()
    }

    /// The engine of this process, if there is one.
    pub(crate) fn started() -> Option<&'static Engine> {
        ENGINE.get()
    }

    /// The engine of this process, made at the first call: memory, the preparing thread and the
    /// signal handlers.
    ///
    /// # Errors
    /// What the system says while mapping memory, starting the thread or installing handlers.
    pub(crate) fn start() -> io::Result<&'static Engine> {
        static STARTING: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let _one = STARTING
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(engine) = ENGINE.get() {
            return Ok(engine);
        }
        let engine = ENGINE.get_or_init({
            let engine = Engine::new()?;
            || engine
        });
        gate::install()?;
        engine.prepare.start_thread(engine)?;
        install::install()?;
        exit::install()?;
        Ok(engine)
    }

    fn new() -> io::Result<Engine> {
        Ok(Engine {
            sites: SiteTable::new()?,
            code: CodePages::new()?,
            ring: UserRing::new(RING_RECORDS)?,
            stacks: StackPool::new()?,
            prepare: PrepareQueue::new(),
            offsets: Offsets::of_this_machine(),
            words: Mapping::shared(size_of::<SharedWords>())?,
            process: safe::process_id(Safe::promise()),
            busy: AtomicBool::new(false),
            recording: AtomicU32::new(Recording::Off as u32),
            arena_base: AtomicU64::new(0),
            arena_len: AtomicU64::new(0),
            segments: AtomicU64::new(0),
            kernel_ring: AtomicPtr::new(std::ptr::null_mut()),
            shadow: AtomicPtr::new(std::ptr::null_mut()),
            drain_fd: AtomicI32::new(-1),
            steps: AtomicU64::new(0),
            blind_steps: AtomicU64::new(0),
            uncopied: AtomicU64::new(0),
            foreign: AtomicU64::new(0),
            handled: AtomicU64::new(0),
            touches: AtomicU64::new(0),
            known: Known::new(),
            step_owner: AtomicU32::new(0),
            roster: Roster::new()?,
            stop: Stop::new(),
            current_guard: AtomicPtr::new(std::ptr::null_mut()),
            current_thread: AtomicU32::new(0),
            ends: EndRequests::new(),
            other_crash: OtherCrash::new(),
            translator: OnceLock::new(),
        })
    }

    /// Words shared with a supervisor.
    pub(crate) fn words(&self) -> &SharedWords {
        // SAFETY: the mapping is page-aligned, zeroed and lives as long as `self`; all fields
        // are atomics.
        unsafe { &*self.words.as_ptr().cast::<SharedWords>() }
    }

    /// Whether this is the process that the engine was made in, or shares its memory, and not one
    /// that native code forked from it: such a process has the handlers, but no session, agent or report.
    /// Async-signal-safe.
    pub(crate) fn at_home(&self, safe: Safe) -> bool {
        // A guest's block names the guest, which shares the session.
        let home = thread::block(safe).map_or(self.process, |block| block.process.get());
        safe::process_id(safe) == home
    }

    /// Claims the engine for a session; false while another session has it.
    pub(crate) fn claim(&self) -> bool {
        !self.busy.swap(true, Ordering::AcqRel)
    }

    /// Gives the engine back, with nothing recording.
    pub(crate) fn release(&self) {
        self.lend(&Lent {
            session: Session {
                arena_base: 0,
                arena_len: 0,
            },
            recording: Recording::Off,
            kernel_ring: None,
            shadow: None,
            known: std::ptr::null_mut(),
            drain_fd: -1,
            hot: None,
        });
        self.busy.store(false, Ordering::Release);
    }

    /// Tells the handlers what the session that holds the claim uses.
    pub(crate) fn lend(&self, lent: &Lent) {
        fn leak<T>(value: Option<T>) -> *mut T {
            value.map_or(std::ptr::null_mut(), |value| Box::into_raw(Box::new(value)))
        }
        self.recording
            .store(Recording::Off as u32, Ordering::SeqCst);
        self.handled.store(0, Ordering::Relaxed);
        // Of a session that is over, nobody asks any more.
        self.other_crash.take(true);
        for site in self.sites.all() {
            site.steps.store(0, Ordering::Relaxed);
        }
        let hot = lent.hot.filter(|_| lent.recording.is_by_thread());
        if hot.is_some() {
            self.start_translator();
        }
        if let Some(translator) = self.translator() {
            let arena = lent.shadow.as_ref().map(|shadow| (lent.session, shadow));
            translator.set_arena(arena.filter(|_| hot.is_some()), hot);
        }
        self.arena_base
            .store(lent.session.arena_base, Ordering::Relaxed);
        self.arena_len
            .store(lent.session.arena_len, Ordering::Relaxed);
        self.kernel_ring
            .store(leak(lent.kernel_ring), Ordering::Release);
        self.shadow.store(leak(lent.shadow), Ordering::Release);
        self.known.lend(lent.known);
        self.drain_fd.store(lent.drain_fd, Ordering::Relaxed);
        self.recording
            .store(lent.recording as u32, Ordering::SeqCst);
    }

    /// What translates hot code, once a session wanted it and this host allows it.
    /// Async-signal-safe.
    pub(crate) fn translator(&self) -> Option<&Translator> {
        self.translator.get()?.as_ref().ok()
    }

    /// Why hot code cannot be translated here, if a session wanted it.
    pub(crate) fn no_translator(&self) -> Option<&str> {
        self.translator.get()?.as_ref().err().map(String::as_str)
    }

    fn start_translator(&self) {
        // For tests: what happens when the cache is full.
        let capacity = std::env::var("FFITRACE_CODE_CACHE").ok();
        let capacity = capacity.and_then(|bytes| bytes.parse().ok());
        self.translator
            .get_or_init(|| Translator::new(capacity).map_err(|error| error.to_string()));
    }

    /// How many segments of the arena are mapped.
    pub(crate) fn set_segments(&self, segments: u64) {
        self.segments.store(segments, Ordering::Release);
    }

    /// Who records. Async-signal-safe.
    pub(super) fn recording(&self) -> Recording {
        match self.recording.load(Ordering::Acquire) {
            1 => Recording::Handler,
            2 => Recording::Kernel,
            3 => Recording::Supervisor,
            _ => Recording::Off,
        }
    }

    /// The arena of the session. Async-signal-safe.
    pub(crate) fn session(&self) -> Session {
        Session {
            arena_base: self.arena_base.load(Ordering::Relaxed),
            arena_len: self.arena_len.load(Ordering::Relaxed),
        }
    }

    /// Native views of the mapped segments, as (address, length). Async-signal-safe.
    pub(crate) fn native_ranges(&self) -> impl Iterator<Item = (u64, u64)> {
        let base = self.arena_base.load(Ordering::Relaxed);
        (0..self.segments.load(Ordering::Acquire))
            .map(move |index| (base + index * 2 * SEGMENT_SIZE, SEGMENT_SIZE))
    }

    /// Whether an access looks wrong enough to keep its stack. Async-signal-safe.
    pub(crate) fn looks_wrong(&self, addr: u64, len: u64, write: bool) -> bool {
        let shadow = self.shadow.load(Ordering::Acquire);
        // SAFETY: null or a leaked box, see `lend`.
        unsafe { shadow.as_ref() }.is_some_and(|shadow| shadow.suspicious(addr, len, write))
    }

    /// How many touches there were. Async-signal-safe.
    pub(super) fn touches(&self) -> u64 {
        self.touches.load(Ordering::Relaxed)
    }

    /// Address of a `syscall` instruction for a supervisor to have system calls made at, which
    /// are not dispatched.
    pub(crate) fn syscall_stub(&self) -> u64 {
        gate::syscall_instruction()
    }

    /// A number for a touch. Async-signal-safe.
    pub(super) fn next_touch(&self) -> u64 {
        self.touches.fetch_add(1, Ordering::Relaxed)
    }
}
