//! The signal handlers: read the frame, judge, act.
//!
//! ```text
//!  SIGSEGV in the native view ── record, send to the displaced copy (or open and step)
//!  SIGTRAP after a step       ── close the native view
//!  SIGSYS of dispatch         ── make native code's system call                    dispatch.rs
//!  any that native code has a
//!  handler for                ── call that                                         deliver.rs
//!  END_CALL                   ── end the call that another thread asked to end
//!  any other fatal signal     ── in a native call: end the call
//!                                on another thread of native code: end the call, park the thread
//!                                else: the handler that was there before
//!                                in a process that native code forked: likewise
//! ```
//!
//! # Safety
//! Handlers run with all signals blocked, so they do not nest but in a system call that one makes for
//! native code (`dispatch.rs`), and call only functions that take [`Safe`].
#![allow(unsafe_code)]

use super::{
    access::access,
    block::Block,
    deliver::{Delivery, deliver},
    dispatch,
    ending::end,
    engine::Engine,
    finish,
    frame::{Context, Frame},
    hot,
    install::{self, chain},
    safe::{self, Safe},
    signal_calls::bit,
    step, stop, thread,
    verdict::{Verdict, fatal, judge},
};

/// The real-time signal that ends a native call from outside.
pub(crate) const END_CALL: i32 = 62;
/// The real-time signal by which a traced thread asks its supervisor to be let go.
pub(crate) const LET_GO: i32 = 61;

/// Bit of the page-fault error code: the access was a write (Intel SDM volume 3, 4.7).
pub const ERROR_WRITE: u32 = 1 << 1;
/// Bit of the page-fault error code: the access was an instruction fetch.
pub const ERROR_FETCH: u32 = 1 << 4;
/// Signals that a step leaves unblocked: those that an instruction itself raises. The kernel
/// kills a process that raises a blocked one (kernel/signal.c, force_sig_info_to_task).
pub(super) const SYNCHRONOUS: [i32; 6] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGTRAP,
    libc::SIGSYS,
];

/// The handler of every signal that is handled.
pub(super) extern "C" fn on_signal(
    signal: i32,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    let safe = Safe::promise();
    safe::keep_errno(|| {
        let engine = Engine::get();
        if let Some(engine) = engine {
            engine.enter_handler(safe);
        }
        handle(safe, signal, info, context);
        // One that interrupted another handler, in a system call of native code, goes back to it.
        let nested = thread::block(safe).is_some_and(|block| block.depth.get() > 0);
        if let Some(engine) = engine
            && !nested
        {
            engine.leave_handler(safe);
        }
    });
}

fn handle(safe: Safe, signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let Some(engine) = Engine::get() else {
        return chain(safe, signal, info, context);
    };
    // SAFETY: the third argument of a running SA_SIGINFO handler.
    let mut frame = unsafe { Frame::new(context) };
    // SAFETY: the kernel filled the info; the address field is read only where it applies.
    let (code, addr) = unsafe {
        let addressed = SYNCHRONOUS.contains(&signal) && (*info).si_code > 0;
        let addr = if addressed {
            (*info).si_addr() as u64
        } else {
            0
        };
        ((*info).si_code, addr)
    };
    if finish::first(safe, engine, &mut frame, signal, info) {
        return;
    }
    if hot::in_translation(safe, engine, &mut frame, signal, code, addr) {
        return;
    }
    let block = thread::block(safe);
    if signal == libc::SIGSYS
        && code == dispatch::SYS_USER_DISPATCH
        && let Some(block) = block
    {
        let touches = engine.touches();
        dispatch::on_call(safe, engine, block, &mut frame, info);
        if engine.stop.is_armed() && engine.touches() != touches {
            stop::judge(safe, engine, &mut frame);
        }
        return;
    }
    if signal == libc::SIGTRAP && step::in_the_middle(safe, &frame) {
        return;
    }
    let raised = Raised {
        signal,
        code,
        addr,
        // SAFETY: the kernel filled the info; a queued signal has a value.
        ours: signal == END_CALL
            && code == libc::SI_QUEUE
            && unsafe { (*info).si_value().sival_ptr as u64 } == own_value(),
    };
    let verdict = judge(safe, engine, &frame, &raised);
    if !matches!(verdict, Verdict::Access(_)) {
        hot::recorded_for_nothing(safe, engine, &frame, &raised);
    }
    // Whatever happens now, it is not under a step: the step is done, or it crashed.
    step::end(safe, engine, &mut frame);
    match verdict {
        Verdict::Access(addr) => access(safe, engine, &mut frame, addr),
        Verdict::StepDone | Verdict::Ignore => {}
        Verdict::Again => safe::signal_thread(safe, safe::thread_id(safe), signal),
        Verdict::Hold => {
            if let Some(block) = block {
                block.held.set(block.held.get() | bit(signal));
            }
        }
        Verdict::Deliver(action) => {
            let Some(block) = block else {
                return install::call_in_place(safe, &action, signal, info, &mut frame);
            };
            let (native, waiting) = native_context(safe, engine, Some(block), &frame, &raised);
            let delivery = Delivery {
                signal,
                info,
                action,
                native: &native,
                waiting,
            };
            let arena = dispatch::arena(safe, engine);
            if !deliver(safe, block, arena, &mut frame, &delivery) {
                // No stack for the handler: the kernel would end the process.
                match fatal(safe, engine) {
                    Verdict::Chain => chain(safe, signal, info, context),
                    verdict => end(safe, engine, &mut frame, verdict, &native.regs(), &raised),
                }
            }
        }
        Verdict::Chain => chain(safe, signal, info, context),
        verdict => {
            let (native, _) = native_context(safe, engine, block, &frame, &raised);
            end(safe, engine, &mut frame, verdict, &native.regs(), &raised);
        }
    }
}

/// What a signal said.
pub(super) struct Raised {
    pub(super) signal: i32,
    pub(super) code: i32,
    pub(super) addr: u64,
    /// Whether it is an [`END_CALL`] of ours, and not one that native code sent itself.
    pub(super) ours: bool,
}

/// The value that tells our own [`END_CALL`] from others: the address of a function of ours.
fn own_value() -> u64 {
    on_signal as *const () as u64
}

/// Sends [`END_CALL`] to thread `tid` of this process. Async-signal-safe.
pub(super) fn send_end_call(safe: Safe, tid: u32) {
    safe::queue_signal(safe, tid, END_CALL, own_value());
}

impl Raised {
    /// No signal at all.
    pub(super) fn nothing() -> Raised {
        Raised {
            signal: 0,
            code: 0,
            addr: 0,
            ours: false,
        }
    }

    /// Whether the interrupted instruction raised it, and did not just happen to run.
    pub(super) fn by_instruction(&self) -> bool {
        self.code > 0 && SYNCHRONOUS.contains(&self.signal)
    }
}

/// What native code was interrupted in, and the mask that it was waiting with. An instruction
/// that crashed is the original one, also where a copy of it ran. Other signals leave a thread in
/// its copy: the access of that is recorded, and must not be made again.
fn native_context(
    safe: Safe,
    engine: &Engine,
    block: Option<&Block>,
    frame: &Frame<'_>,
    raised: &Raised,
) -> (Context, Option<u64>) {
    let (mut native, waiting) = match block {
        Some(block) => dispatch::native_context(safe, engine, block, frame),
        None => (frame.read(), None),
    };
    if raised.by_instruction()
        && let Some((displaced, offset)) = engine.code.find(native.ip())
    {
        let mut regs = native.regs();
        displaced.to_original(offset, &mut regs);
        native.set_regs(&regs);
    }
    (native, waiting)
}
