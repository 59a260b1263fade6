//! What may run in a signal handler.
//!
//! A handler interrupts native code anywhere: inside `malloc`, with any lock held. So nothing
//! reachable from it allocates, locks, or calls a libc function that might. The type [`Safe`]
//! shows it: only the handlers' entry points make one, and every function that they reach takes
//! it. A function without that parameter is not to be called from one that has it.
//!
//! # Safety
//! All calls are raw system calls with arguments checked by the kernel; those that write memory
//! write only to what the caller lends.
#![allow(unsafe_code)]

use std::sync::atomic::AtomicU32;

/// Proof that the holder keeps to the rules of a signal handler.
#[derive(Clone, Copy, Debug)]
pub struct Safe(());

impl Safe {
    /// For the entry of a signal handler, and for code outside of one that wants to call a
    /// function that keeps to the rules.
    pub fn promise() -> Safe {
        Safe(())
    }
}

/// Kernel id of this thread.
pub fn thread_id(_: Safe) -> u32 {
    // SAFETY: gettid takes nothing and cannot fail.
    unsafe { libc::syscall(libc::SYS_gettid) as u32 }
}

/// Sleeps until `word` is woken, unless it no longer holds `expected`, or for about a
/// millisecond. Works across processes. Callers loop and look for themselves.
pub fn wait(_: Safe, word: &AtomicU32, expected: u32) {
    let timeout = libc::timespec {
        tv_sec: 0,
        tv_nsec: 1_000_000,
    };
    // SAFETY: `word` and `timeout` outlive the call; FUTEX_WAIT only reads them.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            expected,
            &raw const timeout,
        )
    };
}

/// As [`wait`], without a time limit, for a thread with nothing else to do.
pub fn wait_idle(_: Safe, word: &AtomicU32, expected: u32) {
    // SAFETY: `word` outlives the call; FUTEX_WAIT only reads it. A null timeout is for ever.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            expected,
            std::ptr::null::<libc::timespec>(),
        )
    };
}

/// Wakes all who wait on `word`.
pub fn wake(_: Safe, word: &AtomicU32) {
    // SAFETY: FUTEX_WAKE uses the address only as a key.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}

/// Writes a byte to the pipe `fd`, which does not block; a full or invalid one is left as it is.
pub fn notify(_: Safe, fd: i32) {
    let one = 1u8;
    // SAFETY: one byte is read from `one`.
    unsafe { libc::syscall(libc::SYS_write, fd, &raw const one, 1) };
}

/// Sends `signal` to thread `tid` of this process.
pub fn signal_thread(_: Safe, tid: u32, signal: i32) {
    // SAFETY: tgkill takes numbers only.
    unsafe {
        let process = libc::syscall(libc::SYS_getpid);
        libc::syscall(libc::SYS_tgkill, process, tid, signal);
    }
}

/// Copies memory of process `pid` at `from` into `to` and returns how many bytes were readable
/// (up to the first page that is not).
pub fn read_memory(_: Safe, pid: i32, from: u64, to: &mut [u8]) -> usize {
    let local = libc::iovec {
        iov_base: to.as_mut_ptr().cast(),
        iov_len: to.len(),
    };
    // The kernel stops at the first bad page only between vectors of the remote side, so the
    // range is handed over in two: up to the page's end, and the rest.
    let first = (4096 - (from as usize & 4095)).min(to.len());
    let remote = [
        libc::iovec {
            iov_base: from as *mut libc::c_void,
            iov_len: first,
        },
        libc::iovec {
            iov_base: from.wrapping_add(first as u64) as *mut libc::c_void,
            iov_len: to.len() - first,
        },
    ];
    // SAFETY: the kernel writes only into `to`, through `local`; bad remote addresses fail.
    // The counts and flags are given as 64 bits: `syscall` is variadic, and the upper half of a
    // narrower argument on the stack is undefined.
    let got = unsafe {
        libc::syscall(
            libc::SYS_process_vm_readv,
            i64::from(pid),
            &raw const local,
            1u64,
            remote.as_ptr(),
            2u64,
            0u64,
        )
    };
    usize::try_from(got).unwrap_or(0)
}

/// Process id of this process.
pub fn process_id(_: Safe) -> i32 {
    // SAFETY: getpid takes nothing and cannot fail.
    unsafe { libc::syscall(libc::SYS_getpid) as i32 }
}

/// Ends this process at once, with nothing run or flushed.
pub fn end_process(_: Safe, status: i32) -> ! {
    // SAFETY: takes a number and does not return.
    unsafe { libc::_exit(status) }
}

/// Changes the protection of `len` bytes at `addr`; returns false where the kernel refuses.
///
/// # Safety
/// The range must be native view: nothing in Rust refers to it.
pub unsafe fn protect(_: Safe, addr: u64, len: u64, prot: i32) -> bool {
    // SAFETY: by the caller's promise no Rust reference depends on the range's protection.
    unsafe { libc::syscall(libc::SYS_mprotect, addr, len, prot) == 0 }
}

/// Base of the `fs` and `gs` segments of this thread (`arch_prctl(2)`).
pub fn segment_bases(_: Safe) -> (u64, u64) {
    const ARCH_GET_FS: i32 = 0x1003;
    const ARCH_GET_GS: i32 = 0x1004;
    let (mut fs, mut gs) = (0u64, 0u64);
    // SAFETY: each call writes one u64 to the variable it is given.
    unsafe {
        libc::syscall(libc::SYS_arch_prctl, ARCH_GET_FS, &raw mut fs);
        libc::syscall(libc::SYS_arch_prctl, ARCH_GET_GS, &raw mut gs);
    }
    (fs, gs)
}

/// How many threads this process has (the link count of `/proc/self/task` less two,
/// fs/proc/base.c), or 0 where `/proc` is not mounted.
pub fn thread_count(_: Safe) -> u64 {
    // SAFETY: zeroes are a valid `stat`, which newfstatat fills; the path is a C string.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        let done = libc::syscall(
            libc::SYS_newfstatat,
            libc::AT_FDCWD,
            c"/proc/self/task".as_ptr(),
            &raw mut stat,
            0,
        );
        if done == 0 {
            stat.st_nlink.saturating_sub(2)
        } else {
            0
        }
    }
}

/// Runs `body` and leaves `errno` as it was.
pub fn keep_errno<T>(body: impl FnOnce() -> T) -> T {
    // SAFETY: the location is this thread's own and stays valid for its life.
    let errno = unsafe { *libc::__errno_location() };
    let result = body();
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_up_to_the_last_mapped_page() {
        let mapping = crate::mapping::Mapping::stack(4096).unwrap();
        let safe = Safe::promise();
        let mut bytes = [1u8; 64];
        let end = mapping.addr() + mapping.len() as u64;
        assert_eq!(
            read_memory(safe, process_id(safe), end - 64, &mut bytes),
            64
        );
        assert_eq!(bytes, [0; 64]);
        assert_eq!(
            read_memory(safe, process_id(safe), mapping.addr(), &mut bytes),
            0
        );
    }

    #[test]
    fn counts_threads() {
        let safe = Safe::promise();
        let before = thread_count(safe);
        assert!(before >= 1);
        let (stop, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || wait.recv());
        assert!(thread_count(safe) > 1);
        drop(stop);
        let _ = thread.join();
    }
}
