//! Errors as the user sees them: what was wrong, and what mends it.

use std::error::Error;
use std::io::{self, Write};

use super::engine::{EngineError, Need};
use super::keeper;
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

    /// A file that was named cannot be read.
    pub(super) fn unreadable(name: &str, error: &io::Error) -> Failure {
        let failure = Failure::usage(
            format!("cannot read {name}: {error}"),
            "name a file that is there and can be read",
        );
        failure.denied_to(keeper::left_with(), error)
    }

    pub(super) fn environment(what: impl Into<String>, help: impl Into<String>) -> Failure {
        Failure {
            status: 3,
            what: what.into(),
            help: help.into(),
        }
    }

    /// Adds who was denied something, where ffitrace could have done it before it gave its rights
    /// up.
    fn denied_to(mut self, who: Option<&str>, error: &(dyn Error + 'static)) -> Failure {
        if let Some(who) = who
            && is_denied(error)
        {
            self.what.push_str(&format!(", as {who}"));
            if !self.help.is_empty() {
                self.help.push_str("; ");
            }
            let more = "make it accessible to that user, or give native code all of root's \
                        rights with `--as-root`";
            self.help.push_str(more);
        }
        self
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

/// Whether the system denied what was tried. The loader only says so in words.
fn is_denied(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(found) = cause {
        let io = found.downcast_ref::<io::Error>();
        if io.is_some_and(|io| io.kind() == io::ErrorKind::PermissionDenied) {
            return true;
        }
        cause = found.source();
    }
    error.to_string().contains("Permission denied")
}

impl From<PrototypeError> for Failure {
    fn from(error: PrototypeError) -> Failure {
        Failure::usage(error.to_string(), error.help())
    }
}

impl From<BindingError> for Failure {
    fn from(error: BindingError) -> Failure {
        let failure = Failure::usage(error.to_string(), error.help());
        failure.denied_to(keeper::left_with(), &error)
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
        let failure = Failure {
            status,
            what: error.to_string(),
            help: error.help(),
        };
        failure.denied_to(keeper::left_with(), &error)
    }
}

impl From<EventsError> for Failure {
    fn from(error: EventsError) -> Failure {
        let status = if error.is_usage() { 2 } else { 4 };
        let failure = Failure {
            status,
            what: error.to_string(),
            help: error.help(),
        };
        failure.denied_to(keeper::left_with(), &error)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_denied_something_is_told_where_rights_were_given_up() {
        let error = |kind| EventsError::Create {
            path: "x.jsonl".into(),
            source: io::Error::from(kind),
        };
        let failure = || Failure::usage("no file", "name one");
        let denied = error(io::ErrorKind::PermissionDenied);
        let told = failure().denied_to(Some("user a (`--user`)"), &denied);
        assert_eq!(told.what, "no file, as user a (`--user`)");
        assert!(
            told.help.starts_with("name one; make it accessible"),
            "{}",
            told.help
        );

        assert_eq!(failure().denied_to(None, &denied), failure());
        let other = error(io::ErrorKind::NotFound);
        assert_eq!(failure().denied_to(Some("user a"), &other), failure());
        // The loader's error has no cause.
        let loader = LibraryError::Load {
            library: "x.so".into(),
            reason: "x.so: cannot open shared object file: Permission denied".into(),
            help: String::new(),
        };
        let told = failure().denied_to(Some("user a"), &loader);
        assert!(told.what.ends_with(", as user a"), "{}", told.what);
    }
}
