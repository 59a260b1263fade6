//! System functions that an interpreter does itself, so that what its program asks of them happens
//! to the interpreter's memory and not to the process.
//!
//! ```text
//!  interpreted program ──► mmap(…) ──► shims::mmap ──► Memory: a zeroed allocation of whole pages
//!                              │
//!                              ├─ as the kernel says no: an error with its errno
//!                              ├─ what only the real one could do: refused by name
//!                              └─ undefined behaviour: a violation
//! ```
//!
//! They serve what allocators of interpreted programs do. Arguments are numbers as the program
//! passed them; a result is what the program gets.

mod mmap;

pub use mmap::{Fate, MmapCall, MmapError, MunmapError, PAGE, Unsupported, mmap, munmap};
