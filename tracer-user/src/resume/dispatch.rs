//! System calls of native code: made here, on the host view, and told to the recorder.
//!
//! ```text
//!  native code: syscall ─► SIGSYS ─► prepare: what does it do to the arena?      syscall/
//!                                     │ touches ─► recorder                      touch.rs
//!                                     ├ about signals: answered here             signal_calls.rs
//!                                     ├ makes a thread or a process              spawn.rs
//!                                     └ else: made at the gate, pointers moved, with native
//!                                       code's own signal mask
//!                                    finish: touches ─► recorder; result ─► rax
//! ```
//! A handler runs with all signals blocked but for the call itself, which waits and is
//! interrupted as it would be without us. What interrupts it abandons the handler's frames: a
//! handler of native code is called as if native code had been interrupted in its own `syscall`
//! instruction, with the result or before it, and the call is made again where the kernel says so
//! (`SA_RESTART`).
//!
//! # Safety
//! Calls are those of native code, with its own arguments but for addresses of the arena. The
//! frames from the handler to the gate own nothing, so they may be abandoned.
#![allow(unsafe_code)]

use tracer_ebpf::Session;

use super::{
    block::Block,
    deliver,
    engine::{Engine, Recording},
    exit,
    frame::{Context, Frame, R8, R9, R10, R12, RAX, RBX, RDI, RDX, RSI},
    gate::{self, Progress, Request},
    hot,
    refusal::Refused,
    safe::{self, Safe},
    signal_calls::{self, NEVER_BLOCKED},
    spawn,
    touch::Reporter,
};
use crate::syscall::{Call, Moved, Plan, Special, WaitMask, finish, prepare};

/// `si_code` of a dispatched system call (include/uapi/asm-generic/siginfo.h).
pub(super) const SYS_USER_DISPATCH: i32 = 2;
/// `AUDIT_ARCH_X86_64`, and where in the `siginfo` of a SIGSYS it stands.
const ARCH: u32 = 0xc000_003e;
const ARCH_OFFSET: usize = 28;
/// Length of a `syscall` instruction.
const SYSCALL_LEN: u64 = 2;

const EFAULT: i64 = -(libc::EFAULT as i64);
const EINVAL: i64 = -(libc::EINVAL as i64);

/// A call of native code that is under way at the gate.
#[repr(C)]
struct InCall {
    /// First, so that its address is that of the whole.
    request: Request,
    frame: *mut Context,
    call: Call,
    moved: Option<*const Moved>,
    /// The mask that the call waits with instead of the thread's.
    waiting: Option<u64>,
    /// Whether touches of it are told already.
    told: bool,
}

/// One dispatched call.
pub(super) struct Dispatched<'a> {
    pub(super) safe: Safe,
    pub(super) engine: &'a Engine,
    pub(super) block: &'a Block,
    pub(super) arena: Session,
    pub(super) call: Call,
    pub(super) reporter: Reporter<'a>,
}

/// The arena, as far as system calls of this process are told; nothing where they are not.
pub(super) fn arena(safe: Safe, engine: &Engine) -> Session {
    if engine.recording() != Recording::Off && engine.at_home(safe) {
        engine.session()
    } else {
        Session {
            arena_base: 0,
            arena_len: 0,
        }
    }
}

/// Makes the call that native code was about to make, and has the thread go on behind it.
#[inline(never)] // Its frame is large, and other signals may arrive on small stacks.
pub(super) fn on_call(
    safe: Safe,
    engine: &Engine,
    block: &Block,
    frame: &mut Frame<'_>,
    info: *const libc::siginfo_t,
) {
    let call = Call {
        number: frame.register(RAX),
        args: [RDI, RSI, RDX, R10, R8, R9].map(|number| frame.register(number)),
    };
    let site = frame.ip() - SYSCALL_LEN;
    let arena = arena(safe, engine);
    let reporter = Reporter::new(safe, engine, arena, call.number, site);
    // SAFETY: the kernel filled in the info of a SIGSYS.
    let arch = unsafe { info.byte_add(ARCH_OFFSET).cast::<u32>().read_unaligned() };
    if arch != ARCH {
        reporter.refuse(0, Refused::Compat as u8, call.number);
        return frame.set_register(RAX, -i64::from(libc::ENOSYS) as u64);
    }
    // SAFETY: this thread's scratch, which nobody else uses until this function returns. A call
    // that this one interrupted keeps its part.
    let scratch = unsafe { block.scratch() };
    if block.depth.get() == 0 {
        scratch.reset();
    }
    hot::before_call(engine, &call);
    let plan = prepare(safe, &call, arena, scratch, &mut |touch| {
        reporter.touch(touch)
    });
    let dispatched = Dispatched {
        safe,
        engine,
        block,
        arena,
        call,
        reporter,
    };
    match plan {
        Plan::Pass => dispatched.make(frame, None, frame.mask(), None),
        Plan::Moved(moved) => dispatched.make(frame, Some(&moved), frame.mask(), None),
        Plan::Refuse(refusal) => {
            let code = refusal.reason.code();
            dispatched
                .reporter
                .refuse(refusal.addr, code, refusal.detail);
            frame.set_register(RAX, EFAULT as u64);
        }
        Plan::Special(special, moved) => dispatched.special(frame, special, moved),
    }
}

impl Dispatched<'_> {
    /// Makes the call at the gate, with this signal mask, and finishes it.
    pub(super) fn make(
        &self,
        frame: &mut Frame<'_>,
        moved: Option<&Moved>,
        mask: u64,
        waiting: Option<u64>,
    ) {
        let args = moved.map_or(self.call.args, |moved| moved.args);
        let under_way = InCall {
            request: Request::new(self.call.number, args, mask),
            frame: frame.address(),
            call: self.call,
            moved: moved.map(std::ptr::from_ref),
            waiting,
            told: self.reporter.told(),
        };
        let depth = &self.block.depth;
        depth.set(depth.get() + 1);
        // SAFETY: the call is native code's own. No frame from here to the handler's owns
        // anything.
        let result = unsafe { gate::interruptible(self.safe, &under_way.request) };
        depth.set(depth.get() - 1);
        self.finish(frame, moved, result);
    }

    /// Tells what the call did, and gives native code its result.
    pub(super) fn finish(&self, frame: &mut Frame<'_>, moved: Option<&Moved>, result: i64) {
        let result = match moved {
            None => result,
            Some(moved) => {
                // SAFETY: as in `on_call`; the call is over.
                let scratch = unsafe { self.block.scratch() };
                let touch = &mut |touch| self.reporter.touch(touch);
                finish(self.safe, self.arena, moved, result, scratch, touch)
            }
        };
        frame.set_register(RAX, result as u64);
    }

    /// Does not make the call: names it, and has it fail.
    pub(super) fn refuse(&self, frame: &mut Frame<'_>, why: Refused, error: i64) {
        self.reporter.refuse(0, why as u8, 0);
        frame.set_register(RAX, error as u64);
    }

    fn special(&self, frame: &mut Frame<'_>, special: Special, moved: Moved) {
        let (safe, block) = (self.safe, self.block);
        let args = &moved.args;
        let done = match special {
            Special::SigAction => signal_calls::sigaction(safe, block, args),
            Special::SigProcMask => signal_calls::sigprocmask(safe, block, frame, args),
            Special::SigAltStack => signal_calls::sigaltstack(safe, block, frame, args),
            Special::SigReturn => {
                if !deliver::sigreturn(safe, block, self.arena, frame) {
                    safe::signal_thread(safe, safe::thread_id(safe), libc::SIGSEGV);
                }
                return;
            }
            Special::Masked(mask) => return self.wait(frame, moved, mask),
            Special::Clone | Special::Clone3 | Special::Fork | Special::Vfork => {
                return spawn::spawn(self, frame, special, moved);
            }
            Special::Execve | Special::Execveat => {
                // The new program inherits the mask that native code believes in.
                let mask = signal_calls::believed(block, frame);
                self.make(frame, Some(&moved), mask, None);
                return;
            }
            Special::Exit => return exit::thread(self, frame),
            Special::ExitGroup => return exit::process(self, frame),
            Special::ArchPrctl if args[0] == ARCH_SET_FS => {
                return self.refuse(frame, Refused::SetFs, EINVAL);
            }
            Special::Prctl if args[0] == PR_SET_SYSCALL_USER_DISPATCH => {
                return self.refuse(frame, Refused::Dispatch, EINVAL);
            }
            Special::Prctl if args[0] == libc::PR_SET_SECCOMP as u64 => {
                return self.refuse(frame, Refused::Filter, EINVAL);
            }
            Special::Seccomp if args[0] <= libc::SECCOMP_SET_MODE_FILTER.into() => {
                return self.refuse(frame, Refused::Filter, EINVAL);
            }
            Special::SetTidAddress => {
                let word = self.call.args[0];
                block
                    .clear_tid
                    .set(if self.arena.is_native(word) { word } else { 0 });
                return self.make(frame, Some(&moved), frame.mask(), None);
            }
            Special::ArchPrctl | Special::Prctl | Special::Seccomp => {
                return self.make(frame, Some(&moved), frame.mask(), None);
            }
        };
        self.finish(frame, Some(&moved), done);
    }

    /// A call that waits with another signal mask.
    fn wait(&self, frame: &mut Frame<'_>, mut moved: Moved, mask: WaitMask) {
        let mut waiting = None;
        // What the kernel would not accept it refuses itself.
        if mask.size == 8
            && let Some(mask) = signal_calls::read_mask(self.safe, mask.addr)
        {
            // SAFETY: as in `on_call`.
            let scratch = unsafe { self.block.scratch() };
            if let Err(reason) = moved.replace_mask(scratch, mask & !NEVER_BLOCKED) {
                self.reporter.refuse(0, reason.code(), 0);
                return frame.set_register(RAX, EFAULT as u64);
            }
            waiting = Some(mask);
        }
        self.make(frame, Some(&moved), frame.mask(), waiting);
    }
}

/// `arch_prctl` code (arch/x86/include/uapi/asm/prctl.h).
const ARCH_SET_FS: u64 = 0x1002;
/// `prctl` option (include/uapi/linux/prctl.h).
const PR_SET_SYSCALL_USER_DISPATCH: u64 = 59;

/// What native code was interrupted in by the handler with this frame: where it was, and the mask
/// that a call of it was waiting with, if it was. A call that was interrupted at the gate is
/// finished, or yet to be made; its handler's frames are abandoned.
pub(super) fn native_context(
    safe: Safe,
    engine: &Engine,
    block: &Block,
    frame: &Frame<'_>,
) -> (Context, Option<u64>) {
    let Some(progress) = gate::progress(frame.ip(), frame.register(RAX), frame.register(RBX))
    else {
        return (frame.read(), None);
    };
    // SAFETY: inside an interruptible call r12 holds the request, which begins an `InCall` on the
    // stack of the handler that makes the call; that handler's frame is above it.
    let (under_way, mut native) = unsafe {
        let under_way = &*(frame.register(R12) as *const InCall);
        (under_way, Frame::new(under_way.frame.cast()))
    };
    block.depth.set(block.depth.get() - 1);
    match progress {
        Progress::NotMade => native.set_ip(native.ip() - SYSCALL_LEN),
        Progress::Returned(result) => {
            let call = under_way.call;
            let site = native.ip() - SYSCALL_LEN;
            let arena = arena(safe, engine);
            let reporter =
                Reporter::new(safe, engine, arena, call.number, site).went_on(under_way.told);
            let dispatched = Dispatched {
                safe,
                engine,
                block,
                arena,
                call,
                reporter,
            };
            // SAFETY: as `under_way`, on the stack of the handler that makes the call.
            let moved = under_way.moved.map(|moved| unsafe { &*moved });
            dispatched.finish(&mut native, moved, result);
        }
    }
    (native.read(), under_way.waiting)
}
