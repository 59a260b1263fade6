//! A bridge as the host of hooks: the memory is reached as a callback reaches it.
//!
//! Only where native code has called. Elsewhere a hook may run in a handler of native code that
//! interrupted the interpreter itself, in the middle of anything, so there it is turned away.
//!
//! Unlike a callback a hook does not take the interpreter's turn: it runs nothing of the
//! interpreter's, and native threads go on allocating while a callback runs.
//!
//! # Safety
//! Ending an interlude may end the native call: what is alive then, here and in `enter`, owns
//! nothing.
#![allow(unsafe_code)]

use std::sync::{Arc, Weak};

use tracer_user::resume::Interlude;

use super::active::Host;
use crate::bridge::{Bridge, Core};
use crate::memory::Memory;

/// See the module.
pub(super) struct BridgeHost {
    core: Weak<Core>,
}

impl BridgeHost {
    pub(super) fn of(bridge: &Bridge) -> BridgeHost {
        BridgeHost {
            core: Arc::downgrade(bridge.core()),
        }
    }
}

impl Host for BridgeHost {
    fn enter(&self, body: &mut dyn FnMut(&mut Memory)) -> bool {
        match aside(&self.core, body) {
            Some((interlude, entered)) => {
                interlude.end();
                entered
            }
            None => false,
        }
    }

    fn outside(&self, body: &mut dyn FnMut(&mut Memory)) {
        if let Some(core) = self.core.upgrade() {
            core.with_memory(body);
        }
    }
}

#[inline(never)] // What it owns is dropped when it returns.
fn aside(core: &Weak<Core>, body: &mut dyn FnMut(&mut Memory)) -> Option<(Interlude, bool)> {
    let core = core.upgrade()?;
    let interlude = core.session().begin_callback();
    if !interlude.from_native() {
        return Some((interlude, false));
    }
    let (segments, found) = core.with_memory(|memory| {
        let before = memory.violations().total();
        body(memory);
        let found = memory.violations().total() - before;
        (memory.arena().views().segments(), found)
    });
    core.session().set_segments(segments);
    core.found_others(found);
    Some((interlude, true))
}
