//! Which callbacks are live, and which libraries have them.
//!
//! ```text
//!  made ─► Live(address) ── passed to a function of a library ─► lease on the library
//!  dropped ─► its leases go, and the library may be unloaded
//! ```
//! A library that was handed a callback may keep it, and the code that calls it must stay where it
//! is as long as that may happen. Callbacks that are arguments of [`Bridge::invoke`] are lent by
//! themselves; those that go another way, in memory or in a struct, by
//! [`Callback::lend_to`](super::Callback::lend_to).
//!
//! [`Bridge::invoke`]: crate::bridge::Bridge::invoke

use std::{
    collections::HashMap,
    sync::{
        LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::ffi::{Lease, Library, LibraryError, Use};

static LIVE: LazyLock<Mutex<HashMap<u64, Vec<Lease>>>> = LazyLock::new(Mutex::default);
/// How many there are, so that calls need not look where there are none.
static COUNT: AtomicUsize = AtomicUsize::new(0);

fn live() -> MutexGuard<'static, HashMap<u64, Vec<Lease>>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A live callback.
pub(super) struct Live(u64);

impl Live {
    /// The callback at this address is live until this is dropped.
    pub(super) fn new(address: u64) -> Live {
        live().insert(address, Vec::new());
        COUNT.fetch_add(1, Ordering::Relaxed);
        Live(address)
    }

    /// Keeps a library loaded while the callback is live.
    pub(super) fn lend_to(&self, library: &Library) -> Result<(), LibraryError> {
        keep(self.0, library.lease(Use::Callback)?);
        Ok(())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        COUNT.fetch_sub(1, Ordering::Relaxed);
        let leases = live().remove(&self.0);
        drop(leases);
    }
}

/// If a callback is at this address, the library of `call` has it from now on.
pub(crate) fn passed(address: u64, call: &Lease) {
    if COUNT.load(Ordering::Relaxed) > 0 {
        keep(address, call.also(Use::Callback));
    }
}

fn keep(address: u64, lease: Lease) {
    if let Some(leases) = live().get_mut(&address)
        && !leases.iter().any(|known| known.is_of_same_library(&lease))
    {
        leases.push(lease);
    }
}
