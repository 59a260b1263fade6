//! What native code is called with: `NAME=VALUE` bindings turned into a [`Plan`].
//!
//! ```text
//!  'crc=0' 'buf=@README.md' 'len=len(buf)'
//!      │ syntax.rs  text to value.rs: scalar, buffer, reference, braces
//!      │ scalar.rs  numbers checked against the parameter's type
//!      │ names.rs   which name refers to what; sizes.rs  len(NAME)
//!      ▼ resolve.rs each parameter its argument, each buffer its mutability
//!  Plan { buffers, args }     no address in it yet: the engine allocates
//! ```
//!
//! | value | meaning |
//! |---|---|
//! | `42` `-1` `0x10` `1.5` `true` `'a'` `null` `RED` | a scalar; names are enumeration constants |
//! | `len(NAME)`, `len(NAME)+1`, `len(NAME)/4` | size of a buffer in bytes, with one operation |
//! | `str:hello` `bytes:hello` `hex:00ff` `@FILE` | a buffer with content (`str:` adds the NUL) |
//! | `zero:64` `uninit:64k` | a buffer of a size; `k`, `M`, `G` are powers of 1024 |
//! | `u32:1,2,3` (`i8` … `u64`, `f32`, `f64`) | a buffer of numbers |
//! | `ptr:&a,&b+4,null` | a buffer of pointers |
//! | `{1,2}` `{.x=1,.y={2,3}}` | a struct by value; for a pointer to a struct, a buffer with it |
//! | `&NAME` `&NAME+8` `&NAME-1` | a pointer into another parameter's buffer |
//!
//! A buffer is read-only for native code if everything that points to it is a pointer to const;
//! `mut:` before its value makes it writable, `freed:` has it freed before the call. A name that
//! is no parameter is a further buffer, and something must refer to it.

mod content;
mod error;
mod example;
mod names;
mod number;
mod resolve;
mod scalar;
mod sizes;
mod syntax;
mod value;

#[cfg(test)]
mod tests;

pub use error::BindingError;
pub use example::examples;
pub(crate) use number::char_value;
pub use resolve::plan;

/// The nearest of `known`, for "did you mean".
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    crate::ffi::near_names(name, known).into_iter().next()
}

/// Largest buffer in bytes: what the arena takes as one allocation.
pub const MAX_BUFFER: u64 = 512 << 20;

/// Alignment of every buffer in bytes, as `malloc` gives it.
pub const BUFFER_ALIGN: u64 = 16;

/// Everything that one call needs but addresses.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Buffers to allocate, parameters' first, in the prototype's order.
    pub buffers: Vec<BufferSpec>,
    /// One value for each parameter, in order.
    pub args: Vec<ArgValue>,
}

/// A buffer to allocate.
#[derive(Clone, Debug, PartialEq)]
pub struct BufferSpec {
    /// The name it is bound to.
    pub name: String,
    /// Size and content.
    pub init: BufferInit,
    /// Whether native code may write to it.
    pub mutable: bool,
    /// Whether it is freed before the call, so that native code gets a dangling pointer.
    pub freed: bool,
    /// Alignment in bytes, a power of two.
    pub align: u64,
    /// Pointers to store into the content once addresses are known. They overlap no other, lie
    /// inside the content, and the bytes there are zero until then.
    pub pointers: Vec<PointerAt>,
}

/// Size and first content of a buffer. Only [`BufferInit::Bytes`] takes memory here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BufferInit {
    /// So many bytes, none of them initialised.
    Uninit(u64),
    /// So many bytes, all zero.
    Zeroed(u64),
    /// These bytes.
    Bytes(Vec<u8>),
}

impl BufferInit {
    /// Size in bytes.
    pub fn len(&self) -> u64 {
        match self {
            BufferInit::Uninit(len) | BufferInit::Zeroed(len) => *len,
            BufferInit::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// Whether the size is zero.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A pointer to a place in a buffer, to be stored eight bytes wide at an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PointerAt {
    /// Offset in bytes at which to store it.
    pub at: u64,
    /// Index of the buffer pointed to, in [`Plan::buffers`].
    pub buffer: usize,
    /// Distance in bytes from the buffer's first byte; may lie outside the buffer.
    pub offset: i64,
}

/// An argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArgValue {
    /// A number, truth value, or raw address (0 is null): its bits, in the low bytes.
    Scalar(u128),
    /// A pointer into a buffer.
    PointerTo {
        /// Index in [`Plan::buffers`].
        buffer: usize,
        /// Distance in bytes from the buffer's first byte; may lie outside the buffer.
        offset: i64,
    },
    /// A struct by value.
    Struct {
        /// Its bytes as in memory, padding zero.
        bytes: Vec<u8>,
        /// Pointers to store into them.
        pointers: Vec<PointerAt>,
    },
}
