//! Descriptors that the event loop waits for.
//!
//! # Safety
//! The loop wants a descriptor that stays open, and the same, for as long as it is registered. An
//! [`OwnedFd`] that it takes over is: it has the same number until it is dropped, and it is dropped
//! after it was taken off.
#![allow(unsafe_code)]

use std::{io, os::fd::OwnedFd};

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
