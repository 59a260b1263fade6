//! A client that looks for what another user's process does.
//!
//! # Safety
//! A mapping without rights is made and never read: only the kernel is told of its address. A
//! descriptor of another process is asked for, and owned should the kernel give it.
#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use ffitrace_tests::check;
use ffitrace_tests::packets::Client;

use super::{number, pass_gate, word};

/// Opens a session with exactly another's range, and sees nothing of the other; then makes an
/// access of its own there, and sees that one. Words: socket, first address, length.
pub(super) fn same_range(words: &[String]) -> Result<()> {
    let socket = Path::new(word(words, 0)?);
    let (base, length) = (number(words, 1)?, number(words, 2)?);
    let client = Client::greet(socket)?;
    let files = client.open(base, length)?;
    pass_gate()?;
    let (counters, written) = (files.counters()?, files.written()?);
    check!(
        counters == [0; 6] && written == 0,
        "of another's accesses came {counters:?}, and {written} bytes in the ring"
    );
    touch(base)?;
    let (counters, written) = (files.counters()?, files.written()?);
    check!(
        counters.iter().sum::<u64>() > 0 && written > 0,
        "of its own access came {counters:?}, and {written} bytes in the ring"
    );
    Ok(())
}

/// Has the kernel access this address of ours, which it may not.
pub(super) fn touch(address: u64) -> Result<()> {
    let length = 1 << 20;
    let address = usize::try_from(address)? as *mut libc::c_void;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    let (_reader, writer) = io::pipe()?;
    // SAFETY: see the module.
    let written = unsafe {
        let mapped = libc::mmap(address, length, libc::PROT_NONE, flags, -1, 0);
        check!(
            mapped == address,
            "no mapping there: {}",
            io::Error::last_os_error()
        );
        libc::write(writer.as_raw_fd(), address, 8)
    };
    let error = io::Error::last_os_error();
    // SAFETY: the mapping just made, which nobody else knows.
    unsafe { libc::munmap(address, length) };
    check!(
        written == -1 && error.raw_os_error() == Some(libc::EFAULT),
        "the kernel read it: {written}, {error}"
    );
    Ok(())
}

/// Tries to get at descriptors and memory of other processes. Words: their ids.
pub(super) fn snoop(words: &[String]) -> Result<()> {
    for word in words {
        let pid: i32 = word.parse()?;
        let process = format!("/proc/{pid}");
        check!(Path::new(&process).exists(), "{pid} is gone");
        check!(
            fs::read_dir(format!("{process}/fd")).is_err(),
            "the descriptors of {pid} are listed"
        );
        for file in 0..64 {
            check!(
                fs::File::open(format!("{process}/fd/{file}")).is_err(),
                "descriptor {file} of {pid} was opened"
            );
        }
        check!(
            fs::File::open(format!("{process}/mem")).is_err(),
            "the memory of {pid} was opened"
        );
        // SAFETY: see the module.
        let opened = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        check!(opened >= 0, "pidfd_open: {}", io::Error::last_os_error());
        // SAFETY: see the module.
        let handle = unsafe { OwnedFd::from_raw_fd(i32::try_from(opened).context("descriptor")?) };
        for file in 0..64 {
            // SAFETY: see the module.
            let got = unsafe { libc::syscall(libc::SYS_pidfd_getfd, handle.as_raw_fd(), file, 0) };
            check!(got == -1, "descriptor {file} of {pid} was taken");
        }
    }
    Ok(())
}
