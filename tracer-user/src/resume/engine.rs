//! The resume engine: everything that the signal handlers use, made once for the process.
//!
//! Signal handlers belong to the process, so there is one engine and at most one session that
//! uses it at a time. The handlers read it through a `OnceLock` and atomics only.
//!
//! # Safety
//! Values that a session lends to the handlers (ring view, shadow view) are leaked copies, so a
//! handler that is late may still read them; the memory behind them is the session's, which
//! switches the recorder off before it lets go of it.
#![allow(unsafe_code)]

use std::{
    io,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering},
    },
};

use tracer_ebpf::{RING_BYTES, SEGMENT_SIZE, Session};

use super::{
    code::CodePages,
    displaced::Displaced,
    exit, gate,
    guard::{self, Crash, Guard, Reason},
    guests::Guests,
    install,
    other_crash::OtherCrash,
    prepare::PrepareQueue,
    roster::Roster,
    safe::{self, Safe},
    signals,
    site::SiteTable,
    stacks::StackPool,
    thread,
    xstate::Offsets,
};
use crate::{backend::ebpf::RingView, mapping::Mapping, ring::UserRing, shadow::ShadowView};

/// Records that the user ring holds: 7.25 MiB.
const RING_RECORDS: u64 = 1 << 15;
/// Room that is kept free, in records. A thread adds at most one fault (and what completes it)
/// between two looks at the room, so no record is lost with fewer native threads than this. (A
/// stepped instruction adds one for each page that it is the first to need, at most 32.)
pub const RESERVE_RECORDS: u64 = 8192;
/// Bytes that a fault record takes in the kernel's ring: the record and the kernel's header.
const KERNEL_RECORD: u64 = tracer_user_record_size();

const fn tracer_user_record_size() -> u64 {
    (size_of::<tracer_ebpf::FaultRecord>() as u64 + 8).next_multiple_of(8)
}

/// Who writes the fault records, and what the handler does about an arena fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Recording {
    /// No session, or an untraced one: a fault in the native view is a crash.
    Off = 0,
    /// The handler writes the record.
    Handler = 1,
    /// The kernel has written it.
    Kernel = 2,
    /// A supervisor process takes the fault before the handler sees it.
    Supervisor = 3,
}

/// Words shared with a forked supervisor.
#[repr(C)]
pub struct SharedWords {
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
pub struct Engine {
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
    guests: Guests,
    /// Kernel id of the thread that has the native view open, or is about to; 0 if none.
    step_owner: AtomicU32,
    pub(super) roster: Roster,
    current_guard: AtomicPtr<Guard>,
    current_thread: AtomicU32,
    end_guard: AtomicPtr<Guard>,
    end_reason: AtomicU32,
    pub(super) other_crash: OtherCrash,
}

static ENGINE: OnceLock<Engine> = OnceLock::new();

/// What a session lends to the handlers.
pub struct Lent {
    /// Where the arena is.
    pub session: Session,
    /// Who records.
    pub recording: Recording,
    /// The kernel's ring, where the kernel records.
    pub kernel_ring: Option<RingView>,
    /// What is live.
    pub shadow: Option<ShadowView>,
    /// Where the kernel's part looks for processes that share this one's memory, or null.
    pub guests: *mut tracer_ebpf::Guests,
    /// Pipe that wakes who drains the rings; writing to it does not block.
    pub drain_fd: i32,
}

impl Engine {
    /// The engine, if it was ever started. Async-signal-safe.
    pub(super) fn get() -> Option<&'static Engine> {
        ENGINE.get()
    }

    /// The engine of this process, made at the first call: memory, the preparing thread and the
    /// signal handlers.
    ///
    /// # Errors
    /// What the system says while mapping memory, starting the thread or installing handlers.
    pub fn start() -> io::Result<&'static Engine> {
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
            guests: Guests::new(),
            step_owner: AtomicU32::new(0),
            roster: Roster::new()?,
            current_guard: AtomicPtr::new(std::ptr::null_mut()),
            current_thread: AtomicU32::new(0),
            end_guard: AtomicPtr::new(std::ptr::null_mut()),
            end_reason: AtomicU32::new(0),
            other_crash: OtherCrash::new(),
        })
    }

    /// Words shared with a supervisor.
    pub fn words(&self) -> &SharedWords {
        // SAFETY: the mapping is page-aligned, zeroed and lives as long as `self`; all fields
        // are atomics.
        unsafe { &*self.words.as_ptr().cast::<SharedWords>() }
    }

    /// Whether this is the process that the engine was made in, or shares its memory, and not one
    /// that native code forked from it: such a process has the handlers, but no session, agent or report.
    /// Async-signal-safe.
    pub fn at_home(&self, safe: Safe) -> bool {
        // A guest's block names the guest, which shares the session.
        let home = thread::block(safe).map_or(self.process, |block| block.process.get());
        safe::process_id(safe) == home
    }

    /// Claims the engine for a session; false while another session has it.
    pub fn claim(&self) -> bool {
        !self.busy.swap(true, Ordering::AcqRel)
    }

    /// Gives the engine back, with nothing recording.
    pub fn release(&self) {
        self.lend(&Lent {
            session: Session {
                arena_base: 0,
                arena_len: 0,
            },
            recording: Recording::Off,
            kernel_ring: None,
            shadow: None,
            guests: std::ptr::null_mut(),
            drain_fd: -1,
        });
        self.busy.store(false, Ordering::Release);
    }

    /// Tells the handlers what the session that holds the claim uses.
    pub fn lend(&self, lent: &Lent) {
        fn leak<T>(value: Option<T>) -> *mut T {
            value.map_or(std::ptr::null_mut(), |value| Box::into_raw(Box::new(value)))
        }
        self.recording
            .store(Recording::Off as u32, Ordering::SeqCst);
        self.handled.store(0, Ordering::Relaxed);
        for site in self.sites.all() {
            site.steps.store(0, Ordering::Relaxed);
        }
        self.arena_base
            .store(lent.session.arena_base, Ordering::Relaxed);
        self.arena_len
            .store(lent.session.arena_len, Ordering::Relaxed);
        self.kernel_ring
            .store(leak(lent.kernel_ring), Ordering::Release);
        self.shadow.store(leak(lent.shadow), Ordering::Release);
        self.guests.lend(lent.guests);
        self.drain_fd.store(lent.drain_fd, Ordering::Relaxed);
        self.recording
            .store(lent.recording as u32, Ordering::SeqCst);
    }

    /// How many segments of the arena are mapped.
    pub fn set_segments(&self, segments: u64) {
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
    pub fn session(&self) -> Session {
        Session {
            arena_base: self.arena_base.load(Ordering::Relaxed),
            arena_len: self.arena_len.load(Ordering::Relaxed),
        }
    }

    /// Native views of the mapped segments, as (address, length). Async-signal-safe.
    pub fn native_ranges(&self) -> impl Iterator<Item = (u64, u64)> {
        let base = self.arena_base.load(Ordering::Relaxed);
        (0..self.segments.load(Ordering::Acquire))
            .map(move |index| (base + index * 2 * SEGMENT_SIZE, SEGMENT_SIZE))
    }

    /// Whether an access looks wrong enough to keep its stack. Async-signal-safe.
    pub fn looks_wrong(&self, addr: u64, len: u64, write: bool) -> bool {
        let shadow = self.shadow.load(Ordering::Acquire);
        // SAFETY: null or a leaked box, see `lend`.
        unsafe { shadow.as_ref() }.is_some_and(|shadow| shadow.suspicious(addr, len, write))
    }

    /// Records waiting, as a pair of (used, room in all). Async-signal-safe.
    fn fill(&self) -> (u64, u64) {
        let kernel = self.kernel_ring.load(Ordering::Acquire);
        let user = self.ring.used();
        // SAFETY: null or a leaked box; its mapping lives while the session does.
        match unsafe { kernel.as_ref() } {
            Some(view) => {
                let used = view.used().div_ceil(KERNEL_RECORD);
                (
                    used.max(user),
                    (u64::from(RING_BYTES) / KERNEL_RECORD).min(self.ring.capacity()),
                )
            }
            None => (user, self.ring.capacity()),
        }
    }

    /// Asks for the rings to be drained when they are a quarter full, and waits while they are
    /// so full that a record might be lost. Async-signal-safe.
    pub fn make_room(&self, safe: Safe) {
        loop {
            let drained = self.words().drained.load(Ordering::Acquire);
            let (used, capacity) = self.fill();
            if used < capacity / 4 {
                return;
            }
            if self.words().drain_asked.swap(1, Ordering::AcqRel) == 0 {
                safe::notify(safe, self.drain_fd.load(Ordering::Relaxed));
            }
            if used + RESERVE_RECORDS <= capacity {
                return;
            }
            safe::wait(safe, &self.words().drained, drained);
        }
    }

    /// Appends a record to the user ring, waiting for room if need be. Async-signal-safe.
    pub fn push<R: bytemuck::Pod>(&self, safe: Safe, record: &R) {
        while !self.ring.push(record) {
            self.make_room(safe);
        }
    }

    /// Counts a fault that is about to be recorded in user space. Async-signal-safe.
    pub fn count_fault(&self) {
        self.words().faults.fetch_add(1, Ordering::Relaxed);
    }

    /// Faults that user space recorded, or tried to, in the process's life.
    pub fn faults(&self) -> u64 {
        self.words().faults.load(Ordering::Relaxed)
    }

    /// Address of a `syscall` instruction for a supervisor to have system calls made at, which
    /// are not dispatched.
    pub fn syscall_stub(&self) -> u64 {
        gate::syscall_instruction()
    }

    /// A number for a touch. Async-signal-safe.
    pub(super) fn next_touch(&self) -> u64 {
        self.touches.fetch_add(1, Ordering::Relaxed)
    }

    /// Processes that share this one's memory. Async-signal-safe.
    pub(super) fn guests(&self) -> &Guests {
        &self.guests
    }

    /// Called by who drains, before it looks at the rings.
    pub fn drain_begins(&self) {
        self.words().drain_asked.store(0, Ordering::Release);
    }

    /// Called by who drains, after it took records out.
    pub fn drain_ended(&self) {
        self.words().drained.fetch_add(1, Ordering::AcqRel);
        safe::wake(Safe::promise(), &self.words().drained);
    }

    /// A thread enters a handler, in which it touches the native view no more.
    /// Async-signal-safe.
    pub(super) fn enter_handler(&self, safe: Safe) {
        self.roster.enter(safe, &self.step_owner);
    }

    /// A thread is about to leave a handler; it waits for the end of another thread's step.
    /// Async-signal-safe.
    pub(super) fn leave_handler(&self, safe: Safe) {
        self.roster.leave(safe, &self.step_owner);
    }

    /// Opens the native view to this thread's next instruction, with all others stopped.
    /// Async-signal-safe.
    pub(super) fn open(&self, safe: Safe) {
        let me = thread::id(safe);
        while let Err(owner) =
            self.step_owner
                .compare_exchange(0, me, Ordering::SeqCst, Ordering::Relaxed)
        {
            safe::wait(safe, &self.step_owner, owner);
        }
        self.steps.fetch_add(1, Ordering::Relaxed);
        // A guest is in another process than the threads that it would have to halt.
        let guest = thread::block(safe).is_some_and(|block| block.guest.get());
        if guest || !self.roster.halt_others(safe) {
            self.blind_steps.fetch_add(1, Ordering::Relaxed);
        }
        self.protect_native(safe, libc::PROT_READ | libc::PROT_WRITE);
    }

    /// Closes the native view again. Async-signal-safe.
    pub(super) fn close(&self, safe: Safe) {
        self.protect_native(safe, libc::PROT_NONE);
        self.step_owner.store(0, Ordering::SeqCst);
        safe::wake(safe, &self.step_owner);
    }

    fn protect_native(&self, safe: Safe, prot: i32) {
        for (addr, len) in self.native_ranges() {
            // SAFETY: the range is native view of a mapped segment: only native code uses it.
            unsafe { safe::protect(safe, addr, len, prot) };
        }
    }

    /// Gives the calling thread a signal stack. Needed once before it calls native code.
    ///
    /// # Errors
    /// What `mmap(2)` or `sigaltstack(2)` says.
    pub fn prepare_thread(&self) -> io::Result<()> {
        guard::prepare_thread()
    }

    /// Why system calls of native code on the calling thread, which is prepared, cannot be
    /// dispatched, if they cannot.
    pub fn no_dispatch(&self) -> Option<io::Error> {
        guard::no_dispatch()
    }

    /// Runs `f(data)`; where native code crashes, or [`Engine::request_end`] is called, the call
    /// ends and the crash is returned. `started` is told the call's key.
    ///
    /// # Safety
    /// `f(data)` must be sound to call and to leave at any point: no frame of it may own
    /// anything that has to be dropped.
    pub unsafe fn call(
        &self,
        f: unsafe extern "C" fn(*mut libc::c_void),
        data: *mut libc::c_void,
        started: impl FnOnce(CallKey),
    ) -> Option<Crash> {
        let safe = Safe::promise();
        let outer = self.current_guard.load(Ordering::Acquire);
        let tid = thread::id(safe);
        // SAFETY: the caller's promise is the one that `call_guarded` asks for.
        let result = unsafe {
            let traced = self.recording() != Recording::Off;
            guard::call_guarded(f, data, traced, |guard| {
                self.current_thread.store(tid, Ordering::Relaxed);
                self.current_guard.store(guard, Ordering::Release);
                started(CallKey {
                    guard: guard as usize,
                    tid,
                });
            })
        };
        self.current_guard.store(outer, Ordering::Release);
        self.end_guard
            .store(std::ptr::null_mut(), Ordering::Release);
        match result {
            Some(Crash {
                reason: Reason::OtherThread,
                ..
            }) => self.other_crash.take().or(result),
            _ => result,
        }
    }

    /// The native call that was begun last and has not ended. Async-signal-safe.
    pub(super) fn current_call(&self) -> Option<CallKey> {
        let guard = self.current_guard.load(Ordering::Acquire);
        let tid = self.current_thread.load(Ordering::Relaxed);
        (!guard.is_null()).then_some(CallKey {
            guard: guard as usize,
            tid,
        })
    }

    /// Ends the call `key` from another thread, if it is still the thread's innermost.
    /// Async-signal-safe.
    pub fn request_end(&self, safe: Safe, key: CallKey, reason: Reason) {
        self.end_reason.store(reason as u32, Ordering::Relaxed);
        self.end_guard
            .store(key.guard as *mut Guard, Ordering::Release);
        signals::send_end_call(safe, key.tid);
    }

    /// Takes the request to end the call that `guard` began, if there is one.
    /// Async-signal-safe.
    pub(super) fn take_end_request(&self, guard: *mut Guard) -> Option<Reason> {
        let null = std::ptr::null_mut();
        self.end_guard
            .compare_exchange(guard, null, Ordering::AcqRel, Ordering::Relaxed)
            .ok()?;
        Some(match self.end_reason.load(Ordering::Relaxed) {
            reason if reason == Reason::OtherThread as u32 => Reason::OtherThread,
            reason if reason == Reason::Exit as u32 => Reason::Exit,
            _ => Reason::Timeout,
        })
    }
}

/// Names a native call that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallKey {
    guard: usize,
    tid: u32,
}

impl CallKey {
    /// Kernel id of the calling thread.
    pub fn thread(&self) -> u32 {
        self.tid
    }
}
