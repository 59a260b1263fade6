//! Calling handlers of native code, and coming back from them.
//!
//! ```text
//!  kernel ─► our handler, on our stack ─► frame as the kernel would have built it, on the stack
//!                                         that native code expects ─► handler of native code
//!  handler returns ─► its restorer: rt_sigreturn ─► dispatched ─► registers, mask and stack as
//!                                                                 the frame says
//! ```
//! So a handler of native code sees its own registers, mask and alternate stack, and may change
//! its frame, return, or jump out of it. The kernel knows only our handlers, and none of the
//! signals that recording needs is ever blocked; what native code believes to be blocked is kept
//! in its thread's block.
//!
//! # Safety
//! What is written is the frame below the interrupted stack pointer and its red zone, or on the
//! alternate stack, where the kernel would have put it; the pages are tried first.
#![allow(unsafe_code)]

use tracer_ebpf::{DELTA, Session};

use super::{
    actions::SignalAction,
    block::{Block, NativeStack},
    frame::{Context, Frame, RAX, RDI, RDX, RSI, RSP},
    safe::{self, Safe},
    signal_calls::{NEVER_BLOCKED, bit, reset},
};

/// Bytes below the stack pointer that belong to the interrupted function (System V ABI 3.2.2).
const RED_ZONE: u64 = 128;
const PAGE: u64 = 4096;
/// Bytes of the kernel's `siginfo`.
const INFO: usize = 128;

/// The kernel's `struct rt_sigframe`.
#[repr(C)]
struct NativeFrame {
    restorer: u64,
    context: Context,
    info: [u8; INFO],
}

/// A signal to be handled by native code.
pub(super) struct Delivery<'a> {
    pub(super) signal: i32,
    pub(super) info: *const libc::siginfo_t,
    pub(super) action: SignalAction,
    /// What native code was interrupted in.
    pub(super) native: &'a Context,
    /// The mask that a call of native code was waiting with, if it was.
    pub(super) waiting: Option<u64>,
}

/// Has the thread go on in the handler when our handler, whose frame is `frame`, returns. False
/// where there is no stack for it.
pub(super) fn deliver(
    safe: Safe,
    block: &Block,
    arena: Session,
    frame: &mut Frame<'_>,
    delivery: &Delivery<'_>,
) -> bool {
    let (action, native) = (&delivery.action, delivery.native);
    let stack = block.native_stack.get();
    let sp = native.register(RSP);
    let top = if action.has(libc::SA_ONSTACK) && stack.enabled() && !stack.holds(sp) {
        stack.base.wrapping_add(stack.len)
    } else {
        sp.wrapping_sub(RED_ZONE)
    };
    // SAFETY: the state that the kernel wrote into a frame of ours.
    let vectors_len = unsafe { native.vectors_len() };
    let vectors = top.wrapping_sub(vectors_len as u64) & !63;
    let at = (vectors.wrapping_sub(size_of::<NativeFrame>() as u64) & !15).wrapping_sub(8);
    let move_up = if arena.is_native(at) { DELTA } else { 0 };
    if !writable(safe, at.wrapping_add(move_up), top.wrapping_add(move_up)) {
        return false;
    }
    let believed = native.mask | block.hidden.get();
    let mut saved = *native;
    saved.link = 0;
    saved.vectors = if vectors_len == 0 { 0 } else { vectors };
    // Outside of native code the handler's return is not dispatched: the kernel puts in force
    // what the frame says, and the frame says what is in force.
    if block.in_native() {
        saved.stack = stack;
        saved.mask = believed;
    }
    // SAFETY: the range was tried just now, and is where the kernel would write.
    unsafe {
        let to = at.wrapping_add(move_up) as *mut NativeFrame;
        (&raw mut (*to).restorer).write_unaligned(action.restorer);
        (&raw mut (*to).context).write_unaligned(saved);
        std::ptr::copy_nonoverlapping(
            delivery.info.cast::<u8>(),
            (&raw mut (*to).info).cast(),
            INFO,
        );
        std::ptr::copy_nonoverlapping(
            native.vectors as *const u8,
            vectors.wrapping_add(move_up) as *mut u8,
            vectors_len,
        );
    }
    if stack.flags & NativeStack::AUTODISARM != 0 {
        block.native_stack.set(NativeStack::none());
    }
    let mut mask = delivery.waiting.unwrap_or(believed) | action.mask;
    if !action.has(libc::SA_NODEFER) {
        mask |= bit(delivery.signal);
    }
    if block.in_native() {
        block.hidden.set(mask & NEVER_BLOCKED);
    }
    let offset = |field: usize| at + field as u64;
    let mut next = frame.read();
    next.set_regs(&native.regs());
    next.set_ip(action.handler);
    next.set_register(RAX, 0);
    next.set_register(RDI, delivery.signal as u64);
    next.set_register(RSI, offset(std::mem::offset_of!(NativeFrame, info)));
    next.set_register(RDX, offset(std::mem::offset_of!(NativeFrame, context)));
    next.set_register(RSP, at);
    next.clear_handler_flags();
    // A handler begins with the vector registers in their initial state.
    next.vectors = 0;
    next.mask = mask & !NEVER_BLOCKED;
    frame.write(&next);
    if action.has(libc::SA_RESETHAND) {
        reset(safe, block, delivery.signal);
    }
    true
}

/// Whether all of `[from, to)` can be written; the stack grows if need be.
fn writable(safe: Safe, from: u64, to: u64) -> bool {
    let mut at = from;
    while at < to {
        let args = [0, 0, at, 8, 0, 0];
        // SAFETY: writes the signal mask, eight bytes, to memory that the caller is about to
        // overwrite; fails where it cannot.
        if unsafe { safe::raw(safe, libc::SYS_rt_sigprocmask, args) } != 0 {
            return false;
        }
        at = (at & !(PAGE - 1)) + PAGE;
    }
    true
}

/// `rt_sigreturn` of native code: the thread goes on as the frame at its stack pointer says. False
/// where there is none.
pub(super) fn sigreturn(safe: Safe, block: &Block, arena: Session, frame: &mut Frame<'_>) -> bool {
    let moved = |addr: u64| {
        if arena.is_native(addr) {
            addr + DELTA
        } else {
            addr
        }
    };
    let mut bytes = [0; size_of::<Context>()];
    let at = moved(frame.register(RSP));
    if safe::read_memory(safe, safe::process_id(safe), at, &mut bytes) != bytes.len() {
        return false;
    }
    let mut next = Context::from_bytes(&bytes);
    next.vectors = moved(next.vectors);
    let ours = frame.read().stack;
    if next.stack.base == block.stack().0 {
        // The kernel's own frame, for a handler that native code knows nothing of.
        frame.write(&next);
        return true;
    }
    block.native_stack.set(next.stack);
    block.hidden.set(next.mask & NEVER_BLOCKED);
    next.stack = ours;
    next.mask &= !NEVER_BLOCKED;
    frame.write(&next);
    true
}
