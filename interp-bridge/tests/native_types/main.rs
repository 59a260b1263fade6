//! Types by value, with a C compiler as the judge: what `cc` passes and returns is what libffi
//! passes and returns after our description, byte for byte, in calls and in callbacks.
//!
//! ```text
//!  random types ──► C source ──cc──► lib.so ─┐
//!       └─────────► CType ──► NativeCall ────┴─► equal sizes, offsets, bytes
//! ```

mod aggregates;
#[path = "../common/mod.rs"]
mod common;
mod fixture;
mod many;
mod random;
mod scalars;
mod values;
mod variadic;
