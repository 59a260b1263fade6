//! The resume engine: lets a thread that faulted in the native view go on.
//!
//! ```text
//!  fault ─► signals ─► site known? ──no──► prepare (helper thread: decode, displace)
//!                          │ yes
//!             ┌────────────┴───────────┐
//!             ▼                        ▼
//!       displaced copy            open, step, close
//!   (works on the host view)     (what has no copy)
//! ```

mod access;
mod actions;
pub mod aux;
mod block;
pub mod code;
mod copy;
mod deliver;
mod dispatch;
pub mod displace;
pub mod displaced;
mod ending;
mod ends;
mod engine;
mod exit;
mod finish;
pub mod frame;
pub(crate) mod gate;
mod guard;
mod hot;
mod install;
mod interlude;
mod known;
mod other_crash;
mod prepare;
pub mod refusal;
mod roster;
pub mod safe;
mod signal_calls;
pub mod signals;
mod site;
mod spawn;
mod stacks;
mod step;
mod stop;
pub(crate) mod thread;
mod touch;
mod verdict;
pub mod xstate;

pub(crate) use engine::{CallKey, Engine, Lent, Recording};
pub use guard::{Crash, Reason};
pub use interlude::{Interlude, inside};
pub use stacks::Snapshot;
