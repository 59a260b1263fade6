//! Descriptors that the event loop waits for.
//!
//! # Safety
//! The loop wants a descriptor that stays open, and the same, for as long as it is registered. An
//! [`OwnedFd`] that it takes over is: it has the same number until it is dropped, and it is dropped
//! after it was taken off.
//!
//! What a service manager hands over belongs to nobody in this process yet, and is taken once.
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{FromRawFd as _, OwnedFd},
    sync::atomic::{AtomicBool, Ordering},
};

use tokio::io::{Interest, unix::AsyncFd};

/// A descriptor in the event loop.
pub(super) type Ready = AsyncFd<OwnedFd>;

/// Has the event loop wait for it to be readable.
///
/// # Errors
/// What registering says.
pub(super) fn readable(file: OwnedFd) -> io::Result<Ready> {
    // SAFETY: see the module.
    let registered = unsafe { AsyncFd::register_with_interest(file, Interest::READABLE) };
    registered.map_err(Into::into)
}

/// Has the event loop wait for it to be readable or writable.
///
/// # Errors
/// What registering says.
pub(super) fn both(file: OwnedFd) -> io::Result<Ready> {
    // SAFETY: see the module.
    let registered = unsafe { AsyncFd::register(file) };
    registered.map_err(Into::into)
}

/// The first descriptor that the service manager handed over, if it handed over any.
pub(super) fn inherited() -> Option<OwnedFd> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let first = sd_notify::listen_fds().ok()?.next()?;
    // SAFETY: the manager opened it for this process, as the environment says, and the flag keeps it
    // from having two owners.
    (!TAKEN.swap(true, Ordering::Relaxed)).then(|| unsafe { OwnedFd::from_raw_fd(first) })
}
