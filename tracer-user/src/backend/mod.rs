//! Recorders behind one trait.
//!
//! | backend  | who takes down an access       | needs                        |
//! |----------|--------------------------------|------------------------------|
//! | `ebpf`   | the kernel, at the page fault  | CAP_BPF and CAP_PERFMON, BTF |
//! | `inproc` | the process's signal handler   | nothing                      |
//! | `ptrace` | a supervisor process           | ptrace of its own parent     |
//! | `none`   | nobody                         | nothing                      |
//!
//! All of them write the records of `tracer-ebpf`, so everything behind them is the same.

pub mod ebpf;
pub mod inproc;
pub mod none;
pub mod ptrace;

use std::{fmt, path::Path, str::FromStr};

use crate::{pipeline::StringRule, resume::Recording};

/// A recorder by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// The kernel.
    Ebpf,
    /// The process's own signal handler.
    Inproc,
    /// A supervisor process.
    Ptrace,
    /// Nobody.
    None,
}

impl Backend {
    /// All of them, best first.
    pub const ALL: [Backend; 4] = [
        Backend::Ebpf,
        Backend::Inproc,
        Backend::Ptrace,
        Backend::None,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Ebpf => "ebpf",
            Backend::Inproc => "inproc",
            Backend::Ptrace => "ptrace",
            Backend::None => "none",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Backend {
    type Err = String;

    fn from_str(name: &str) -> Result<Backend, String> {
        Backend::ALL
            .into_iter()
            .find(|backend| backend.name() == name)
            .ok_or_else(|| format!("no backend {name:?}: ebpf, inproc, ptrace or none"))
    }
}

/// Why a recorder cannot be used, with what would mend it.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The kernel's part could not be set up.
    #[error(transparent)]
    Ebpf(#[from] ebpf::EbpfError),
    /// The supervisor could not be set up.
    #[error(transparent)]
    Ptrace(#[from] ptrace::PtraceError),
    /// The recorder was set up, but a test access was not seen as it should be.
    #[error(
        "the {backend} recorder missed its test access: {detail}; \
         use another --backend, and please report this host"
    )]
    SelfTest {
        /// Which recorder.
        backend: Backend,
        /// What arrived instead.
        detail: String,
    },
}

/// Faults and calls of a session, as their producer counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Emitted {
    /// Faults that the producer saw.
    pub emitted: u64,
    /// Of those, how many found no room.
    pub dropped: u64,
    /// Entries to and returns from the probed function, nested ones included, where it is probed.
    pub probed: Option<(u64, u64)>,
}

/// Takes down accesses to the native view.
pub(crate) trait Recorder: Send {
    /// What the signal handler has to do.
    fn recording(&self) -> Recording;

    /// How repeated string instructions execute.
    fn string_rule(&self) -> StringRule;

    /// The kernel's ring, for the handler to look at.
    fn kernel_ring(&self) -> Option<ebpf::RingView> {
        None
    }

    /// Where the recorder looks for sites that it needs to say less of, or null.
    fn known(&self) -> *mut [u64; tracer_ebpf::KNOWN_SITES] {
        std::ptr::null_mut()
    }

    /// Hands over all records that are there, oldest first, and returns how many.
    fn drain(&mut self, each: &mut dyn FnMut(&[u8])) -> usize;

    /// What the producer counted since the session began.
    ///
    /// # Errors
    /// Where the counters cannot be read.
    fn emitted(&self) -> Result<Emitted, BackendError>;

    /// A copy of the socket of the agent that records, if one does.
    fn agent_socket(&self) -> Option<std::os::fd::OwnedFd> {
        None
    }

    /// Why nothing is recorded any more, if the recorder knows that.
    fn gone(&self) -> Option<&'static str> {
        None
    }

    /// Called on the thread that is about to run native code.
    ///
    /// # Errors
    /// Where the recorder cannot follow this thread.
    fn begin_call(&mut self) -> Result<(), BackendError> {
        Ok(())
    }

    /// Marks entries to and returns from a function of a library, where the recorder can.
    ///
    /// # Errors
    /// Where the recorder should be able to and is not; tracing works without.
    fn probe_function(
        &mut self,
        _library: &Path,
        _file_offset: u64,
        _name: &str,
        _id: u64,
    ) -> Result<(), BackendError> {
        Ok(())
    }
}
