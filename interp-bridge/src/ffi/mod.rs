//! Native libraries and native calls.
//!
//! ```text
//!  LIBRARY ──dlopen──► Library ──function()──► Function { address, file offset }
//!  Signature ──► CallInterface (libffi) ──┐
//!  &[Value] ──marshal──► NativeCall ◄─────┘──trampoline──► ffi_call ──► native code
//!                              └──marshal──► Value, or what is wrong with it
//! ```
//!
//! [`CallInterface`] and [`marshal`] serve callbacks as well: libffi's closures have the same
//! signatures, and give and take values the same way round.

mod aggregate;
mod call;
mod cif;
mod error;
mod library;
mod long_double;
pub mod marshal;
mod near;
mod place;
mod ret;
mod signature;
mod value;

pub use call::{NativeCall, Trampoline};
pub use cif::CallInterface;
pub use error::{CallError, ValueError};
pub use library::{Function, Lease, Libraries, Library, LibraryError, Owner, Unloaded, Use, Uses};
pub use long_double::LongDouble;
pub use near::near_names;
pub use place::PlaceError;
pub use ret::RetValue;
pub use signature::Signature;
pub(crate) use signature::promoted;
pub use value::{Aggregate, Pointer, Provenance, Value};

#[cfg(test)]
mod tests;
