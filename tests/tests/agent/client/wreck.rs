//! A client that breaks what it shares with the agent, and then is gone.
//!
//! # Safety
//! The consumer's page of a ring is mapped by nobody else here, and written as atomics. The signal goes
//! to this process.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use ffitrace_tests::check;
use ffitrace_tests::packets::Client;

use super::forger::{BASE, LENGTH};
use super::neighbour::touch;
use super::{number, word};

/// Has some records in its ring, says that it has read up to somewhere else, and is killed: the agent
/// looks at what is left. Words: socket, position.
pub(super) fn wreck(words: &[String]) -> Result<()> {
    let client = Client::greet(Path::new(word(words, 0)?))?;
    let files = client.open(BASE, LENGTH)?;
    for _ in 0..20 {
        touch(BASE)?;
    }
    check!(files.written()? > 0, "nothing was recorded");
    // SAFETY: see the module.
    unsafe {
        let page = libc::mmap(
            std::ptr::null_mut(),
            4096,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            files.ring.as_raw_fd(),
            0,
        );
        check!(
            page != libc::MAP_FAILED,
            "the ring: {}",
            io::Error::last_os_error()
        );
        for word in 0..4096 / 8 {
            let word = &*page.cast::<AtomicU64>().add(word);
            word.store(number(words, 1)?, Ordering::Release);
        }
        libc::kill(libc::getpid(), libc::SIGKILL);
    }
    Ok(())
}
