//! Interpreter code in the middle of native code: what a callback runs.
//!
//! ```text
//!  native code ─► callback ─► begin: dispatch off, guard put aside      its signals wait
//!                               interpreter code, nested native calls    (guards of their own)
//!                             end:   guard and dispatch back, signals that waited are sent
//!                             ─► native code,  or the call is over
//! ```
//! While it lasts the thread is the interpreter's: its system calls are not native code's, a crash
//! of it is not native code's either and goes to the handler that was there before us, and a
//! request to end the native call has to wait until native code goes on. Handlers of native code
//! are not called in between, since they might call back in the middle of what the interpreter
//! does; nor is its thread cancelled, which would unwind the interpreter's frames.
//!
//! # Safety
//! A guard that is put aside stays on the stack below the interlude, whose frames end before it.
#![allow(unsafe_code)]

use std::sync::atomic::AtomicU32;

use super::{
    block,
    engine::{Engine, Recording},
    exit,
    guard::{Guard, Reason},
    hot,
    safe::{self, Safe},
    signals, thread,
};

/// Signals that there are.
const SIGNALS: i32 = 64;
/// `PTHREAD_CANCEL_DISABLE` (pthread.h).
const CANCEL_DISABLE: i32 = 1;

unsafe extern "C" {
    fn pthread_setcancelstate(state: i32, before: *mut i32) -> i32;
}

/// See the module. Ends by [`end`](Interlude::end) or [`end_call`](Interlude::end_call); it is not
/// enough to drop it.
#[must_use = "native code must not go on before the interlude has ended"]
pub struct Interlude {
    engine: &'static Engine,
    errno: i32,
    cancel: i32,
    /// Whether native code's system calls were dispatched.
    dispatched: bool,
    /// Whether native code has started this thread.
    foreign: bool,
    guard: *mut Guard,
    suspended: *mut Guard,
    outside: bool,
    /// Whether there is somebody whose next call may be ended.
    session: bool,
}

impl Interlude {
    /// Begins one on this thread, which native code runs on, or the interpreter itself.
    pub(crate) fn begin(engine: &'static Engine) -> Interlude {
        let safe = Safe::promise();
        // SAFETY: the address of this thread's errno is always valid.
        let errno = unsafe { *libc::__errno_location() };
        hot::left(safe);
        let dispatched = thread::block(safe).is_some_and(|block| block.leave_native());
        let mut cancel = CANCEL_DISABLE;
        // SAFETY: changes this thread's own state and stores what it was.
        unsafe { pthread_setcancelstate(CANCEL_DISABLE, &raw mut cancel) };
        thread::state(safe, |state| {
            let guard = state.guard.replace(std::ptr::null_mut());
            let suspended = state.suspended.get();
            let outside = state.outside.replace(true);
            // Where nothing is dispatched, threads of native code look like any other. Then it is
            // native code that calls, for the interpreter waits for it. Elsewhere a thread that is
            // not dispatched is the interpreter's, interrupted by a handler of native code.
            let undispatched = || {
                let nowhere = engine.recording() == Recording::Off || block::undispatchable();
                nowhere && engine.current_call().is_some()
            };
            let foreign = guard.is_null() && !outside && (dispatched || undispatched());
            if !guard.is_null() {
                state.suspended.set(guard);
            }
            Interlude {
                engine,
                errno,
                cancel,
                dispatched,
                foreign,
                guard,
                suspended,
                outside,
                session: true,
            }
        })
    }

    /// Begins one for code whose session is over; none where there never was one.
    pub fn orphan() -> Option<Interlude> {
        Engine::get().map(|engine| Interlude::begin(engine).orphaned())
    }

    /// The session ended since it began.
    pub fn orphaned(mut self) -> Interlude {
        self.session = false;
        self
    }

    /// Whether this thread is one that native code started: it has no native call of its own.
    pub fn on_native_thread(&self) -> bool {
        self.foreign
    }

    /// Whether native code called: false where the interpreter itself did.
    pub fn from_native(&self) -> bool {
        self.foreign || !self.guard.is_null()
    }

    /// Native code goes on. Where its call was asked to end meanwhile, it ends now.
    pub fn end(self) {
        let safe = Safe::promise();
        self.back(safe);
        let guard = self.guard;
        if !guard.is_null() && self.engine.ends.asked(guard).is_some() {
            signals::send_end_call(safe, thread::id(safe));
        }
        // SAFETY: as in `begin`.
        unsafe { *libc::__errno_location() = self.errno };
    }

    /// Ends the native call that the interlude is in the middle of; on a thread that native code
    /// started, the call that is under way, or the session's next one, and this thread stays here
    /// for ever. Returns only where there is no native call to end.
    ///
    /// # Safety
    /// No frame between the native call and this one may own anything that has to be dropped.
    pub unsafe fn end_call(self) {
        let safe = Safe::promise();
        self.back(safe);
        if !self.guard.is_null() {
            self.engine.ends.ask(self.guard, Reason::Interpreter);
            // Delivered before the call that sends it returns.
            signals::send_end_call(safe, thread::id(safe));
        } else if self.foreign {
            // Interpreter code may run here when a call is about to begin, or was ended meanwhile:
            // why it wants to end one must not get lost.
            let never = AtomicU32::new(0);
            let key = loop {
                match self.engine.current_call() {
                    Some(key) => break key,
                    None if !self.session => exit::park(safe),
                    None => safe::wait(safe, &never, 0),
                }
            };
            self.engine.request_end(safe, key, Reason::Interpreter);
            exit::park(safe);
        }
    }

    fn back(&self, safe: Safe) {
        // SAFETY: as in `begin`. A cancellation that is due waits for native code's next call that
        // can be cancelled; one of asynchronous type may come here, where nothing is owned.
        unsafe { pthread_setcancelstate(self.cancel, std::ptr::null_mut()) };
        thread::state(safe, |state| {
            state.outside.set(self.outside);
            state.suspended.set(self.suspended);
            state.guard.set(self.guard);
        });
        if !self.dispatched {
            return;
        }
        let Some(block) = thread::block(safe) else {
            return;
        };
        block.enter_native();
        let due = block.held.get() & !block.hidden.get();
        if due == 0 {
            return;
        }
        block.held.set(block.held.get() & !due);
        for signal in 1..=SIGNALS {
            if due & 1 << (signal - 1) != 0 {
                safe::signal_thread(safe, thread::id(safe), signal);
            }
        }
    }
}

/// Whether this thread runs interpreter code that native code has called.
pub fn inside() -> bool {
    thread::state(Safe::promise(), |state| state.outside.get())
}
