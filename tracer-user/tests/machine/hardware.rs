//! Runs a few machine instructions with chosen registers, for tests that let the processor judge.
//!
//! ```text
//!  execute(code, regs) ──► trampoline loads every register ──► code ──► landing
//!                                                  │ SIGSEGV, SIGTRAP      │ stores registers
//!                                                  └──► handler ──────────►┘ and returns
//! ```
//! Code lies in a memfd that is mapped twice, writable and executable, so no page is both.
//!
//! # Safety
//!
//! The code that a test passes in runs with arbitrary registers, so the tests pass only
//! instructions whose memory operands they have aimed at mappings that [`Pages`] owns, or at
//! inaccessible pages. The trampoline saves and restores what the ABI calls preserved; statics
//! are shared with the handler, and [`execute`] holds a lock over them all.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::ptr::{self, NonNull};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use tracer_ebpf::Regs;

/// Page size of the tests' mappings.
pub(crate) const PAGE: usize = 4096;

/// Registers exchanged with the trampoline. The offsets are spelled out in the assembly below.
#[repr(C)]
struct Exchange {
    gpr: [u64; 16],     // 0
    rflags: u64,        // 128
    target: u64,        // 136
    masks: [u64; 8],    // 144
    avx512: u64,        // 208
    saved_rsp: u64,     // 216
    fault_addr: u64,    // 224
    fault_signal: u64,  // 232
    fault_rip: u64,     // 240
    fault_rflags: u64,  // 248
    step_rip: [u64; 2], // 256: TF stops are reported inside this range only
    xmm: [[u64; 2]; 2], // 272: xmm0 and xmm1, in and out
    avx: u64,           // 304
}

/// The one exchange area, written by assembly, handler and [`execute`] in turn.
#[repr(transparent)]
struct Shared(UnsafeCell<Exchange>);

// SAFETY: every access happens while `LOCK` is held: `execute` takes it, and trampoline and
// handler run on the thread that holds it, inside `execute`.
unsafe impl Sync for Shared {}

static LOCK: Mutex<()> = Mutex::new(());

static EXCHANGE: Shared = Shared(UnsafeCell::new(Exchange {
    gpr: [0; 16],
    rflags: 0,
    target: 0,
    masks: [0; 8],
    avx512: 0,
    saved_rsp: 0,
    fault_addr: 0,
    fault_signal: 0,
    fault_rip: 0,
    fault_rflags: 0,
    step_rip: [0; 2],
    xmm: [[0; 2]; 2],
    avx: 0,
}));

core::arch::global_asm!(
    ".globl ffitrace_test_enter",
    "ffitrace_test_enter:",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "mov [rip + {x} + 216], rsp",
    "cmp qword ptr [rip + {x} + 304], 0",
    "je 2f",
    "vzeroall",
    "2:",
    "cmp qword ptr [rip + {x} + 208], 0",
    "je 2f",
    "kmovq k1, qword ptr [rip + {x} + 152]",
    "kmovq k2, qword ptr [rip + {x} + 160]",
    "kmovq k3, qword ptr [rip + {x} + 168]",
    "kmovq k4, qword ptr [rip + {x} + 176]",
    "kmovq k5, qword ptr [rip + {x} + 184]",
    "kmovq k6, qword ptr [rip + {x} + 192]",
    "kmovq k7, qword ptr [rip + {x} + 200]",
    "2:",
    "movups xmm0, [rip + {x} + 272]",
    "movups xmm1, [rip + {x} + 288]",
    "movaps xmm2, xmm0",
    "movaps xmm3, xmm1",
    "movaps xmm4, xmm0",
    "movaps xmm5, xmm1",
    "movaps xmm6, xmm0",
    "movaps xmm7, xmm1",
    "movaps xmm8, xmm0",
    "movaps xmm9, xmm1",
    "movaps xmm10, xmm0",
    "movaps xmm11, xmm1",
    "movaps xmm12, xmm0",
    "movaps xmm13, xmm1",
    "movaps xmm14, xmm0",
    "movaps xmm15, xmm1",
    "movdq2q mm0, xmm0",
    "movdq2q mm1, xmm1",
    "movdq2q mm2, xmm0",
    "movdq2q mm3, xmm1",
    "movdq2q mm4, xmm0",
    "movdq2q mm5, xmm1",
    "movdq2q mm6, xmm0",
    "movdq2q mm7, xmm1",
    "fninit",
    "mov rax, [rip + {x} + 0]",
    "mov rcx, [rip + {x} + 8]",
    "mov rdx, [rip + {x} + 16]",
    "mov rbx, [rip + {x} + 24]",
    "mov rbp, [rip + {x} + 40]",
    "mov rsi, [rip + {x} + 48]",
    "mov rdi, [rip + {x} + 56]",
    "mov r8, [rip + {x} + 64]",
    "mov r9, [rip + {x} + 72]",
    "mov r10, [rip + {x} + 80]",
    "mov r11, [rip + {x} + 88]",
    "mov r12, [rip + {x} + 96]",
    "mov r13, [rip + {x} + 104]",
    "mov r14, [rip + {x} + 112]",
    "mov r15, [rip + {x} + 120]",
    "push qword ptr [rip + {x} + 128]",
    "popfq",
    "mov rsp, [rip + {x} + 32]",
    "jmp qword ptr [rip + {x} + 136]",
    ".globl ffitrace_test_land",
    "ffitrace_test_land:",
    "mov [rip + {x} + 0], rax",
    "mov [rip + {x} + 8], rcx",
    "mov [rip + {x} + 16], rdx",
    "mov [rip + {x} + 24], rbx",
    "mov [rip + {x} + 32], rsp",
    "mov [rip + {x} + 40], rbp",
    "mov [rip + {x} + 48], rsi",
    "mov [rip + {x} + 56], rdi",
    "mov [rip + {x} + 64], r8",
    "mov [rip + {x} + 72], r9",
    "mov [rip + {x} + 80], r10",
    "mov [rip + {x} + 88], r11",
    "mov [rip + {x} + 96], r12",
    "mov [rip + {x} + 104], r13",
    "mov [rip + {x} + 112], r14",
    "mov [rip + {x} + 120], r15",
    "mov rsp, [rip + {x} + 216]",
    "pushfq",
    "pop qword ptr [rip + {x} + 128]",
    ".globl ffitrace_test_out",
    "ffitrace_test_out:",
    "mov rsp, [rip + {x} + 216]",
    "movups [rip + {x} + 272], xmm0",
    "movups [rip + {x} + 288], xmm1",
    "fninit",
    "push 0x1f80",
    "ldmxcsr [rsp]",
    "pop rax",
    "cld",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "ret",
    x = sym EXCHANGE,
);

unsafe extern "C" {
    fn ffitrace_test_enter();
    fn ffitrace_test_land();
    fn ffitrace_test_out();
}

/// Where code goes on when it is done: every snippet ends by jumping here.
pub(crate) fn landing() -> u64 {
    ffitrace_test_land as *const () as u64
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It reached the landing.
    Done,
    /// A signal, with its address and the instruction that caused it.
    Fault { signal: i32, addr: u64, rip: u64 },
    /// Single-stepping reached the wanted range: the address of the next instruction.
    Stopped { rip: u64 },
}

/// What a run did.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// How it ended.
    pub(crate) end: End,
    /// Registers at the end (at the signal, if one ended it).
    pub(crate) regs: Regs,
    /// xmm0 and xmm1 at the end.
    pub(crate) xmm: [[u64; 2]; 2],
}

/// What a run starts from.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Start {
    /// k0–k7, of which k1 to k7 are loaded where the machine has them.
    pub(crate) masks: [u64; 8],
    /// xmm0 and xmm1; the other even and odd ones are the same, and so are mm0 to mm7 (low half).
    pub(crate) xmm: [[u64; 2]; 2],
    /// With TF in the flags: stop at the first boundary in this range of addresses.
    pub(crate) stop: [u64; 2],
}

/// Runs the code at `regs.rip` with these registers until it lands or faults.
pub(crate) fn execute(regs: &Regs, start: &Start) -> Outcome {
    let _guard: MutexGuard<'_, ()> = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    install();
    let _stack = SignalStack::install();
    let x = EXCHANGE.0.get();
    // SAFETY: `LOCK` is held, so nothing else uses the exchange area; the trampoline keeps the
    // ABI's promises, and the code it jumps to is the test's responsibility (module docs).
    unsafe {
        (*x).gpr = regs.gpr;
        (*x).rflags = regs.rflags | 0x202;
        (*x).target = regs.rip;
        (*x).masks = start.masks;
        (*x).xmm = start.xmm;
        (*x).avx512 = u64::from(std::arch::is_x86_feature_detected!("avx512bw"));
        (*x).avx = u64::from(std::arch::is_x86_feature_detected!("avx"));
        (*x).fault_signal = 0;
        (*x).step_rip = start.stop;
        ffitrace_test_enter();
        let (rip, rflags) = match (*x).fault_signal {
            0 => (landing(), (*x).rflags),
            _ => ((*x).fault_rip, (*x).fault_rflags),
        };
        let end = match (*x).fault_signal as i32 {
            0 => End::Done,
            libc::SIGTRAP => End::Stopped { rip },
            signal => End::Fault {
                signal,
                addr: (*x).fault_addr,
                rip,
            },
        };
        Outcome {
            end,
            regs: Regs {
                gpr: (*x).gpr,
                rip,
                rflags,
            },
            xmm: (*x).xmm,
        }
    }
}

/// Order of `Regs::gpr` in the signal frame.
const GREGS: [i32; 16] = [
    libc::REG_RAX,
    libc::REG_RCX,
    libc::REG_RDX,
    libc::REG_RBX,
    libc::REG_RSP,
    libc::REG_RBP,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
];

extern "C" fn on_signal(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let x = EXCHANGE.0.get();
    // SAFETY: the kernel passes valid `info` and `context`; the signal came from code that
    // `execute` runs on this thread, so the exchange area is ours. (A fault elsewhere in the
    // test process resumes at an unrelated trampoline exit and crashes, as it would anyway.)
    unsafe {
        let context = &mut *context.cast::<libc::ucontext_t>();
        let gregs = &mut context.uc_mcontext.gregs;
        let rip = gregs[libc::REG_RIP as usize] as u64;
        if signal == libc::SIGTRAP {
            let [from, to] = (*x).step_rip;
            if rip < from || rip >= to {
                if rip == landing() {
                    gregs[libc::REG_EFL as usize] &= !0x100;
                }
                return;
            }
        }
        for (out, reg) in (*x).gpr.iter_mut().zip(GREGS) {
            *out = gregs[reg as usize] as u64;
        }
        (*x).fault_rip = rip;
        (*x).fault_rflags = gregs[libc::REG_EFL as usize] as u64 & !0x100;
        (*x).fault_addr = (*info).si_addr() as u64;
        (*x).fault_signal = signal as u64;
        gregs[libc::REG_RIP as usize] = ffitrace_test_out as *const () as i64;
        gregs[libc::REG_EFL as usize] &= !0x100;
    }
}

fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for signal in [
            libc::SIGSEGV,
            libc::SIGBUS,
            libc::SIGTRAP,
            libc::SIGILL,
            libc::SIGFPE,
        ] {
            // SAFETY: a zeroed sigaction is valid, and `on_signal` has the SA_SIGINFO signature.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = on_signal as *const () as usize;
                action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
                assert_eq!(libc::sigaction(signal, &action, ptr::null_mut()), 0);
            }
        }
    });
}

/// An alternate signal stack for the current thread while a run lasts.
struct SignalStack {
    before: libc::stack_t,
    _memory: Box<[u8]>,
}

impl SignalStack {
    fn install() -> SignalStack {
        let mut memory = vec![0u8; 1 << 16].into_boxed_slice();
        // SAFETY: the new stack lives until `drop` has put the previous one back.
        unsafe {
            let mut before: libc::stack_t = std::mem::zeroed();
            let stack = libc::stack_t {
                ss_sp: memory.as_mut_ptr().cast(),
                ss_flags: 0,
                ss_size: memory.len(),
            };
            assert_eq!(libc::sigaltstack(&stack, &mut before), 0);
            SignalStack {
                before,
                _memory: memory,
            }
        }
    }
}

impl Drop for SignalStack {
    fn drop(&mut self) {
        // SAFETY: `before` is what the kernel reported for this thread.
        unsafe {
            libc::sigaltstack(&self.before, ptr::null_mut());
        }
    }
}

/// An owned mapping.
pub(crate) struct Pages {
    base: NonNull<u8>,
    len: usize,
}

impl Pages {
    /// Reserves `len` bytes of inaccessible address space.
    pub(crate) fn reserve(len: usize) -> Pages {
        Pages::map(
            None,
            len,
            libc::PROT_NONE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
        )
    }

    fn map(at: Option<u64>, len: usize, prot: i32, flags: i32, fd: i32) -> Pages {
        // SAFETY: without MAP_FIXED the kernel picks free space; with it, `at` lies in space
        // that the caller has reserved.
        let base = unsafe { libc::mmap(at.unwrap_or(0) as *mut _, len, prot, flags, fd, 0) };
        assert_ne!(base, libc::MAP_FAILED, "mmap of {len} bytes");
        Pages {
            base: NonNull::new(base.cast()).expect("mmap returned null"),
            len,
        }
    }

    /// Address of the first byte.
    pub(crate) fn addr(&self) -> u64 {
        self.base.as_ptr() as u64
    }

    /// Changes the protection of `len` bytes at `offset`.
    pub(crate) fn protect(&self, offset: usize, len: usize, prot: i32) {
        assert!(offset + len <= self.len);
        // SAFETY: the range lies in this mapping, and tests hold no references into it.
        let result = unsafe { libc::mprotect(self.base.as_ptr().add(offset).cast(), len, prot) };
        assert_eq!(result, 0);
    }

    /// Maps `len` bytes of `fd` shared at `offset`, in place of what is there.
    pub(crate) fn overlay(&self, offset: usize, len: usize, prot: i32, fd: i32) {
        assert!(offset + len <= self.len);
        let at = self.addr() + offset as u64;
        let flags = libc::MAP_SHARED | libc::MAP_FIXED;
        std::mem::forget(Pages::map(Some(at), len, prot, flags, fd));
    }

    /// Copies bytes in. The range must be accessible.
    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.len);
        // SAFETY: in bounds (above), writable as the caller says, and no references exist.
        unsafe {
            ptr::copy_nonoverlapping(bytes.as_ptr(), self.base.as_ptr().add(offset), bytes.len());
        }
    }

    /// Copies bytes out. The range must be accessible.
    pub(crate) fn read(&self, offset: usize, len: usize) -> Vec<u8> {
        assert!(offset + len <= self.len);
        let mut bytes = vec![0; len];
        // SAFETY: as in `write`.
        unsafe {
            ptr::copy_nonoverlapping(self.base.as_ptr().add(offset), bytes.as_mut_ptr(), len);
        }
        bytes
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no references into it exist.
        unsafe {
            libc::munmap(self.base.as_ptr().cast(), self.len);
        }
    }
}

/// A memfd of `len` bytes.
pub(crate) fn memfd(len: usize) -> std::os::fd::OwnedFd {
    let fd = rustix::fs::memfd_create("ffitrace-test", rustix::fs::MemfdFlags::CLOEXEC)
        .expect("memfd_create");
    rustix::fs::ftruncate(&fd, len as u64).expect("ftruncate");
    fd
}

/// Executable memory: written through one view, run in the other.
pub(crate) struct Code {
    writable: Pages,
    runnable: Pages,
}

impl Code {
    /// `len` bytes, a multiple of the page size.
    pub(crate) fn new(len: usize) -> Code {
        use std::os::fd::AsRawFd;
        let fd = memfd(len);
        let (writable, runnable) = (Pages::reserve(len), Pages::reserve(len));
        writable.overlay(0, len, libc::PROT_READ | libc::PROT_WRITE, fd.as_raw_fd());
        runnable.overlay(0, len, libc::PROT_READ | libc::PROT_EXEC, fd.as_raw_fd());
        Code { writable, runnable }
    }

    /// Puts bytes at `offset` and returns the address to run them at.
    pub(crate) fn put(&self, offset: usize, bytes: &[u8]) -> u64 {
        self.writable.write(offset, bytes);
        self.runnable.addr() + offset as u64
    }

    /// Puts an instruction at `offset`, followed by a jump to the landing.
    pub(crate) fn put_and_land(&self, offset: usize, bytes: &[u8]) -> u64 {
        let mut code = bytes.to_vec();
        code.extend([0xff, 0x25, 0, 0, 0, 0]); // jmp [rip+0]
        code.extend(landing().to_le_bytes());
        self.put(offset, &code)
    }

    /// Address that `offset` runs at.
    pub(crate) fn addr(&self, offset: usize) -> u64 {
        self.runnable.addr() + offset as u64
    }
}
