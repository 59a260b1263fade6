//! The interpreter bridge of ffitrace: an interpreter's memory, native calls, and what those did
//! to it.
//!
//! ```text
//!  prototype + binding ──► ffi: NativeCall ──► bridge::Bridge::call ──► tracer-user's session
//!  (C declarations,            (libffi)               │                          │ events
//!   NAME=VALUE)                                       ▼                          ▼
//!                        arena: where it lies    memory: what is live, initialised, writable
//!                                                     │
//!                                  cli, report ◄──────┘ coverage, violations
//! ```
//!
//! An interpreter needs [`bridge`] and [`memory`] alone: allocate, call, look at what changed.
//! [`prototype`], [`binding`], [`cli`] and [`report`] are the command line `ffitrace`.
//!
//! A program that embeds this crate should allocate from another allocator than libc's, as
//! `ffitrace` does: native code may be interrupted, or abandoned, inside `malloc`, and the
//! threads that serve it must still be able to allocate.

pub mod arena;
pub mod bench;
pub mod binding;
pub mod bridge;
pub mod cli;
pub mod ctype;
pub mod ffi;
pub mod memory;
pub mod prototype;
pub mod report;
