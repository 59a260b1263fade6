//! Who needs a library to stay loaded.
//!
//! ```text
//!  NativeCall ──Lease(Call)──────┐
//!  a callback ──Lease(Callback)──┼──► the library's count ◄── close: refused unless all are 0
//!  left midway ──────────────────┘        (for good)
//! ```

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::LibraryError;

/// What a library is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Use {
    /// A call that is prepared or under way.
    Call,
    /// A function pointer that was handed to the library and leads back to the interpreter.
    Callback,
}

/// Keeps a library loaded while it lives.
#[derive(Debug)]
pub struct Lease {
    state: Shared,
    what: Use,
}

/// How often a library is needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uses {
    /// Calls that are prepared or under way.
    pub calls: usize,
    /// Callbacks that are live.
    pub callbacks: usize,
    /// Calls that native code was left in the middle of, which it may still have threads, locks
    /// or pointers of. This never goes down.
    pub left: usize,
}

/// A library's handle, while it is open, and who needs it.
#[derive(Debug)]
pub(super) struct State {
    pub(super) handle: Option<usize>,
    pub(super) uses: Uses,
}

#[derive(Clone, Debug)]
pub(super) struct Shared(Arc<Mutex<State>>);

/// The library that a function belongs to, so that calls of it can keep it loaded. The default is
/// none, for functions at addresses that nobody closes. All are equal.
#[derive(Clone, Debug, Default)]
pub struct Owner(pub(super) Option<Shared>);

impl Shared {
    pub(super) fn new(handle: usize) -> Shared {
        let uses = Uses::default();
        let handle = Some(handle);
        Shared(Arc::new(Mutex::new(State { handle, uses })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Plain numbers: what a panicking holder left is in order.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` if the library is closed.
    pub(super) fn lease(&self, what: Use) -> Option<Lease> {
        let mut state = self.lock();
        state.handle?;
        *state.uses.of(what) += 1;
        let state = self.clone();
        Some(Lease { state, what })
    }
}

impl Uses {
    fn of(&mut self, what: Use) -> &mut usize {
        match what {
            Use::Call => &mut self.calls,
            Use::Callback => &mut self.callbacks,
        }
    }

    /// Whether nobody needs the library.
    pub fn is_none(&self) -> bool {
        *self == Uses::default()
    }
}

/// `2 callbacks are live, 1 call is prepared`.
impl std::fmt::Display for Uses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts = Vec::new();
        match self.callbacks {
            0 => {}
            1 => parts.push("1 callback is live".to_owned()),
            n => parts.push(format!("{n} callbacks are live")),
        }
        match self.calls {
            0 => {}
            1 => parts.push("1 call is prepared".to_owned()),
            n => parts.push(format!("{n} calls are prepared")),
        }
        match self.left {
            0 => {}
            1 => parts.push("1 call was left midway".to_owned()),
            n => parts.push(format!("{n} calls were left midway")),
        }
        f.write_str(&parts.join(", "))
    }
}

impl Lease {
    /// Native code was left in the middle, by a crash, a timeout or a violation: the library can
    /// never be unloaded any more.
    pub fn left_midway(&self) {
        self.state.lock().uses.left += 1;
    }
}

impl Lease {
    /// Another one of the same library, which is open since this one is there.
    pub(crate) fn also(&self, what: Use) -> Lease {
        *self.state.lock().uses.of(what) += 1;
        Lease {
            state: self.state.clone(),
            what,
        }
    }

    /// Whether both keep the same library loaded.
    pub(crate) fn is_of_same_library(&self, other: &Lease) -> bool {
        Arc::ptr_eq(&self.state.0, &other.state.0)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        *state.uses.of(self.what) -= 1;
    }
}

impl Owner {
    /// Keeps the library loaded; `None` where there is none to keep.
    ///
    /// # Errors
    /// [`LibraryError::Closed`] names `function` if the library was closed.
    pub fn lease(&self, what: Use, function: &str) -> Result<Option<Lease>, LibraryError> {
        let Some(shared) = &self.0 else {
            return Ok(None);
        };
        let closed = || LibraryError::Closed {
            what: format!("`{function}`"),
        };
        shared.lease(what).ok_or_else(closed).map(Some)
    }
}

impl PartialEq for Owner {
    fn eq(&self, _: &Owner) -> bool {
        true
    }
}

impl Eq for Owner {}
