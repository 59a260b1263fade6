//! Native libraries and native calls.
//!
//! ```text
//!  LIBRARY ──dlopen──► Library ──function()──► Function { address, file offset }
//!  Prototype + Function ──► NativeCall ──trampoline──► ffi_call ──► native code
//!                                              └─────► RetValue
//! ```

mod call;
mod file_kind;
mod library;
mod near;
mod ret;

pub use call::{CallError, NativeCall, Trampoline};
pub use library::{Function, Library, LibraryError};
pub use near::near_names;
pub use ret::RetValue;

#[cfg(test)]
mod tests;
