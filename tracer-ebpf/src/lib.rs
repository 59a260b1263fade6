//! The record layout of ffitrace, in one place.
//!
//! The eBPF programs, the in-process signal handler and the ptrace supervisor all write these
//! records; `tracer-user` reads them. Both sides compile this file, so a field cannot mean two
//! things, and the assertions at its end fix sizes and offsets for the compiler.
//!
//! ```text
//!  page fault ──► FaultRecord ──┐      (KnownFaultRecord where the site is known)
//!  handler    ──► AuxRecord   ──┼──► ring ──► tracer-user decodes ──► access events
//!  dispatcher ──► TouchRecord ──┤
//!  uprobe     ──► CallRecord  ──┘
//! ```
#![no_std]

use bytemuck::{Pod, Zeroable};

mod known;

pub use known::{KNOWN_SITES, KnownFaultRecord, KnownSite, NO_REGISTER};

/// Version of the layout, in every record. A reader refuses any other.
pub const LAYOUT_VERSION: u16 = 4;

/// Size in bytes of one half of a segment pair: native view or host view.
pub const SEGMENT_SIZE: u64 = 1 << 30;

/// Distance in bytes from an address of the native view to the same byte in the host view.
///
/// The arena is a row of pairs `[native 1 GiB][host 1 GiB]`, so the distance is one segment and
/// fits the 32-bit displacement of an x86 memory operand.
pub const DELTA: u64 = SEGMENT_SIZE;

/// Size in bytes of a session's ring buffer where nothing else is asked for (a power of two, a
/// multiple of the page size).
pub const RING_BYTES: u32 = 16 << 20;

/// Smallest ring buffer of a session, in bytes.
pub const MIN_RING_BYTES: u32 = 2 << 20;

/// Most sessions that one set of attached programs records for at once.
pub const MAX_SESSIONS: usize = 1024;

/// Size of a page in bytes; x86-64 has no other for what is mapped here.
pub const PAGE_BYTES: usize = 4096;

/// Flag of an array map that the traced process may map (`BPF_F_MMAPABLE`).
pub const MAPPABLE: u32 = 1 << 10;

/// Names of maps and programs in the eBPF object.
pub mod names {
    /// Array of the sessions' ring buffers, by slot.
    pub const RINGS: &str = "RINGS";
    /// Array of the sessions' [`Shared`](super::Shared), by slot: each an array map of one, mapped
    /// by the traced process.
    pub const SHARED: &str = "SHARED";
    /// Hash of sessions ([`Traced`](super::Traced)) by process id, until the process makes its
    /// first access.
    pub const JOINING: &str = "JOINING";
    /// Hash of sessions ([`Traced`](super::Traced)) by memory: the kernel's address of the
    /// `mm_struct`.
    pub const MEMORIES: &str = "MEMORIES";
    /// Array of one [`Window`](super::Window).
    pub const WINDOW: &str = "WINDOW";
    /// Constant (`u64`): offset in bytes of `mm` in the kernel's `task_struct`.
    pub const MM_OFFSET: &str = "MM_OFFSET";
    /// `tp_btf` program on user page faults.
    pub const PAGE_FAULT_USER: &str = "page_fault_user";
    /// `tp_btf` program on the kernel's own page faults (system calls on arena memory).
    pub const PAGE_FAULT_KERNEL: &str = "page_fault_kernel";
    /// uprobe at the entry of the called function.
    pub const CALL_ENTER: &str = "call_enter";
    /// uretprobe of the called function.
    pub const CALL_RETURN: &str = "call_return";
}

/// Values of [`RecordHeader::kind`].
pub mod kind {
    /// [`FaultRecord`](super::FaultRecord): native code touched the native view.
    pub const FAULT: u16 = 1;
    /// [`AuxRecord`](super::AuxRecord): machine state that a page fault does not show.
    pub const AUX: u16 = 2;
    /// [`CallRecord`](super::CallRecord): the probed function was entered.
    pub const CALL_ENTER: u16 = 3;
    /// [`CallRecord`](super::CallRecord): the probed function returned.
    pub const CALL_RETURN: u16 = 4;
    /// [`KernelFaultRecord`](super::KernelFaultRecord): a system call touched the native view.
    pub const KERNEL_FAULT: u16 = 5;
    /// [`TouchRecord`](super::TouchRecord): a dispatched system call touched the arena.
    pub const TOUCH: u16 = 6;
    /// [`KnownFaultRecord`](super::KnownFaultRecord): a listed site touched the native view.
    pub const KNOWN_FAULT: u16 = 7;
}

/// Bits of [`TouchRecord::flags`].
pub mod touch {
    /// The kernel wrote the bytes; else it read them.
    pub const WRITE: u32 = 1 << 0;
    /// It certainly did.
    pub const CERTAIN: u32 = 1 << 1;
    /// The first record of its system call.
    pub const FIRST: u32 = 1 << 2;
    /// The call was not made: bits 8 to 15 say why, and `len` what exactly.
    pub const REFUSED: u32 = 1 << 3;
    /// Position of the reason of a refusal.
    pub const REASON_SHIFT: u32 = 8;
}

/// First eight bytes of every record.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct RecordHeader {
    /// One of the constants in [`kind`].
    pub kind: u16,
    /// [`LAYOUT_VERSION`].
    pub version: u16,
    /// Kernel thread id of the thread that made the record.
    pub tid: u32,
}

/// General registers of a thread when it faulted.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Regs {
    /// In the order of the x86 register encoding: rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8–r15
    /// (Intel SDM volume 2, table 3-1).
    pub gpr: [u64; 16],
    /// Address of the instruction that faulted.
    pub rip: u64,
    /// Flags; bit 10 is DF.
    pub rflags: u64,
}

/// One access to the native view, as the page fault shows it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct FaultRecord {
    /// `kind` is [`kind::FAULT`].
    pub header: RecordHeader,
    /// Faulting address (CR2). The access may begin before it, on an earlier page.
    pub addr: u64,
    /// x86 page-fault error code; bit 1 is set for a write (Intel SDM volume 3, 4.7).
    pub error: u32,
    /// How many probed functions this thread is in, 0 if none or not known.
    pub depth: u32,
    /// How many bytes of `insn` are valid: 15, or fewer before an unmapped page; 0 if unread.
    pub insn_len: u8,
    /// Instruction bytes at `regs.rip`.
    pub insn: [u8; 15],
    /// Registers before the instruction.
    pub regs: Regs,
}

/// State of the faulting thread that only its signal frame shows. Follows the fault that it
/// completes; matched to it by thread and instruction address, in order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct AuxRecord {
    /// `kind` is [`kind::AUX`].
    pub header: RecordHeader,
    /// Address of the instruction.
    pub ip: u64,
    /// Base of the `fs` segment.
    pub fs_base: u64,
    /// Base of the `gs` segment.
    pub gs_base: u64,
    /// AVX-512 mask registers k0–k7; 0 where the CPU has none.
    pub masks: [u64; 8],
    /// What else the instruction's accesses depend on: an index vector and a vector of masks, or
    /// the header of an xsave area. The decoder names them for each instruction; the rest is 0.
    pub vectors: [[u8; 64]; 2],
}

/// Entry to, or return from, the probed function.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct CallRecord {
    /// `kind` is [`kind::CALL_ENTER`] or [`kind::CALL_RETURN`].
    pub header: RecordHeader,
    /// Attach cookie of the probe: the function's id.
    pub cookie: u64,
    /// Stack pointer at the probe.
    pub sp: u64,
    /// Nesting depth of probed functions on this thread, 1 for the outermost.
    pub depth: u32,
    /// Zero.
    pub pad: u32,
    /// On entry rdi, rsi, rdx, rcx, r8, r9; on return rax, rdx and zeros.
    pub values: [u64; 6],
}

/// The kernel touched the native view for a system call, and will fail it with `EFAULT`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct KernelFaultRecord {
    /// `kind` is [`kind::KERNEL_FAULT`].
    pub header: RecordHeader,
    /// Address of the native view that the kernel touched.
    pub addr: u64,
    /// x86 page-fault error code; bit 1 is set for a write.
    pub error: u32,
    /// Number of the system call (`orig_ax`), or `u32::MAX` if not known.
    pub syscall: u32,
    /// User instruction after the `syscall`, or 0 if not known.
    pub ip: u64,
}

/// What a dispatched system call of native code did to the arena, or why it was not made.
///
/// The dispatcher issues the call on the host view and tells what the kernel reads and writes.
/// Where the kernel records, it tells it by a system call at [`Traced::marker`] that is handed the
/// touched address and fails there: the arguments are in the registers named here.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct TouchRecord {
    /// `kind` is [`kind::TOUCH`].
    pub header: RecordHeader,
    /// First address, in the native view (rsi).
    pub addr: u64,
    /// Length in bytes (r8).
    pub len: u64,
    /// Native code's `syscall` instruction (r9).
    pub ip: u64,
    /// Number of the system call (r12, low half).
    pub syscall: u32,
    /// Bits of [`touch`] (r12, high half).
    pub flags: u32,
    /// Number of the touch in the process (r13). The kernel may fault twice for one of them.
    pub seq: u64,
}

/// Where the arena of a traced process is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Session {
    /// First address of the arena, a multiple of `2 * SEGMENT_SIZE`.
    pub arena_base: u64,
    /// Length of the arena in bytes, a multiple of `2 * SEGMENT_SIZE`.
    pub arena_len: u64,
}

impl Session {
    /// Whether `addr` lies in the native view: inside the arena, in the lower half of its pair.
    #[inline(always)]
    pub const fn is_native(&self, addr: u64) -> bool {
        let offset = addr.wrapping_sub(self.arena_base);
        offset < self.arena_len && offset & SEGMENT_SIZE == 0
    }

    /// Whether `addr` lies anywhere in the arena, in either view.
    #[inline(always)]
    pub const fn is_arena(&self, addr: u64) -> bool {
        addr.wrapping_sub(self.arena_base) < self.arena_len
    }
}

/// What the eBPF programs know of a traced process. All that shares its memory is traced with it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Traced {
    /// Its arena.
    pub session: Session,
    /// Address behind the `syscall` instruction at which the dispatcher of system calls has
    /// touches recorded, or 0 if there is none.
    pub marker: u64,
    /// Which of the [`MAX_SESSIONS`] places is its own.
    pub slot: u32,
    /// Process id as the kernel knows it.
    pub process: u32,
}

/// The addresses between which the arenas of all sessions lie. What faults elsewhere, as nearly
/// everything on a host does, costs two comparisons.
///
/// While there are sessions each bound moves outwards only, so a reader that sees an old one and a
/// new one still finds every arena within.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Window {
    /// First address.
    pub low: u64,
    /// First address behind.
    pub high: u64,
}

/// What a session's process and the programs share beside the ring.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Shared {
    /// Written by the programs.
    pub counters: Counters,
    /// Zero. What follows is mapped writable, the counters are not.
    pub pad: [u64; PAGE_BYTES / 8 - 6],
    /// Written by the process: words of [`KnownSite`], or 0.
    pub known: [u64; KNOWN_SITES],
}

/// Totals of a session. `emitted` counts attempts, so `emitted = records in the ring + dropped`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Counters {
    /// Fault and touch records that the programs wanted to write.
    pub emitted: u64,
    /// Fault and touch records that found no room in the ring.
    pub dropped: u64,
    /// Entries into the probed function, nested ones included.
    pub calls_entered: u64,
    /// Returns from the probed function.
    pub calls_returned: u64,
    /// Call and kernel-fault records that the programs wanted to write.
    pub other_emitted: u64,
    /// Call and kernel-fault records that found no room.
    pub other_dropped: u64,
}

const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(size_of::<RecordHeader>() == 8);
    assert!(size_of::<Regs>() == 144);
    assert!(size_of::<FaultRecord>() == 184);
    assert!(offset_of!(FaultRecord, addr) == 8);
    assert!(offset_of!(FaultRecord, insn_len) == 24);
    assert!(offset_of!(FaultRecord, regs) == 40);
    assert!(size_of::<AuxRecord>() == 224);
    assert!(offset_of!(AuxRecord, vectors) == 96);
    assert!(size_of::<CallRecord>() == 80);
    assert!(offset_of!(CallRecord, values) == 32);
    assert!(size_of::<KernelFaultRecord>() == 32);
    assert!(size_of::<TouchRecord>() == 48);
    assert!(offset_of!(TouchRecord, syscall) == 32);
    assert!(size_of::<Traced>() == 32);
    assert!(size_of::<Window>() == 16);
    assert!(offset_of!(Shared, known) == PAGE_BYTES);
    assert!(size_of::<Shared>().is_multiple_of(PAGE_BYTES));
    assert!(size_of::<Session>() == 16);
    assert!(size_of::<Counters>() == 48);
    assert!(RING_BYTES.is_power_of_two() && MIN_RING_BYTES.is_power_of_two());
};
