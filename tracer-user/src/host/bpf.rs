//! Parts of eBPF, tried one by one: each is made as small as it can be, and closed again.
//!
//! # Safety
//!
//! `bpf(2)` is called with an attribute block that is initialised, and that outlives the call, as
//! what it points to does, which the kernel only reads. Descriptors that it returns are owned at once. The one mapping that is made is of a map
//! of this module, and removed at once.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::ptr;

use rustix::mm::{MapFlags, ProtFlags};

/// Commands and types of `linux/bpf.h`.
const MAP_CREATE: libc::c_long = 0;
const PROGRAM_LOAD: libc::c_long = 5;
const NO_COMMAND: libc::c_long = 0xffff;
const TYPE_ARRAY: u32 = 2;
const TYPE_HASH_OF_MAPS: u32 = 13;
const TYPE_RINGBUF: u32 = 27;
const FLAG_MMAPABLE: u32 = 1 << 10;

const TYPE_SOCKET_FILTER: u32 = 1;

const PAGE: u32 = 4096;

/// The beginning of `union bpf_attr` for `BPF_MAP_CREATE`; what follows is zero to the kernel.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
}

/// The same for `BPF_PROG_LOAD`.
#[repr(C)]
struct Program {
    program_type: u32,
    count: u32,
    instructions: u64,
    license: u64,
    /// Log level and size, log, kernel version and flags.
    rest: [u64; 3],
}

fn bpf<A>(command: libc::c_long, attributes: &A) -> io::Result<OwnedFd> {
    // SAFETY: the block is initialised, as long as the kernel is told, and outlives the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            ptr::from_ref(attributes),
            size_of::<A>(),
        )
    };
    match i32::try_from(fd) {
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether there is a `bpf` system call that this process may make at all. A command that no
/// kernel knows is refused as such if it is looked at.
pub(super) fn system_call() -> io::Result<()> {
    match bpf(NO_COMMAND, &Attributes::default()) {
        Err(error) if error.raw_os_error() != Some(libc::EINVAL) => Err(error),
        _ => Ok(()),
    }
}

/// A program that does nothing, of the plainest type.
pub(crate) fn plain_program() -> io::Result<()> {
    /// `r0 = 0; exit`.
    static INSTRUCTIONS: [u64; 2] = [0xb7, 0x95];
    static LICENSE: &[u8; 4] = b"MIT\0";
    let program = Program {
        program_type: TYPE_SOCKET_FILTER,
        count: 2,
        instructions: INSTRUCTIONS.as_ptr().expose_provenance() as u64,
        license: LICENSE.as_ptr().expose_provenance() as u64,
        rest: [0; 3],
    };
    bpf(PROGRAM_LOAD, &program).map(drop)
}

fn ring() -> io::Result<OwnedFd> {
    bpf(
        MAP_CREATE,
        &Attributes {
            map_type: TYPE_RINGBUF,
            max_entries: PAGE,
            ..Attributes::default()
        },
    )
}

/// A ring buffer.
pub(super) fn ring_buffer() -> io::Result<()> {
    ring().map(drop)
}

/// A map whose values are ring buffers.
pub(super) fn ring_maps() -> io::Result<()> {
    let inner = ring()?;
    let outer = Attributes {
        map_type: TYPE_HASH_OF_MAPS,
        key_size: 4,
        value_size: 4,
        max_entries: 1,
        inner_map_fd: inner.as_raw_fd().unsigned_abs(),
        ..Attributes::default()
    };
    bpf(MAP_CREATE, &outer).map(drop)
}

/// An array that is mapped into this process.
pub(super) fn mapped_array() -> io::Result<()> {
    let array = bpf(
        MAP_CREATE,
        &Attributes {
            map_type: TYPE_ARRAY,
            key_size: 4,
            value_size: PAGE,
            max_entries: 1,
            map_flags: FLAG_MMAPABLE,
            ..Attributes::default()
        },
    )?;
    let length = PAGE as usize;
    // SAFETY: a new mapping, removed at once; nothing reads it.
    unsafe {
        let base = rustix::mm::mmap(
            ptr::null_mut(),
            length,
            ProtFlags::READ,
            MapFlags::SHARED,
            &array,
            0,
        )?;
        rustix::mm::munmap(base, length)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::facts::Capabilities;

    #[test]
    fn a_process_with_privileges_can_have_all_parts() {
        type Trial = fn() -> io::Result<()>;
        let parts: [(&str, Trial); 5] = [
            ("system call", system_call),
            ("program", plain_program),
            ("ring buffer", ring_buffer),
            ("map of ring buffers", ring_maps),
            ("mapped array", mapped_array),
        ];
        let privileged = Capabilities::effective().missing_for_ebpf().is_empty();
        for (name, part) in parts {
            let tried = part();
            // Without them it is refused, and not because it was asked for wrongly.
            let refused = tried.as_ref().err().and_then(io::Error::raw_os_error);
            let expected = tried.is_ok() || (!privileged && refused == Some(libc::EPERM));
            assert!(expected, "{name}: {tried:?}");
        }
    }
}
