//! Runs a few machine instructions from a chosen state of the whole processor, and tells what
//! state they leave.
//!
//! ```text
//!  execute(start) ──► xrstor, general registers, flags ──► code ──► landing: registers, flags
//!                                                  │ SIGSEGV, SIGTRAP         │
//!                                                  └──► handler ─────────────►┘ xsave, return
//! ```
//!
//! # Safety
//!
//! The code that a caller passes in runs with arbitrary registers, so callers pass only
//! instructions whose memory operands they have aimed at mappings of their own, or at
//! inaccessible pages. The trampoline saves and restores what the ABI calls preserved, and the
//! segment bases. There is one exchange area: only one thread of the process may run code.
#![allow(unsafe_code)]

use std::arch::x86_64::__cpuid_count;
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::LazyLock;

use tracer_ebpf::Regs;
use tracer_user::resume::frame::GPR;

/// Largest xsave area, AMX included.
pub(crate) const AREA: usize = 12 << 10;
/// x87, SSE, AVX, mask registers, the two AVX-512 vector components.
const COMPONENTS: u64 = 0xe7;
/// Tile configuration and data, where this process may use them.
const TILES: u64 = 3 << 17;
/// Trap flag.
pub(crate) const TRAP_FLAG: u64 = 1 << 8;

/// An xsave area in the standard format.
#[repr(C, align(64))]
#[derive(Clone)]
pub(crate) struct Area(pub(crate) [u8; AREA]);

impl Area {
    /// All zero but MXCSR, which masks all exceptions: what every component is initially.
    pub(crate) fn clean() -> Box<Area> {
        let mut area = Box::new(Area([0; AREA]));
        area.0[24..28].copy_from_slice(&0x1f80u32.to_le_bytes());
        area
    }

    /// Components that the area holds.
    pub(crate) fn present(&self) -> u64 {
        u64::from_le_bytes(self.0[512..520].try_into().expect("8 bytes"))
    }

    /// What of the area is state of the program: without the addresses of the last x87
    /// instruction and operand (a copy has others), and with components that are not present as
    /// they are initially.
    pub(crate) fn architectural(&self) -> Vec<u8> {
        let mut bytes = self.0.to_vec();
        bytes[6..24].fill(0);
        bytes[28..32].fill(0);
        bytes[416..576].fill(0);
        for (component, (from, len)) in components() {
            if self.present() >> component & 1 == 0 {
                bytes[from..from + len].fill(0);
            }
        }
        bytes
    }
}

/// Offset and length of each component in an [`Area`], by number. Asked once: in a virtual machine
/// CPUID takes longer than a run.
pub(crate) fn components() -> impl Iterator<Item = (u32, (usize, usize))> {
    static ALL: LazyLock<Vec<(u32, (usize, usize))>> = LazyLock::new(|| {
        let tracked = (1..19).filter(|component| tracked() >> component & 1 == 1);
        let place = |component| {
            if component == 1 {
                return (component, (160, 256));
            }
            let leaf = __cpuid_count(0xd, component);
            (component, (leaf.ebx as usize, leaf.eax as usize))
        };
        tracked.map(place).collect()
    });
    ALL.iter().copied()
}

/// Components that runs load and store.
pub(crate) fn tracked() -> u64 {
    static TRACKED: LazyLock<u64> = LazyLock::new(|| {
        const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
        let leaf = __cpuid_count(0xd, 0);
        let known = u64::from(leaf.edx) << 32 | u64::from(leaf.eax);
        // SAFETY: asks for the use of tile registers; a kernel without them refuses.
        let tiles = unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, 18u64) } == 0;
        known & (COMPONENTS | if tiles { TILES } else { 0 })
    });
    *TRACKED
}

/// Registers exchanged with the trampoline. The offsets are spelled out in the assembly below.
#[repr(C)]
struct Exchange {
    gpr: [u64; 16],     // 0
    rflags: u64,        // 128
    target: u64,        // 136
    tracked: u64,       // 144
    saved_rsp: u64,     // 152
    signal: u64,        // 160
    addr: u64,          // 168
    rip: u64,           // 176
    signal_rflags: u64, // 184
    code: u64,          // 192
    error: u64,         // 200
    stop: [u64; 2],     // 208: single-step stops are reported inside this range only
    gs: u64,            // 224
    saved_fs: u64,      // 232
    saved_gs: u64,      // 240
    load: *const Area,  // 248
    store: *mut Area,   // 256
    clean: *const Area, // 264
    bases: u64,         // 272: whether segment bases can be read and written
}

/// The one exchange area, written by assembly, handler and [`execute`] in turn.
#[repr(transparent)]
struct Shared(UnsafeCell<Exchange>);

// SAFETY: by the module's promise only one thread runs code.
unsafe impl Sync for Shared {}

static EXCHANGE: Shared = Shared(UnsafeCell::new(Exchange {
    gpr: [0; 16],
    rflags: 0,
    target: 0,
    tracked: 0,
    saved_rsp: 0,
    signal: 0,
    addr: 0,
    rip: 0,
    signal_rflags: 0,
    code: 0,
    error: 0,
    stop: [0; 2],
    gs: 0,
    saved_fs: 0,
    saved_gs: 0,
    load: ptr::null(),
    store: ptr::null_mut(),
    clean: ptr::null(),
    bases: 0,
}));

core::arch::global_asm!(
    ".globl ffitrace_oracle_enter",
    "ffitrace_oracle_enter:",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "mov [rip + {x} + 152], rsp",
    "cmp qword ptr [rip + {x} + 272], 0",
    "je 2f",
    "rdfsbase rax",
    "mov [rip + {x} + 232], rax",
    "rdgsbase rax",
    "mov [rip + {x} + 240], rax",
    "mov rax, [rip + {x} + 224]",
    "wrgsbase rax",
    "2:",
    "mov rcx, [rip + {x} + 248]",
    "mov eax, [rip + {x} + 144]",
    "mov edx, [rip + {x} + 148]",
    "xrstor64 [rcx]",
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
    ".globl ffitrace_oracle_land",
    "ffitrace_oracle_land:",
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
    "mov rsp, [rip + {x} + 152]",
    "pushfq",
    "pop qword ptr [rip + {x} + 128]",
    ".globl ffitrace_oracle_out",
    "ffitrace_oracle_out:",
    "mov rsp, [rip + {x} + 152]",
    "cmp qword ptr [rip + {x} + 272], 0",
    "je 2f",
    "mov rax, [rip + {x} + 232]",
    "wrfsbase rax",
    "mov rax, [rip + {x} + 240]",
    "wrgsbase rax",
    "2:",
    "mov rcx, [rip + {x} + 256]",
    "mov eax, [rip + {x} + 144]",
    "mov edx, [rip + {x} + 148]",
    "xsave64 [rcx]",
    "mov rcx, [rip + {x} + 264]",
    "xrstor64 [rcx]",
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
    fn ffitrace_oracle_enter();
    fn ffitrace_oracle_land();
    fn ffitrace_oracle_out();
}

/// Where code goes on when it is done: every snippet ends by jumping here.
pub(crate) fn landing() -> u64 {
    ffitrace_oracle_land as *const () as u64
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It reached the landing.
    Done,
    /// Native code ended by a signal.
    Signal {
        signal: i32,
        /// `si_code`.
        code: i32,
        addr: u64,
        /// Page-fault error code.
        error: u64,
    },
    /// Single-stepping reached the wanted range: the address of the next instruction.
    Stopped(u64),
}

/// What a run did.
#[derive(Clone)]
pub(crate) struct Outcome {
    /// How it ended.
    pub(crate) end: End,
    /// Registers at the end (at the signal, if one ended it).
    pub(crate) regs: Regs,
    /// All other state at the end.
    pub(crate) area: Box<Area>,
}

/// What a run starts from.
#[derive(Clone)]
pub(crate) struct Start {
    /// General registers; rip is where to begin.
    pub(crate) regs: Regs,
    /// Base of the gs segment.
    pub(crate) gs: u64,
    /// All other state.
    pub(crate) area: Box<Area>,
    /// With TF in the flags: stop at the first boundary in this range of addresses.
    pub(crate) stop: [u64; 2],
}

/// Whether segment bases can be set without the kernel (`HWCAP2_FSGSBASE`).
pub(crate) fn has_segment_bases() -> bool {
    // SAFETY: reads a word that the kernel passed.
    unsafe { libc::getauxval(libc::AT_HWCAP2) & 2 != 0 }
}

/// Runs the code at `start.regs.rip` until it lands or a signal ends it. `around` gets the
/// function that does it: to call it in a way of its own.
pub(crate) fn execute_by(start: &Start, around: impl FnOnce(unsafe extern "C" fn())) -> Outcome {
    let clean = Area::clean();
    let mut area = Area::clean();
    let x = EXCHANGE.0.get();
    // SAFETY: one thread, by the module's promise; the areas outlive the run.
    unsafe {
        (*x).gpr = start.regs.gpr;
        (*x).rflags = start.regs.rflags | 0x202;
        (*x).target = start.regs.rip;
        (*x).tracked = tracked();
        (*x).signal = 0;
        (*x).stop = start.stop;
        (*x).gs = start.gs;
        (*x).load = &raw const *start.area;
        (*x).store = &raw mut *area;
        (*x).clean = &raw const *clean;
        (*x).bases = u64::from(has_segment_bases());
    }
    around(ffitrace_oracle_enter);
    // SAFETY: as above; the run is over.
    unsafe {
        let (rip, rflags) = match (*x).signal {
            0 => (landing(), (*x).rflags),
            _ => ((*x).rip, (*x).signal_rflags),
        };
        let end = match (*x).signal as i32 {
            0 => End::Done,
            libc::SIGTRAP => End::Stopped(rip),
            signal => End::Signal {
                signal,
                code: (*x).code as i32,
                addr: (*x).addr,
                error: (*x).error,
            },
        };
        Outcome {
            end,
            regs: Regs {
                gpr: (*x).gpr,
                rip,
                rflags,
            },
            area,
        }
    }
}

/// As [`execute_by`], by a plain call.
pub(crate) fn execute(start: &Start) -> Outcome {
    execute_by(start, |enter| {
        // SAFETY: the trampoline keeps the ABI's promises; what it jumps to is the caller's
        // responsibility (module docs).
        unsafe { enter() }
    })
}

extern "C" fn on_signal(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let x = EXCHANGE.0.get();
    // SAFETY: the kernel passes valid `info` and `context`; the signal came from code that
    // `execute` runs on this thread, so the exchange area is ours. (A fault elsewhere in the
    // process resumes at an unrelated trampoline exit and crashes, as it would anyway.)
    unsafe {
        let context = &mut *context.cast::<libc::ucontext_t>();
        let gregs = &mut context.uc_mcontext.gregs;
        let rip = gregs[libc::REG_RIP as usize] as u64;
        if signal == libc::SIGTRAP {
            let [from, to] = (*x).stop;
            if rip < from || rip >= to {
                if rip == landing() {
                    gregs[libc::REG_EFL as usize] &= !(TRAP_FLAG as i64);
                }
                return;
            }
        }
        for (out, reg) in (*x).gpr.iter_mut().zip(GPR) {
            *out = gregs[reg as usize] as u64;
        }
        (*x).rip = rip;
        (*x).signal_rflags = gregs[libc::REG_EFL as usize] as u64 & !TRAP_FLAG;
        (*x).addr = (*info).si_addr() as u64;
        (*x).code = (*info).si_code as u64;
        (*x).error = gregs[libc::REG_ERR as usize] as u64;
        (*x).signal = signal as u64;
        gregs[libc::REG_RIP as usize] = ffitrace_oracle_out as *const () as i64;
        gregs[libc::REG_EFL as usize] &= !(TRAP_FLAG as i64);
    }
}

/// Takes the process's signals over, on a stack of their own. Once, by the thread that runs code.
pub(crate) fn install() {
    let memory = Box::leak(vec![0u8; 1 << 17].into_boxed_slice());
    // SAFETY: the stack is leaked, so it stays; a zeroed sigaction is valid, and `on_signal` has
    // the SA_SIGINFO signature.
    unsafe {
        let stack = libc::stack_t {
            ss_sp: memory.as_mut_ptr().cast(),
            ss_flags: 0,
            ss_size: memory.len(),
        };
        assert_eq!(libc::sigaltstack(&stack, ptr::null_mut()), 0);
        for signal in [
            libc::SIGSEGV,
            libc::SIGBUS,
            libc::SIGTRAP,
            libc::SIGILL,
            libc::SIGFPE,
        ] {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_signal as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            assert_eq!(libc::sigaction(signal, &action, ptr::null_mut()), 0);
        }
    }
}

/// Base of the fs segment of this thread.
pub(crate) fn fs_base() -> u64 {
    let safe = tracer_user::resume::safe::Safe::promise();
    tracer_user::resume::safe::segment_bases(safe).0
}
