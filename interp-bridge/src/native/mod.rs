//! Native memory made visible: what native code allocates and hands over, and static data.
//!
//! ```text
//!  library ── call malloc ─► slot (GOT) ─► our entry ─► hook ─► the interpreter's side, at the gate
//!                              ▲                                  │
//!     NativeHeapWatch::begin ──┘ writes it          Arena: an allocation of kind native heap,
//!     ended: put back                                      in the arena, every byte recorded
//!                                                   Observe: real malloc, registered as external
//!  library ── call free ───► … the heap knows it? ─► given back,  or double_free,
//!                                                    mismatched_free, invalid_free
//! ```
//!
//! Calls are seen where a library makes them through its import slots, which covers
//! the library that was named and those dependencies that came with it; the C library, the loader
//! and the program's own objects are never touched, and no code is changed. What is not covered
//! is named ([`Coverage`]): libraries that native code loads by itself, functions that it looks
//! up by `dlsym`, and what constructors of the library kept from before the watching began.
//!
//! What native code hands over can be read and written through the abstract memory by the id of
//! its allocation, and [given back](NativeHeapWatch::release). Where the heap is not watched, the
//! interpreter registers it itself ([`Memory::register_external`](crate::memory::Memory)).
//!
//! Memory that libc allocates by itself for its callers (`getline`, `asprintf`, `realpath`) lies
//! on the real heap and is passed on to the real `free`. Of the functions that resize or free
//! their caller's block inside libc `getline` and `getdelim` are covered; `argz_*` and `envz_*`
//! are not, and must not be given memory of the arena.
//!
//! Accesses of native code to memory outside of the arena are not recorded, for its pages are not
//! protected: to blocks in [`NativeHeapMode::Observe`], mappings, and [static data](statics). The
//! interpreter reads and writes those through the abstract memory, where they are external
//! allocations.
//!
//! Calls that are not made in a native call pass through: those of a library's constructors and
//! destructors, and of its signal handlers on the interpreter's own threads. There `malloc` is the
//! real one, and `free` of memory in the arena has no effect.
//!
//! Code that runs outside of calls has nobody who resumes its accesses to the arena: destructors
//! of a library that still has memory there must not run.
//!
//! The arena needs the process that has it: a child that native code forks can use the heap that
//! it allocates anew, but not what its parent has in the arena.

mod active;
mod blame;
mod call_site;
mod external;
mod foreign;
mod functions;
mod heap;
mod hooks;
mod host;
mod interpose;
mod maps;
mod objects;
mod patch;
mod real;
mod record;
mod request;
mod slots;
pub mod statics;
mod waiting;
mod watch;
mod words;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use functions::{Family, Function};
pub use interpose::{Coverage, InterposeError};
pub use record::{Caller, NativeAllocation, Place, Totals};
pub use request::ReleaseError;
pub use slots::SlotsError;
pub use watch::{NativeHeapMode, NativeHeapWatch};
