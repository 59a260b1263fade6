//! ffitrace's recorders: from native memory accesses to access events.
//!
//! ```text
//!  native code ── fault ──► backend: ebpf, inproc, ptrace      who takes down the access
//!       ▲                      │ records (tracer-ebpf)
//!       │                      ▼
//!  resume: copy of the     pipeline: wire ► decode ► account checked
//!  instruction on the          │
//!  host view (views)           ▼
//!                          access: AccessEvent or Refused ──► the caller's EventSink
//! ```
//!
//! A [`session::TraceSession`] ties it together: it takes an arena made with [`views`], a
//! recorder by name, and a sink, and runs native calls. What an address means (which allocation,
//! whether it may be written) is not known here; `interp-bridge` knows it. What the host offers
//! is found out by [`host`].

pub mod access;
pub mod agent;
pub mod backend;
pub mod decode;
pub mod extent;
pub mod host;
pub mod mapping;
pub mod modules;
pub mod pipeline;
pub mod privileges;
pub mod quiet;
pub mod resume;
pub mod ring;
pub mod session;
pub mod shadow;
pub mod symbols;
pub mod syscall;
pub mod translate;
pub mod unwind;
pub mod views;
pub mod wire;
