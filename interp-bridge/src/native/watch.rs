//! Watching the native heap of libraries: what an interpreter begins and asks.

use std::path::Path;

use super::active::{Active, Host};
use super::heap::NativeHeap;
use super::host::BridgeHost;
use super::interpose::{Coverage, InterposeError, Interposition};
use super::record::{NativeAllocation, Totals};
use super::request::ReleaseError;
use super::{objects, real};
use crate::arena::View;
use crate::bridge::Bridge;
use crate::memory::AllocId;
use tracer_user::backend::Backend;

/// Where memory goes that native code asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NativeHeapMode {
    /// To the real functions, as ever. Each allocation is registered in the abstract memory as
    /// external memory, with who asked for it; accesses of native code to it are not recorded.
    /// A block that native code frees waits for a while before the real `free` gets it.
    Observe,
    /// To the arena: every access is recorded, overruns and uses after free are violations. What
    /// the arena does not take (over 512 MiB, alignments over 1 MiB) and what libc allocates by
    /// itself is as in `Observe`.
    Arena,
}

/// A watched native heap. Ends when it is dropped, which must not be while native code runs or
/// the memory is borrowed.
///
/// Memory of the arena that native code still has then stays its own as long as the bridge lives;
/// freeing it afterwards has no effect.
pub struct NativeHeapWatch {
    active: &'static Active,
    interposition: Option<Interposition>,
}

impl NativeHeapWatch {
    /// Watches the heap of these libraries, which are loaded, and of the dependencies that came
    /// with them. Only one heap can be watched at a time in a process. No native code of theirs
    /// may run meanwhile: what it is doing is not known.
    ///
    /// # Errors
    /// [`InterposeError`]; nothing is watched then.
    pub fn begin(
        bridge: &Bridge,
        libraries: &[&Path],
        mode: NativeHeapMode,
    ) -> Result<NativeHeapWatch, InterposeError> {
        let view = if bridge.backend() == Backend::None {
            View::Host
        } else {
            View::Native
        };
        let session = bridge.memory().arena().session();
        let arena = session.arena_base..session.arena_base + session.arena_len;
        let host = Box::new(BridgeHost::of(bridge));
        NativeHeapWatch::begin_at(host, arena, view, libraries, mode)
    }

    pub(super) fn begin_at(
        host: Box<dyn Host>,
        arena: std::ops::Range<u64>,
        view: View,
        libraries: &[&Path],
        mode: NativeHeapMode,
    ) -> Result<NativeHeapWatch, InterposeError> {
        let all = objects::loaded();
        let heap = NativeHeap::new(mode, view, all.clone());
        let active = Active::begin(host, heap, mode, arena).ok_or(InterposeError::Busy)?;
        let mut watch = NativeHeapWatch {
            active,
            interposition: None,
        };
        // Dropping the watch ends it where this fails.
        watch.interposition = Some(Interposition::write(libraries, &all)?);
        Ok(watch)
    }

    /// Which calls are seen, and which are not.
    pub fn coverage(&self) -> Coverage {
        let interposition = self.interposition.as_ref();
        interposition.map_or_else(Coverage::default, |it| it.coverage.clone())
    }

    /// How much was allocated and freed so far.
    pub fn totals(&self) -> Totals {
        self.active.heap().totals()
    }

    /// The allocations that are live, in the order in which they were made. After the last call
    /// of a library they are its leaks, or what it keeps for the next.
    pub fn live(&self) -> Vec<NativeAllocation> {
        self.active.heap().live()
    }

    /// What is known of an allocation of native code by its id in the abstract memory, with who
    /// freed it; freed ones as long as their memory was not used again.
    pub fn find(&self, id: AllocId) -> Option<NativeAllocation> {
        self.active.heap().find(id).cloned()
    }

    /// Gives back an allocation that native code made and handed over, by its address, in the way
    /// that belongs to how it was made. The real `free` gets it later, if it lies on the real heap.
    /// Not to be called while the memory is borrowed.
    ///
    /// # Errors
    /// [`ReleaseError`]; nothing is given back then.
    pub fn release(&self, addr: u64) -> Result<(), ReleaseError> {
        let mut result = Err(ReleaseError::Unknown(addr));
        self.active.outside(|heap, memory| {
            result = heap.release_by_interpreter(memory, addr);
        });
        for block in result? {
            free(block);
        }
        Ok(())
    }

    /// The live allocation that holds the byte at an address of native code.
    pub fn containing(&self, addr: u64) -> Option<NativeAllocation> {
        self.active.heap().containing(addr).cloned()
    }
}

impl Drop for NativeHeapWatch {
    fn drop(&mut self) {
        // First, so that no call comes in that nobody answers.
        self.interposition = None;
        for block in self.active.end() {
            free(block);
        }
    }
}

#[allow(unsafe_code)]
fn free(block: u64) {
    // SAFETY: native code gave it back, and it waited in the heap since.
    unsafe { real::free(block) };
}
