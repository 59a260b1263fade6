//! Callbacks: functions of the interpreter that native code calls.
//!
//! ```text
//!  native code ─► thunk ─► gate: what native code did so far is applied       gate.rs
//!                            the interpreter's turn is taken
//!                            closure: reads, writes, makes native calls …
//!                          ─► result ─► native code goes on,  or its call ends here (Leave)
//!  typed closures: closure-ffi's thunks, in code pages of our own             typed.rs, thunks.rs
//!  signatures known at run time: libffi's closures                            dynamic.rs
//!  after the callback is freed: its address stays one that ends the call      retired.rs
//! ```
//! A callback lives as long as its value does. Native code that calls it later has made a mistake,
//! which is reported ([`ViolationKind::FreedCallback`]) as long as its address is not used again:
//! the last [`QUARANTINE`] freed ones are kept for that.
//!
//! A panic never unwinds through native code: it ends the native call, whose caller panics with it.
//! Native frames that a call is ended in are abandoned, with whatever they hold; a callback that
//! fails in ways that native code knows should return what native code expects.

mod dynamic;
pub(crate) mod gate;
mod held;
mod live;
mod retired;
mod thunks;
mod typed;

use std::{
    any::Any,
    cell::RefCell,
    error::Error,
    fmt,
    thread::{self, ThreadId},
};

use crate::memory::ViolationKind;

pub use dynamic::{BodyResult, Callback, CallbackError, Invocation};
pub(crate) use live::passed;
pub use thunks::QUARANTINE;
pub use typed::TypedCallback;

/// Why a callback ended the native call that it was called from.
pub enum Leave {
    /// The interpreter wanted it, with an error of its own.
    Stopped(Box<dyn Error + Send + Sync>),
    /// The callback panicked.
    Panicked(Box<dyn Any + Send>),
    /// Native code called a callback that was freed, or one that may be called once a second time.
    Freed,
    /// Native code called, on a thread of its own, a callback that belongs to one thread.
    OtherThread,
    /// A callback that changes its own state was called while it ran.
    Reentered,
    /// Native code passed, or the callback returned, what is no value of its type.
    Value(String),
}

impl Leave {
    /// The rule that this breaks, if it breaks one.
    pub(crate) fn violation(&self) -> Option<ViolationKind> {
        match self {
            Leave::Stopped(_) | Leave::Panicked(_) | Leave::Value(_) => None,
            Leave::Freed => Some(ViolationKind::FreedCallback),
            Leave::OtherThread | Leave::Reentered => Some(ViolationKind::Unsupported),
        }
    }
}

impl fmt::Display for Leave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Leave::Stopped(error) => return write!(f, "a callback ended the call: {error}"),
            Leave::Value(what) => return f.write_str(what),
            Leave::Panicked(_) => "a callback panicked",
            Leave::Freed => "native code called a callback that was freed",
            Leave::OtherThread => {
                "native code called a callback on a thread of its own; make the callback one that \
                 may be sent to other threads, or have native code call it on the calling thread"
            }
            Leave::Reentered => {
                "native code called a callback again while it ran; make it one that does not \
                 change its own state (Fn), or keep the state in a cell"
            }
        })
    }
}

impl fmt::Debug for Leave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Leave({self})")
    }
}

/// What [`stop`] unwinds with.
pub(crate) struct Stop(pub(crate) Box<dyn Error + Send + Sync>);

/// Ends the native call that the running callback was called from, with an error of the
/// interpreter's own: the call's outcome has it as [`Leave::Stopped`]. For typed callbacks, which
/// have no error to return. What the callback owns is dropped, as by a panic, but without a
/// message; outside of a callback it is a panic.
pub fn stop(error: impl Into<Box<dyn Error + Send + Sync>>) -> ! {
    std::panic::resume_unwind(Box::new(Stop(error.into())))
}

thread_local! {
    /// Why the native call that ends on this thread was left.
    static LEFT: RefCell<Option<Leave>> = const { RefCell::new(None) };
}

/// The thread that a callback is bound to, if it is.
type Home = Option<ThreadId>;

fn here() -> Home {
    Some(thread::current().id())
}

fn at_home(home: Home) -> Result<(), Leave> {
    match home {
        Some(home) if home != thread::current().id() => Err(Leave::OtherThread),
        _ => Ok(()),
    }
}

/// Takes the reason for which a callback ended the call that just ended on this thread.
pub(crate) fn left_here() -> Option<Leave> {
    LEFT.with(|left| left.borrow_mut().take())
}
