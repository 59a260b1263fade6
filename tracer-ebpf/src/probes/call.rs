//! Entry to and return from the probed functions.
//!
//! Every entry and return is counted, but only the outermost call of a thread writes records: a
//! recursive function must not flood the ring. State is per thread, and recognises frames by the
//! stack pointer, because a call can be left without its return (by `longjmp`, an exception, or a
//! signal handler that ends it):
//!
//! ```text
//!   entry,  sp <  stored ─► deeper: depth + 1      return, sp <= stored ─► depth - 1
//!   entry,  sp >= stored ─► stored frame is gone:  return, sp >  stored ─► the outermost is over
//!                           depth 1, new record
//! ```
//!
//! Neither return that the kernel does not see (it tracks 64 nested ones) nor frames skipped on
//! the way can therefore make the state wrong for longer than one outermost call.
//!
//! # Safety
//!
//! The context is the thread's `pt_regs`, which the verifier lets a probe read; map values and
//! records are reached as [`super::maps`] describes. A thread's `CallState` is written by that
//! thread alone.
#![allow(unsafe_code)]

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_attach_cookie, bpf_get_current_task},
    macros::{uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use tracer_ebpf::{CallRecord, Counters, kind};

use super::maps::{CALLS, CallState, Current, count};

/// First instruction of a probed function.
#[uprobe]
fn call_enter(ctx: ProbeContext) -> u32 {
    let Some(current) = Current::traced(|_| true) else {
        return 0;
    };
    // SAFETY: `counters` is a live map value.
    unsafe { count(&raw mut (*current.counters()).calls_entered) };
    // SAFETY: the context of a uprobe is the thread's registers.
    let regs = unsafe { &*ctx.regs };
    // SAFETY: has no precondition.
    let task = unsafe { bpf_get_current_task() };
    let fresh = CallState {
        sp: regs.rsp,
        task,
        depth: 1,
    };
    match CALLS.get_ptr_mut(current.tid) {
        // SAFETY: a live map value that only this thread writes.
        Some(state) => unsafe {
            if (*state).depth != 0 && (*state).task == task && (*state).sp >= regs.rsp {
                // At the same stack pointer it is the same call: a loop whose head is the
                // function's first instruction, which would flood the ring.
                if (*state).sp > regs.rsp {
                    (*state).depth += 1;
                }
                return 0;
            }
            *state = fresh;
        },
        None => {
            if CALLS.insert(current.tid, fresh, 0).is_err() {
                // Nesting is not known, so this call cannot be told from an inner one. It is
                // counted as lost rather than reported wrongly.
                // SAFETY: `counters` is a live map value.
                unsafe {
                    count(&raw mut (*current.counters()).other_emitted);
                    count(&raw mut (*current.counters()).other_dropped);
                }
                return 0;
            }
        }
    }
    let values = [regs.rdi, regs.rsi, regs.rdx, regs.rcx, regs.r8, regs.r9];
    write(&ctx, &current, kind::CALL_ENTER, regs.rsp, values);
    0
}

/// Return of a probed function.
#[uretprobe]
fn call_return(ctx: RetProbeContext) -> u32 {
    let Some(current) = Current::traced(|_| true) else {
        return 0;
    };
    // SAFETY: `counters` is a live map value.
    unsafe { count(&raw mut (*current.counters()).calls_returned) };
    // SAFETY: the context of a uretprobe is the thread's registers.
    let regs = unsafe { &*ctx.regs };
    let Some(state) = CALLS.get_ptr_mut(current.tid) else {
        return 0;
    };
    // SAFETY: a live map value that only this thread writes; `bpf_get_current_task` has no
    // precondition.
    unsafe {
        if (*state).depth == 0 || (*state).task != bpf_get_current_task() {
            return 0;
        }
        // The return address is popped by now, so the stack pointer is 8 above that of the entry.
        if regs.rsp <= (*state).sp {
            if (*state).depth > 1 {
                (*state).depth -= 1;
            }
            return 0;
        }
        (*state).depth = 0;
    }
    write(
        &ctx,
        &current,
        kind::CALL_RETURN,
        regs.rsp,
        [regs.rax, regs.rdx, 0, 0, 0, 0],
    );
    0
}

/// Writes the record of an outermost call.
#[inline(always)]
fn write<C: EbpfContext>(ctx: &C, current: &Current, kind: u16, sp: u64, values: [u64; 6]) {
    let counters: *mut Counters = current.counters();
    // SAFETY: `counters` is a live map value.
    unsafe { count(&raw mut (*counters).other_emitted) };
    let Some(slot) = current.reserve::<CallRecord>() else {
        // SAFETY: as above.
        unsafe { count(&raw mut (*counters).other_dropped) };
        aya_log_ebpf::warn!(ctx, "ring full: call record dropped");
        return;
    };
    let record = slot.get();
    // SAFETY: `record` is room for one `CallRecord`, all fields of which are written; the context
    // is that of a probe, as the helper wants.
    unsafe {
        (*record).header = current.header(kind);
        (*record).cookie = bpf_get_attach_cookie(ctx.as_ptr());
        (*record).sp = sp;
        (*record).depth = 1;
        (*record).pad = 0;
        (*record).values = values;
    }
    slot.submit();
}
