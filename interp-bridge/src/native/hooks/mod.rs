//! The functions that stand in for `malloc` and its like: what native code calls.
//!
//! ```text
//!  slot ─► entry (adds the return address) ─► hook ─► the heap in the arena? made there
//!                                                └─► real function, registered
//! ```
//!
//! The hook returns to native code. What hooks do on native code's behalf in its own memory
//! (`strdup` reads the string, `posix_memalign` writes the pointer) is done outside of
//! [`Active::with`](super::active::Active::with), and so is recorded as accesses of native code,
//! like all else that is called.
//!
//! # Safety
//! Hooks are called as the functions that they stand in for, and hand on the pointers that they
//! are given under the same promises. A hook may be left in the middle of `Active::with`, when the
//! native call ends: nothing that has to be dropped is alive then, but for lists that are leaked.
//! No C++ exception passes a frame of Rust: `operator new` that fails jumps to the real one, which
//! throws.

mod c;
mod entries;
mod lines;
mod maps;
mod operators;
mod resize;
mod strings;

pub(super) use entries::entry;
