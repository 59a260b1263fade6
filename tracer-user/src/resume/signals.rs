//! The signal handlers: read the frame, judge, act.
//!
//! ```text
//!  SIGSEGV in the native view ── record, send to the displaced copy (or open and step)
//!  SIGTRAP after a step       ── close the native view
//!  END_CALL                   ── end the call that another thread asked to end
//!  any other fatal signal     ── in a native call: end the call
//!                                on another thread of native code: end the call, park the thread
//!                                else: the handler that was there before
//!                                in a process that native code forked: likewise
//! ```
//!
//! # Safety
//! Handlers run with all signals blocked, so they do not nest, and call only functions that take
//! [`Safe`]. They write to a `Guard` only on the thread whose call it is, while the call runs.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU32, Ordering};

use tracer_ebpf::{AuxRecord, FaultRecord, LAYOUT_VERSION, RecordHeader, kind};

use super::{
    engine::{CallKey, Engine, Recording},
    frame::{Frame, RDI, RSP, TRAP_FLAG},
    guard::{Crash, Guard, Reason},
    install::chain,
    safe::{self, Safe},
    site::{Action, Site},
    thread,
};
use crate::decode::{WholeRep, runs_whole};

/// The real-time signal that ends a native call from outside.
pub const END_CALL: i32 = 62;

/// Bit of the page-fault error code: the access was a write (Intel SDM volume 3, 4.7).
pub const ERROR_WRITE: u32 = 1 << 1;
/// Bit of the page-fault error code: the access was an instruction fetch.
pub const ERROR_FETCH: u32 = 1 << 4;
/// `si_code` of a SIGSEGV by protection.
const SEGV_ACCERR: i32 = 2;
/// Direction flag.
const DIRECTION_FLAG: u64 = 1 << 10;

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
enum Verdict {
    /// Native code touched the native view.
    Access(u64),
    /// The stepped instruction is done.
    StepDone,
    /// End this thread's native call.
    End(*mut Guard, Reason),
    /// Another thread of native code is lost; end the call that is under way.
    EndOther(CallKey),
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
    safe::keep_errno(|| handle(safe, signal, info, context));
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
    let verdict = judge(safe, engine, &frame, signal, code, addr);
    // Whatever happens now, it is not under a step: the step is done, or it crashed.
    end_step(safe, engine, &mut frame);
    match verdict {
        Verdict::Access(addr) => access(safe, engine, &mut frame, addr),
        Verdict::StepDone | Verdict::Ignore => {}
        Verdict::End(guard, reason) => {
            let crash = describe(safe, engine, &frame, reason, signal, code, addr);
            end_call(&mut frame, guard, crash);
        }
        Verdict::EndOther(key) => {
            let reason = Reason::OtherThread;
            let crash = describe(safe, engine, &frame, reason, signal, code, addr);
            engine.other_crash.put(crash);
            engine.request_end(safe, key, reason);
            // The thread's state is lost and its stack may be needed by the report: it stays
            // here until the process ends.
            let never = AtomicU32::new(0);
            loop {
                safe::wait_idle(safe, &never, 0);
            }
        }
        Verdict::Chain => chain(safe, signal, info, context),
    }
}

fn judge(
    safe: Safe,
    engine: &Engine,
    frame: &Frame<'_>,
    signal: i32,
    code: i32,
    addr: u64,
) -> Verdict {
    let (guard, stepping, ours) = thread::state(safe, |state| {
        (state.guard.get(), state.stepping.get(), state.ours.get())
    });
    if signal == libc::SIGTRAP && stepping {
        return Verdict::StepDone;
    }
    if signal == END_CALL {
        let reason = if guard.is_null() || !engine.at_home(safe) {
            None
        } else {
            engine.take_end_request(guard)
        };
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
    if !engine.at_home(safe) {
        if signal == libc::SIGSEGV && engine.session().is_native(addr) {
            engine.foreign.fetch_add(1, Ordering::Relaxed);
        }
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
    if site.needs_aux {
        let (fs_base, gs_base) = safe::segment_bases(safe);
        let masks = frame.masks(engine.mask_offset);
        engine.push(
            safe,
            &AuxRecord {
                header: header(kind::AUX),
                ip,
                fs_base,
                gs_base,
                masks,
            },
        );
    }
    engine.make_room(safe);
    match &site.action {
        Action::Operand { copy }
            if !(site.touches_stack && engine.session().is_arena(regs.gpr[RSP])) =>
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
                begin_step(safe, engine, frame)
            } else {
                frame.set_ip(copy)
            }
        }
        _ => begin_step(safe, engine, frame),
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

fn begin_step(safe: Safe, engine: &Engine, frame: &mut Frame<'_>) {
    engine.open(safe);
    let mut mask = u64::MAX;
    for signal in SYNCHRONOUS {
        mask &= !(1 << (signal - 1));
    }
    thread::state(safe, |state| {
        state.stepping.set(true);
        state.mask.set(frame.mask());
    });
    frame.set_mask(mask);
    frame.set_flags(frame.flags() | TRAP_FLAG);
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

/// What there is to say about a signal that ends a call, in terms of original code.
fn describe(
    safe: Safe,
    engine: &Engine,
    frame: &Frame<'_>,
    reason: Reason,
    signal: i32,
    code: i32,
    addr: u64,
) -> Crash {
    let mut regs = frame.regs();
    if let Some((displaced, offset)) = engine.code.find(regs.rip) {
        displaced.to_original(offset, &mut regs);
    }
    let tid = thread::id(safe);
    engine
        .stacks
        .take(safe, safe::process_id(safe), tid, addr, &regs);
    Crash {
        reason,
        signal,
        code,
        addr,
        error: frame.error(),
        tid,
        regs,
    }
}

fn end_call(frame: &mut Frame<'_>, guard: *mut Guard, crash: Crash) {
    // SAFETY: the guard is this thread's innermost, and its call is under way.
    let guard_ref = unsafe { &mut *guard };
    guard_ref.crash = Some(crash);
    frame.set_ip(guard_ref.landing());
    frame.set_register(RSP, guard_ref.stack_pointer());
    frame.set_register(RDI, guard as u64);
    frame.set_flags(frame.flags() & !(TRAP_FLAG | DIRECTION_FLAG));
    frame.set_mask(guard_ref.mask);
}
