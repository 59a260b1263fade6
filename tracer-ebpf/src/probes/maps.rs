//! Maps and load-time constants, and the few operations on them that every program needs.
//!
//! # Safety
//!
//! Map values are only reached through pointers that the kernel's lookup returned and the
//! verifier bounds. They stay valid until the program ends: the kernel defers the reuse of an
//! element by at least that long, or reuses it in place for the same type. Programs of several
//! processors and the loader share them, so counters change by atomic instructions only.
#![allow(unsafe_code)]

use core::arch::asm;

use aya_ebpf::{
    Global,
    helpers::{bpf_get_current_pid_tgid, bpf_ringbuf_reserve, bpf_ringbuf_submit},
    macros::map,
    maps::{Array, LruHashMap, RingBuf},
};
use tracer_ebpf::{
    Counters, Guests, KNOWN_SITES, KnownSite, LAYOUT_VERSION, MAX_GUESTS, RING_BYTES, RecordHeader,
    Session,
};

/// Threads whose nesting is remembered; beyond that, the one unused for longest is forgotten.
const MAX_THREADS: u32 = 16384;

/// `BPF_RB_NO_WAKEUP`. The consumer polls, and the faulting thread tells it when there is need:
/// a wake-up here would cost an interrupt for each access.
const NO_WAKEUP: u64 = 1;

#[map]
static RECORDS: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);

/// `BPF_F_MMAPABLE`: the traced process maps the map's memory.
const MAPPABLE: u32 = 1 << 10;

#[map]
static GUESTS: Array<Guests> = Array::with_max_entries(1, MAPPABLE);

/// Sites that the traced process has listed: see [`KnownSite`].
#[map]
static KNOWN: Array<u64> = Array::with_max_entries(KNOWN_SITES as u32, MAPPABLE);

/// Mapped by the loader, which reads it at the beginning and the end of each call.
#[map]
static COUNTERS: Array<Counters> = Array::with_max_entries(1, MAPPABLE);

/// Where each thread is, in terms of probed functions. Least recently used goes first, so threads
/// that ended inside a call need no cleaning.
#[map]
pub(super) static CALLS: LruHashMap<u32, CallState> = LruHashMap::with_max_entries(MAX_THREADS, 0);

/// Id of the traced process. The verifier knows the value.
#[unsafe(no_mangle)]
static PROCESS: Global<u32> = Global::new(0);

/// Arena of the traced process. The verifier knows it too: a look-up for each fault would cost as
/// much as the record.
#[unsafe(no_mangle)]
static SESSION: Global<Session> = Global::new(Session {
    arena_base: 0,
    arena_len: 0,
});

/// Where the dispatcher of system calls has touches recorded; see `tracer_ebpf::names::MARKER`.
#[unsafe(no_mangle)]
static MARKER: Global<u64> = Global::new(0);

/// The outermost probed call of one thread.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct CallState {
    /// Stack pointer at the entry of the outermost call: that of its return address.
    pub(super) sp: u64,
    /// Kernel address of the thread, to know a reused thread id by.
    pub(super) task: u64,
    /// How many probed functions the thread is in; 0 for none.
    pub(super) depth: u64,
}

/// The traced process that a program runs in.
pub(super) struct Current {
    /// Kernel thread id.
    pub(super) tid: u32,
    /// Arena of the process.
    pub(super) session: Session,
    /// Totals of what is traced.
    pub(super) counters: *mut Counters,
}

impl Current {
    /// The current process, if it is traced and `wanted` says so of its session. What is not
    /// wanted, among it almost all page faults of all processes, costs a comparison.
    #[inline(always)]
    pub(super) fn traced(wanted: impl FnOnce(&Session) -> bool) -> Option<Self> {
        let session = SESSION.load();
        if !wanted(&session) {
            return None;
        }
        let id = bpf_get_current_pid_tgid();
        let (process, tid) = ((id >> 32) as u32, id as u32);
        if process != PROCESS.load() && !is_guest(process) {
            return None;
        }
        // An array has all its elements from the start.
        let counters = COUNTERS.get_ptr_mut(0)?;
        Some(Current {
            tid,
            session,
            counters,
        })
    }

    /// The header of a record of this thread.
    #[inline(always)]
    pub(super) fn header(&self, kind: u16) -> RecordHeader {
        RecordHeader {
            kind,
            version: LAYOUT_VERSION,
            tid: self.tid,
        }
    }

    /// How many probed functions the thread is in, given its stack pointer.
    #[inline(always)]
    pub(super) fn depth(&self, sp: u64) -> u32 {
        // SAFETY: `counters` is a live map value; the reads may race with other processors,
        // which at worst costs the look-up below.
        let (entered, returned) = unsafe {
            (
                (*self.counters).calls_entered,
                (*self.counters).calls_returned,
            )
        };
        if entered == returned {
            return 0;
        }
        match CALLS.get_ptr(self.tid) {
            // SAFETY: a live map value, written only by this thread.
            Some(state) => unsafe {
                // A stack pointer above the frame: the call was left without a return.
                if (*state).sp < sp {
                    0
                } else {
                    (*state).depth as u32
                }
            },
            None => 0,
        }
    }
}

/// Whether the process shares the memory of the only traced one, which lists it. For all others
/// this is one load.
#[inline(always)]
fn is_guest(process: u32) -> bool {
    let Some(guests) = GUESTS.get_ptr(0) else {
        return false;
    };
    // SAFETY: a live map value. The traced process writes it meanwhile, one word at a time: the
    // loads are volatile, so each is made once.
    unsafe {
        if (&raw const (*guests).active).read_volatile() == 0 {
            return false;
        }
        let listed = (&raw const (*guests).processes).cast::<u32>();
        for index in 0..MAX_GUESTS {
            if listed.add(index).read_volatile() == process {
                return true;
            }
        }
    }
    false
}

/// The site at `ip`, if the traced process has listed it.
#[inline(always)]
pub(super) fn known(ip: u64) -> Option<KnownSite> {
    let word = KNOWN.get_ptr(KnownSite::cell(ip) as u32)?;
    // SAFETY: a live map value, which the traced process changes as a whole; read once.
    let site = KnownSite::from_word(unsafe { word.read_volatile() });
    (site.ip() == ip).then_some(site)
}

/// The address behind the dispatcher's marking system call.
#[inline(always)]
pub(super) fn marker() -> u64 {
    MARKER.load()
}

/// Adds 1 to a counter.
///
/// # Safety
///
/// `counter` points into a live map value, 8-byte aligned.
#[inline(always)]
pub(super) unsafe fn count(counter: *mut u64) {
    // SAFETY: as the caller promises. The instruction is an atomic add; `core` has none for this
    // target, which cannot compare and swap in its base version.
    unsafe {
        asm!("lock *(u64 *)({counter} + 0) += {one}", counter = in(reg) counter, one = in(reg) 1_u64);
    }
}

/// Room for one record in the ring. Must be submitted: the verifier sees to it.
pub(super) struct Slot<T>(*mut T);

impl<T> Slot<T> {
    /// Reserves room, or says that the ring is full.
    #[inline(always)]
    pub(super) fn reserve() -> Option<Self> {
        const { assert!(align_of::<T>() <= 8) };
        // SAFETY: `RECORDS` is a ring buffer; the kernel returns null or `size_of::<T>()` bytes
        // aligned to 8.
        let slot = unsafe {
            bpf_ringbuf_reserve(
                (&raw const RECORDS).cast_mut().cast(),
                size_of::<T>() as u64,
                0,
            )
        };
        if slot.is_null() {
            None
        } else {
            Some(Slot(slot.cast()))
        }
    }

    /// The record, uninitialised: write every field.
    #[inline(always)]
    pub(super) fn get(&self) -> *mut T {
        self.0
    }

    /// Hands the record to the reader.
    #[inline(always)]
    pub(super) fn submit(self) {
        // SAFETY: the pointer is what `reserve` got, and is given back once.
        unsafe { bpf_ringbuf_submit(self.0.cast(), NO_WAKEUP) }
    }
}
