//! What the thread that delivers events and the interpreter share, under one lock.

use std::sync::{
    MutexGuard,
    atomic::{AtomicUsize, Ordering},
};

use tracer_user::access::{AccessEvent, AccessKind, EventSink, Loop, Refused, Series};

use super::{
    Observer,
    found::{CallStackProvider, Found},
    strings::{self, StringFunctions},
};
use crate::memory::{Finding, InterpreterMemory, Memory, ViolationKind};

/// The memory, and what the bridge needs to apply events to it.
pub(super) struct State<M: InterpreterMemory> {
    pub(super) memory: M,
    pub(super) observer: Option<Box<dyn Observer<M>>>,
    pub(super) strings: StringFunctions,
    pub(super) strict: bool,
    pub(super) overreads: u64,
    pub(super) found: Found,
    pub(super) call_stack: Option<CallStackProvider>,
    /// Counts the times that the interpreter had the memory.
    pub(super) epoch: u64,
}

/// The memory, borrowed between calls.
pub struct MemoryGuard<'a, M: InterpreterMemory + 'static = Memory> {
    state: MutexGuard<'a, State<M>>,
    holder: &'a Holder,
}

impl<'a, M: InterpreterMemory> MemoryGuard<'a, M> {
    pub(super) fn new(lock: impl FnOnce() -> MutexGuard<'a, State<M>>, holder: &'a Holder) -> Self {
        assert!(
            !holder.is_me(),
            "this thread holds `Bridge::memory()` already: drop the guard before asking again"
        );
        let state = lock();
        holder.set(true);
        MemoryGuard { state, holder }
    }
}

impl<M: InterpreterMemory> Drop for MemoryGuard<'_, M> {
    fn drop(&mut self) {
        self.holder.set(false);
    }
}

/// The thread that holds something, the memory for instance, for the interpreter.
#[derive(Default)]
pub(crate) struct Holder(AtomicUsize);

impl Holder {
    /// Whether it is this thread.
    pub(crate) fn is_me(&self) -> bool {
        self.0.load(Ordering::Relaxed) == me()
    }

    /// It is this thread from now on, or none.
    pub(crate) fn set(&self, held: bool) {
        self.0.store(if held { me() } else { 0 }, Ordering::Relaxed);
    }
}

/// A number that no other living thread has.
fn me() -> usize {
    thread_local! {
        static HERE: u8 = const { 0 };
    }
    HERE.with(|here| std::ptr::from_ref(here).addr())
}

impl<M: InterpreterMemory> std::ops::Deref for MemoryGuard<'_, M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.state.memory
    }
}

impl<M: InterpreterMemory> std::ops::DerefMut for MemoryGuard<'_, M> {
    fn deref_mut(&mut self) -> &mut M {
        &mut self.state.memory
    }
}

impl<M: InterpreterMemory> State<M> {
    /// Whether what looks wrong is what string functions do on purpose.
    fn is_overread(&mut self, finding: &Finding) -> bool {
        let access = &finding.event.access;
        let read = access.addr..access.addr.saturating_add(access.len);
        // Beside a freed allocation, the red zone is that one's.
        let beside = matches!(
            finding.kind,
            ViolationKind::OutOfBounds | ViolationKind::UseAfterFree
        );
        if !beside || access.kind != AccessKind::Read {
            return false;
        }
        let Some(object) = self.memory.neighbour(&read) else {
            return false;
        };
        let look = self.strings.look(finding.event.ip);
        look.is_some_and(|look| strings::is_overread(look, &read, &object))
    }

    /// Something is wrong with an access, or looks so.
    fn found(&mut self, mut finding: Finding) {
        if self.is_overread(&finding) {
            self.overreads += 1;
            finding.kind = ViolationKind::Overread;
            if !self.strict {
                self.memory.note_overread(&finding);
                return;
            }
        }
        self.found.finding(&finding);
        self.memory.report(&finding);
    }
}

impl<M: InterpreterMemory> State<M> {
    /// Applies one access. Whether nothing is wrong with it.
    #[inline]
    fn one(&mut self, event: &AccessEvent) -> bool {
        if let Some(observer) = &mut self.observer {
            observer.event(event, &self.memory);
        }
        let Some(finding) = self.memory.apply(event) else {
            return true;
        };
        self.found(finding);
        false
    }
}

impl<M: InterpreterMemory> EventSink for State<M> {
    fn event(&mut self, event: &AccessEvent) {
        self.one(event);
    }

    fn epoch(&self) -> Option<u64> {
        let each_counts = self.observer.is_some() || !self.memory.forgets_repetitions();
        (!each_counts).then_some(self.epoch)
    }

    fn series(&mut self, series: &Series<'_>) -> bool {
        let mut settled = true;
        for event in series.events() {
            settled &= self.one(&event);
        }
        settled
    }

    fn repeated(&mut self, repeated: &Loop<'_>) {
        if self.observer.is_some() || !self.memory.apply_loop(repeated) {
            for event in repeated.events() {
                self.event(&event);
            }
        }
    }

    fn stop(&mut self) -> bool {
        self.found.stop()
    }

    fn refused(&mut self, refused: &Refused) {
        self.found.other();
        self.memory.refuse(refused);
    }
}
