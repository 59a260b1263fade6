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

pub mod code;
pub mod displace;
pub mod displaced;
mod engine;
mod exit;
pub mod frame;
mod guard;
mod install;
mod other_crash;
mod prepare;
pub mod safe;
pub mod signals;
pub mod site;
mod stacks;
pub(crate) mod thread;

pub use engine::{CallKey, Engine, Lent, RESERVE_RECORDS, Recording, SharedWords};
pub use guard::{Crash, Reason};
pub use signals::END_CALL;
pub use stacks::Snapshot;
