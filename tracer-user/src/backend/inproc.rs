//! The in-process recorder: the signal handler itself takes down the access. No privileges.

use super::{BackendError, Emitted, Recorder};
use crate::{
    pipeline::StringRule,
    resume::{Engine, Recording},
    ring::MAX_RECORD,
};

/// See the module.
pub(crate) struct Inproc {
    engine: &'static Engine,
}

impl Inproc {
    /// Records through the engine's own ring.
    pub(crate) fn new(engine: &'static Engine) -> Inproc {
        Inproc { engine }
    }
}

impl Recorder for Inproc {
    fn recording(&self) -> Recording {
        Recording::Handler
    }

    fn string_rule(&self) -> StringRule {
        StringRule::Displaced
    }

    fn drain(&mut self, each: &mut dyn FnMut(&[u8])) -> usize {
        drain_user_ring(self.engine, each)
    }

    fn emitted(&self) -> Result<Emitted, BackendError> {
        Ok(Emitted {
            emitted: self.engine.faults(),
            dropped: 0,
            probed: None,
        })
    }
}

/// Takes all records out of the engine's ring.
pub(super) fn drain_user_ring(engine: &Engine, each: &mut dyn FnMut(&[u8])) -> usize {
    let mut record = [0; MAX_RECORD];
    let mut count = 0;
    while engine.ring.pop(&mut record) {
        each(&record);
        count += 1;
    }
    count
}
