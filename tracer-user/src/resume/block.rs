//! A thread's block: the stack that its handlers run on, and what dispatch keeps of the thread.
//!
//! ```text
//!  one mapping:  │ guard page │ signal stack …………………… ◄─ rsp │ Block: selector, signals, scratch │
//! ```
//! The interpreter's thread gets its block before its first native call. A thread or a process
//! that native code starts gets one before it begins, and gives it back when it ends; that
//! happens in a handler, so blocks are mapped and unmapped by bare system calls.
//!
//! # Safety
//! A block is used by the thread that it belongs to, and by that thread's handlers, which do not
//! run at the same time: hence cells. Before its thread begins it is its maker's. Only the
//! selector is read by the kernel, too.
#![allow(unsafe_code)]

use std::{
    cell::{Cell, UnsafeCell},
    sync::atomic::{AtomicBool, AtomicU8, Ordering},
};

use super::{
    actions::Actions,
    gate,
    safe::{self, Safe},
};
use crate::syscall::Scratch;

/// `prctl` option of Syscall User Dispatch (include/uapi/linux/prctl.h).
const PR_SET_SYSCALL_USER_DISPATCH: u64 = 59;
const PR_SYS_DISPATCH_OFF: u64 = 0;
const PR_SYS_DISPATCH_ON: u64 = 1;
/// Values of the selector.
const ALLOW: u8 = 0;
const BLOCK: u8 = 1;

const PAGE: usize = 4096;
/// Bytes of a signal stack beyond what the kernel's frame needs. Handlers nest: one that makes a
/// system call may be interrupted in it.
const STACK: usize = 64 << 10;

/// Whether the kernel last refused to dispatch a thread's system calls.
static UNDISPATCHABLE: AtomicBool = AtomicBool::new(false);

/// Whether this kernel dispatches no system calls, as far as is known.
pub(super) fn undispatchable() -> bool {
    UNDISPATCHABLE.load(Ordering::Relaxed)
}

/// The alternate signal stack that native code believes to have, as in `stack_t`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NativeStack {
    /// First address.
    pub(super) base: u64,
    /// `SS_DISABLE` where there is none, and `SS_AUTODISARM`.
    pub(super) flags: u32,
    pad: u32,
    /// Length in bytes.
    pub(super) len: u64,
}

impl NativeStack {
    /// `SS_AUTODISARM` (include/uapi/linux/signal.h).
    pub(super) const AUTODISARM: u32 = 1 << 31;

    pub(super) fn none() -> NativeStack {
        NativeStack {
            base: 0,
            flags: libc::SS_DISABLE as u32,
            pad: 0,
            len: 0,
        }
    }

    pub(super) fn new(base: u64, flags: u32, len: u64) -> NativeStack {
        NativeStack {
            base,
            flags,
            pad: 0,
            len,
        }
    }

    pub(super) fn enabled(&self) -> bool {
        self.flags & libc::SS_DISABLE as u32 == 0
    }

    /// Whether a thread with this stack pointer runs on it (include/linux/sched/signal.h).
    pub(super) fn holds(&self, sp: u64) -> bool {
        self.enabled()
            && self.flags & Self::AUTODISARM == 0
            && sp > self.base
            && sp - self.base <= self.len
    }
}

/// See the module.
#[repr(C)]
pub(super) struct Block {
    selector: AtomicU8,
    /// The whole mapping.
    pub(super) mapping: (u64, u64),
    /// Process that the thread belongs to.
    pub(super) process: Cell<i32>,
    /// Whether system calls of the thread can be dispatched.
    pub(super) dispatches: Cell<bool>,
    /// Signals that native code believes to have blocked, and that never are.
    pub(super) hidden: Cell<u64>,
    pub(super) native_stack: Cell<NativeStack>,
    /// Of those, the ones that were sent meanwhile.
    pub(super) held: Cell<u64>,
    /// Whether this is a process that shares the memory of the one that made it, and that waits
    /// for it (`vfork`).
    pub(super) guest: Cell<bool>,
    /// Whether the thread is one of the interpreter's.
    pub(super) interpreters: Cell<bool>,
    /// Whether `own_actions` are those of the thread's process.
    pub(super) has_own_actions: Cell<bool>,
    own_actions: Actions,
    /// Interruptible calls under way on the signal stack.
    pub(super) depth: Cell<u32>,
    /// Word of the arena, in the native view, that the kernel clears when the thread ends; or 0.
    pub(super) clear_tid: Cell<u64>,
    scratch: UnsafeCell<Scratch>,
}

impl Block {
    /// Maps a block; none where there is no memory. Async-signal-safe.
    pub(super) fn map(safe: Safe) -> Option<*mut Block> {
        let stack = (STACK + minimum_stack()).next_multiple_of(PAGE);
        let len = PAGE + stack + size_of::<Block>().next_multiple_of(PAGE);
        let rights = (libc::PROT_READ | libc::PROT_WRITE) as u64;
        let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE) as u64;
        // SAFETY: a new mapping at an address of the kernel's choice, whose first page is made
        // inaccessible. The block lies behind guard page and stack, page-aligned; zeroes are a
        // valid block, but for what is set here before anyone else knows it.
        unsafe {
            let args = [0, len as u64, rights, flags, u64::MAX, 0];
            let base = safe::raw(safe, libc::SYS_mmap, args);
            if !(0..i64::MAX).contains(&base) {
                return None;
            }
            let base = base as u64;
            let none = libc::PROT_NONE as u64;
            let args = [base, PAGE as u64, none, 0, 0, 0];
            if safe::raw(safe, libc::SYS_mprotect, args) != 0 {
                unmap(safe, base, len as u64);
                return None;
            }
            let block = (base as usize + PAGE + stack) as *mut Block;
            (*block).mapping = (base, len as u64);
            (*block).process.set(safe::process_id(safe));
            (*block).native_stack.set(NativeStack::none());
            Some(block)
        }
    }

    /// Unmaps the block. Async-signal-safe.
    ///
    /// # Safety
    /// Nobody may use the block or its stack any more.
    pub(super) unsafe fn unmap(safe: Safe, block: *mut Block) {
        // SAFETY: by the caller's promise; the mapping is the block's own.
        unsafe {
            let (base, len) = (*block).mapping;
            unmap(safe, base, len);
        }
    }

    /// First address and length of the signal stack.
    pub(super) fn stack(&self) -> (u64, u64) {
        let base = self.mapping.0 + PAGE as u64;
        (base, std::ptr::from_ref(self) as u64 - base)
    }

    /// Has the kernel dispatch this thread's system calls while the selector says so; returns
    /// the negated error number where it cannot. Async-signal-safe.
    pub(super) fn dispatch(&self, safe: Safe) -> i64 {
        let (start, len) = gate::allowed();
        let selector = &raw const self.selector as u64;
        let option = PR_SET_SYSCALL_USER_DISPATCH;
        let args = [option, PR_SYS_DISPATCH_ON, start, len, selector, 0];
        // SAFETY: the kernel reads the selector, which stays until `stop_dispatch` or the end of
        // the thread.
        let result = unsafe { safe::raw(safe, libc::SYS_prctl, args) };
        self.dispatches.set(result == 0);
        UNDISPATCHABLE.store(result != 0, Ordering::Relaxed);
        result
    }

    /// Has the kernel forget the selector. Async-signal-safe.
    pub(super) fn stop_dispatch(&self, safe: Safe) {
        let args = [
            PR_SET_SYSCALL_USER_DISPATCH,
            PR_SYS_DISPATCH_OFF,
            0,
            0,
            0,
            0,
        ];
        // SAFETY: takes numbers only.
        unsafe { safe::raw(safe, libc::SYS_prctl, args) };
        self.dispatches.set(false);
    }

    /// What native code of the thread's process set for signals.
    pub(super) fn actions(&self) -> &Actions {
        if self.has_own_actions.get() {
            &self.own_actions
        } else {
            Actions::of_process()
        }
    }

    /// Gives the thread's process a table of its own, which begins as a copy of `from`.
    pub(super) fn own_actions(&self, from: &Actions) {
        self.own_actions.copy_from(from);
        self.has_own_actions.set(true);
    }

    /// A native call was left midway: what it had set for its thread is as before it.
    pub(super) fn left(&self, hidden: u64, stack: NativeStack) {
        self.hidden.set(hidden);
        self.native_stack.set(stack);
        self.depth.set(0);
    }

    /// Whether somebody else unmaps the block: the maker of a guest, or the interpreter's thread
    /// when it ends by itself.
    pub(super) fn lasts(&self) -> bool {
        self.guest.get() || self.interpreters.get()
    }

    /// Whether the thread runs native code.
    #[inline]
    pub(super) fn in_native(&self) -> bool {
        self.selector.load(Ordering::Relaxed) == BLOCK
    }

    /// From now on the thread runs native code.
    #[inline]
    pub(super) fn enter_native(&self) {
        self.selector.store(BLOCK, Ordering::Relaxed);
    }

    /// From now on it runs other code. Returns whether it ran native code before.
    #[inline]
    pub(super) fn leave_native(&self) -> bool {
        let before = self.in_native();
        self.selector.store(ALLOW, Ordering::Relaxed);
        before
    }

    /// Memory for structures of system calls.
    ///
    /// # Safety
    /// One user at a time: whoever makes a system call for native code, while it does nothing
    /// else with the block.
    #[allow(clippy::mut_from_ref, reason = "a cell; see Safety")]
    pub(super) unsafe fn scratch(&self) -> &mut Scratch {
        // SAFETY: as the caller promises.
        unsafe { &mut *self.scratch.get() }
    }
}

/// # Safety
/// Nobody may use the range any more.
unsafe fn unmap(safe: Safe, base: u64, len: u64) {
    // SAFETY: as the caller promises.
    unsafe { safe::raw(safe, libc::SYS_munmap, [base, len, 0, 0, 0, 0]) };
}

/// Bytes that the kernel's frame with all vector state takes.
fn minimum_stack() -> usize {
    // SAFETY: getauxval takes a number and reads what the kernel left the process.
    unsafe { libc::getauxval(libc::AT_MINSIGSTKSZ) as usize }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_lies_above_its_stack() {
        let safe = Safe::promise();
        let block = Block::map(safe).unwrap();
        // SAFETY: just mapped, and nobody else's.
        unsafe {
            let (base, len) = (*block).stack();
            assert_eq!(base + len, block as u64);
            assert!(len as usize >= STACK);
            assert!(!(*block).leave_native());
            Block::unmap(safe, block);
        }
    }

    #[test]
    fn a_stack_holds_what_the_kernel_says() {
        let stack = NativeStack::new(0x1000, 0, 0x1000);
        assert!(!stack.holds(0x1000) && stack.holds(0x1001) && stack.holds(0x2000));
        assert!(!stack.holds(0x2001) && !NativeStack::none().holds(0));
        assert!(!NativeStack::new(0x1000, NativeStack::AUTODISARM, 0x1000).holds(0x1800));
    }
}
