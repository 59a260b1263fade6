//! [`Ebpf`] as a recorder.

use std::{os::fd::OwnedFd, path::Path};

use super::{Ebpf, Returns, RingView};
use crate::{
    backend::{BackendError, Emitted, Recorder, inproc::drain_user_ring},
    pipeline::StringRule,
    resume::{Engine, Recording, gate},
};

/// The kernel's records, and those of the handler that complete them.
pub(crate) struct Kernel {
    ebpf: Ebpf,
    engine: &'static Engine,
}

impl Kernel {
    /// A recorder over loaded programs.
    pub(crate) fn new(ebpf: Ebpf, engine: &'static Engine) -> Kernel {
        Kernel { ebpf, engine }
    }
}

impl Recorder for Kernel {
    fn recording(&self) -> Recording {
        Recording::Kernel
    }

    fn string_rule(&self) -> StringRule {
        StringRule::Displaced
    }

    fn kernel_ring(&self) -> Option<RingView> {
        Some(self.ebpf.ring_view())
    }

    fn known(&self) -> *mut [u64; tracer_ebpf::KNOWN_SITES] {
        self.ebpf.known()
    }

    fn agent_socket(&self) -> Option<OwnedFd> {
        self.ebpf.agent()?.socket().try_clone_to_owned().ok()
    }

    fn gone(&self) -> Option<&'static str> {
        self.ebpf.agent()?.is_gone().then_some(
            "the agent that records has ended, and accesses since then are not recorded; start it \
             again (`ffitrace agent`), and make the call again",
        )
    }

    fn drain(&mut self, each: &mut dyn FnMut(&[u8])) -> usize {
        // Faults first: what completes one is written after it.
        self.ebpf.drain(each) + drain_user_ring(self.engine, each)
    }

    fn emitted(&self) -> Result<Emitted, BackendError> {
        let counters = self.ebpf.counters();
        Ok(Emitted {
            emitted: counters.emitted + counters.other_dropped,
            dropped: counters.dropped + counters.other_dropped,
            probed: Some((counters.calls_entered, counters.calls_returned)),
        })
    }

    fn probe_function(
        &mut self,
        library: &Path,
        file_offset: u64,
        name: &str,
        id: u64,
    ) -> Result<(), BackendError> {
        self.ebpf.unprobe();
        let returns = if gate::covers_return_probes() {
            Returns::of(library)
        } else {
            Returns::Unseen
        };
        Ok(self
            .ebpf
            .probe_function(library, file_offset, name, id, returns)?)
    }
}
