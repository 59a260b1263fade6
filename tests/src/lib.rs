//! Tests of ffitrace as a whole. They see what its users see: the command line, its JSON, its
//! messages and its exit status.
//!
//! ```text
//!  native/*.c ──build.rs──► libfx_*.so ─┐
//!                                       ├─► Call ──► ffitrace (a process) ──► Outcome ──► Case
//!  FFITRACE_BIN or `cargo build` ───────┘             once per recorder        checks
//! ```
//!
//! What each case expects is written down by hand, from the instruction that the fixture executes,
//! never taken from what the product printed. What the host can do ([`host`]) is found out without
//! the product, so that a recorder that wrongly declares itself unusable fails its tests instead of
//! skipping them.

pub mod agent;
pub mod answered_bpf;
pub mod binary;
pub mod call;
pub mod case;
pub mod fixture;
pub mod host;
pub mod outcome;
pub mod packets;
pub mod place;
pub mod process;
pub mod report;
pub mod seccomp;
pub mod stream;
pub mod suite;
pub mod without_dispatch;

/// Fails the test with a message unless the condition holds.
#[macro_export]
macro_rules! check {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(::anyhow::anyhow!($($message)+));
        }
    };
}
