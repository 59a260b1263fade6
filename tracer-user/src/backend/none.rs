//! No recorder: native code works on the host view, at full speed and unseen. For comparison.

use super::{BackendError, Emitted, Recorder};
use crate::{pipeline::StringRule, resume::Recording};

/// See the module.
pub(crate) struct Untraced;

impl Recorder for Untraced {
    fn recording(&self) -> Recording {
        Recording::Off
    }

    fn string_rule(&self) -> StringRule {
        StringRule::Displaced
    }

    fn drain(&mut self, _each: &mut dyn FnMut(&[u8])) -> usize {
        0
    }

    fn emitted(&self) -> Result<Emitted, BackendError> {
        Ok(Emitted::default())
    }
}
