//! What goes wrong in a script's dealings with C: raised as a Lua error, at the script's line.

use mlua::Value;

use crate::{
    bridge::BridgeError,
    callback::CallbackError,
    ffi::{CallError, LibraryError},
    memory::{MemoryError, PointerError},
};

/// An error on its way to the script.
#[derive(Debug)]
pub(super) struct LuaFailure {
    /// In words.
    pub(super) message: String,
    /// An error of the script's own that is passed on as it is.
    pub(super) thrown: Option<Value>,
}

/// What the parts of `ffi` return.
pub(super) type Done<T> = Result<T, LuaFailure>;

impl LuaFailure {
    pub(super) fn new(message: impl Into<String>) -> LuaFailure {
        LuaFailure {
            message: message.into(),
            thrown: None,
        }
    }

    /// Says before it what was being done.
    pub(super) fn during(mut self, what: &str) -> LuaFailure {
        if self.thrown.is_none() {
            self.message = format!("{what}: {}", self.message);
        }
        self
    }
}

/// A failure without more to say than its text.
pub(super) fn fail<T>(message: impl Into<String>) -> Done<T> {
    Err(LuaFailure::new(message))
}

macro_rules! by_words {
    ($($error:ty),*) => {$(
        impl From<$error> for LuaFailure {
            fn from(error: $error) -> LuaFailure {
                LuaFailure::new(error.to_string())
            }
        }
    )*};
}

by_words!(
    BridgeError,
    CallError,
    CallbackError,
    LibraryError,
    MemoryError,
    PointerError,
    mlua::Error
);
