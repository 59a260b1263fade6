//! What is asked of the memory, and what it keeps of the asking: kind, origin, who frees.

use std::fmt;

/// Names an allocation for ever: numbers are not reused.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct AllocId(pub(super) u64);

impl AllocId {
    /// The id with this number, for an interpreter that keeps its own memory and numbers its
    /// own allocations. [`Memory`](super::Memory) takes none but its own.
    pub fn from_number(number: u64) -> AllocId {
        AllocId(number)
    }

    /// The number: 0 for the first allocation of a memory.
    pub fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for AllocId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// What kind of memory an allocation is.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AllocKind {
    /// The interpreted program's heap.
    #[default]
    Heap,
    /// A local variable of the interpreted program.
    Stack,
    /// A global of the interpreted program.
    Global,
    /// A mapping that the interpreted program asked for.
    Mmap,
    /// Memory that native code allocated (`malloc` and the like).
    NativeHeap,
    /// Static data of a native library.
    LibraryStatic,
}

impl AllocKind {
    /// What messages call it.
    pub fn words(self) -> &'static str {
        match self {
            AllocKind::Heap => "heap memory",
            AllocKind::Stack => "a local variable",
            AllocKind::Global => "a global",
            AllocKind::Mmap => "a mapping",
            AllocKind::NativeHeap => "native heap memory",
            AllocKind::LibraryStatic => "static data of a library",
        }
    }
}

impl fmt::Display for AllocKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

/// Who ended the life of an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Freer {
    /// The interpreter, for its program.
    Interpreter,
    /// Native code (`free` and the like).
    Native {
        /// Address of the instruction that asked for it.
        ip: u64,
        /// Kernel id of the thread that did.
        tid: u32,
    },
    /// It was unmapped.
    Unmapped,
}

impl fmt::Display for Freer {
    /// Goes after `was freed`: empty for the interpreter, else it begins with a space.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Freer::Interpreter => Ok(()),
            Freer::Native { ip, tid } => write!(f, " by native code at {ip:#x} (thread {tid})"),
            Freer::Unmapped => f.write_str(" by munmap"),
        }
    }
}

/// Where an allocation comes from, for messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Origin {
    /// What made it, in words: `malloc`, `strdup`, ``the static `table` of libz.so``.
    pub what: String,
    /// Address of the native instruction that asked for it, if one did.
    pub site: Option<u64>,
}

/// What a new allocation contains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Init<'a> {
    /// Nothing that may be relied on (zero bytes, in fact).
    #[default]
    Uninit,
    /// Zero bytes.
    Zeroed,
    /// These bytes, exactly as many as the allocation has.
    Bytes(&'a [u8]),
}

/// What is asked of [`Memory::allocate`](super::Memory::allocate). The default is no bytes of
/// uninitialised, mutable heap memory; `..AllocRequest::default()` fills in what does not matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocRequest<'a> {
    /// Name for messages, as the user knows it.
    pub name: Option<&'a str>,
    /// Size in bytes, 0 to [`MAX_SIZE`](crate::arena::MAX_SIZE).
    pub size: u64,
    /// A power of two up to [`MAX_ALIGN`](crate::arena::MAX_ALIGN).
    pub align: u64,
    /// Initial contents.
    pub init: Init<'a>,
    /// Whether native code may write it.
    pub mutable: bool,
    /// What kind of memory it is. Nothing but messages and shims depends on it.
    pub kind: AllocKind,
}

impl Default for AllocRequest<'_> {
    fn default() -> Self {
        AllocRequest {
            name: None,
            size: 0,
            align: 1,
            init: Init::Uninit,
            mutable: true,
            kind: AllocKind::Heap,
        }
    }
}

/// What is asked of [`Memory::register_external`](super::Memory::register_external): memory that
/// exists already, outside of the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExternalRequest<'a> {
    /// Name for messages.
    pub name: Option<&'a str>,
    /// Its real address.
    pub base: u64,
    /// Its size in bytes.
    pub size: u64,
    /// The alignment that was asked for, in bytes; for messages and comparisons only.
    pub align: u64,
    /// What kind of memory it is.
    pub kind: AllocKind,
    /// What made it: `malloc`, a file's name.
    pub origin: &'a str,
    /// Address of the native instruction that asked for it, if one did.
    pub site: Option<u64>,
    /// Whether its bytes may be taken for initialised at once. What `malloc` just returned is
    /// not; but native code writes external memory unseen, so that after the next native call
    /// all of it may be.
    pub initialised: bool,
    /// Whether native code, and the interpreter's program, may write it.
    pub mutable: bool,
}
