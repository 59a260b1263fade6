//! Native calls that can be left: when native code crashes or runs too long, the handler
//! restores the stack pointer that the call began with and the call ends there.
//!
//! ```text
//!  call_guarded ─► enter (saves rsp, callee-saved registers) ─► f(data) ─► libffi ─► native
//!       ▲                                                                   │ SIGSEGV
//!       └────────── landing ◄── handler sets rip, rsp in the frame ◄────────┘
//! ```
//!
//! # Safety
//! Leaving a call skips every frame between `enter` and the fault. Those are native frames and
//! `f`, of which the caller promises that nothing in it needs to be dropped or unlocked (the
//! "plain old frames" of Rust RFC 2945). Callee-saved registers are popped from the saved stack,
//! the floating-point control words and the direction flag are set as the ABI has them.
#![allow(unsafe_code)]

use std::{
    arch::naked_asm,
    cell::Cell,
    sync::atomic::{Ordering, compiler_fence},
};

use tracer_ebpf::Regs;

use super::{
    block::{Block, NativeStack},
    hot,
    safe::{self, Safe},
    signals, thread,
};

/// Why a call was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Reason {
    /// A fatal signal of the calling thread.
    Signal,
    /// A fatal signal of another thread of native code.
    OtherThread,
    /// The time was up.
    Timeout,
    /// Native code called `exit`.
    Exit,
    /// It was about to break a rule, and is to be stopped then.
    Stopped,
    /// The interpreter asked for it, in code of its own that native code had called.
    Interpreter,
}

/// What the handler saw when it ended a call.
#[derive(Clone, Copy, Debug)]
pub struct Crash {
    /// Why the call was left.
    pub reason: Reason,
    /// Signal number, 0 for a timeout or an exit.
    pub signal: i32,
    /// `si_code` of the signal.
    pub code: i32,
    /// `si_addr` of the signal.
    pub addr: u64,
    /// Page-fault error code of a SIGSEGV by page fault.
    pub error: u32,
    /// Kernel thread id.
    pub tid: u32,
    /// Registers; `rip` is the instruction as the library has it, also where a copy of it ran.
    pub regs: Regs,
}

/// Where a native call began. Lives on the stack of `call_guarded`.
#[repr(C, align(8))]
pub(super) struct Guard {
    rsp: u64,
    landing: u64,
    mxcsr: u32,
    control: u32,
    /// Not 0 where the call was ended before there was a place to land.
    early: u32,
    pad: u32,
    /// The guard of the call around this one, or null.
    outer: *mut Guard,
    /// Signal mask at the call's beginning.
    pub(super) mask: u64,
    /// Written by the handler before it ends the call.
    pub(super) crash: Option<Crash>,
}

impl Guard {
    /// Where the handler sends the thread to end the call.
    pub(super) fn landing(&self) -> u64 {
        self.landing
    }

    /// Has the call end as soon as there is a landing, if there is none yet; whether that is so.
    pub(super) fn end_early(&mut self) -> bool {
        self.early = u32::from(self.landing == 0);
        self.landing == 0
    }

    /// The call around this one on the same thread, or null.
    pub(super) fn outer(&self) -> *mut Guard {
        self.outer
    }

    /// Stack pointer to end the call with.
    pub(super) fn stack_pointer(&self) -> u64 {
        self.rsp
    }
}

/// Bytes above the saved stack pointer that [`enter`] has pushed, its return address among them.
const ENTERED: u64 = 64;

/// Where the stack of this thread's innermost native call ends, or `u64::MAX` if it is in none.
/// Async-signal-safe.
pub(super) fn stack_end(safe: Safe) -> u64 {
    let guard = thread::state(safe, |state| state.guard.get());
    // SAFETY: null, or the guard of a call that is under way on this thread, whose stack pointer
    // was written when it began.
    unsafe { guard.as_ref() }.map_or(u64::MAX, |guard| guard.rsp.saturating_add(ENTERED))
}

const _: () = {
    use core::mem::offset_of;
    assert!(offset_of!(Guard, rsp) == 0);
    assert!(offset_of!(Guard, landing) == 8);
    assert!(offset_of!(Guard, mxcsr) == 16);
    assert!(offset_of!(Guard, control) == 20);
    assert!(offset_of!(Guard, early) == 24);
};

/// Calls `f(data)` and returns 0, or 1 where a handler sent the thread to the landing with the
/// guard's address in rdi.
///
/// Six pushes and one word keep the stack 16-aligned at the call (System V ABI 3.2.2).
#[unsafe(naked)]
unsafe extern "C" fn enter(
    guard: *mut Guard,
    f: unsafe extern "C" fn(*mut libc::c_void),
    data: *mut libc::c_void,
) -> u64 {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "sub rsp, 8",
        "mov [rdi], rsp",
        "lea rax, [rip + 2f]",
        "mov [rdi + 8], rax",
        "stmxcsr [rdi + 16]",
        "fnstcw [rdi + 20]",
        // A handler that came before the landing was there has left word.
        "cmp dword ptr [rdi + 24], 0",
        "jne 2f",
        "mov rax, rsi",
        "mov rdi, rdx",
        "call rax",
        "xor eax, eax",
        "jmp 3f",
        "2:",
        "cld",
        "fninit",
        "fldcw [rdi + 20]",
        "ldmxcsr [rdi + 16]",
        "mov eax, 1",
        "3:",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

/// The block of a thread that calls native code.
struct OwnBlock {
    block: *mut Block,
    previous: libc::stack_t,
}

impl OwnBlock {
    fn install() -> std::io::Result<OwnBlock> {
        let safe = Safe::promise();
        let out_of_memory = || std::io::Error::from_raw_os_error(libc::ENOMEM);
        let block = Block::map(safe).ok_or_else(out_of_memory)?;
        // SAFETY: the block was just mapped and is this thread's.
        let block_ref = unsafe { &*block };
        let (base, len) = block_ref.stack();
        let stack = libc::stack_t {
            ss_sp: base as *mut libc::c_void,
            ss_flags: 0,
            ss_size: len as usize,
        };
        // SAFETY: zeroes are a valid `stack_t`; the stack outlives its use (see `drop`).
        let previous = unsafe {
            let mut previous: libc::stack_t = std::mem::zeroed();
            if libc::sigaltstack(&raw const stack, &raw mut previous) != 0 {
                let error = std::io::Error::last_os_error();
                Block::unmap(safe, block);
                return Err(error);
            }
            previous
        };
        // Native code goes on with the stack that there was.
        block_ref.native_stack.set(NativeStack::new(
            previous.ss_sp as u64,
            (previous.ss_flags & libc::SS_DISABLE) as u32,
            previous.ss_size as u64,
        ));
        block_ref.interpreters.set(true);
        block_ref.dispatch(safe);
        thread::state(safe, |state| state.block.set(block));
        Ok(OwnBlock { block, previous })
    }
}

impl Drop for OwnBlock {
    fn drop(&mut self) {
        let safe = Safe::promise();
        // Native code that calls `exit` has this run in the middle of its call.
        let in_call = |state: &thread::ThreadState| {
            !state.guard.get().is_null() || !state.suspended.get().is_null()
        };
        if thread::state(safe, in_call) {
            return;
        }
        hot::detach(safe);
        thread::state(safe, |state| state.block.set(std::ptr::null_mut()));
        // SAFETY: the kernel forgets the selector and gets back the stack that was in force
        // before, so nobody uses the block any more.
        unsafe {
            (*self.block).stop_dispatch(safe);
            libc::sigaltstack(&raw const self.previous, std::ptr::null_mut());
            Block::unmap(safe, self.block);
        }
    }
}

thread_local! {
    static OWN_BLOCK: Cell<Option<OwnBlock>> = const { Cell::new(None) };
}

/// Gives this thread a block, and with it a guarded alternate signal stack and the dispatch of
/// its system calls, for the rest of its life.
///
/// # Errors
/// What `mmap(2)` or `sigaltstack(2)` says.
pub(super) fn prepare_thread() -> std::io::Result<()> {
    if thread::block(Safe::promise()).is_some() {
        return Ok(());
    }
    let mut block = Some(OwnBlock::install()?);
    if OWN_BLOCK.try_with(|cell| cell.set(block.take())).is_err() {
        // The thread is ending: its block stays, as there is nobody left to give it back.
        std::mem::forget(block);
    }
    Ok(())
}

/// Why this thread's system calls cannot be dispatched, if they cannot.
pub(super) fn no_dispatch() -> Option<std::io::Error> {
    let safe = Safe::promise();
    let block = thread::block(safe)?;
    match block.dispatch(safe) {
        0 => None,
        error => Some(std::io::Error::from_raw_os_error(-error as i32)),
    }
}

/// A native call that was asked to end before it began.
unsafe extern "C" fn end_at_once(_: *mut libc::c_void) {
    let safe = Safe::promise();
    // Delivered before the call that sends it returns.
    signals::send_end_call(safe, thread::id(safe));
}

/// Runs `f(data)` so that a handler can end it. `started` is told the guard's address, by which
/// [`super::Engine::request_end`] names the call. System calls of a `traced` one are dispatched.
/// `ended` says whether it has been asked to end since, when no handler could see to that yet.
///
/// Returns the crash that ended the call, if one did.
///
/// # Safety
/// `f(data)` must be sound to call, and sound to leave at any point: no frame of it may own
/// anything that has to be dropped.
pub(super) unsafe fn call_guarded(
    f: unsafe extern "C" fn(*mut libc::c_void),
    data: *mut libc::c_void,
    traced: bool,
    started: impl FnOnce(*mut Guard),
    ended: impl FnOnce(*mut Guard) -> bool,
) -> Option<Crash> {
    let safe = Safe::promise();
    let block = thread::block(safe).filter(|_| traced);
    let believed = block.map(|block| (block.hidden.get(), block.native_stack.get()));
    let (before, suspended, outside) = thread::state(safe, |state| {
        (
            state.guard.get(),
            state.suspended.get(),
            state.outside.get(),
        )
    });
    let mut guard = Guard {
        rsp: 0,
        landing: 0,
        mxcsr: 0,
        control: 0,
        early: 0,
        pad: 0,
        outer: if before.is_null() { suspended } else { before },
        mask: safe::mask(safe),
        crash: None,
    };
    // From here the handler reaches the guard through this pointer only.
    let pointer = &raw mut guard;
    started(pointer);
    thread::state(safe, |state| {
        state.guard.set(pointer);
        state.outside.set(false);
    });
    // The handlers run on this thread, and see the guard from here.
    compiler_fence(Ordering::SeqCst);
    let f = if ended(pointer) { end_at_once } else { f };
    let enters = block.is_some_and(|block| !block.in_native());
    if let Some(block) = block {
        block.enter_native();
    }
    // SAFETY: the guard outlives the call; `f(data)` is sound by the caller's promise.
    let left = unsafe { enter(pointer, f, data) };
    if let Some(block) = block
        && enters
    {
        block.leave_native();
    }
    // SAFETY: the guard is this frame's own; the handlers no longer write to it once it is out
    // of the thread's state, and they ran on this thread.
    let guard = unsafe {
        thread::state(safe, |state| {
            state.guard.set(before);
            state.suspended.set(suspended);
            state.outside.set(outside);
        });
        &*pointer
    };
    if left == 0 {
        return None;
    }
    if let (Some(block), Some((hidden, stack))) = (block, believed) {
        block.left(hidden, stack);
    }
    guard.crash
}
