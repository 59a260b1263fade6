//! Errors as the user sees them: what was wrong, and what mends it.

use std::io::Write;

use super::engine::{EngineError, Need};
use crate::binding::BindingError;
use crate::ffi::{CallError, LibraryError};
use crate::prototype::PrototypeError;
use crate::report::events::EventsError;

/// An error on its way to stderr, with its exit status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) status: u8,
    pub(super) what: String,
    pub(super) help: String,
}

impl Failure {
    pub(super) fn usage(what: impl Into<String>, help: impl Into<String>) -> Failure {
        Failure {
            status: 2,
            what: what.into(),
            help: help.into(),
        }
    }

    pub(super) fn environment(what: impl Into<String>, help: impl Into<String>) -> Failure {
        Failure {
            status: 3,
            what: what.into(),
            help: help.into(),
        }
    }

    /// The text for stderr.
    pub(super) fn text(&self, color: bool) -> String {
        let (bad, good, off) = if color {
            ("\x1b[1;31m", "\x1b[1;32m", "\x1b[0m")
        } else {
            ("", "", "")
        };
        let mut text = format!("{bad}ffitrace:{off} {}\n", self.what);
        if !self.help.is_empty() {
            text.push_str(&format!("  {good}help:{off} {}\n", self.help));
        }
        text
    }

    /// Writes it. There is nobody to tell if that fails.
    pub(super) fn tell(&self) {
        let text = self.text(super::stderr_theme().color);
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}

impl From<PrototypeError> for Failure {
    fn from(error: PrototypeError) -> Failure {
        Failure::usage(error.to_string(), error.help())
    }
}

impl From<BindingError> for Failure {
    fn from(error: BindingError) -> Failure {
        Failure::usage(error.to_string(), error.help())
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Failure {
        Failure::usage(error.to_string(), error.help())
    }
}

impl From<LibraryError> for Failure {
    fn from(error: LibraryError) -> Failure {
        let status = if error.is_usage() { 2 } else { 3 };
        Failure {
            status,
            what: error.to_string(),
            help: error.help(),
        }
    }
}

impl From<EventsError> for Failure {
    fn from(error: EventsError) -> Failure {
        let status = if error.is_usage() { 2 } else { 4 };
        Failure {
            status,
            what: error.to_string(),
            help: error.help(),
        }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Failure {
        let status = match error.need {
            Need::Usage => 2,
            Need::Environment => 3,
            Need::Trace => 4,
        };
        Failure {
            status,
            what: error.what,
            help: error.help,
        }
    }
}
