//! What may run in a signal handler.
//!
//! A handler interrupts native code anywhere: inside `malloc`, with any lock held. So nothing
//! reachable from it allocates, locks, or calls a libc function that might. The type [`Safe`]
//! shows it: only the handlers' entry points make one, and every function that they reach takes
//! it. A function without that parameter is not to be called from one that has it.
//!
//! # Safety
//! All calls are raw system calls with arguments checked by the kernel, made at the gate, where
//! they are not dispatched; those that write memory write only to what the caller lends.
#![allow(unsafe_code)]

use std::sync::atomic::AtomicU32;

use super::gate;

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

/// A system call from the gate, see there: its result, or the negated error number.
///
/// # Safety
/// The call and its arguments must be sound.
#[inline(always)]
pub(crate) unsafe fn raw(safe: Safe, number: i64, args: [u64; 6]) -> i64 {
    // SAFETY: by the caller's promise.
    unsafe { gate::call(safe, number, args) }
}

/// Kernel id of this thread.
pub(crate) fn thread_id(safe: Safe) -> u32 {
    // SAFETY: gettid takes nothing and cannot fail.
    unsafe { raw(safe, libc::SYS_gettid, [0; 6]) as u32 }
}

/// Sleeps until `word` is woken, unless it no longer holds `expected`, or for about a
/// millisecond. Works across processes. Callers loop and look for themselves.
pub fn wait(safe: Safe, word: &AtomicU32, expected: u32) {
    let timeout = libc::timespec {
        tv_sec: 0,
        tv_nsec: 1_000_000,
    };
    futex_wait(safe, word, expected, &raw const timeout);
}

/// As [`wait`], without a time limit, for a thread with nothing else to do.
pub(crate) fn wait_idle(safe: Safe, word: &AtomicU32, expected: u32) {
    futex_wait(safe, word, expected, std::ptr::null());
}

fn futex_wait(safe: Safe, word: &AtomicU32, expected: u32, timeout: *const libc::timespec) {
    let address = word.as_ptr() as u64;
    let operation = libc::FUTEX_WAIT as u64;
    let args = [address, operation, expected.into(), timeout as u64, 0, 0];
    // SAFETY: `word` and the time limit outlive the call; FUTEX_WAIT only reads them. A null
    // limit is for ever.
    unsafe { raw(safe, libc::SYS_futex, args) };
}

/// Wakes all who wait on `word`.
pub fn wake(safe: Safe, word: &AtomicU32) {
    let all = i32::MAX as u64;
    let args = [word.as_ptr() as u64, libc::FUTEX_WAKE as u64, all, 0, 0, 0];
    // SAFETY: FUTEX_WAKE uses the address only as a key.
    unsafe { raw(safe, libc::SYS_futex, args) };
}

/// Writes a byte to the pipe `fd`, which does not block; a full or invalid one is left as it is.
pub(crate) fn notify(safe: Safe, fd: i32) {
    let one = 1u8;
    let args = [fd as u64, &raw const one as u64, 1, 0, 0, 0];
    // SAFETY: one byte is read from `one`.
    unsafe { raw(safe, libc::SYS_write, args) };
}

/// Sends `signal` to thread `tid` of this process.
pub(crate) fn signal_thread(safe: Safe, tid: u32, signal: i32) {
    let process = process_id(safe) as u64;
    let args = [process, tid.into(), signal as u64, 0, 0, 0];
    // SAFETY: tgkill takes numbers only.
    unsafe { raw(safe, libc::SYS_tgkill, args) };
}

/// Sends `signal` with `value` to thread `tid` of this process (`rt_tgsigqueueinfo(2)`).
pub(super) fn queue_signal(safe: Safe, tid: u32, signal: i32, value: u64) {
    /// The kernel's `siginfo` of a queued signal.
    #[repr(C)]
    struct Queued {
        signal: i32,
        error: i32,
        code: i32,
        pad: i32,
        process: i32,
        user: u32,
        value: u64,
        rest: [u64; 12],
    }
    let process = process_id(safe);
    let info = Queued {
        signal,
        error: 0,
        code: libc::SI_QUEUE,
        pad: 0,
        process,
        user: 0,
        value,
        rest: [0; 12],
    };
    const { assert!(size_of::<Queued>() == 128) };
    let info = &raw const info as u64;
    let args = [process as u64, tid.into(), signal as u64, info, 0, 0];
    // SAFETY: the kernel reads the info.
    unsafe { raw(safe, libc::SYS_rt_tgsigqueueinfo, args) };
}

/// Copies memory of process `pid` at `from` into `to` and returns how many bytes were readable
/// (up to the first page that is not).
pub fn read_memory(safe: Safe, pid: i32, from: u64, to: &mut [u8]) -> usize {
    let local = to.as_mut_ptr() as u64;
    let len = to.len();
    // SAFETY: the kernel writes only into `to`; bad remote addresses fail.
    unsafe { across(safe, libc::SYS_process_vm_readv, pid, local, from, len) }
}

/// Copies `from` to `to` in process `pid` and returns how many bytes could be written.
///
/// # Safety
/// In this process, nothing in Rust may refer to the memory at `to`.
pub unsafe fn write_memory(safe: Safe, pid: i32, to: u64, from: &[u8]) -> usize {
    let local = from.as_ptr() as u64;
    let number = libc::SYS_process_vm_writev;
    // SAFETY: the kernel reads only from `from`; what it writes is the caller's promise.
    unsafe { across(safe, number, pid, local, to, from.len()) }
}

/// # Safety
/// As the call that is made wants it; `local` must be `len` bytes of ours.
unsafe fn across(safe: Safe, number: i64, pid: i32, local: u64, remote: u64, len: usize) -> usize {
    let vector = |base: u64, len: usize| libc::iovec {
        iov_base: base as *mut libc::c_void,
        iov_len: len,
    };
    // The kernel stops at the first bad page only between vectors of the remote side, so the
    // range is handed over in two: up to the page's end, and the rest.
    let first = (4096 - (remote as usize & 4095)).min(len);
    let local = vector(local, len);
    let remote = [
        vector(remote, first),
        vector(remote.wrapping_add(first as u64), len - first),
    ];
    let args = [
        pid as u64,
        &raw const local as u64,
        1,
        remote.as_ptr() as u64,
        2,
        0,
    ];
    // SAFETY: by the caller's promise; the vectors live until the call is over.
    let done = unsafe { raw(safe, number, args) };
    usize::try_from(done).unwrap_or(0)
}

/// Process id of this process.
pub fn process_id(safe: Safe) -> i32 {
    // SAFETY: getpid takes nothing and cannot fail.
    unsafe { raw(safe, libc::SYS_getpid, [0; 6]) as i32 }
}

/// Ends this process at once, with nothing run or flushed.
pub(crate) fn end_process(safe: Safe, status: i32) -> ! {
    loop {
        // SAFETY: takes a number and does not return.
        unsafe { raw(safe, libc::SYS_exit_group, [status as u64, 0, 0, 0, 0, 0]) };
    }
}

/// Changes the protection of `len` bytes at `addr`; returns false where the kernel refuses.
///
/// # Safety
/// The range must be native view: nothing in Rust refers to it.
pub unsafe fn protect(safe: Safe, addr: u64, len: u64, prot: i32) -> bool {
    // SAFETY: by the caller's promise no Rust reference depends on the range's protection.
    unsafe { raw(safe, libc::SYS_mprotect, [addr, len, prot as u64, 0, 0, 0]) == 0 }
}

/// Base of the `fs` and `gs` segments of this thread (`arch_prctl(2)`).
pub fn segment_bases(safe: Safe) -> (u64, u64) {
    const ARCH_GET_FS: u64 = 0x1003;
    const ARCH_GET_GS: u64 = 0x1004;
    let get = |what: u64| {
        let mut base = 0u64;
        let args = [what, &raw mut base as u64, 0, 0, 0, 0];
        // SAFETY: writes one u64 to the variable it is given.
        unsafe { raw(safe, libc::SYS_arch_prctl, args) };
        base
    };
    (get(ARCH_GET_FS), get(ARCH_GET_GS))
}

/// Sends this thread a signal once more, with the info that it came with; false where it cannot be.
pub(super) fn signal_again(
    safe: Safe,
    tid: u32,
    signal: i32,
    info: *const libc::siginfo_t,
) -> bool {
    let process = process_id(safe) as u64;
    let args = [process, tid.into(), signal as u64, info as u64, 0, 0];
    // SAFETY: the kernel reads the info, which it has filled in itself. To oneself any may be sent
    // (kernel/signal.c, do_rt_tgsigqueueinfo).
    unsafe { raw(safe, libc::SYS_rt_tgsigqueueinfo, args) == 0 }
}

/// Changes this thread's signal mask, the kernel's 64 bits of it, and returns the one before.
pub(super) fn set_mask(safe: Safe, mask: u64) -> u64 {
    let mut before = 0u64;
    let args = [
        libc::SIG_SETMASK as u64,
        &raw const mask as u64,
        &raw mut before as u64,
        8,
        0,
        0,
    ];
    // SAFETY: eight bytes are read from `mask`, and written to `before`.
    unsafe { raw(safe, libc::SYS_rt_sigprocmask, args) };
    before
}

/// This thread's signal mask, the kernel's 64 bits of it.
pub(super) fn mask(safe: Safe) -> u64 {
    let mut mask = 0u64;
    let args = [0, 0, &raw mut mask as u64, 8, 0, 0];
    // SAFETY: without a new mask, eight bytes are written to `mask` and nothing changes.
    unsafe { raw(safe, libc::SYS_rt_sigprocmask, args) };
    mask
}

/// Whether this process has a thread `tid` that has not ended.
pub(crate) fn thread_exists(safe: Safe, tid: u32) -> bool {
    let args = [process_id(safe) as u64, tid.into(), 0, 0, 0, 0];
    // SAFETY: tgkill takes numbers only; signal 0 is not sent.
    unsafe { raw(safe, libc::SYS_tgkill, args) == 0 }
}

/// Calls `each` with the id of every thread of this process, in ascending order (proc(5)). False
/// where `/proc` is not mounted or no file can be opened.
pub(crate) fn each_thread(safe: Safe, each: &mut dyn FnMut(u32)) -> bool {
    /// `struct linux_dirent64` (getdents64(2)): inode, offset, length of the entry, type, name.
    const LENGTH: usize = 16;
    const NAME: usize = 19;
    let mut entries = [0u8; 2048];
    let path = c"/proc/self/task".as_ptr() as u64;
    let flags = (libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC) as u64;
    // SAFETY: the path is a C string.
    let dir = unsafe {
        let args = [libc::AT_FDCWD as u64, path, flags, 0, 0, 0];
        raw(safe, libc::SYS_openat, args)
    };
    if dir < 0 {
        return false;
    }
    let got = loop {
        let (to, len) = (entries.as_mut_ptr() as u64, entries.len() as u64);
        // SAFETY: getdents64 writes at most the length of `entries` there.
        let got = unsafe { raw(safe, libc::SYS_getdents64, [dir as u64, to, len, 0, 0, 0]) };
        let Ok(filled @ 1..) = usize::try_from(got) else {
            break got;
        };
        let mut at = 0;
        while at + NAME < filled {
            let length = u16::from_ne_bytes([entries[at + LENGTH], entries[at + LENGTH + 1]]);
            let name = &entries[at + NAME..filled];
            let digits = name.iter().take_while(|byte| byte.is_ascii_digit());
            let tid = digits.fold(0, |tid, byte| tid * 10 + u32::from(byte - b'0'));
            if tid != 0 {
                each(tid);
            }
            at += usize::from(length).max(NAME);
        }
    };
    // SAFETY: the descriptor was opened above.
    unsafe { raw(safe, libc::SYS_close, [dir as u64, 0, 0, 0, 0, 0]) };
    got == 0
}

/// Runs `body` and leaves `errno` as it was.
pub(crate) fn keep_errno<T>(body: impl FnOnce() -> T) -> T {
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
    fn lists_all_threads() {
        let safe = Safe::promise();
        let (tell, told) = std::sync::mpsc::channel();
        let barrier = std::sync::Barrier::new(201);
        std::thread::scope(|scope| {
            for _ in 0..200 {
                let tell = tell.clone();
                scope.spawn(|| {
                    let tell = tell;
                    tell.send(thread_id(Safe::promise())).unwrap();
                    barrier.wait();
                });
            }
            let mut expected: Vec<u32> = told.iter().take(200).collect();
            expected.push(thread_id(safe));
            let mut listed = Vec::new();
            assert!(each_thread(safe, &mut |tid| listed.push(tid)));
            for tid in expected {
                assert!(listed.contains(&tid), "{tid} in {listed:?}");
                assert!(thread_exists(safe, tid));
            }
            barrier.wait();
        });
    }
}
