//! The kernel's recorder: what this process maps of its session, and who keeps the programs.
//!
//! ```text
//!  Ebpf::open ──► keeper: this process itself, if it may load programs       programs.rs
//!             │           or an agent that may, through its socket           ../../agent/
//!             └─► ring and shared pages, mapped from what the keeper gave    ring.rs, shared.rs
//!  probe_function ──► keeper: call_enter, call_return at a function          probes.rs
//!  drain ◄── ring, in order              ring_view ──► how full, for the signal handler
//!  drop  ──► session closed
//! ```
//!
//! The object is committed, since the users' toolchain cannot build it; `cargo xtask build-ebpf`
//! does.

mod btf;
mod error;
mod log;
mod object;
mod pages;
mod probes;
mod programs;
mod prologue;
mod recorder;
mod ring;
mod shared;
mod unwinding;

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;

use tracer_ebpf::{Counters, KNOWN_SITES, RING_BYTES, Session};

pub use error::EbpfError;
pub use probes::Returns;
pub(crate) use probes::Target;
pub(crate) use programs::{Programs, SessionFiles};
pub(crate) use recorder::Kernel;
pub(crate) use ring::Ring;
pub use ring::RingView;
pub(crate) use shared::SharedPages;

use crate::{
    agent::{self, Connection},
    host::facts,
    resume::gate,
};

/// Who keeps the programs of a session.
enum Keeper {
    /// This process.
    Own(Box<Programs>, u32),
    /// An agent.
    Agent(Connection),
}

/// The eBPF recorder of this process.
pub struct Ebpf {
    ring: ring::Ring,
    shared: shared::SharedPages,
    keeper: Keeper,
}

impl std::fmt::Debug for Ebpf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ebpf")
            .field("ring", &self.ring.view())
            .finish_non_exhaustive()
    }
}

impl Ebpf {
    /// Has what this process does to the arena of `session` recorded from now on.
    ///
    /// # Errors
    ///
    /// Whatever this host or process lacks, with its remedy.
    pub fn open(session: Session) -> Result<Ebpf, EbpfError> {
        let privileged = facts::Capabilities::effective()
            .missing_for_ebpf()
            .is_empty();
        if let Some(agent) = agent::connection(privileged)? {
            object::check_process()?;
            let files = agent.open(session, gate::marked(), RING_BYTES)?;
            return Ebpf::map(&files, Keeper::Agent(agent));
        }
        let mut programs = Box::new(Programs::load()?);
        let process = std::process::id();
        let (slot, files) = programs.open(process, session, gate::marked(), RING_BYTES)?;
        Ebpf::map(&files, Keeper::Own(programs, slot))
    }

    /// The connection to the agent that keeps the programs, if one does.
    pub fn agent(&self) -> Option<&Connection> {
        match &self.keeper {
            Keeper::Own(..) => None,
            Keeper::Agent(agent) => Some(agent),
        }
    }

    fn map(files: &SessionFiles, keeper: Keeper) -> Result<Ebpf, EbpfError> {
        let failed = |what| move |source| EbpfError::Mapping { what, source };
        Ok(Ebpf {
            ring: ring::Ring::map(files.ring.as_fd(), files.ring_bytes).map_err(failed("ring"))?,
            shared: shared::SharedPages::map(files.shared.as_fd())
                .map_err(failed("shared pages"))?,
            keeper,
        })
    }

    /// Hands every record that is in the ring at the time of the call to `each`, in order, and
    /// says how many. Each is as long as its kind is, and 8-byte aligned.
    ///
    /// A record that another thread is writing at this moment is waited for.
    pub fn drain(&mut self, each: &mut dyn FnMut(&[u8])) -> usize {
        let count = self.ring.drain(each);
        if let Keeper::Own(programs, _) = &mut self.keeper {
            programs.flush_log();
        }
        count
    }

    /// How full the ring is, readable in a signal handler.
    pub fn ring_view(&self) -> RingView {
        self.ring.view()
    }

    /// The table of listed sites, which the programs read: words of [`tracer_ebpf::KnownSite`], or
    /// 0. Stays mapped for good.
    pub fn known(&self) -> *mut [u64; KNOWN_SITES] {
        self.shared.known()
    }

    /// Totals of this process since [`Ebpf::open`].
    pub fn counters(&self) -> Counters {
        self.shared.counters()
    }

    /// Counts the calls of a function of this process, and records its outermost ones.
    ///
    /// `file_offset` is the offset of the function's first byte in the file `library`, `name` what
    /// messages call it, `cookie` what its records carry. The file must be the one that is mapped.
    ///
    /// # Errors
    ///
    /// [`EbpfError::ProbeOnNop`] for a function that must not be probed, and whatever keeps the
    /// kernel from probing; the recorder works on without this probe.
    pub fn probe_function(
        &mut self,
        library: &Path,
        file_offset: u64,
        name: &str,
        cookie: u64,
        returns: Returns,
    ) -> Result<(), EbpfError> {
        let file = File::open(library).map_err(|source| EbpfError::ProbeLibrary {
            function: name.to_owned(),
            library: library.to_owned(),
            source,
        })?;
        let target = Target {
            file: &file,
            file_offset,
            name,
            cookie,
            returns,
        };
        match &mut self.keeper {
            Keeper::Own(programs, slot) => programs.probe(*slot, &target),
            Keeper::Agent(agent) => Ok(agent.probe(&target)?),
        }
    }

    /// Removes all probes of functions.
    pub fn unprobe(&mut self) {
        match &mut self.keeper {
            Keeper::Own(programs, slot) => programs.unprobe(*slot),
            Keeper::Agent(agent) => {
                if let Err(error) = agent.unprobe() {
                    tracing::warn!("probes are not removed: {error}");
                }
            }
        }
    }
}

impl Drop for Ebpf {
    fn drop(&mut self) {
        match &mut self.keeper {
            Keeper::Own(programs, slot) => programs.close(*slot),
            // Where it fails the agent is gone, and the session with it.
            Keeper::Agent(agent) => drop(agent.close()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorder_can_be_drained_by_another_thread() {
        fn is_send<T: Send>() {}
        fn is_shared<T: Copy + Send + Sync>() {}
        is_send::<Ebpf>();
        is_shared::<RingView>();
    }
}
