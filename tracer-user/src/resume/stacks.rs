//! Stack snapshots, taken in the handler when an access looks wrong, unwound later.
//!
//! The verdict on an access comes after the thread has gone on, when its stack is gone. So the
//! handler asks the shadow whether the access looks wrong, and if it does copies the stack and
//! registers into one of a few slots. One snapshot for an instruction is enough: a loop of a
//! million bad accesses takes one slot.
//!
//! ```text
//!  [heads: state, ip × 32][content][content]…       filled: a bit for each slot to collect
//! ```
//! Of a native call only the stack up to where it began is copied, which is mostly little. The
//! heads lie together, so that a call without snapshots costs one look at `filled`.
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
    guard,
    safe::{self, Safe, read_memory},
    thread,
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
struct Head {
    state: AtomicU32,
    ip: AtomicU64,
}

#[repr(C)]
struct Slots {
    /// A bit for each slot that has been filled since the last look.
    filled: AtomicU32,
    heads: [Head; SLOTS],
    contents: [UnsafeCell<Content>; SLOTS],
}

/// The slots of a process.
pub(crate) struct StackPool {
    memory: Mapping,
}

// SAFETY: access to a slot's content is ruled by its state, see the module's Safety section.
unsafe impl Sync for StackPool {}

impl StackPool {
    /// An empty pool.
    ///
    /// # Errors
    /// What `mmap(2)` says.
    pub(crate) fn new() -> io::Result<StackPool> {
        const { assert!(SLOTS <= u32::BITS as usize) };
        Ok(StackPool {
            memory: Mapping::shared(size_of::<Slots>())?,
        })
    }

    fn slots(&self) -> &Slots {
        // SAFETY: the mapping is large enough, zeroed and page-aligned; zeroes are valid slots.
        unsafe { &*self.memory.as_ptr().cast::<Slots>() }
    }

    /// Takes a snapshot of this thread, see [`take`](Self::take). Async-signal-safe.
    pub(super) fn take_own(&self, safe: Safe, addr: u64, regs: &Regs) {
        let end = guard::stack_end(safe);
        let (process, tid) = (safe::process_id(safe), thread::id(safe));
        self.take(safe, process, tid, addr, regs, end);
    }

    /// Takes a snapshot of thread `tid` of process `pid`, unless there is one of the same
    /// instruction already or no slot is free. What lies from `end` upwards on its stack is not
    /// needed. Async-signal-safe.
    pub(crate) fn take(&self, safe: Safe, pid: i32, tid: u32, addr: u64, regs: &Regs, end: u64) {
        let Slots {
            filled,
            heads,
            contents,
        } = self.slots();
        let known = |head: &Head| {
            head.state.load(Ordering::Acquire) != FREE
                && head.ip.load(Ordering::Relaxed) == regs.rip
        };
        if heads.iter().any(known) {
            return;
        }
        for (index, (head, content)) in heads.iter().zip(contents).enumerate() {
            let claim =
                head.state
                    .compare_exchange(FREE, FILLING, Ordering::AcqRel, Ordering::Relaxed);
            if claim.is_err() {
                continue;
            }
            head.ip.store(regs.rip, Ordering::Relaxed);
            // SAFETY: this thread moved the slot to FILLING, so nobody else touches its content.
            let content = unsafe { &mut *content.get() };
            content.tid = tid;
            content.addr = addr;
            content.regs = *regs;
            content.base = regs.gpr[RSP].wrapping_sub(RED_ZONE);
            // A stack pointer beyond `end` is on another stack than the one that ends there.
            let wanted = match end.checked_sub(content.base) {
                Some(len) => STACK_BYTES.min(len as usize),
                None => STACK_BYTES,
            };
            let to = &mut content.stack[..wanted];
            content.len = read_stack(safe, pid, content.base, to) as u32;
            head.state.store(FULL, Ordering::Release);
            filled.fetch_or(1 << index, Ordering::Release);
            return;
        }
    }

    /// Hands out all finished snapshots and empties their slots.
    pub(crate) fn collect(&self) -> Vec<Snapshot> {
        let slots = self.slots();
        let mut snapshots = Vec::new();
        if slots.filled.load(Ordering::Acquire) == 0 {
            return snapshots;
        }
        let filled = slots.filled.swap(0, Ordering::AcqRel);
        for (index, (head, content)) in slots.heads.iter().zip(&slots.contents).enumerate() {
            if filled & 1 << index != 0 && head.state.load(Ordering::Acquire) == FULL {
                // SAFETY: in state FULL the content is only read, and only by this consumer.
                let content = unsafe { &*content.get() };
                snapshots.push(Snapshot {
                    tid: content.tid,
                    addr: content.addr,
                    regs: content.regs,
                    base: content.base,
                    stack: content.stack[..content.len as usize].to_vec(),
                });
                head.state.store(FREE, Ordering::Release);
            }
        }
        snapshots
    }
}

/// Reads the stack two pages at a time, the first of them in part, so that its upper end does not
/// lose what lies below.
fn read_stack(safe: Safe, pid: i32, base: u64, to: &mut [u8]) -> usize {
    let mut done = 0;
    while done < to.len() {
        let at = base.wrapping_add(done as u64);
        let step = (8192 - (at as usize & 4095)).min(to.len() - done);
        let got = read_memory(safe, pid, at, &mut to[done..done + step]);
        done += got;
        if got < step {
            break;
        }
    }
    done
}
