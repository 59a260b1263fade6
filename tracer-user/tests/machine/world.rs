//! The memory that the oracle runs instructions on.
//!
//! ```text
//!   0e00_0000 outside, 0f00_0000 code    1000_0000 arena: native view   5000_0000 host view
//!                       zones, 64 pages each           the same memory
//! ```
//! All of it lies low, so that absolute and 32-bit addresses reach it. Pages of the native view
//! and outside are opened one by one, to exactly what an instruction is said to need.
//!
//! # Safety
//! The mappings are at fixed addresses that were free, live as long as the process and are used
//! through raw pointers only; code is written through another mapping than it runs in.
#![allow(unsafe_code)]

use std::os::fd::AsRawFd;

use tracer_ebpf::{DELTA, Session};
use tracer_user::shadow::{Shadow, ShadowView};

use crate::hardware::landing;

/// Page size.
pub(crate) const PAGE: u64 = 4096;
/// Pages of a zone.
pub(crate) const ZONE_PAGES: u64 = 64;
/// Where the arena begins.
pub(crate) const ARENA: u64 = 0x1000_0000;
/// Offset of the first zone in the arena; below it is the guard that a session tests itself on.
const ZONES_AT: u64 = 0x10_0000;
/// Zones of the arena.
const ARENA_ZONES: u64 = 4;
/// Ordinary memory, a zone that is not in the arena.
const OUTSIDE: u64 = 0x0e00_0000;
const CODE: u64 = 0x0f00_0000;
const CODE_LEN: u64 = 0x1_0000;
/// Where in the code the instruction, its copy, and the jump to the landing are.
const COPY_AT: u64 = 0x8000;
const STUB_AT: u64 = 0xe000;
/// A jump to the landing that 16 bits reach.
const NEAR_STUB: u64 = 0x8000;

/// A zone of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Zone {
    pub(crate) base: u64,
    pub(crate) native: bool,
}

/// See the module.
pub(crate) struct World {
    code: *mut u8,
    /// Pages that are open, with their protection.
    open: std::cell::RefCell<Vec<(u64, i32)>>,
    near_stub: bool,
}

fn map(at: u64, len: u64, prot: i32, fd: i32) -> *mut u8 {
    let (fixed, share) = if fd < 0 {
        (
            libc::MAP_FIXED_NOREPLACE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        )
    } else {
        (libc::MAP_FIXED_NOREPLACE, libc::MAP_SHARED)
    };
    let fixed = if at == 0 { 0 } else { fixed };
    // SAFETY: MAP_FIXED_NOREPLACE takes only what is free.
    let got = unsafe {
        libc::mmap(
            at as *mut _,
            len as usize,
            prot,
            fixed | share | libc::MAP_NORESERVE,
            fd,
            0,
        )
    };
    if got == libc::MAP_FAILED || at != 0 && got as u64 != at {
        return std::ptr::null_mut();
    }
    got.cast()
}

fn memfd(len: u64) -> std::os::fd::OwnedFd {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let fd = rustix::fs::memfd_create("ffitrace-oracle", flags).expect("memfd_create");
    rustix::fs::ftruncate(&fd, len).expect("ftruncate");
    fd
}

impl World {
    /// Maps everything. Once in a process.
    pub(crate) fn new() -> World {
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        let must = |at: *mut u8, what: &str| {
            assert!(!at.is_null(), "cannot map {what}");
            at
        };
        let arena = memfd(DELTA);
        must(
            map(ARENA, DELTA, libc::PROT_NONE, arena.as_raw_fd()),
            "the native view",
        );
        must(
            map(ARENA + DELTA, DELTA, rights, arena.as_raw_fd()),
            "the host view",
        );
        let outside = memfd(ZONE_PAGES * PAGE);
        let len = ZONE_PAGES * PAGE;
        must(
            map(OUTSIDE, len, libc::PROT_NONE, outside.as_raw_fd()),
            "outside",
        );
        must(
            map(OUTSIDE + len, len, rights, outside.as_raw_fd()),
            "outside, once more",
        );
        let code = memfd(CODE_LEN);
        let run = libc::PROT_READ | libc::PROT_EXEC;
        must(map(CODE, CODE_LEN, run, code.as_raw_fd()), "code");
        let write = must(map(0, CODE_LEN, rights, code.as_raw_fd()), "code, writable");
        // Only a system that lets programs map low pages has this one.
        let near = map(NEAR_STUB, PAGE, rights | libc::PROT_EXEC, -1);
        let world = World {
            code: write,
            open: std::cell::RefCell::new(Vec::new()),
            near_stub: !near.is_null(),
        };
        let stub = leave_to(landing());
        world.put(STUB_AT, &stub);
        if world.near_stub {
            // SAFETY: just mapped, and larger than the stub.
            unsafe { std::ptr::copy_nonoverlapping(stub.as_ptr(), near, stub.len()) };
        }
        world
    }

    /// The arena.
    pub(crate) fn session(&self) -> Session {
        Session {
            arena_base: ARENA,
            arena_len: 2 * DELTA,
        }
    }

    /// A view of the shadow for a session over the arena.
    pub(crate) fn shadow(&self, shadow: &Shadow) -> ShadowView {
        // SAFETY: the caller keeps the shadow for as long as the session lives.
        unsafe { shadow.view() }
    }

    /// Zones of the arena, and after them one outside.
    pub(crate) fn zones(&self) -> Vec<Zone> {
        (0..ARENA_ZONES)
            .map(|i| Zone {
                base: ARENA + ZONES_AT + i * ZONE_PAGES * PAGE,
                native: true,
            })
            .chain([Zone {
                base: OUTSIDE,
                native: false,
            }])
            .collect()
    }

    /// The zone that all of `len` bytes at `addr` lie in.
    pub(crate) fn zone_of(&self, addr: u64, len: u64) -> Option<usize> {
        self.zones().iter().position(|zone| {
            let offset = addr.wrapping_sub(zone.base);
            offset < ZONE_PAGES * PAGE && offset + len <= ZONE_PAGES * PAGE
        })
    }

    /// Where the same bytes can always be read and written.
    fn always(&self, addr: u64) -> *mut u8 {
        let distance = if addr.wrapping_sub(ARENA) < DELTA {
            DELTA
        } else {
            assert!(addr.wrapping_sub(OUTSIDE) < ZONE_PAGES * PAGE);
            ZONE_PAGES * PAGE
        };
        (addr + distance) as *mut u8
    }

    /// Copies bytes in, whatever the protection.
    pub(crate) fn write(&self, addr: u64, bytes: &[u8]) {
        // SAFETY: zones are contiguous in both mappings; nothing refers to them.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.always(addr), bytes.len()) };
    }

    /// Copies bytes out, whatever the protection.
    pub(crate) fn read(&self, addr: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        // SAFETY: as in `write`.
        unsafe { std::ptr::copy_nonoverlapping(self.always(addr), bytes.as_mut_ptr(), len) };
        bytes
    }

    /// Opens exactly these pages, each with its protection.
    pub(crate) fn open(&self, pages: &[(u64, i32)]) {
        let mut open = self.open.borrow_mut();
        for (page, _) in open.iter() {
            if !pages.iter().any(|(wanted, _)| wanted == page) {
                protect(*page, libc::PROT_NONE);
            }
        }
        for entry in pages {
            if !open.contains(entry) {
                protect(entry.0, entry.1);
            }
        }
        open.clear();
        open.extend_from_slice(pages);
    }

    fn put(&self, offset: u64, bytes: &[u8]) -> u64 {
        assert!(offset + bytes.len() as u64 <= CODE_LEN);
        // SAFETY: in bounds of the writable mapping; nothing runs there now.
        unsafe {
            let to = self.code.add(offset as usize);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
        CODE + offset
    }

    /// Puts an instruction at `rip`, followed by a jump to the landing.
    pub(crate) fn put_instruction(&self, rip: u64, bytes: &[u8]) {
        let mut code = bytes.to_vec();
        code.extend(leave_to(landing()));
        self.put(rip - CODE, &code);
    }

    /// Puts a displaced copy somewhere and returns where.
    pub(crate) fn put_copy(&self, bytes: &[u8]) -> u64 {
        self.put(COPY_AT, bytes)
    }

    /// An address for an instruction, 0 to 4095 bytes into the code.
    pub(crate) fn code_at(&self, offset: u64) -> u64 {
        CODE + offset % PAGE
    }

    /// Address of a jump to the landing.
    pub(crate) fn stub(&self) -> u64 {
        CODE + STUB_AT
    }

    /// Address of a jump to the landing in the first 64 KiB, where the system has one.
    pub(crate) fn near_stub(&self) -> Option<u64> {
        self.near_stub.then_some(NEAR_STUB)
    }
}

/// `jmp [rip+0]` and the address.
fn leave_to(target: u64) -> Vec<u8> {
    let mut code = vec![0xff, 0x25, 0, 0, 0, 0];
    code.extend(target.to_le_bytes());
    code
}

fn protect(page: u64, prot: i32) {
    // SAFETY: a page of our own mappings, which nothing in Rust refers to.
    let result = unsafe { libc::mprotect(page as *mut _, PAGE as usize, prot) };
    assert_eq!(result, 0, "mprotect of {page:#x}");
}
