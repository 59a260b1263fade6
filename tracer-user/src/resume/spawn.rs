//! Threads and processes that native code starts.
//!
//! ```text
//!  shares memory, a thread               own block; begins in `begin`, goes on as native code
//!  shares memory, its maker waits        the same, and a table of actions of its own: a guest
//!    (vfork, posix_spawn, system)
//!  shares memory, runs beside it         refused
//!  has a copy of the memory (fork)       goes on as it is; without the arena, and not recorded
//! ```
//! The kernel does not pass dispatch on, so whoever begins switches it on for itself, before the
//! first instruction of native code: the context that it goes on with lies ready on its signal
//! stack, and `rt_sigreturn` puts registers, vector state, mask and stack in force at once.
//!
//! # Safety
//! All signals are blocked from before the call until a child has its own block. What a child
//! reads of its maker was written before the call; the maker of a guest waits in the kernel while
//! the guest uses the thread state that they share.
#![allow(unsafe_code)]

use tracer_ebpf::{DELTA, Session};

use super::{
    block::{Block, NativeStack},
    dispatch::Dispatched,
    engine::Engine,
    frame::{Context, Frame, RAX, RSP},
    gate::{self, Launch},
    hot,
    refusal::Refused,
    safe::{self, Safe},
    thread,
};
use crate::syscall::{Moved, Special};

/// Bytes of the newest `struct clone_args` that is understood (`CLONE_ARGS_SIZE_VER2`), and the
/// least that there can be.
const CLONE_ARGS: usize = 88;
const CLONE_ARGS_LEAST: u64 = 64;
/// Words of it.
const FLAGS: usize = 0;
const CHILD_TID: usize = 2;
const STACK: usize = 5;
const STACK_LEN: usize = 6;
const TLS: usize = 7;

/// What is asked for, whatever the call.
struct Wanted {
    flags: u64,
    /// Stack pointer of the child, 0 for its maker's.
    sp: u64,
    /// Base of `fs`, where it is to be set.
    tls: u64,
    /// The word that is cleared at its end.
    child_tid: u64,
}

impl Wanted {
    fn has(&self, flag: i32) -> bool {
        self.flags & u64::from(flag as u32) != 0
    }
}

/// Makes `clone`, `clone3`, `fork` or `vfork`.
pub(super) fn spawn(
    dispatched: &Dispatched<'_>,
    frame: &mut Frame<'_>,
    special: Special,
    mut moved: Moved,
) {
    let safe = dispatched.safe;
    let mut given = [0u64; CLONE_ARGS / 8];
    let wanted = match special {
        Special::Fork => Wanted {
            flags: 0,
            sp: 0,
            tls: 0,
            child_tid: 0,
        },
        Special::Vfork => Wanted {
            flags: (libc::CLONE_VM | libc::CLONE_VFORK) as u64,
            sp: 0,
            tls: 0,
            child_tid: 0,
        },
        Special::Clone => Wanted {
            flags: moved.args[0],
            sp: moved.args[1],
            tls: dispatched.call.args[4],
            child_tid: dispatched.call.args[3],
        },
        _ => {
            let len = moved.args[1];
            let read = len >= CLONE_ARGS_LEAST
                && len <= CLONE_ARGS as u64
                && read_words(safe, moved.args[0], &mut given[..len as usize / 8]);
            if !read {
                // Left to the kernel to refuse, or to this kernel's successors to explain.
                return if len > CLONE_ARGS as u64 {
                    dispatched.refuse(frame, Refused::CloneArgs, -i64::from(libc::E2BIG))
                } else {
                    dispatched.make(frame, Some(&moved), frame.mask(), None)
                };
            }
            Wanted {
                flags: given[FLAGS],
                sp: match given[STACK] {
                    0 => 0,
                    base => base.wrapping_add(given[STACK_LEN]),
                },
                tls: given[TLS],
                // The table has moved it, if it has rebuilt the structure.
                child_tid: native_address(dispatched.arena, given[CHILD_TID]),
            }
        }
    };
    if !wanted.has(libc::CLONE_VM) {
        if wanted.has(libc::CLONE_SETTLS) {
            return dispatched.refuse(frame, Refused::SetFs, -i64::from(libc::EINVAL));
        }
        // The child comes back here, on its copy of this stack.
        match special {
            Special::Clone => moved.args[1] = 0,
            Special::Clone3 => {
                (given[STACK], given[STACK_LEN]) = (0, 0);
                moved.args[0] = given.as_ptr() as u64;
            }
            _ => {}
        }
        return fork(dispatched, frame, moved, wanted.sp);
    }
    let guest = wanted.has(libc::CLONE_VFORK) && !wanted.has(libc::CLONE_THREAD);
    if !guest && !wanted.has(libc::CLONE_THREAD) {
        let error = -i64::from(libc::EINVAL);
        return dispatched.refuse(frame, Refused::SharedMemory, error);
    }
    if !guest && !wanted.has(libc::CLONE_SETTLS) {
        return dispatched.refuse(frame, Refused::SharedTls, -i64::from(libc::EINVAL));
    }
    if wanted.has(libc::CLONE_SETTLS) && dispatched.arena.is_arena(wanted.tls) {
        return dispatched.refuse(frame, Refused::TlsInArena, -i64::from(libc::EINVAL));
    }
    let Some(child) = child_block(dispatched, frame, &wanted, guest) else {
        return dispatched.refuse(frame, Refused::NoMemory, -i64::from(libc::EAGAIN));
    };
    let result = if guest {
        keep_thread_state(safe, || start(dispatched, &moved, child))
    } else {
        start(dispatched, &moved, child)
    };
    if guest && result > 0 {
        // The guest used this thread's place in the roster.
        dispatched.engine.enter_handler(safe);
    }
    if guest || result < 0 {
        // SAFETY: the guest has ended or has another memory now, or there is no child.
        unsafe { Block::unmap(safe, child.block) };
    }
    dispatched.finish(frame, Some(&moved), result);
}

/// What a child begins with, on its own signal stack.
#[repr(C)]
struct Child {
    /// First, so that its address is that of the whole.
    launch: Launch,
    context: u64,
    block: *mut Block,
}

#[derive(Clone, Copy)]
struct ChildBlock {
    block: *mut Block,
    launch: *mut Launch,
}

/// A block for the child, with the context on its stack that the child goes on with.
fn child_block(
    dispatched: &Dispatched<'_>,
    frame: &Frame<'_>,
    wanted: &Wanted,
    guest: bool,
) -> Option<ChildBlock> {
    let (safe, maker) = (dispatched.safe, dispatched.block);
    let pointer = Block::map(safe)?;
    // SAFETY: just mapped, and nobody else's until the child begins.
    let block = unsafe { &*pointer };
    block.hidden.set(maker.hidden.get());
    block.guest.set(guest);
    // A guest of a guest has a table of its own even where it shares its maker's.
    if maker.has_own_actions.get() || guest && !wanted.has(libc::CLONE_SIGHAND) {
        block.own_actions(maker.actions());
    }
    if guest {
        block.native_stack.set(maker.native_stack.get());
    }
    if wanted.has(libc::CLONE_CHILD_CLEARTID) && dispatched.arena.is_native(wanted.child_tid) {
        block.clear_tid.set(wanted.child_tid);
    }
    block.enter_native();
    let mut context = frame.read();
    let (base, len) = block.stack();
    // SAFETY: the vector state of this handler's frame.
    let vectors_len = unsafe { context.vectors_len() };
    let vectors = (base + len - vectors_len as u64) & !63;
    let at = (vectors - size_of::<Context>() as u64) & !15;
    let child = (at - size_of::<Child>() as u64) & !15;
    context.set_register(RAX, 0);
    if wanted.sp != 0 {
        context.set_register(RSP, wanted.sp);
    }
    context.stack = NativeStack::new(base, 0, len);
    // SAFETY: all of it lies at the upper end of the child's stack, which is larger than a frame;
    // the vector state is copied from this handler's frame.
    unsafe {
        if vectors_len != 0 {
            std::ptr::copy_nonoverlapping(
                context.vectors as *const u8,
                vectors as *mut u8,
                vectors_len,
            );
            context.vectors = vectors;
        }
        (at as *mut Context).write(context);
        (child as *mut Child).write(Child {
            launch: Launch {
                stack: child,
                function: begin,
            },
            context: at,
            block: pointer,
        });
    }
    Some(ChildBlock {
        block: pointer,
        launch: child as *mut Launch,
    })
}

fn start(dispatched: &Dispatched<'_>, moved: &Moved, child: ChildBlock) -> i64 {
    // SAFETY: native code's own call, which shares the memory; the child's block stays until the
    // child has ended.
    unsafe {
        gate::launch(
            dispatched.safe,
            dispatched.call.number,
            moved.args,
            child.launch,
        )
    }
}

/// The first function of a thread or process that shares this one's memory, on its signal stack.
unsafe extern "C" fn begin(launch: *mut Launch) -> ! {
    let safe = Safe::promise();
    // SAFETY: what `child_block` made for this child; a launch begins it.
    let (block, context) = unsafe {
        let child = &*launch.cast::<Child>();
        (child.block, child.context)
    };
    // SAFETY: this thread's from now on.
    let block_ref = unsafe { &*block };
    block_ref.dispatch(safe);
    thread::adopt(safe, block, block_ref.guest.get());
    if block_ref.guest.get() {
        block_ref.process.set(safe::process_id(safe));
    }
    if let Some(engine) = Engine::get() {
        if !block_ref.guest.get() {
            hot::attach(safe, engine);
        }
        engine.leave_handler(safe);
    }
    // SAFETY: the context is a copy of a frame that the kernel built.
    unsafe { gate::restore(safe, context) }
}

/// Runs `make`, whose child uses this thread's state for its own until it lets this thread go on.
fn keep_thread_state(safe: Safe, make: impl FnOnce() -> i64) -> i64 {
    let kept = thread::state(safe, |state| {
        (
            state.guard.get(),
            state.suspended.get(),
            state.block.get(),
            state.tid.get(),
            state.log.get(),
        )
    });
    let result = make();
    thread::state(safe, |state| {
        state.guard.set(kept.0);
        state.suspended.set(kept.1);
        state.block.set(kept.2);
        state.tid.set(kept.3);
        state.log.set(kept.4);
    });
    result
}

/// A process with a copy of the memory.
fn fork(dispatched: &Dispatched<'_>, frame: &mut Frame<'_>, moved: Moved, sp: u64) {
    let (safe, block) = (dispatched.safe, dispatched.block);
    // SAFETY: native code's own call, which copies the memory.
    let result = unsafe { safe::raw(safe, dispatched.call.number as i64, moved.args) };
    if result != 0 {
        return dispatched.finish(frame, Some(&moved), result);
    }
    // In the child: its signals are to stay what native code believes them to be.
    block.dispatch(safe);
    thread::state(safe, |state| state.tid.set(0));
    frame.set_register(RAX, 0);
    if sp != 0 {
        frame.set_register(RSP, sp);
    }
}

/// The address of the native view for one of the host view; others as they are.
fn native_address(arena: Session, addr: u64) -> u64 {
    if arena.is_arena(addr) && !arena.is_native(addr) {
        addr - DELTA
    } else {
        addr
    }
}

fn read_words(safe: Safe, from: u64, to: &mut [u64]) -> bool {
    let bytes = bytemuck::cast_slice_mut::<u64, u8>(to);
    safe::read_memory(safe, safe::process_id(safe), from, bytes) == bytes.len()
}
