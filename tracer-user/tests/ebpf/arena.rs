//! An arena to fault in, the handler that lets faults pass, and records sorted by kind.

use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use libtest_mimic::Failed;
use tracer_ebpf::{
    CallRecord, FaultRecord, KernelFaultRecord, KnownFaultRecord, LAYOUT_VERSION, RecordHeader,
    SEGMENT_SIZE, Session, kind,
};
use tracer_user::backend::ebpf::Ebpf;

/// Bounds of the arena that the handler answers for.
static BASE: AtomicU64 = AtomicU64::new(0);
static END: AtomicU64 = AtomicU64::new(0);

/// Length of the instruction that a fault skips, or 0 to open its page and take it again.
static SKIP: AtomicU64 = AtomicU64::new(0);

/// An inaccessible arena of one segment pair.
pub(crate) struct Arena {
    map: *mut libc::c_void,
    /// Its first address.
    pub(crate) base: u64,
}

/// Length of an arena in bytes.
const LEN: u64 = 2 * SEGMENT_SIZE;

impl Arena {
    /// Maps an arena and makes it the one that the handler answers for. A fault opens its page.
    pub(crate) fn new() -> Self {
        static HANDLER: Once = Once::new();
        HANDLER.call_once(install_handler);
        // SAFETY: a new mapping, twice as large so that an aligned one fits.
        let map = unsafe {
            libc::mmap(
                ptr::null_mut(),
                2 * LEN as usize,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        assert_ne!(map, libc::MAP_FAILED, "no address space for an arena");
        let base = (map as u64).next_multiple_of(LEN);
        BASE.store(base, Ordering::SeqCst);
        END.store(base + LEN, Ordering::SeqCst);
        SKIP.store(0, Ordering::SeqCst);
        Arena { map, base }
    }

    /// Lets faults pass by skipping the instruction, `length` bytes long; pages stay closed.
    pub(crate) fn skip(&self, length: u64) {
        SKIP.store(length, Ordering::SeqCst);
    }

    /// A recorder for this arena.
    pub(crate) fn open(&self) -> Result<Ebpf, Failed> {
        let session = Session {
            arena_base: self.base,
            arena_len: LEN,
        };
        Ebpf::open(session).map_err(|error| error.to_string().into())
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made; nothing refers to it any more.
        unsafe { libc::munmap(self.map, 2 * LEN as usize) };
    }
}

fn install_handler() {
    // SAFETY: `handler` has the signature that SA_SIGINFO asks for, and calls nothing but
    // mprotect, madvise and _exit.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        assert_eq!(libc::sigaction(libc::SIGSEGV, &action, ptr::null_mut()), 0);
    }
}

extern "C" fn handler(_: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes valid pointers to both.
    unsafe {
        let addr = (*info).si_addr() as u64;
        let arena = BASE.load(Ordering::Relaxed)..END.load(Ordering::Relaxed);
        if !arena.contains(&addr) {
            libc::_exit(99);
        }
        let regs = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
        if arena.contains(&(regs[libc::REG_RIP as usize] as u64)) {
            // A jump into the arena: go back to the caller.
            let sp = regs[libc::REG_RSP as usize] as *const i64;
            regs[libc::REG_RIP as usize] = *sp;
            regs[libc::REG_RSP as usize] += 8;
            return;
        }
        match SKIP.load(Ordering::Relaxed) {
            0 => {
                let page = addr & !0xfff;
                libc::mprotect(page as *mut _, 4096, libc::PROT_READ | libc::PROT_WRITE);
                // Else the first access to the open page would be one more page fault.
                libc::madvise(page as *mut _, 4096, libc::MADV_POPULATE_WRITE);
            }
            length => regs[libc::REG_RIP as usize] += length as i64,
        }
    }
}

/// Records of a ring, sorted by kind.
#[derive(Default)]
pub(crate) struct Records {
    pub(crate) faults: Vec<FaultRecord>,
    pub(crate) known: Vec<KnownFaultRecord>,
    pub(crate) kernel: Vec<KernelFaultRecord>,
    pub(crate) calls: Vec<CallRecord>,
}

/// Drains the ring. A record of another kind, size or version fails the test.
pub(crate) fn drain(ebpf: &mut Ebpf) -> Result<Records, Failed> {
    let mut records = Records::default();
    let mut wrong = None;
    let count = ebpf.drain(&mut |bytes| {
        let header = bytes
            .get(..8)
            .map(bytemuck::pod_read_unaligned::<RecordHeader>);
        match header {
            Some(RecordHeader {
                kind: kind::FAULT,
                version: LAYOUT_VERSION,
                ..
            }) if bytes.len() == size_of::<FaultRecord>() => {
                records.faults.push(bytemuck::pod_read_unaligned(bytes));
            }
            Some(RecordHeader {
                kind: kind::KNOWN_FAULT,
                version: LAYOUT_VERSION,
                ..
            }) if bytes.len() == size_of::<KnownFaultRecord>() => {
                records.known.push(bytemuck::pod_read_unaligned(bytes));
            }
            Some(RecordHeader {
                kind: kind::KERNEL_FAULT,
                version: LAYOUT_VERSION,
                ..
            }) if bytes.len() == size_of::<KernelFaultRecord>() => {
                records.kernel.push(bytemuck::pod_read_unaligned(bytes));
            }
            Some(RecordHeader {
                kind: kind::CALL_ENTER | kind::CALL_RETURN,
                version: LAYOUT_VERSION,
                ..
            }) if bytes.len() == size_of::<CallRecord>() => {
                records.calls.push(bytemuck::pod_read_unaligned(bytes));
            }
            other => wrong = Some(format!("{} bytes with header {other:?}", bytes.len())),
        }
    });
    if let Some(wrong) = wrong {
        return Err(wrong.into());
    }
    let sorted =
        records.faults.len() + records.known.len() + records.kernel.len() + records.calls.len();
    if count != sorted {
        return Err(format!("drain counted {count} records and delivered {sorted}").into());
    }
    if ebpf.ring_view().used() != 0 {
        return Err("the ring is not empty after drain".into());
    }
    Ok(records)
}
