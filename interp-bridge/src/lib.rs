//! The interpreter bridge of ffitrace: an interpreter's memory, native calls, callbacks, and what
//! native code did to that memory.
//!
//! ```text
//!   interpreter ──► bridge::Bridge ──► tracer-user's session ──► native code
//!     │  ▲            │ call, invoke                               │  accesses, in order
//!     │  └─ callback ◄┼────────────────────────────────────────────┤
//!     ▼               ▼                                            │
//!   memory::Memory ◄── apply ◄─────────────────────────────────────┘
//!   live, initialised, pointers, exposed; violations ──► diagnosis: names, lines, stacks
//! ```
//!
//! | for an interpreter | module |
//! |---|---|
//! | allocations: what is initialised, what points where, what was exposed | [`memory`], in the [`arena`] |
//! | native calls, timeouts, stopping at the first violation | [`bridge`] |
//! | types, values, signatures, libraries | [`ctype`], [`ffi`], [`prototype`] (parsed from C) |
//! | functions that native code calls back | [`callback`] |
//! | what was wrong, for people and for programs | [`diagnosis`] |
//! | the library's own heap, memory that it hands over, its static data | [`native`] |
//! | `mmap` of an interpreted program | [`shims`] |
//! | Lua with LuaJIT's FFI, an interpreter on all of this | [`lua`] |
//! | a tracer in the shape of Miri's | [`door`] |
//!
//! `docs/guide.md` builds an interpreter of a hundred lines on it. [`binding`], [`cli`], [`report`]
//! and [`bench`](mod@bench) are the command line `ffitrace`.
//!
//! A program that embeds this crate should allocate from another allocator than libc's, as
//! `ffitrace` does: native code may be interrupted, or abandoned, inside `malloc`, and the
//! threads that serve it must still be able to allocate.

pub mod arena;
pub mod bench;
pub mod binding;
pub mod bridge;
pub mod callback;
pub mod cli;
pub mod ctype;
pub mod diagnosis;
pub mod door;
pub mod ffi;
pub mod lua;
pub mod memory;
pub mod native;
pub mod prototype;
pub mod report;
pub mod shims;

#[cfg(test)]
mod planted;
