//! Why a system call of native code is not made: the table's reasons, and those of the dispatcher.

use crate::syscall::Reason;

/// Why the dispatcher itself refuses a call. Numbered behind the reasons of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Refused {
    /// `clone` with shared memory that is neither a thread nor waited for.
    SharedMemory = 200,
    /// A thread that shares its maker's thread-local storage.
    SharedTls = 201,
    /// Another base of `fs`.
    SetFs = 202,
    /// Dispatch of system calls for itself.
    Dispatch = 203,
    /// A filter of system calls, which would hold for ours too.
    Filter = 204,
    /// By the 32-bit entry.
    Compat = 205,
    /// No memory for a new thread's signal stack.
    NoMemory = 206,
    /// A `clone3` with fields that are not known here.
    CloneArgs = 207,
    /// A thread whose thread-local storage lies in the arena.
    TlsInArena = 208,
}

const OWN: [Refused; 9] = [
    Refused::SharedMemory,
    Refused::SharedTls,
    Refused::SetFs,
    Refused::Dispatch,
    Refused::Filter,
    Refused::Compat,
    Refused::NoMemory,
    Refused::CloneArgs,
    Refused::TlsInArena,
];

/// The reason with this number in words, to follow the name of the system call.
pub fn text(code: u8) -> &'static str {
    if let Some(reason) = Reason::from_code(code) {
        return reason.text();
    }
    match OWN.into_iter().find(|own| *own as u8 == code) {
        Some(Refused::SharedMemory) => {
            "a process that shares this one's memory and runs beside it is not traced"
        }
        Some(Refused::SharedTls) => {
            "a thread without thread-local storage of its own is not traced"
        }
        Some(Refused::SetFs) => "the recorder's handlers need the thread-local storage at fs",
        Some(Refused::Dispatch) => "the recorder dispatches system calls itself",
        Some(Refused::Filter) => "a filter would hold for the recorder's system calls too",
        Some(Refused::Compat) => "system calls of 32-bit programs are not traced",
        Some(Refused::NoMemory) => "there is no memory for the new thread's signal stack",
        Some(Refused::CloneArgs) => "it has fields that this version does not know",
        Some(Refused::TlsInArena) => {
            "the recorder's handlers need the thread-local storage, which would lie in it"
        }
        None => "unknown reason",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_text_of_its_own() {
        let texts: std::collections::HashSet<&str> = OWN
            .iter()
            .map(|own| *own as u8)
            .chain(Reason::ALL.iter().map(|reason| reason.code()))
            .map(text)
            .collect();
        assert_eq!(texts.len(), OWN.len() + Reason::ALL.len());
        assert!(!texts.contains(text(0)));
    }
}
