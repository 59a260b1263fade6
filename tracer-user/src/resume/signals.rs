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

use std::sync::atomic::Ordering;

use tracer_ebpf::{FaultRecord, LAYOUT_VERSION, RecordHeader, kind};

use super::{
    actions::{Actions, SignalAction},
    aux::Stopped,
    block::Block,
    deliver::{Delivery, deliver},
    dispatch,
    ending::end,
    engine::{CallKey, Engine, Recording},
    frame::{Context, Frame, RSP, TRAP_FLAG},
    guard::{Guard, Reason},
    install::{self, chain},
    safe::{self, Safe},
    signal_calls::bit,
    site::{Action, Site},
    thread,
    xstate::XState,
};
use crate::decode::{WholeRep, runs_whole};

/// The real-time signal that ends a native call from outside.
pub const END_CALL: i32 = 62;
/// The real-time signal by which a traced thread asks its supervisor to be let go.
pub const LET_GO: i32 = 61;

/// Bit of the page-fault error code: the access was a write (Intel SDM volume 3, 4.7).
pub const ERROR_WRITE: u32 = 1 << 1;
/// Bit of the page-fault error code: the access was an instruction fetch.
pub const ERROR_FETCH: u32 = 1 << 4;
/// `si_code` of a SIGSEGV by protection.
const SEGV_ACCERR: i32 = 2;

/// Signals that a step leaves unblocked: those that an instruction itself raises. The kernel
/// kills a process that raises a blocked one (kernel/signal.c, force_sig_info_to_task).
const SYNCHRONOUS: [i32; 6] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGTRAP,
    libc::SIGSYS,
];

/// What to do about a signal.
pub(super) enum Verdict {
    /// Native code touched the native view.
    Access(u64),
    /// The stepped instruction is done.
    StepDone,
    /// End this thread's native call.
    End(*mut Guard, Reason),
    /// Another thread of native code is lost; end the call that is under way.
    EndOther(CallKey),
    /// Native code handles it.
    Deliver(SignalAction),
    /// Native code believes to have blocked it: it stays for later.
    Hold,
    /// What was set for it has changed meanwhile: the kernel is to decide.
    Again,
    /// Nothing to do.
    Ignore,
    /// Not ours.
    Chain,
}

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
    let block = thread::block(safe);
    if signal == libc::SIGSYS
        && code == dispatch::SYS_USER_DISPATCH
        && let Some(block) = block
    {
        return dispatch::on_call(safe, engine, block, &mut frame, info);
    }
    if signal == libc::SIGTRAP && in_the_middle(safe, &frame) {
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
    // Whatever happens now, it is not under a step: the step is done, or it crashed.
    end_step(safe, engine, &mut frame);
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
    /// Whether the interrupted instruction raised it, and did not just happen to run.
    fn by_instruction(&self) -> bool {
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

fn judge(safe: Safe, engine: &Engine, frame: &Frame<'_>, raised: &Raised) -> Verdict {
    let Raised {
        signal, code, addr, ..
    } = *raised;
    let (guard, stepping) = thread::state(safe, |state| (state.guard.get(), state.stepping.get()));
    if signal == libc::SIGTRAP && stepping {
        return Verdict::StepDone;
    }
    if raised.ours {
        let asked = !guard.is_null() && engine.at_home(safe);
        let reason = asked.then(|| engine.take_end_request(guard)).flatten();
        return reason.map_or(Verdict::Ignore, |reason| Verdict::End(guard, reason));
    }
    let recorded = matches!(engine.recording(), Recording::Handler | Recording::Kernel);
    if signal == libc::SIGSEGV
        && code == SEGV_ACCERR
        && recorded
        && !stepping
        && frame.error() & ERROR_FETCH == 0
        && engine.session().is_native(addr)
        && engine.code.find(frame.ip()).is_none()
    {
        return Verdict::Access(addr);
    }
    if let Some(verdict) = believed(safe, raised) {
        return verdict;
    }
    if !install::OURS.contains(&signal) {
        return match install::previous(signal) {
            Some(_) => Verdict::Chain,
            None => Verdict::Again,
        };
    }
    if signal == LET_GO {
        // The supervisor that it was meant for is gone.
        return Verdict::Ignore;
    }
    if signal == libc::SIGSEGV && engine.session().is_native(addr) && !engine.at_home(safe) {
        engine.foreign.fetch_add(1, Ordering::Relaxed);
    }
    fatal(safe, engine)
}

/// What native code wants of the signal, if it wants anything that can be had.
fn believed(safe: Safe, raised: &Raised) -> Option<Verdict> {
    let block = thread::block(safe);
    let hidden = block.map_or(0, |block| block.hidden.get()) & bit(raised.signal) != 0;
    if raised.by_instruction() && (hidden || !block.is_some_and(Block::in_native)) {
        // The kernel ends a process that blocks what an instruction raises. What is not native
        // code's own is nothing that it has to know of.
        return None;
    }
    let action = block
        .map_or_else(Actions::of_process, Block::actions)
        .get(raised.signal);
    if hidden {
        return Some(Verdict::Hold);
    }
    match action {
        Some(action) if action.is_handler() => Some(Verdict::Deliver(action)),
        Some(action) if action.ignores() && !raised.by_instruction() => Some(Verdict::Ignore),
        _ => None,
    }
}

/// What becomes of a signal that nobody handles.
fn fatal(safe: Safe, engine: &Engine) -> Verdict {
    let (guard, ours) = thread::state(safe, |state| (state.guard.get(), state.ours.get()));
    if !engine.at_home(safe) || thread::block(safe).is_some_and(|block| block.guest.get()) {
        return Verdict::Chain;
    }
    if !guard.is_null() {
        return Verdict::End(guard, Reason::Signal);
    }
    match engine.current_call() {
        Some(key) if !ours => Verdict::EndOther(key),
        _ => Verdict::Chain,
    }
}

/// An access to the native view: record it where that is the handler's job, then send the
/// thread on.
fn access(safe: Safe, engine: &Engine, frame: &mut Frame<'_>, addr: u64) {
    let ip = frame.ip();
    let site = match engine.sites.find(ip) {
        Some(site) if unchanged(site) => site,
        _ => engine.prepare.ask(safe, ip),
    };
    let regs = frame.regs();
    let error = frame.error();
    if engine.looks_wrong(addr, site.reach, error & ERROR_WRITE != 0) {
        engine
            .stacks
            .take(safe, safe::process_id(safe), thread::id(safe), addr, &regs);
    }
    // Compared with the kernel's own count at the end of the call.
    if engine.recording() == Recording::Kernel {
        engine.handled.fetch_add(1, Ordering::Relaxed);
    }
    let header = |kind| RecordHeader {
        kind,
        version: LAYOUT_VERSION,
        tid: thread::id(safe),
    };
    if engine.recording() == Recording::Handler {
        engine.count_fault();
        engine.push(
            safe,
            &FaultRecord {
                header: header(kind::FAULT),
                addr,
                error,
                depth: 0,
                insn_len: site.read,
                insn: site.bytes,
                regs,
            },
        );
    }
    let aux = site.needs.any().then(|| {
        let stopped = Stopped {
            process: safe::process_id(safe),
            regs: &regs,
            state: XState::new(frame.area(), engine.offsets),
            bases: if site.needs.segments {
                safe::segment_bases(safe)
            } else {
                (0, 0)
            },
        };
        let aux = stopped.record(safe, header(kind::AUX), &site.needs, engine.session());
        engine.push(safe, &aux);
        aux
    });
    engine.make_room(safe);
    match &site.action {
        Action::Operand { copy }
            if !(site.touches_stack && engine.session().is_arena(regs.gpr[RSP])) =>
        {
            frame.set_ip(*copy);
        }
        Action::Lanes { lanes, copy }
            if aux.is_some_and(|aux| lanes.all_native(&regs, &aux, &engine.session())) =>
        {
            frame.set_ip(*copy);
        }
        Action::String { op, copies } => {
            let copy = match runs_whole(op, &regs, &engine.session()) {
                WholeRep::No => 0,
                WholeRep::Source => copies[0],
                WholeRep::Dest => copies[1],
                WholeRep::Both => copies[2],
            };
            if copy == 0 {
                begin_step(safe, engine, frame, site)
            } else {
                frame.set_ip(copy)
            }
        }
        Action::Uncopied => {
            engine.uncopied.fetch_add(1, Ordering::Relaxed);
            begin_step(safe, engine, frame, site)
        }
        _ => begin_step(safe, engine, frame, site),
    }
}

/// Whether the instruction at the site is still the one that was prepared.
fn unchanged(site: &Site) -> bool {
    (0..usize::from(site.len.max(1))).all(|index| {
        // SAFETY: the thread has just executed the instruction at `ip`, so its bytes are mapped;
        // they are read as volatile because the program may change them.
        let now = unsafe { (site.ip as *const u8).add(index).read_volatile() };
        now == site.bytes[index]
    })
}

fn begin_step(safe: Safe, engine: &Engine, frame: &mut Frame<'_>, site: &Site) {
    engine.open(safe);
    site.steps.fetch_add(1, Ordering::Relaxed);
    let mut mask = u64::MAX;
    for signal in SYNCHRONOUS {
        mask &= !(1 << (signal - 1));
    }
    thread::state(safe, |state| {
        state.stepping.set(true);
        state
            .parts
            .set(if site.needs.in_parts() { site.ip } else { 0 });
        state.mask.set(frame.mask());
    });
    frame.set_mask(mask);
    frame.set_flags(frame.flags() | TRAP_FLAG);
}

/// Whether an instruction that is stepped in parts has some to go: see [`Needs::in_parts`].
///
/// [`Needs::in_parts`]: crate::decode::Needs::in_parts
fn in_the_middle(safe: Safe, frame: &Frame<'_>) -> bool {
    thread::state(safe, |state| {
        state.stepping.get() && state.parts.get() == frame.ip() && frame.flags() & TRAP_FLAG != 0
    })
}

/// Closes the native view if this thread had it open, and puts flag and mask back.
fn end_step(safe: Safe, engine: &Engine, frame: &mut Frame<'_>) {
    thread::state(safe, |state| {
        if state.stepping.replace(false) {
            engine.close(safe);
            frame.set_mask(state.mask.get());
            frame.set_flags(frame.flags() & !TRAP_FLAG);
        }
    });
}
