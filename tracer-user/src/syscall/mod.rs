//! What Linux x86-64 system calls do to memory that they are handed.
//!
//! ```text
//!  native code: syscall rax=number, rdi rsi rdx r10 r8 r9 = args, some of them native view
//!      │
//!      ▼ prepare ── touches: what the kernel reads first of all of a call that may wait
//!  Plan ├ Pass      no arena memory is handed over: make the call unchanged
//!       ├ Moved     make it with `moved.args`, then `finish`
//!       ├ Special   more than memory: the caller makes it its own way on `moved.args`; `finish`
//!       └ Refuse    cannot be described exactly: not to be made
//!      │ result
//!      ▼ finish ── touches: what the kernel read and wrote, as the result tells
//!  result for native code
//! ```
//!
//! The `table` says for each call what its arguments are, in the words of `shape`;
//! [`prepare`] moves them, and writes down `Effect`s that [`finish`] tells when the result is
//! known. No call is made for native code here, and nothing is allocated or locked, so all of it
//! runs in a signal handler.
//!
//! Addresses of the native view are moved to the host view ([`DELTA`](tracer_ebpf::DELTA) bytes
//! up), others are left alone. Structures with addresses in them (vectors of buffers, message
//! headers, lists of strings) are rebuilt in [`Scratch`] memory if they lie in the arena or point
//! into it. [`Touch`]es have addresses of the native view, and only they.
//!
//! **What is exact.** A write is told as certain if the result says that it was made, with as
//! many bytes as the result or the kernel's own answer in a length word says; after `EFAULT`,
//! which may come halfway, as uncertain. A read of something fixed is told if the kernel gets
//! that far: not when the descriptor was bad, uncertain when the error could mean either. Data is
//! read and written as far as the result says. Vectors and headers are copied before they are
//! looked at, and the kernel gets the copy. Strings and plain structures it reads where they are,
//! so if another thread changes a string at that moment, the length told may be that of before.
//!
//! **What is not seen.** Requests in the ring of io_uring, which is memory shared with the kernel:
//! their addresses are not moved, so they fail with `EFAULT` in the arena. The list of robust
//! mutexes that the kernel walks when a thread ends: with a mutex in the arena it stops there.
//! Structures of unlisted `ioctl` requests whose number does not tell their size.
//!
//! **Futexes.** The kernel compares addresses: private futexes by address, shared ones by page
//! of the memory file. All calls on the arena go through this table and use the host view, so
//! they agree with each other, in all threads.

mod arena;
mod buffers;
mod clone;
mod effect;
mod entries;
mod memory;
mod message;
mod plan;
mod prepare;
mod reason;
pub mod scratch;
mod shape;
mod strings;
mod table;
mod waiters;

use syscalls::Sysno;
use tracer_ebpf::Session;

use crate::access::AccessKind;
use crate::resume::safe::Safe;

use effect::{Effect, Telling};
use prepare::Preparing;

pub use plan::{Moved, Plan, Refusal, Special, WaitMask};
pub use reason::Reason;
pub use scratch::Scratch;

/// A system call as native code made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// `rax`.
    pub number: u64,
    /// `rdi`, `rsi`, `rdx`, `r10`, `r8`, `r9`.
    pub args: [u64; 6],
}

/// Bytes of the arena that the kernel read or wrote for a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touch {
    /// First address, in the native view.
    pub addr: u64,
    /// Length in bytes, at least 1.
    pub len: u64,
    /// Direction.
    pub kind: AccessKind,
    /// False where the result does not tell whether the bytes were touched.
    pub certain: bool,
}

/// Plans `call`, and tells what the kernel reads for it before it waits.
///
/// Anything but [`Plan::Pass`] and [`Plan::Refuse`] keeps words of `scratch` until [`finish`].
pub fn prepare(
    safe: Safe,
    call: &Call,
    arena: Session,
    scratch: &mut Scratch,
    touch: &mut dyn FnMut(Touch),
) -> Plan {
    let known = usize::try_from(call.number).ok().and_then(Sysno::new);
    let look = table::Look { safe, arena };
    let shape = known.and_then(|number| table::shape(number, &call.args, &look));
    let special = known.and_then(table::special);
    let mark = scratch.mark();
    let Some(shape) = shape else {
        return match call.args.iter().find(|arg| arena.is_native(**arg)) {
            Some(&addr) => Plan::Refuse(Refusal {
                reason: Reason::Unlisted,
                addr,
                detail: 0,
            }),
            None => Plan::Pass,
        };
    };
    let mut preparing = Preparing {
        safe,
        arena,
        scratch,
        moved: Moved::unchanged(call.args, mark),
        mask: None,
    };
    let refused = preparing.arguments(call, &shape).err();
    let Preparing { moved, mask, .. } = preparing;
    if let Some(refusal) = refused {
        scratch.release(mark);
        return Plan::Refuse(Refusal {
            detail: known.map_or(0, |number| table::detail(number, &call.args)),
            ..refusal
        });
    }
    // Only now, when it is sure that the call is not refused.
    let mut telling = Telling {
        safe,
        arena,
        touch,
        fault: false,
    };
    for effect in moved.effects().filter(Effect::is_before) {
        telling.before(&effect, scratch);
    }
    match special.or(mask.map(Special::Masked)) {
        Some(special) => Plan::Special(special, moved),
        None if moved.args == call.args => {
            scratch.release(mark);
            Plan::Pass
        }
        None => Plan::Moved(moved),
    }
}

/// Tells what the kernel read and wrote, given the `result` of the call made as `moved` says:
/// what the `syscall` instruction leaves in `rax`. Returns the result that native code is to see.
pub fn finish(
    safe: Safe,
    arena: Session,
    moved: &Moved,
    result: i64,
    scratch: &mut Scratch,
    touch: &mut dyn FnMut(Touch),
) -> i64 {
    let mut telling = Telling {
        safe,
        arena,
        touch,
        fault: false,
    };
    for reads in [true, false] {
        for effect in moved.effects().filter(|effect| effect.is_read() == reads) {
            telling.effect(&effect, result, scratch);
        }
    }
    scratch.release(moved.mark);
    if telling.fault {
        return -i64::from(libc::EFAULT);
    }
    result
}
