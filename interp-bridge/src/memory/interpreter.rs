//! What the bridge needs of an interpreter's memory.
//!
//! ```text
//!  native code ──► bridge ──► apply, neighbour, report, note_overread, refuse, violation
//!                     └─────► arena (where to trace), shadow (what the handler may know)
//! ```
//!
//! [`Memory`] is one. An interpreter that has a memory already keeps it, and implements this on
//! top: it places the bytes that native code may reach in an [`Arena`] (which gives it addresses
//! in the native view, and the bytes themselves through
//! [`views`](Arena::views)), and keeps a [`Shadow`] up to date, so that the handler of faults
//! takes a snapshot of the stack where an access will turn out to be wrong:
//! [`set_live`](Shadow::set_live) after an allocation, [`set_dead`](Shadow::set_dead) before it
//! is freed. Both have to live as long as the bridge. Everything else is its own business: which
//! bytes are initialised, what pointers mean, what is a violation.

use std::ops::Range;

use tracer_user::access::{AccessEvent, Loop, Refused};
use tracer_user::shadow::Shadow;

use super::{Finding, Memory, Violation};
use crate::arena::Arena;

/// An interpreter's memory, as the bridge uses it. It is called from the thread that delivers
/// events as well as from the interpreter's, under one lock.
pub trait InterpreterMemory: Send {
    /// The arena in which native code finds the interpreter's bytes.
    fn arena(&self) -> &Arena;

    /// The arena, to map its first segment before the recorder starts.
    fn arena_mut(&mut self) -> &mut Arena;

    /// What the signal handler may know: which bytes are live and writable.
    fn shadow(&self) -> &Shadow;

    /// Applies one access of native code, in the order in which they happened, and says what is
    /// wrong with it, if anything. The bridge decides whether a finding is to be reported.
    fn apply(&mut self, event: &AccessEvent) -> Option<Finding>;

    /// Applies the accesses of a loop at once, where nothing is wrong with any of them and it comes
    /// to the same as [`apply`](Self::apply) for each in order. False, with nothing changed, where
    /// they are to be applied one by one.
    fn apply_loop(&mut self, repeated: &Loop<'_>) -> bool {
        let _ = repeated;
        false
    }

    /// Whether the same access applied once more, with nothing found wrong with it and nothing done
    /// to the memory by the interpreter meanwhile, changes nothing.
    fn forgets_repetitions(&self) -> bool {
        false
    }

    /// The addresses of the live allocation that `range` (native addresses) touches or is nearest
    /// to; `None` where there is none, or where the range touches another allocation too, live or
    /// freed. Asked about reads that are out of bounds, which may be over-reads of string
    /// functions.
    fn neighbour(&self, range: &Range<u64>) -> Option<Range<u64>>;

    /// How messages introduce the allocation that an address of the native view lies in or
    /// belongs to: `` `buf` (44 bytes) ``.
    fn title_at(&self, addr: u64) -> Option<String>;

    /// A finding is a violation. There may be millions of equal ones.
    fn report(&mut self, finding: &Finding);

    /// A finding is a benign over-read of a string function.
    fn note_overread(&mut self, finding: &Finding);

    /// An access could not be described exactly, so what it did is not known.
    fn refuse(&mut self, refused: &Refused);

    /// Something else is wrong: a crash, a timeout.
    fn violation(&mut self, violation: Violation);

    /// Native code gave control back, at a callback or at the end of a call, and what it did to
    /// the arena has been applied if it was `traced`. If not, it may have changed anything that
    /// it could reach. Memory outside of the arena may have changed in any case.
    fn native_ran(&mut self, traced: bool);
}

impl InterpreterMemory for Memory {
    fn arena(&self) -> &Arena {
        Memory::arena(self)
    }

    fn arena_mut(&mut self) -> &mut Arena {
        &mut self.arena
    }

    fn shadow(&self) -> &Shadow {
        Memory::shadow(self)
    }

    #[inline]
    fn apply(&mut self, event: &AccessEvent) -> Option<Finding> {
        Memory::apply(self, event)
    }

    fn apply_loop(&mut self, repeated: &Loop<'_>) -> bool {
        Memory::apply_loop(self, repeated)
    }

    fn forgets_repetitions(&self) -> bool {
        true
    }

    fn neighbour(&self, range: &Range<u64>) -> Option<Range<u64>> {
        Memory::neighbour(self, range)
    }

    fn title_at(&self, addr: u64) -> Option<String> {
        let place = self.locate(addr)?;
        Some(self.get(place.allocation)?.title())
    }

    fn report(&mut self, finding: &Finding) {
        Memory::report(self, finding);
    }

    fn note_overread(&mut self, finding: &Finding) {
        Memory::note_overread(self, finding);
    }

    fn refuse(&mut self, refused: &Refused) {
        Memory::refuse(self, refused);
    }

    fn violation(&mut self, violation: Violation) {
        self.log.push(violation);
    }

    fn native_ran(&mut self, traced: bool) {
        Memory::native_ran(self, traced);
    }
}
