//! What a callback runs: there until the callback is dropped, and only on its thread if it has one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Home, Leave, at_home};

/// The body of a callback, as its code finds it.
pub(super) struct Held<T: ?Sized> {
    home: Home,
    body: Mutex<Option<Arc<T>>>,
}

impl<T: ?Sized> Held<T> {
    /// A body, and the thread that it is bound to, if it is.
    pub(super) fn new(home: Home, body: Arc<T>) -> Held<T> {
        Held {
            home,
            body: Mutex::new(Some(body)),
        }
    }

    /// The body, to be run on this thread. It may be taken away while it runs.
    ///
    /// # Errors
    /// [`Leave::OtherThread`] where it is bound to another one, [`Leave::Freed`] where it is gone.
    pub(super) fn here(&self) -> Result<Arc<T>, Leave> {
        at_home(self.home)?;
        self.lock().clone().ok_or(Leave::Freed)
    }

    /// Takes the body away.
    pub(super) fn disarm(&self) {
        let body = self.lock().take();
        // Not under the lock: it is the interpreter's own code that is run here.
        drop(body);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<T>>> {
        self.body.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
