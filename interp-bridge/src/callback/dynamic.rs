//! Callbacks whose signature is known at run time, by libffi's closures.
//!
//! ```text
//!  native ─► libffi's closure ─► arrive(record) ─► gate ─► arguments to values ─► body
//!                                                  result ◄── value to its place ◄──┘
//! ```
//! An interpreter for another language does not have its functions as Rust closures of their own
//! types: it has a signature, and takes and returns values.
//!
//! # Safety
//! A libffi closure points to its record, which is freed only after the closure is
//! ([`retired`](super::retired)): a call that arrives after the callback was dropped finds the
//! record, without a body. The record's type parameters are those of the function that libffi is
//! given with it. Bodies run as those of typed callbacks do: on one thread at a time, or on the
//! thread that made them.
#![allow(unsafe_code)]

use std::{
    error::Error,
    ffi::c_void,
    marker::PhantomData,
    sync::{Arc, Weak},
};

use libffi::low::{self, CodePtr};

use super::{
    Home, Leave,
    gate::{self, Entered},
    held::Held,
    here,
    live::Live,
    retired::{self, Disarm, Retired},
};
use crate::{
    bridge::{Bridge, Core},
    ctype::CType,
    ffi::{CallError, CallInterface, Library, LibraryError, Signature, Value, marshal},
    memory::{InterpreterMemory, Memory},
};

/// Why there is no callback.
#[derive(Debug, thiserror::Error)]
pub enum CallbackError {
    /// A type that cannot be passed, or a signature that libffi refuses.
    #[error(transparent)]
    Signature(#[from] CallError),
    /// A function with a variable number of arguments.
    #[error(
        "a callback cannot take a variable number of arguments: it would not know how many there \
         are; give it the signature that it is called with"
    )]
    Variadic,
    /// No executable memory.
    #[error("no executable memory for a callback; allow it to this process (SELinux: execmem)")]
    NoMemory,
}

/// One call of a callback.
pub struct Invocation<'i, M: InterpreterMemory + 'static = Memory> {
    /// The bridge whose callback it is, for its memory and for native calls.
    pub bridge: &'i Bridge<M>,
    /// What native code passed.
    pub args: &'i [Value],
    /// Whether this is a thread that native code started.
    pub native_thread: bool,
}

/// What a callback's body returns: a value of the signature's return type, or an error, which ends
/// the native call and is handed to its caller ([`Leave::Stopped`]).
pub type BodyResult = Result<Value, Box<dyn Error + Send + Sync>>;

type Body<M> = dyn Fn(&Invocation<'_, M>) -> BodyResult;
/// The same, before its lifetime is given up.
type Borrowed<'f, M> = dyn Fn(&Invocation<'_, M>) -> BodyResult + 'f;

/// A function of the interpreter with a signature that is known at run time. Native code may call
/// [`address`](Callback::address) until this value is dropped; afterwards, calling it is a
/// violation.
///
/// The body may borrow for `'f`: whoever forgets the value (`mem::forget`) must see to it that
/// native code does not call it after `'f`.
pub struct Callback<'f> {
    /// There until it is dropped.
    retired: Option<Retired>,
    live: Live,
    record: Arc<dyn Disarm>,
    address: u64,
    body: PhantomData<&'f ()>,
}

/// What a closure is called with.
struct Record<M: InterpreterMemory + 'static> {
    signature: Arc<Signature>,
    interface: CallInterface,
    core: Weak<Core<M>>,
    body: Held<Body<M>>,
}

// SAFETY: a body that is not `Send` runs on its own thread only ([`Held`]); it is dropped there too,
// since `Callback` is neither `Send` nor `Sync`.
unsafe impl<M: InterpreterMemory> Send for Record<M> {}
// SAFETY: likewise; bodies run one at a time.
unsafe impl<M: InterpreterMemory> Sync for Record<M> {}

impl<M: InterpreterMemory> Disarm for Record<M> {
    fn disarm(&self) {
        self.body.disarm();
    }
}

impl Callback<'_> {
    /// The address of the function for native code, for memory and arguments. It is good while
    /// `self` is.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Keeps a library loaded while this value lives: it was handed the function in a way that
    /// the bridge does not see, in memory or in a struct.
    ///
    /// # Errors
    /// [`LibraryError::Closed`] if the library was unloaded.
    pub fn lend_to(&self, library: &Library) -> Result<(), LibraryError> {
        self.live.lend_to(library)
    }

    /// The same as a value.
    pub fn value(&self) -> Value {
        Value::from(self.address as *const c_void)
    }
}

impl Drop for Callback<'_> {
    fn drop(&mut self) {
        self.record.disarm();
        if let Some(closure) = self.retired.take() {
            retired::keep(Box::new(closure));
        }
    }
}

impl<M: InterpreterMemory + 'static> Bridge<M> {
    /// A callback with this signature; it may be called again while it runs, and on any thread,
    /// one at a time.
    ///
    /// # Errors
    /// [`CallbackError`] for a signature that C functions cannot have, or libffi cannot make.
    pub fn callback<'f>(
        &self,
        signature: impl Into<Arc<Signature>>,
        body: impl Fn(&Invocation<'_, M>) -> BodyResult + Send + 'f,
    ) -> Result<Callback<'f>, CallbackError> {
        make(self, None, signature.into(), Arc::new(body))
    }

    /// The same for a body that cannot be sent to other threads: on those that native code starts,
    /// calling it is refused by name and ends the native call.
    ///
    /// # Errors
    /// As [`Bridge::callback`].
    pub fn local_callback<'f>(
        &self,
        signature: impl Into<Arc<Signature>>,
        body: impl Fn(&Invocation<'_, M>) -> BodyResult + 'f,
    ) -> Result<Callback<'f>, CallbackError> {
        make(self, here(), signature.into(), Arc::new(body))
    }
}

fn make<'f, M: InterpreterMemory + 'static>(
    bridge: &Bridge<M>,
    home: Home,
    signature: Arc<Signature>,
    body: Arc<Borrowed<'f, M>>,
) -> Result<Callback<'f>, CallbackError> {
    if signature.fixed().is_some() {
        return Err(CallbackError::Variadic);
    }
    let interface = CallInterface::new(&signature)?;
    // SAFETY: only the lifetime changes; the body is taken away when the callback is dropped,
    // which is before 'f ends unless it is forgotten (see `Callback`).
    let body = unsafe { std::mem::transmute::<Arc<Borrowed<'f, M>>, Arc<Body<M>>>(body) };
    let record = Arc::new(Record {
        signature,
        interface,
        core: Arc::downgrade(bridge.core()),
        body: Held::new(home, body),
    });
    let (closure, code) = low::try_closure_alloc().ok_or(CallbackError::NoMemory)?;
    let retired = Retired::new(closure, record.clone());
    // SAFETY: the closure was just allocated with this code address; interface and record live as
    // long as it does, in `retired`; `arrive` is given the record of its own type.
    unsafe {
        low::prep_closure(
            closure,
            record.interface.as_raw_ptr(),
            arrive::<M>,
            Arc::as_ptr(&record),
            code,
        )
    }
    .map_err(|_| CallbackError::NoMemory)?;
    let CodePtr(address) = code;
    Ok(Callback {
        retired: Some(retired),
        live: Live::new(address as u64),
        record,
        address: address as u64,
        body: PhantomData,
    })
}

/// What libffi calls.
unsafe extern "C" fn arrive<M: InterpreterMemory + 'static>(
    _: &low::ffi_cif,
    result: &mut c_void,
    args: *const *const c_void,
    record: &Record<M>,
) {
    let place: *mut c_void = result;
    // SAFETY: the frames from here to native code are libffi's, which own nothing.
    unsafe { gate::from_native(&record.core, |entered| run(record, entered, place, args)) }
}

fn run<M: InterpreterMemory + 'static>(
    record: &Record<M>,
    entered: &Entered<M>,
    place: *mut c_void,
    args: *const *const c_void,
) -> Result<(), Leave> {
    let body = record.body.here()?;
    // SAFETY: libffi's own array, during the call, for the signature that the closure has.
    let args = unsafe { marshal::arguments(&record.signature, args) }
        .map_err(|error| Leave::Value(format!("native code called a callback: {error}")))?;
    let value = body(&Invocation {
        bridge: &entered.bridge,
        args: &args,
        native_thread: entered.native_thread,
    })
    .map_err(Leave::Stopped)?;
    let ty: &CType = record.signature.ret();
    // SAFETY: libffi's place for a result of the signature's type.
    unsafe { marshal::store_return(ty, &value, place) }
        .map_err(|error| Leave::Value(format!("a callback's result: {error}")))
}
