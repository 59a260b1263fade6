//! Page faults on the native view.
//!
//! The kernel's own faults are of two kinds: the dispatcher's, by which it tells what a system call
//! that it made touched, and those of calls that it does not know of, which are refused.
//!
//! Both tracepoints run in the exception's entry with interrupts off, before the kernel looks at
//! the fault: nothing can come between a record and the fault that it describes, and the order of
//! a thread's records is the order of its accesses.
//!
//! # Safety
//!
//! `pt_regs` pointers come from the kernel with their BTF type, so the verifier allows exactly the
//! loads inside the structure; the reads of user memory go through a helper that cannot fault;
//! records are written inside the room that the ring gave.
#![allow(unsafe_code)]

use aya_ebpf::{
    bindings::pt_regs,
    helpers::generated::{bpf_get_current_task_btf, bpf_probe_read_user, bpf_task_pt_regs},
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use tracer_ebpf::{
    FaultRecord, KernelFaultRecord, KnownFaultRecord, KnownSite, Regs, TouchRecord, kind,
};

use super::maps::{Current, count};

/// Longest x86 instruction, in bytes (Intel SDM volume 2, 2.3.11).
const MAX_INSN: u64 = 15;

/// Size of a page in bytes.
const PAGE: u64 = 4096;

/// TF in the flags: the thread is single-stepped.
const TRAP_FLAG: u64 = 1 << 8;

/// `page_fault_user(address, regs, error_code)`: an instruction of the process itself faulted.
#[btf_tracepoint(function = "page_fault_user")]
fn page_fault_user(ctx: BtfTracePointContext) -> i32 {
    let addr: u64 = ctx.arg(0);
    let Some(current) = Current::touching(addr) else {
        return 0;
    };
    let regs: *const pt_regs = ctx.arg(1);
    let error: u64 = ctx.arg(2);

    // SAFETY: `counters` is a live map value.
    unsafe { count(&raw mut (*current.counters()).emitted) };
    // SAFETY: `regs` is the tracepoint's argument, read inside the structure.
    let (rip, flags) = unsafe { ((*regs).rip, (*regs).eflags) };
    if flags & TRAP_FLAG == 0
        && let Some(site) = current.known(rip)
    {
        return known_fault(&ctx, &current, site, regs);
    }
    let Some(slot) = current.reserve::<FaultRecord>() else {
        // SAFETY: as above.
        unsafe { count(&raw mut (*current.counters()).dropped) };
        aya_log_ebpf::warn!(&ctx, "ring full: fault at {:x} dropped", addr);
        return 0;
    };
    let record = slot.get();
    // SAFETY: `record` is room for one `FaultRecord`, all fields of which are written; `regs` is
    // the tracepoint's argument, read inside the structure.
    unsafe {
        (*record).header = current.header(kind::FAULT);
        (*record).addr = addr;
        (*record).error = error as u32;
        (*record).depth = current.depth((*regs).rsp);
        copy_regs(regs, &raw mut (*record).regs);
        // A jump into the arena: reading there would fault again, on the native view.
        let len = if current.traced.session.is_arena(rip) {
            (*record).insn = [0; MAX_INSN as usize];
            0
        } else {
            read_insn(rip, (&raw mut (*record).insn).cast())
        };
        (*record).insn_len = len as u8;
    }
    slot.submit();
    0
}

/// The site is listed: its reader needs no more than what its address is made of.
#[inline(always)]
fn known_fault(
    ctx: &BtfTracePointContext,
    current: &Current,
    site: KnownSite,
    regs: *const pt_regs,
) -> i32 {
    let addr: u64 = ctx.arg(0);
    let error: u64 = ctx.arg(2);
    let Some(slot) = current.reserve::<KnownFaultRecord>() else {
        // SAFETY: `counters` is a live map value.
        unsafe { count(&raw mut (*current.counters()).dropped) };
        aya_log_ebpf::warn!(ctx, "ring full: fault at {:x} dropped", addr);
        return 0;
    };
    let record = slot.get();
    // SAFETY: `record` is room for one `KnownFaultRecord`, all fields of which are written; `regs`
    // is a typed kernel pointer.
    unsafe {
        (*record).header = current.header(kind::KNOWN_FAULT);
        (*record).ip = site.ip();
        (*record).addr = addr;
        (*record).error = error as u32;
        (*record).registers = site.registers();
        (*record).base = register(regs, site.base());
        (*record).index = register(regs, site.index());
    }
    slot.submit();
    0
}

/// `page_fault_kernel(address, regs, error_code)`: the kernel faulted, here for a system call that
/// was given an address of the native view.
#[btf_tracepoint(function = "page_fault_kernel")]
fn page_fault_kernel(ctx: BtfTracePointContext) -> i32 {
    let addr: u64 = ctx.arg(0);
    let Some(current) = Current::touching(addr) else {
        return 0;
    };
    let error: u64 = ctx.arg(2);
    // SAFETY: the registers are those that the thread entered the kernel with, of a typed kernel
    // pointer.
    let user = unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as *const pt_regs;
    // SAFETY: as above, a load inside the structure.
    if unsafe { (*user).rip } == current.traced.marker {
        return touch(&ctx, &current, user);
    }

    // SAFETY: `counters` is a live map value.
    unsafe { count(&raw mut (*current.counters()).other_emitted) };
    let Some(slot) = current.reserve::<KernelFaultRecord>() else {
        // SAFETY: as above.
        unsafe { count(&raw mut (*current.counters()).other_dropped) };
        aya_log_ebpf::warn!(&ctx, "ring full: kernel fault at {:x} dropped", addr);
        return 0;
    };
    let record = slot.get();
    // SAFETY: `record` is room for one `KernelFaultRecord`, all fields of which are written; `user`
    // as above.
    unsafe {
        (*record).header = current.header(kind::KERNEL_FAULT);
        (*record).addr = addr;
        (*record).error = error as u32;
        // -1, thus `u32::MAX`, if the thread did not enter by a system call.
        (*record).syscall = (*user).orig_rax as u32;
        (*record).ip = (*user).rip;
    }
    slot.submit();
    0
}

/// The dispatcher of system calls tells of a touch; see `TouchRecord` for the registers.
#[inline(always)]
fn touch(ctx: &BtfTracePointContext, current: &Current, user: *const pt_regs) -> i32 {
    // SAFETY: `counters` is a live map value.
    unsafe { count(&raw mut (*current.counters()).emitted) };
    let Some(slot) = current.reserve::<TouchRecord>() else {
        // SAFETY: as above.
        unsafe { count(&raw mut (*current.counters()).dropped) };
        aya_log_ebpf::warn!(ctx, "ring full: a touch of a system call dropped");
        return 0;
    };
    let record = slot.get();
    // SAFETY: `record` is room for one `TouchRecord`, all fields of which are written; `user` is a
    // typed kernel pointer to the thread's registers.
    unsafe {
        (*record).header = current.header(kind::TOUCH);
        (*record).addr = (*user).rsi;
        (*record).len = (*user).r8;
        (*record).ip = (*user).r9;
        (*record).syscall = (*user).r12 as u32;
        (*record).flags = ((*user).r12 >> 32) as u32;
        (*record).seq = (*user).r13;
    }
    slot.submit();
    0
}

/// Copies registers from the kernel's order to that of the x86 encoding.
///
/// # Safety
///
/// `from` is a kernel pointer with the BTF type `pt_regs`, `to` room for one `Regs`.
#[inline(always)]
unsafe fn copy_regs(from: *const pt_regs, to: *mut Regs) {
    // SAFETY: as the caller promises.
    unsafe {
        (*to).gpr[0] = (*from).rax;
        (*to).gpr[1] = (*from).rcx;
        (*to).gpr[2] = (*from).rdx;
        (*to).gpr[3] = (*from).rbx;
        (*to).gpr[4] = (*from).rsp;
        (*to).gpr[5] = (*from).rbp;
        (*to).gpr[6] = (*from).rsi;
        (*to).gpr[7] = (*from).rdi;
        (*to).gpr[8] = (*from).r8;
        (*to).gpr[9] = (*from).r9;
        (*to).gpr[10] = (*from).r10;
        (*to).gpr[11] = (*from).r11;
        (*to).gpr[12] = (*from).r12;
        (*to).gpr[13] = (*from).r13;
        (*to).gpr[14] = (*from).r14;
        (*to).gpr[15] = (*from).r15;
        (*to).rip = (*from).rip;
        (*to).rflags = (*from).eflags;
    }
}

/// The register with this number in the x86 encoding; 0 for any other number.
///
/// # Safety
///
/// `from` is a kernel pointer with the BTF type `pt_regs`.
#[inline(always)]
unsafe fn register(from: *const pt_regs, number: u8) -> u64 {
    // SAFETY: as the caller promises. Each arm is a load at a fixed place, which is all that the
    // verifier allows.
    unsafe {
        match number {
            0 => (*from).rax,
            1 => (*from).rcx,
            2 => (*from).rdx,
            3 => (*from).rbx,
            4 => (*from).rsp,
            5 => (*from).rbp,
            6 => (*from).rsi,
            7 => (*from).rdi,
            8 => (*from).r8,
            9 => (*from).r9,
            10 => (*from).r10,
            11 => (*from).r11,
            12 => (*from).r12,
            13 => (*from).r13,
            14 => (*from).r14,
            15 => (*from).r15,
            _ => 0,
        }
    }
}

/// Reads the instruction at `rip` and says how many bytes it got: 15, or what is left of the page
/// if the next one cannot be read, or 0. Unread bytes are zero.
///
/// # Safety
///
/// `to` is room for 15 bytes.
#[inline(always)]
unsafe fn read_insn(rip: u64, to: *mut u8) -> u64 {
    // SAFETY: the helper writes at most `size` bytes to `to`, and zeroes them where it fails.
    unsafe {
        if bpf_probe_read_user(to.cast(), MAX_INSN as u32, rip as *const _) == 0 {
            return MAX_INSN;
        }
        let left = PAGE - (rip % PAGE);
        if left < MAX_INSN && bpf_probe_read_user(to.cast(), left as u32, rip as *const _) == 0 {
            return left;
        }
    }
    0
}
