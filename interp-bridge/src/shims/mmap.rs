//! `mmap` and `munmap` of anonymous private memory, for an interpreted program.
//!
//! ```text
//!  mmap(_, 5000, RW, PRIVATE|ANONYMOUS, -1, 0)  ──► 8192 zero bytes at a page of the arena
//!  munmap(that, 5000)                           ──► freed, by munmap
//!  munmap(that, 4096)                           ──► a violation: part of a mapping
//! ```
//!
//! A mapping is one allocation, so what can be done with it is what can be done with one: it
//! comes and goes as a whole, is readable and writable, and its place is ours to choose.

use libc::{
    MAP_ANONYMOUS, MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE,
};

use crate::{
    arena::{ArenaError, MAX_SIZE},
    memory::{
        AllocId, AllocKind, AllocRequest, Allocation, Freer, Init, Memory, MemoryError, Violation,
        ViolationKind,
    },
};

/// Bytes of a page.
pub const PAGE: u64 = 4096;

/// The arguments of `mmap(2)`, as the program passed them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MmapCall {
    /// Where the program would like it to be: a hint, which is not taken.
    pub addr: u64,
    /// Length in bytes.
    pub length: u64,
    /// `PROT_*`.
    pub prot: i32,
    /// `MAP_*`.
    pub flags: i32,
    /// A file, or -1.
    pub fd: i32,
    /// Offset in the file.
    pub offset: i64,
}

/// What the real function could do and this one cannot. An interpreter reports it as "not
/// supported", and ends its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsupported {
    /// A place of the program's choice.
    #[error("mmap with MAP_FIXED is not supported: the interpreter places mappings; leave it out")]
    Fixed,
    /// A file.
    #[error(
        "mmap of a file (descriptor {0}) is not supported: map anonymous memory and read the file \
         into it"
    )]
    File(i32),
    /// A protection other than `PROT_READ|PROT_WRITE`.
    #[error("mmap with protection {0:#x} is not supported: only PROT_READ|PROT_WRITE is")]
    Protection(i32),
    /// Flags other than `MAP_PRIVATE|MAP_ANONYMOUS`.
    #[error("mmap with flags {0:#x} is not supported: only MAP_PRIVATE|MAP_ANONYMOUS is")]
    Flags(i32),
    /// An offset.
    #[error("mmap with offset {0} is not supported: anonymous memory has none; pass 0")]
    Offset(i64),
}

/// What an error means for the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The function fails, and sets `errno` to this.
    Errno(i32),
    /// The interpreter cannot go on.
    Unsupported,
    /// The program has undefined behaviour.
    Undefined(Box<Violation>),
}

/// Why there is no mapping.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MmapError {
    /// Both of `MAP_PRIVATE` and `MAP_SHARED`, or neither: `EINVAL`.
    #[error("mmap wants exactly one of MAP_PRIVATE and MAP_SHARED (EINVAL)")]
    Sharing,
    /// No bytes: `EINVAL`.
    #[error("mmap of 0 bytes (EINVAL)")]
    Empty,
    /// The length, in whole pages, is beyond the address space: `EINVAL`.
    #[error("mmap of {0} bytes, which in whole pages are beyond the address space (EINVAL)")]
    TooLong(u64),
    /// The memory has no room for it: `ENOMEM`.
    #[error("mmap of {length} bytes: {source} (ENOMEM)")]
    NoMemory {
        /// Length asked for, in bytes.
        length: u64,
        /// Why not.
        source: ArenaError,
    },
    /// Only the real function could.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// The interpreter's memory failed.
    #[error(transparent)]
    Memory(MemoryError),
}

impl MmapError {
    /// What it means for the program: `MAP_FAILED` with an `errno`, or the end.
    pub fn fate(&self) -> Fate {
        match self {
            MmapError::Sharing | MmapError::Empty | MmapError::TooLong(_) => {
                Fate::Errno(libc::EINVAL)
            }
            MmapError::NoMemory { .. } => Fate::Errno(libc::ENOMEM),
            MmapError::Unsupported(_) | MmapError::Memory(_) => Fate::Unsupported,
        }
    }
}

/// Why nothing was unmapped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MunmapError {
    /// The address is not that of a page: `EINVAL`.
    #[error("munmap at {0:#x}, which is not the address of a page (EINVAL)")]
    Unaligned(u64),
    /// No bytes: `EINVAL`.
    #[error("munmap of 0 bytes (EINVAL)")]
    Empty,
    /// The length, in whole pages, is beyond the address space: `EINVAL`.
    #[error("munmap of {0} bytes, which in whole pages are beyond the address space (EINVAL)")]
    TooLong(u64),
    /// Not a whole mapping, no mapping, or one that was unmapped before: undefined behaviour.
    #[error("{}", .0.message)]
    Undefined(Box<Violation>),
    /// The interpreter's memory failed.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

impl MunmapError {
    /// What it means for the program: -1 with an `errno`, or the end.
    pub fn fate(&self) -> Fate {
        match self {
            MunmapError::Unaligned(_) | MunmapError::Empty | MunmapError::TooLong(_) => {
                Fate::Errno(libc::EINVAL)
            }
            MunmapError::Undefined(violation) => Fate::Undefined(violation.clone()),
            MunmapError::Memory(_) => Fate::Unsupported,
        }
    }
}

/// Maps whole pages of zeros and returns their allocation, of kind [`AllocKind::Mmap`], whose
/// address is what the program gets.
///
/// # Errors
///
/// As the kernel would, or by name what is not supported; [`MmapError::fate`] tells which.
pub fn mmap(memory: &mut Memory, call: &MmapCall) -> Result<AllocId, MmapError> {
    let sharing = call.flags & (MAP_PRIVATE | MAP_SHARED);
    if sharing != MAP_PRIVATE && sharing != MAP_SHARED {
        return Err(MmapError::Sharing);
    }
    if call.length == 0 {
        return Err(MmapError::Empty);
    }
    let size = whole_pages(call.length).ok_or(MmapError::TooLong(call.length))?;
    if call.flags & (MAP_FIXED | MAP_FIXED_NOREPLACE) != 0 {
        return Err(Unsupported::Fixed.into());
    }
    // Without MAP_ANONYMOUS the descriptor is used, whatever it is; with it, it should be -1.
    if call.flags & MAP_ANONYMOUS == 0 || call.fd != -1 {
        return Err(Unsupported::File(call.fd).into());
    }
    if call.prot != PROT_READ | PROT_WRITE {
        return Err(Unsupported::Protection(call.prot).into());
    }
    if call.flags != MAP_PRIVATE | MAP_ANONYMOUS {
        return Err(Unsupported::Flags(call.flags).into());
    }
    if call.offset != 0 {
        return Err(Unsupported::Offset(call.offset).into());
    }
    let request = AllocRequest {
        size,
        align: PAGE,
        init: Init::Zeroed,
        kind: AllocKind::Mmap,
        ..AllocRequest::default()
    };
    let no_memory = |source| MmapError::NoMemory {
        length: call.length,
        source,
    };
    if size > MAX_SIZE {
        return Err(no_memory(ArenaError::TooLarge(size)));
    }
    memory.allocate(&request).map_err(|error| match error {
        MemoryError::Arena(source @ ArenaError::Full { .. }) => no_memory(source),
        other => MmapError::Memory(other),
    })
}

/// Unmaps a whole mapping, whose allocation is then freed by [`Freer::Unmapped`]. `addr` is that
/// of either view.
///
/// # Errors
///
/// As the kernel would. What is not exactly a live mapping is [`MunmapError::Undefined`]: the
/// kernel would unmap what is there, but a part of an allocation cannot go, nor one that is no
/// mapping, and unmapping nothing is a mistake (a mapping unmapped twice). The violation is not
/// logged; that is for the interpreter to do.
pub fn munmap(memory: &mut Memory, addr: u64, length: u64) -> Result<AllocId, MunmapError> {
    if !addr.is_multiple_of(PAGE) {
        return Err(MunmapError::Unaligned(addr));
    }
    if length == 0 {
        return Err(MunmapError::Empty);
    }
    let too_long = || MunmapError::TooLong(length);
    let size = whole_pages(length).ok_or_else(too_long)?;
    let native = memory.arena().to_native(addr).unwrap_or(addr);
    native.checked_add(size).ok_or_else(too_long)?;
    let place = memory.locate(native);
    let there = place.and_then(|place| memory.get(place.allocation));
    // The nearest is not it: only what the range touches explains the mistake.
    let touched = there.filter(|it| it.base() < native + size && native < it.end());
    if let Some(mapping) = touched.filter(|it| is_mapping(it) && it.base() == native)
        && mapping.size() == size
    {
        let id = mapping.id();
        memory.free_by(id, Freer::Unmapped)?;
        return Ok(id);
    }
    Err(MunmapError::Undefined(Box::new(undefined(
        addr, native, size, touched,
    ))))
}

fn is_mapping(allocation: &Allocation) -> bool {
    allocation.is_live() && allocation.kind() == AllocKind::Mmap && !allocation.is_external()
}

fn undefined(addr: u64, native: u64, size: u64, there: Option<&Allocation>) -> Violation {
    let what = format!("munmap of {size} bytes at {addr:#x}");
    let message = match there {
        None => format!("{what}, where nothing is mapped"),
        Some(it) if !it.is_live() => {
            let freer = it.freed().map(|freer| freer.to_string());
            let title = it.title();
            format!(
                "{what}: {title} was freed already{}",
                freer.unwrap_or_default()
            )
        }
        Some(it) if it.kind() != AllocKind::Mmap => {
            format!("{what}: {} is no mapping, but {}", it.title(), it.kind())
        }
        Some(it) if it.base() <= native && native + size <= it.end() => format!(
            "{what}, a part of the mapping {}: it can only be unmapped as a whole",
            it.title()
        ),
        Some(it) => format!(
            "{what}, more than the mapping {} at {:#x}",
            it.title(),
            it.base()
        ),
    };
    Violation {
        kind: ViolationKind::InvalidFree,
        access: None,
        certain: true,
        addr,
        size,
        allocation: there.map(Allocation::id),
        allocation_name: there.and_then(|it| it.name().map(str::to_owned)),
        offset: there.map(|it| native.wrapping_sub(it.base()) as i64),
        ip: 0,
        tid: 0,
        seq: None,
        message,
    }
}

/// The length in whole pages, if that is in the address space.
fn whole_pages(length: u64) -> Option<u64> {
    length
        .checked_next_multiple_of(PAGE)
        .filter(|size| *size <= i64::MAX as u64)
}

#[cfg(test)]
mod tests;
