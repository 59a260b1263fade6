//! Things tried for real, and undone.
//!
//! # Safety
//!
//! Each trial touches only what it made itself: a mapping, a file, a child process, a thread. The
//! child of a `fork` calls nothing but `pause` and is killed.
#![allow(unsafe_code)]

use std::fs;
use std::hint::black_box;
use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::ptr;

use rustix::mm::{MapFlags, ProtFlags};

use crate::backend::ebpf::{Ebpf, Returns};

/// `prctl` option of Syscall User Dispatch, and its value for off.
const PR_SET_SYSCALL_USER_DISPATCH: libc::c_int = 59;
const PR_SYS_DISPATCH_OFF: libc::c_ulong = 0;

/// Makes a memory file and maps it shared.
pub(super) fn memfd() -> io::Result<()> {
    let file = rustix::fs::memfd_create("ffitrace-doctor", rustix::fs::MemfdFlags::CLOEXEC)?;
    rustix::fs::ftruncate(&file, 4096)?;
    // SAFETY: a new mapping, removed at once.
    unsafe {
        let base = rustix::mm::mmap(
            ptr::null_mut(),
            4096,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED,
            &file,
            0,
        )?;
        rustix::mm::munmap(base, 4096)?;
    }
    Ok(())
}

/// Switches Syscall User Dispatch off in a new thread, where it is off; a kernel without it fails.
pub(super) fn syscall_user_dispatch() -> io::Result<()> {
    let off = || {
        let zero: libc::c_ulong = 0;
        // SAFETY: changes nothing: a new thread does not inherit the dispatch of its maker.
        let result = unsafe {
            libc::prctl(
                PR_SET_SYSCALL_USER_DISPATCH,
                PR_SYS_DISPATCH_OFF,
                zero,
                zero,
                zero,
            )
        };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    };
    std::thread::Builder::new()
        .spawn(off)?
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the thread that tried it panicked")))
}

/// Traces a child process.
pub(super) fn ptrace() -> io::Result<()> {
    // SAFETY: the child only waits, by an async-signal-safe call, until it is killed.
    let child = unsafe { libc::fork() };
    match child {
        -1 => return Err(io::Error::last_os_error()),
        0 => loop {
            // SAFETY: as above.
            unsafe { libc::pause() };
        },
        _ => {}
    }
    let null: *mut libc::c_void = ptr::null_mut();
    // SAFETY: the child is ours; `PTRACE_SEIZE` takes no memory of this process.
    let seized = unsafe { libc::ptrace(libc::PTRACE_SEIZE, child, null, null) };
    let result = if seized == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    };
    let mut status = 0;
    // SAFETY: the child is ours, and not yet waited for, so the id is still its own.
    unsafe {
        libc::kill(child, libc::SIGKILL);
        while libc::waitpid(child, &mut status, libc::__WALL) == child
            && !libc::WIFSIGNALED(status)
            && !libc::WIFEXITED(status)
        {}
    }
    result
}

/// Opens an event that counts nothing, for this thread.
pub(super) fn perf_event() -> io::Result<()> {
    const SOFTWARE: u64 = 1;
    const COUNT_NOTHING: u64 = 9;
    const CLOSE_ON_EXEC: libc::c_ulong = 1 << 3;
    const DISABLED_AND_NOT_IN_KERNEL: u64 = 1 | 1 << 5;
    // The words of `struct perf_event_attr`, the first of which is its type and size.
    let mut attributes = [0u64; 14];
    attributes[0] = SOFTWARE | (size_of_val(&attributes) as u64) << 32;
    attributes[1] = COUNT_NOTHING;
    attributes[5] = DISABLED_AND_NOT_IN_KERNEL;
    // SAFETY: the block is initialised, as long as it says, and outlives the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            attributes.as_ptr(),
            0,
            -1,
            -1,
            CLOSE_ON_EXEC,
        )
    };
    match i32::try_from(fd) {
        Ok(fd) if fd >= 0 => {
            // SAFETY: the kernel has just made this descriptor for us.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
            Ok(())
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// Version of the kernel's Landlock.
pub(super) fn landlock() -> io::Result<i64> {
    const VERSION: libc::c_ulong = 1;
    let null: *const libc::c_void = ptr::null();
    // SAFETY: with this flag the call reads no memory and changes nothing.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, null, 0usize, VERSION) };
    if version < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(version)
}

/// Probes a function of this program, calls it, and reads the counters.
pub(super) fn function_probe(ebpf: &mut Ebpf) -> Result<(), String> {
    let function: extern "C" fn(u64) -> u64 = probed;
    let (file, offset) = place(function as usize as u64)
        .ok_or("this program's own code is not listed in /proc/self/maps")?;
    let tried = ebpf.probe_function(
        file.as_ref(),
        offset,
        "a function of ffitrace",
        1,
        Returns::Seen,
    );
    tried.map_err(|error| error.to_string())?;
    black_box(function)(1);
    let counters = ebpf.counters();
    ebpf.unprobe();
    match (counters.calls_entered, counters.calls_returned) {
        (1, 1) => Ok(()),
        (entered, returned) => Err(format!(
            "of one call, {entered} entries and {returned} returns were counted"
        )),
    }
}

/// What [`function_probe`] calls. Its first instruction is one that can be probed, whatever the
/// compiler would have begun a function with.
#[unsafe(naked)]
extern "C" fn probed(value: u64) -> u64 {
    std::arch::naked_asm!("push rbp", "mov rax, rdi", "pop rbp", "ret")
}

/// The mapped file that holds the code at `addr`, and its offset there.
fn place(addr: u64) -> Option<(String, u64)> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines().find_map(|line| place_in(line, addr))
}

/// The same, for one line of `/proc/self/maps`.
fn place_in(line: &str, addr: u64) -> Option<(String, u64)> {
    // start-end permissions offset device inode path
    let mut rest = line;
    let mut next = || {
        let (field, tail) = rest.trim_start().split_once(' ')?;
        rest = tail;
        Some(field)
    };
    let (range, _, offset, _, _) = (next()?, next()?, next()?, next()?, next()?);
    let (start, end) = range.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    let (start, end) = (number(start)?, number(end)?);
    let path = rest.trim_start();
    let inside = (start..end).contains(&addr) && path.starts_with('/');
    inside.then(|| Some((path.to_owned(), addr - start + number(offset)?)))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_maps_are_parsed() {
        let line = "7f00-7fff r-xp 00001000 fd:00 77                 /lib/with space.so";
        assert_eq!(
            place_in(line, 0x7f10),
            Some(("/lib/with space.so".to_owned(), 0x1010))
        );
        assert_eq!(place_in(line, 0x7fff), None);
        assert_eq!(place_in("7f00-7fff r-xp 00000000 00:00 0 ", 0x7f10), None);
        assert_eq!(
            place_in("7f00-7fff r-xp 00000000 00:00 0    [vdso]", 0x7f10),
            None
        );
        assert_eq!(place_in("", 0), None);
    }

    #[test]
    fn own_code_is_found() {
        let function: extern "C" fn(u64) -> u64 = probed;
        let (path, _) = place(function as usize as u64).unwrap();
        assert_eq!(
            fs::canonicalize(path).unwrap(),
            std::env::current_exe().unwrap()
        );
    }
}
