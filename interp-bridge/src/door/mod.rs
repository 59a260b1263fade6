//! The Miri-shaped door: what an interpreter in Miri's style expects of a tracer of native code,
//! and nothing else. `docs/miri.md` shows how Miri would use it.
//!
//! ```text
//!  IsolatedAlloc::alloc ──► *mut u8, in the host view: the interpreter reads and writes there
//!       native_addr(ptr) ─► the same byte in the native view: what native code is handed
//!
//!  Supervisor::do_ffi(&alloc, |native| {
//!      prepare                                  ordinary code: may own, panic, return
//!      unsafe { native.run(|| call) }           traced; may crash, and is left then
//!      finish                                   goes on after a crash as well
//!  }) ──► (result, Option<MemEvents>)           every access to the arena, in order
//! ```
//!
//! # Why the call is run inside `f`, and is not `f`
//! A native call that crashes is ended by a jump over the frames between the crash and where the
//! call began. A frame that owns something cannot be jumped over: its destructors would not run,
//! locks would stay locked, and what it lent to others would go. A closure that prepares a libffi
//! call owns vectors. So the closure runs as ordinary code, and hands the call alone to
//! [`Native::run`], whose argument has to be `Copy`: such a closure captures references and plain
//! values, and owns nothing.
//!
//! # One at a time
//! Signal handlers belong to the process, so a process has one [`IsolatedAlloc`] that traces at a
//! time; calls of several threads on it wait for one another.

mod alloc;
mod events;
mod memory;
mod supervisor;

pub use alloc::IsolatedAlloc;
pub use events::{AccessEvent, AccessRange, MemEvents};
pub use supervisor::{Ended, Native, Supervisor};

use crate::bridge::BridgeError;

/// Why the door could not be opened, or what came through it is not all.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// No arena, or no recorder.
    #[error(transparent)]
    Bridge(#[from] BridgeError),
    /// Native code did something whose effect on the arena is not known exactly. The function ran,
    /// and its result is lost: nothing may be concluded from what is in memory.
    #[error("the trace of a native call is incomplete: {0}")]
    Incomplete(String),
}
