//! Callbacks from Rust closures, with the signature of their type.
//!
//! The thunks are closure-ffi's: they take up to 12 arguments of any type that may cross the C
//! interface, and closures that borrow.
//!
//! # Safety
//! What is wrapped here is called by native code only, which calls what it was given as what it
//! is. The closure of a callback that may run on any thread is `Send`; the turn keeps two threads
//! from running it at once, and the cell around it two calls of one thread. One that is not `Send`
//! runs on the thread that made it, or not at all.
//!
//! A thread of native code may have arrived, and wait for its turn, when the callback is dropped.
//! The closure is dropped with it, but the thunk and its record are [`retired`](super::retired):
//! that thread finds the record, without a body.
#![allow(unsafe_code)]

use std::{
    cell::RefCell,
    sync::{Arc, Weak},
};

use closure_ffi::{
    BareFnAny, cc,
    traits::{Any, FnMutThunk, FnOnceThunk, FnPtr, FnThunk},
};

use super::{
    Home, Leave,
    gate::{self, Entered},
    held::Held,
    here,
    live::Live,
    retired::{self, Disarm},
    thunks::{THUNKS, Thunks},
};
use crate::{
    bridge::{Bridge, Core},
    ffi::{Library, LibraryError},
    memory::InterpreterMemory,
};

/// A function of the interpreter with a signature of its own type. Native code may call
/// [`pointer`](TypedCallback::pointer) until this value is dropped; afterwards, calling it is a
/// violation.
///
/// The closure may borrow for `'f`: whoever forgets the value (`mem::forget`) must see to it that
/// native code does not call it after `'f`.
pub struct TypedCallback<'f, B: FnPtr> {
    /// There until it is dropped.
    thunk: Option<Thunk<'f, B>>,
    pointer: B,
    record: Arc<dyn Disarm + 'f>,
    live: Live,
}

/// The code of a callback, which keeps its record.
struct Thunk<'f, B: FnPtr> {
    _bare: BareFnAny<B, dyn Any + 'f, &'static Thunks>,
}

// SAFETY: sent only once its record has no body any more: what is left is a `Weak<Core>` and
// memory of the process, which may go on any thread.
unsafe impl<B: FnPtr> Send for Thunk<'_, B> {}

/// What a thunk leads to.
struct Record<'f, B: FnPtr, M: InterpreterMemory + 'static> {
    core: Weak<Core<M>>,
    body: Held<dyn Body<B> + 'f>,
}

impl<B: FnPtr, M: InterpreterMemory> Disarm for Record<'_, B, M> {
    fn disarm(&self) {
        self.body.disarm();
    }
}

impl<B: FnPtr> Drop for TypedCallback<'_, B> {
    fn drop(&mut self) {
        self.record.disarm();
        if let Some(thunk) = self.thunk.take() {
            let thunk: Box<dyn Send + '_> = Box::new(thunk);
            // SAFETY: only the lifetime changes; what borrowed for it was the body.
            retired::keep(unsafe {
                std::mem::transmute::<Box<dyn Send + '_>, Box<dyn Send>>(thunk)
            });
        }
    }
}

impl<B: FnPtr> TypedCallback<'_, B> {
    /// The function pointer for native code. It is good while `self` is.
    pub fn pointer(&self) -> B {
        self.pointer
    }

    /// Keeps a library loaded while this value lives: it was handed the function in a way that
    /// the bridge does not see, in memory or in a struct.
    ///
    /// # Errors
    /// [`LibraryError::Closed`] if the library was unloaded.
    pub fn lend_to(&self, library: &Library) -> Result<(), LibraryError> {
        self.live.lend_to(library)
    }

    /// The same as an address, for memory and arguments.
    pub fn address(&self) -> u64 {
        self.pointer().to_ptr() as u64
    }
}

impl<M: InterpreterMemory + 'static> Bridge<M> {
    /// A callback from a closure that does not change its own state; it may be called again while
    /// it runs, and on any thread, one at a time.
    ///
    /// The signature is that of the closure's parameters:
    /// `bridge.closure(|a: i32, b: i32| -> i32 { a - b })`.
    pub fn closure<'f, B, F>(&self, f: F) -> TypedCallback<'f, B>
    where
        B: FnPtr<CC = cc::C> + 'f,
        F: Send + 'f,
        (cc::C, F): FnThunk<B>,
    {
        make(self, None, Shared((cc::C, f)))
    }

    /// The same for a closure that cannot be sent to other threads: on those that native code
    /// starts, calling it is refused by name and ends the native call.
    pub fn local_closure<'f, B, F>(&self, f: F) -> TypedCallback<'f, B>
    where
        B: FnPtr<CC = cc::C> + 'f,
        F: 'f,
        (cc::C, F): FnThunk<B>,
    {
        make(self, here(), Shared((cc::C, f)))
    }

    /// A callback from a closure that changes its own state, on any thread. Calling it while it
    /// runs is refused by name and ends the native call.
    pub fn closure_mut<'f, B, F>(&self, f: F) -> TypedCallback<'f, B>
    where
        B: FnPtr<CC = cc::C> + 'f,
        F: Send + 'f,
        (cc::C, F): FnMutThunk<B>,
    {
        make(self, None, Exclusive(RefCell::new((cc::C, f))))
    }

    /// The same for a closure that cannot be sent to other threads.
    pub fn local_closure_mut<'f, B, F>(&self, f: F) -> TypedCallback<'f, B>
    where
        B: FnPtr<CC = cc::C> + 'f,
        F: 'f,
        (cc::C, F): FnMutThunk<B>,
    {
        make(self, here(), Exclusive(RefCell::new((cc::C, f))))
    }

    /// A callback that may be called once; a second call is one of a freed callback.
    pub fn closure_once<'f, B, F>(&self, f: F) -> TypedCallback<'f, B>
    where
        B: FnPtr<CC = cc::C> + 'f,
        F: Send + 'f,
        (cc::C, F): FnOnceThunk<B>,
    {
        make(self, None, Once(RefCell::new(Some((cc::C, f)))))
    }

    /// The same for a closure that cannot be sent to other threads.
    pub fn local_closure_once<'f, B, F>(&self, f: F) -> TypedCallback<'f, B>
    where
        B: FnPtr<CC = cc::C> + 'f,
        F: 'f,
        (cc::C, F): FnOnceThunk<B>,
    {
        make(self, here(), Once(RefCell::new(Some((cc::C, f)))))
    }
}

/// What a callback does once the gate has let it in.
trait Body<B: FnPtr> {
    /// Runs the closure.
    ///
    /// # Safety
    /// The arguments are what native code called the callback with.
    unsafe fn run<'a, 'b, 'c>(
        &self,
        args: B::Args<'a, 'b, 'c>,
    ) -> Result<B::Ret<'a, 'b, 'c>, Leave>;
}

/// A closure that may run in the middle of itself.
struct Shared<F>((cc::C, F));
/// One that may not.
struct Exclusive<F>(RefCell<(cc::C, F)>);
/// One that runs once.
struct Once<F>(RefCell<Option<(cc::C, F)>>);

impl<B: FnPtr, F> Body<B> for Shared<F>
where
    (cc::C, F): FnThunk<B>,
{
    unsafe fn run<'a, 'b, 'c>(
        &self,
        args: B::Args<'a, 'b, 'c>,
    ) -> Result<B::Ret<'a, 'b, 'c>, Leave> {
        // SAFETY: by the caller's promise.
        Ok(unsafe { self.0.call(args) })
    }
}

impl<B: FnPtr, F> Body<B> for Exclusive<F>
where
    (cc::C, F): FnMutThunk<B>,
{
    unsafe fn run<'a, 'b, 'c>(
        &self,
        args: B::Args<'a, 'b, 'c>,
    ) -> Result<B::Ret<'a, 'b, 'c>, Leave> {
        let mut f = self.0.try_borrow_mut().map_err(|_| Leave::Reentered)?;
        // SAFETY: by the caller's promise.
        Ok(unsafe { f.call_mut(args) })
    }
}

impl<B: FnPtr, F> Body<B> for Once<F>
where
    (cc::C, F): FnOnceThunk<B>,
{
    unsafe fn run<'a, 'b, 'c>(
        &self,
        args: B::Args<'a, 'b, 'c>,
    ) -> Result<B::Ret<'a, 'b, 'c>, Leave> {
        let f = self.0.try_borrow_mut().ok().and_then(|mut f| f.take());
        let f = f.ok_or(Leave::Freed)?;
        // SAFETY: by the caller's promise.
        Ok(unsafe { f.call_once(args) })
    }
}

fn make<'f, B, G, M>(bridge: &Bridge<M>, home: Home, body: G) -> TypedCallback<'f, B>
where
    B: FnPtr<CC = cc::C> + 'f,
    G: Body<B> + 'f,
    M: InterpreterMemory + 'static,
{
    let record: Arc<Record<'f, B, M>> = Arc::new(Record {
        core: Arc::downgrade(bridge.core()),
        body: Held::new(home, Arc::new(body)),
    });
    let kept = Arc::clone(&record);
    let thunk = closure_ffi::thunk_factory::make::<B, _>(move |args| {
        let core = &record.core;
        // The callback may be dropped before the turn comes, and the thunk even go.
        let record = Arc::clone(&record);
        let run = move |_: &Entered<M>| {
            let body = record.body.here()?;
            // SAFETY: native code called with them.
            unsafe { body.run(args) }
        };
        // SAFETY: the frames from here to native code are the thunk's, which own nothing: the
        // record is `run`'s, which the gate drops.
        unsafe { gate::from_native(core, run) }
    });
    let bare = BareFnAny::with_thunk_in(thunk, &THUNKS);
    let pointer = bare.bare();
    TypedCallback {
        pointer,
        thunk: Some(Thunk { _bare: bare }),
        record: kept,
        live: Live::new(pointer.to_ptr() as u64),
    }
}
