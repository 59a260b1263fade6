//! Stack snapshots, taken in the handler when an access looks wrong, unwound later.
//!
//! The verdict on an access comes after the thread has gone on, when its stack is gone. So the
//! handler asks the shadow whether the access looks wrong, and if it does copies the stack and
//! registers into one of a few slots. One snapshot for an instruction is enough: a loop of a
//! million bad accesses takes one slot.
//!
//! # Safety
//! The slots live in a shared mapping owned by the pool (a forked supervisor fills them too). A
//! slot's content is written by whoever moved its state from FREE to FILLING and read only in
//! state FULL.
#![allow(unsafe_code)]

use std::{
    cell::UnsafeCell,
    io,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use tracer_ebpf::Regs;

use super::{
    frame::RSP,
    safe::{Safe, read_memory},
};
use crate::mapping::Mapping;

/// Snapshots kept for a call.
const SLOTS: usize = 32;
/// Bytes of stack in a snapshot.
const STACK_BYTES: usize = 32 << 10;
/// Bytes below the stack pointer that belong to the function too (System V ABI, red zone).
const RED_ZONE: u64 = 128;

const FREE: u32 = 0;
const FILLING: u32 = 1;
const FULL: u32 = 2;

/// Registers and stack of a thread at one instruction.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Kernel thread id.
    pub tid: u32,
    /// Address that the instruction touched.
    pub addr: u64,
    /// Registers; `rip` is the instruction.
    pub regs: Regs,
    /// Address of the first byte of `stack`.
    pub base: u64,
    /// The stack from `base` upwards, as far as it was readable.
    pub stack: Vec<u8>,
}

#[repr(C)]
struct Content {
    tid: u32,
    len: u32,
    addr: u64,
    base: u64,
    regs: Regs,
    stack: [u8; STACK_BYTES],
}

#[repr(C)]
struct Slot {
    state: AtomicU32,
    ip: AtomicU64,
    content: UnsafeCell<Content>,
}

/// The slots of a process.
pub struct StackPool {
    memory: Mapping,
}

// SAFETY: access to a slot's content is ruled by its state, see the module's Safety section.
unsafe impl Sync for StackPool {}

impl StackPool {
    /// An empty pool.
    ///
    /// # Errors
    /// What `mmap(2)` says.
    pub fn new() -> io::Result<StackPool> {
        Ok(StackPool {
            memory: Mapping::shared(SLOTS * size_of::<Slot>())?,
        })
    }

    fn slots(&self) -> &[Slot] {
        // SAFETY: the mapping holds SLOTS zeroed slots, page-aligned; zeroes are a valid slot.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().cast::<Slot>(), SLOTS) }
    }

    /// Takes a snapshot of thread `tid` of process `pid`, unless there is one of the same
    /// instruction already or no slot is free. Async-signal-safe.
    pub fn take(&self, safe: Safe, pid: i32, tid: u32, addr: u64, regs: &Regs) {
        let known = |slot: &Slot| {
            slot.state.load(Ordering::Acquire) != FREE
                && slot.ip.load(Ordering::Relaxed) == regs.rip
        };
        if self.slots().iter().any(known) {
            return;
        }
        for slot in self.slots() {
            let claim =
                slot.state
                    .compare_exchange(FREE, FILLING, Ordering::AcqRel, Ordering::Relaxed);
            if claim.is_err() {
                continue;
            }
            slot.ip.store(regs.rip, Ordering::Relaxed);
            // SAFETY: this thread moved the slot to FILLING, so nobody else touches its content.
            let content = unsafe { &mut *slot.content.get() };
            content.tid = tid;
            content.addr = addr;
            content.regs = *regs;
            content.base = regs.gpr[RSP].wrapping_sub(RED_ZONE);
            content.len = read_stack(safe, pid, content.base, &mut content.stack) as u32;
            slot.state.store(FULL, Ordering::Release);
            return;
        }
    }

    /// Hands out all finished snapshots and empties their slots.
    pub fn collect(&self) -> Vec<Snapshot> {
        let mut snapshots = Vec::new();
        for slot in self.slots() {
            if slot.state.load(Ordering::Acquire) == FULL {
                // SAFETY: in state FULL the content is only read, and only by this consumer.
                let content = unsafe { &*slot.content.get() };
                snapshots.push(Snapshot {
                    tid: content.tid,
                    addr: content.addr,
                    regs: content.regs,
                    base: content.base,
                    stack: content.stack[..content.len as usize].to_vec(),
                });
                slot.state.store(FREE, Ordering::Release);
            }
        }
        snapshots
    }
}

/// Reads the stack page by page, so that its upper end does not lose what lies below.
fn read_stack(safe: Safe, pid: i32, base: u64, to: &mut [u8]) -> usize {
    let mut done = 0;
    while done < to.len() {
        let at = base.wrapping_add(done as u64);
        let step = (4096 - (at as usize & 4095)).min(to.len() - done);
        let got = read_memory(safe, pid, at, &mut to[done..done + step]);
        done += got;
        if got < step {
            break;
        }
    }
    done
}
