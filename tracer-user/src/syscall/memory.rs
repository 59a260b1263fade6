//! Native code's memory as the kernel sees it: readable and writable, or not there.
//!
//! A structure that native code hands to a system call may lie anywhere, also where nothing is
//! mapped. The kernel would answer `EFAULT`, so it must not be a fault of ours. All copies are
//! therefore made by the kernel, with `process_vm_readv` and `process_vm_writev` on this process,
//! which any process may do. Arena memory is reached by its host view address.
//!
//! # Safety
//! [`store`] writes to memory only what the kernel would have written, and where: it is called
//! for fields of structures that native code handed to a system call to have them filled in, so
//! Rust holds no reference to them.
#![allow(unsafe_code)]

use crate::resume::safe::{self, Safe};

/// Pages are what is mapped or not. A chunk that does not cross a multiple of this is readable
/// as a whole or not at all.
const PAGE: u64 = 4096;

/// Fills `into` from `addr`; false if not all of it is readable.
pub(super) fn load(safe: Safe, addr: u64, into: &mut [u8]) -> bool {
    safe::read_memory(safe, safe::process_id(safe), addr, into) == into.len()
}

/// The 4 bytes at `addr`.
pub(super) fn load_u32(safe: Safe, addr: u64) -> Option<u32> {
    let mut bytes = [0; 4];
    load(safe, addr, &mut bytes).then(|| u32::from_le_bytes(bytes))
}

/// The 8 bytes at `addr`.
pub(super) fn load_u64(safe: Safe, addr: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    load(safe, addr, &mut bytes).then(|| u64::from_le_bytes(bytes))
}

/// Writes `bytes` to `addr`, for the kernel; false if not all of it is writable.
pub(super) fn store(safe: Safe, addr: u64, bytes: &[u8]) -> bool {
    let process = safe::process_id(safe);
    // SAFETY: native code handed this memory to a system call, to be written by it (module doc).
    unsafe { safe::write_memory(safe, process, addr, bytes) == bytes.len() }
}

/// The part of a string that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Text {
    /// Length in bytes, with the NUL if it was found.
    pub(super) len: u64,
    /// Whether it was.
    pub(super) ended: bool,
}

/// The string at `addr`, as far as its NUL or `limit` bytes. `None` if memory ends before.
pub(super) fn text(safe: Safe, addr: u64, limit: u64) -> Option<Text> {
    let mut chunk = [0u8; 256];
    let mut seen = 0;
    while seen < limit {
        let at = addr.checked_add(seen)?;
        let here = (limit - seen).min(chunk.len() as u64).min(PAGE - at % PAGE) as usize;
        if !load(safe, at, &mut chunk[..here]) {
            return None;
        }
        if let Some(nul) = chunk[..here].iter().position(|byte| *byte == 0) {
            return Some(Text {
                len: seen + nul as u64 + 1,
                ended: true,
            });
        }
        seen += here as u64;
    }
    Some(Text {
        len: limit,
        ended: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::Mapping;

    fn found(len: u64) -> Option<Text> {
        Some(Text { len, ended: true })
    }

    #[test]
    fn reads_what_is_mapped() {
        let safe = Safe::promise();
        let mapping = Mapping::stack(4096).unwrap();
        let page = mapping.addr() + 4096;
        assert!(store(safe, page + 1, b"hello"));
        assert_eq!(text(safe, page + 1, 100), found(6));
        assert_eq!(text(safe, page + 1, 6), found(6));
        for limit in [0, 1, 5] {
            let cut = Text {
                len: limit,
                ended: false,
            };
            assert_eq!(text(safe, page + 1, limit), Some(cut));
        }
        assert_eq!(load_u32(safe, page), Some(u32::from_le_bytes(*b"\0hel")));
        assert_eq!(load_u64(safe, page - 4), None);
        assert!(!store(safe, page - 4, b"guard page"));
        assert!(!load(safe, 8, &mut [0; 4]));
        assert_eq!(text(safe, page - 1, 10), None);
    }

    #[test]
    fn strings_may_end_at_the_edge() {
        let safe = Safe::promise();
        let mapping = Mapping::shared(8192).unwrap();
        assert!(store(safe, mapping.addr(), &[b'x'; 8192]));
        let cut = text(safe, mapping.addr() + 100, 8000).unwrap();
        assert!(cut.len == 8000 && !cut.ended);
        assert!(store(safe, mapping.addr() + 8191, &[0]));
        assert_eq!(text(safe, mapping.addr() + 5000, 8000), found(3192));
    }
}
