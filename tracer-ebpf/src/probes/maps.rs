//! Maps and load-time constants, and the few operations on them that every program needs.
//!
//! # Safety
//!
//! Map values are only reached through pointers that the kernel's lookup returned and the
//! verifier bounds. They stay valid until the program ends: the kernel defers the reuse of an
//! element by at least that long, or reuses it in place for the same type. Programs of several
//! processors and the loader share them, so counters change by atomic instructions only.
#![allow(unsafe_code)]

use core::{arch::asm, ffi::c_void};

use aya_ebpf::{
    Global,
    btf_maps::{self, ArrayOfMaps},
    helpers::{
        bpf_get_current_pid_tgid, bpf_ringbuf_reserve, bpf_ringbuf_submit,
        generated::bpf_get_current_task_btf,
    },
    macros::{btf_map, map},
    maps::{Array, HashMap, LruHashMap},
};
use tracer_ebpf::{
    Counters, KnownSite, LAYOUT_VERSION, MAPPABLE, MAX_SESSIONS, PAGE_BYTES, RecordHeader, Shared,
    Traced, Window,
};

/// Threads whose nesting is remembered; beyond that, the one unused for longest is forgotten.
const MAX_THREADS: u32 = 16384;

/// `BPF_RB_NO_WAKEUP`. The consumer polls, and the faulting thread tells it when there is need:
/// a wake-up here would cost an interrupt for each access.
const NO_WAKEUP: u64 = 1;

/// The model of a ring that the verifier is shown. Those of the sessions are larger.
type Ring = btf_maps::RingBuf<u8, PAGE_BYTES>;

/// The ring of each session.
#[btf_map]
static RINGS: ArrayOfMaps<Ring, MAX_SESSIONS> = ArrayOfMaps::new();

/// A [`Shared`], as words. Kernels before 6.3 tell a map whose value is described as a structure from
/// one that is not described, and refuse the latter, which is what the sessions' maps are, as an
/// element where this is the model: the one is known to have no timer in it, of the other that is not
/// known. Of words neither is known.
type SharedMap =
    btf_maps::Array<[u64; size_of::<Shared>() / size_of::<u64>()], 1, { MAPPABLE as usize }>;

/// What each session shares with its process.
#[btf_map]
static SHARED: ArrayOfMaps<SharedMap, MAX_SESSIONS> = ArrayOfMaps::new();

/// Sessions whose process has not made an access yet, by process id.
#[map]
static JOINING: HashMap<u32, Traced> = HashMap::with_max_entries(MAX_SESSIONS as u32, 0);

/// Sessions by memory.
#[map]
static MEMORIES: HashMap<u64, Traced> = HashMap::with_max_entries(MAX_SESSIONS as u32, 0);

/// Where all arenas are.
#[map]
static WINDOW: Array<Window> = Array::with_max_entries(1, 0);

/// Where each thread is, in terms of probed functions. Least recently used goes first, so threads
/// that ended inside a call need no cleaning.
#[map]
pub(super) static CALLS: LruHashMap<u32, CallState> = LruHashMap::with_max_entries(MAX_THREADS, 0);

/// Offset of `mm` in the kernel's `task_struct`. The verifier knows the value, and so that what is
/// loaded there is a pointer to an `mm_struct`.
#[unsafe(no_mangle)]
static MM_OFFSET: Global<u64> = Global::new(0);

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
    /// The session that its memory belongs to.
    pub(super) traced: Traced,
    /// What the session shares with its process.
    shared: *mut Shared,
    /// The session's ring.
    ring: *mut c_void,
}

impl Current {
    /// The current process, if it is traced and `addr` is in its native view. What is not, among
    /// it almost all page faults of all processes, costs two comparisons.
    #[inline(always)]
    pub(super) fn touching(addr: u64) -> Option<Self> {
        let window = WINDOW.get_ptr(0)?;
        // SAFETY: a live map value; each word is read once.
        let (low, high) = unsafe {
            (
                (&raw const (*window).low).read_volatile(),
                (&raw const (*window).high).read_volatile(),
            )
        };
        if addr < low || addr >= high {
            return None;
        }
        Current::traced(|traced| traced.session.is_native(addr))
    }

    /// The current process, if it is traced and `wanted` says so of its session.
    #[inline(always)]
    pub(super) fn traced(wanted: impl FnOnce(&Traced) -> bool) -> Option<Self> {
        let id = bpf_get_current_pid_tgid();
        let (process, tid) = ((id >> 32) as u32, id as u32);
        let memory = memory();
        let traced = match MEMORIES.get_ptr(memory) {
            // SAFETY: a live map value, which is not changed while it is listed.
            Some(traced) => unsafe { *traced },
            None => join(process, memory)?,
        };
        if !wanted(&traced) {
            return None;
        }
        // Of a session that is just ending one may be gone.
        let shared = SHARED.get_value_ptr_mut(traced.slot, &0)?.cast();
        let ring: *const Ring = RINGS.get(traced.slot)?;
        Some(Current {
            tid,
            traced,
            shared,
            ring: ring.cast_mut().cast(),
        })
    }

    /// The session's totals.
    #[inline(always)]
    pub(super) fn counters(&self) -> *mut Counters {
        // SAFETY: a live map value, and a field of it.
        unsafe { &raw mut (*self.shared).counters }
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
        let counters = self.counters();
        // SAFETY: a live map value; the reads may race with other processors, which at worst costs
        // the look-up below.
        let (entered, returned) =
            unsafe { ((*counters).calls_entered, (*counters).calls_returned) };
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

    /// The site at `ip`, if the process has listed it.
    #[inline(always)]
    pub(super) fn known(&self, ip: u64) -> Option<KnownSite> {
        // SAFETY: a live map value and a word in it, `cell` being below the length; the process
        // changes a word as a whole, and it is read once.
        let word = unsafe {
            let table = (&raw const (*self.shared).known).cast::<u64>();
            table.add(KnownSite::cell(ip)).read_volatile()
        };
        let site = KnownSite::from_word(word);
        (site.ip() == ip).then_some(site)
    }

    /// Reserves room for a record in the session's ring, or says that it is full.
    #[inline(always)]
    pub(super) fn reserve<T>(&self) -> Option<Slot<T>> {
        const { assert!(align_of::<T>() <= 8) };
        // SAFETY: `ring` is a ring buffer that the look-up returned; the kernel returns null or
        // `size_of::<T>()` bytes aligned to 8.
        let slot = unsafe { bpf_ringbuf_reserve(self.ring, size_of::<T>() as u64, 0) };
        if slot.is_null() {
            None
        } else {
            Some(Slot(slot.cast()))
        }
    }
}

/// Kernel address of the current thread's memory.
#[inline(always)]
fn memory() -> u64 {
    // SAFETY: the helper returns the current task, with its type; the verifier allows the load
    // only where that type has a field there.
    unsafe {
        let task = bpf_get_current_task_btf() as *const u8;
        task.add(MM_OFFSET.load() as usize)
            .cast::<u64>()
            .read_volatile()
    }
}

/// The first access of a process with a session: from now on it is known by its memory, which
/// processes that it makes by `vfork` share and later ones of the same id do not.
#[inline(always)]
fn join(process: u32, memory: u64) -> Option<Traced> {
    // SAFETY: a live map value, which is not changed while it is listed.
    let traced = unsafe { *JOINING.get_ptr(process)? };
    // Where it fails, the next access tries again.
    if MEMORIES.insert(memory, traced, 0).is_ok() {
        let _ = JOINING.remove(process);
    }
    Some(traced)
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
