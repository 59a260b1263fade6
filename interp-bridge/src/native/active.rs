//! How a hook, which is a bare C function, finds the heap that it works on.
//!
//! ```text
//!  hook ─► with ─► ACTIVE ─► Host::enter ─► (accesses so far are applied) ─► heap + memory
//!                    └─ nobody watches, a forked child: the hook passes the call through
//! ```
//!
//! # Safety
//! What `ACTIVE` points to is leaked: a hook that was on its way when the watching ended still
//! finds it. Only its heap is emptied then.
#![allow(unsafe_code)]

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use super::NativeHeapMode;
use super::heap::NativeHeap;
use crate::memory::Memory;

/// What hooks need of whoever runs native code.
pub(super) trait Host: Send + Sync {
    /// Runs `body` once, as code that is not native code's, on the memory to which all accesses
    /// of native code up to now have been applied. Returns false, and does not run it, where that
    /// cannot be.
    ///
    /// May end the native call instead of returning, after `body`: callers own nothing then that
    /// has to be dropped.
    fn enter(&self, body: &mut dyn FnMut(&mut Memory)) -> bool;

    /// Runs `body` once, for the interpreter itself, if there is a memory still.
    fn outside(&self, body: &mut dyn FnMut(&mut Memory));
}

/// A heap that is watched.
pub(super) struct Active {
    host: Box<dyn Host>,
    heap: Mutex<NativeHeap>,
    pub(super) mode: NativeHeapMode,
    /// The whole arena, both views.
    pub(super) arena: Range<u64>,
    /// Nobody watches any more.
    over: AtomicBool,
}

static ACTIVE: AtomicPtr<Active> = AtomicPtr::new(std::ptr::null_mut());
/// Set in a child that native code forked: it has no arena and no interpreter.
static FORKED: AtomicBool = AtomicBool::new(false);

impl Active {
    /// Makes hooks work on `heap` from now on; `None` if another one is watched already.
    pub(super) fn begin(
        host: Box<dyn Host>,
        heap: NativeHeap,
        mode: NativeHeapMode,
        arena: Range<u64>,
    ) -> Option<&'static Active> {
        notice_forks();
        let active = Box::into_raw(Box::new(Active {
            host,
            heap: Mutex::new(heap),
            mode,
            arena,
            over: AtomicBool::new(false),
        }));
        let begun = ACTIVE.compare_exchange(
            std::ptr::null_mut(),
            active,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        match begun {
            // SAFETY: just leaked.
            Ok(_) => Some(unsafe { &*active }),
            Err(_) => {
                // SAFETY: it was not published, so it is this function's alone.
                drop(unsafe { Box::from_raw(active) });
                None
            }
        }
    }

    /// Hooks pass everything through from now on. Returns the blocks that waited to be freed.
    pub(super) fn end(&'static self) -> Vec<u64> {
        self.over.store(true, Ordering::Release);
        let this = std::ptr::from_ref(self).cast_mut();
        // Nobody else's: `begin` publishes only where there is none.
        let _ = ACTIVE.compare_exchange(
            this,
            std::ptr::null_mut(),
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        let mut waiting = Vec::new();
        self.outside(|heap, memory| waiting = heap.clear(memory));
        waiting
    }

    /// Runs `body` on heap and memory for the interpreter itself.
    pub(super) fn outside(&self, body: impl FnOnce(&mut NativeHeap, &mut Memory)) {
        let mut body = Some(body);
        self.host.outside(&mut |memory| {
            if let Some(body) = body.take() {
                body(&mut self.heap(), memory);
            }
        });
    }

    /// The heap. Not to be held while native code runs.
    pub(super) fn heap(&self) -> MutexGuard<'_, NativeHeap> {
        // Plain data, complete after each of its methods.
        self.heap.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `body` on heap and memory; `None` where that cannot be.
    pub(super) fn with<R>(
        &self,
        body: impl FnOnce(&mut NativeHeap, &mut Memory) -> R,
    ) -> Option<R> {
        if self.over.load(Ordering::Acquire) {
            return None;
        }
        let mut body = Some(body);
        let mut result = None;
        self.host.enter(&mut |memory| {
            if let Some(body) = body.take() {
                result = Some(body(&mut self.heap(), memory));
            }
        });
        result
    }
}

/// What is watched, if anything is and this process is the one that it is watched in.
pub(super) fn active() -> Option<&'static Active> {
    if FORKED.load(Ordering::Relaxed) {
        return None;
    }
    // SAFETY: null, or leaked.
    unsafe { ACTIVE.load(Ordering::Acquire).as_ref() }
}

/// Whether an address is the arena's, of whoever watches or watched last in this process or in
/// the one that forked it.
pub(super) fn is_arena(addr: u64) -> bool {
    // SAFETY: null, or leaked.
    let active = unsafe { ACTIVE.load(Ordering::Acquire).as_ref() };
    active.is_some_and(|active| active.arena.contains(&addr))
}

fn notice_forks() {
    extern "C" fn forked() {
        FORKED.store(true, Ordering::Relaxed);
    }
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the handler stores to an atomic; it stays, for it is part of the program.
        unsafe { libc::pthread_atfork(None, None, Some(forked)) };
    });
}
