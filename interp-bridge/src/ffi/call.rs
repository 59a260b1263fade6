//! One native call, prepared with libffi so that making it needs nothing but a pointer.
//!
//! ```text
//!  NativeCall::new ─► set_values ─► as_ptr ─► trampoline(ptr) ─► ffi_call ─► value
//!                         └─────────── again for a repeat ◄────────────────────┘
//! ```
//!
//! All is allocated when a call is prepared. Setting scalars, calling and taking a scalar result
//! allocate nothing, so one prepared call can be made millions of times.
//!
//! # Safety
//! The engine runs [`trampoline`](NativeCall::trampoline) inside a region that a signal handler
//! may leave by restoring registers. So the trampoline's frame owns nothing: it reads a
//! [`Frame`] through a raw pointer, calls `ffi_call`, which works on the stack alone, and
//! returns. All memory that it touches belongs to the [`NativeCall`] and is never moved, and
//! every size in it comes from the layout that libffi was told when the call was prepared.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::sync::Arc;

use libffi::low::{self, CodePtr};

use super::signature::promote;
use super::{
    CallError, CallInterface, Function, Lease, RetValue, Signature, Use, Value, ValueError, marshal,
};
use crate::binding::{ArgValue, PointerAt};
use crate::ctype::CType;
use crate::prototype::Prototype;

/// Makes the call that the pointer from [`NativeCall::as_ptr`] stands for.
pub type Trampoline = unsafe extern "C" fn(*mut c_void);

/// What the trampoline reads.
#[repr(C)]
struct Frame {
    cif: *mut low::ffi_cif,
    code: CodePtr,
    ret: *mut c_void,
    args: *mut *mut c_void,
    /// `errno` for the function, and as it left it.
    errno: i32,
}

/// Storage of 16 bytes, aligned for every type that is passed by value.
#[repr(C, align(16))]
#[derive(Clone, Copy)]
struct Slot([u8; 16]);

/// Where an argument's value lies.
#[derive(Clone, Copy)]
struct Place {
    /// First slot.
    slot: usize,
    /// Size in bytes.
    size: usize,
}

/// A function with its signature and arguments, ready to be called any number of times.
///
/// ```
/// use interp_bridge::{ctype::CType, ffi::{NativeCall, Signature, Value}};
/// extern "C" fn add(a: i32, b: i64) -> i64 {
///     i64::from(a) + b
/// }
/// let signature = Signature::new([CType::i32(), CType::i64()], CType::i64());
/// let mut call = NativeCall::new(signature, add as *const () as u64)?;
/// call.set_values(&[Value::from(-2), Value::from(44)])?;
/// // SAFETY: `add` has this signature.
/// let result = unsafe { call.run() }?;
/// assert_eq!(result, Value::from(42i64));
/// # Ok::<(), interp_bridge::ffi::CallError>(())
/// ```
pub struct NativeCall {
    interface: CallInterface,
    signature: Arc<Signature>,
    /// Values of all arguments, one after the other.
    values: Box<[Slot]>,
    places: Box<[Place]>,
    ret: Box<[Slot]>,
    /// Size of the result in bytes.
    ret_size: usize,
    /// Pointers to the values. libffi may overwrite them, so they are set before each call.
    pointers: Box<[*mut c_void]>,
    frame: Box<Frame>,
    /// The function.
    address: u64,
    /// Calls that entered original code and faulted there.
    pub(crate) faulted: u32,
    lease: Option<Lease>,
}

// SAFETY: every pointer in it leads to memory that it owns and that no other value knows, or to
// libffi's descriptions of scalars, which nothing writes after the program's start.
unsafe impl Send for NativeCall {}

impl NativeCall {
    /// Prepares calls of the function at `address`, which has this signature.
    ///
    /// # Errors
    /// [`CallError`] for a type that is not passed by value, with the argument that has it.
    pub fn new(
        signature: impl Into<Arc<Signature>>,
        address: u64,
    ) -> Result<NativeCall, CallError> {
        let signature = signature.into();
        let interface = CallInterface::new(&signature)?;
        // The interface has seen to it that all have a size.
        let size = |ty: &CType| ty.by_value().map_or(0, |l| l.size as usize);
        let mut slots = 0;
        let place = |ty| {
            let size = size(ty);
            let slot = slots;
            slots += size.div_ceil(16).max(1);
            Place { slot, size }
        };
        let places: Box<[Place]> = signature.params().iter().map(place).collect();
        let ret_size = size(signature.ret());
        let frame = Box::new(Frame {
            cif: interface.as_raw_ptr(),
            code: CodePtr(address as *mut c_void),
            ret: std::ptr::null_mut(),
            args: std::ptr::null_mut(),
            errno: 0,
        });
        Ok(NativeCall {
            interface,
            values: vec![Slot([0; 16]); slots].into_boxed_slice(),
            pointers: vec![std::ptr::null_mut(); places.len()].into_boxed_slice(),
            places,
            // Room for the full register that libffi always writes.
            ret: vec![Slot([0; 16]); ret_size.div_ceil(16).max(1)].into_boxed_slice(),
            ret_size,
            signature,
            frame,
            address,
            faulted: 0,
            lease: None,
        })
    }

    /// Prepares a call of `function` as `prototype` declares it.
    ///
    /// # Errors
    /// As [`NativeCall::of`].
    pub fn prepare(prototype: &Prototype, function: &Function) -> Result<NativeCall, CallError> {
        NativeCall::of(Signature::from(prototype), function)
    }

    /// Prepares calls of a library's function, which keep the library loaded.
    ///
    /// # Errors
    /// As [`NativeCall::new`], and [`CallError::Closed`] if the library was unloaded.
    pub fn of(
        signature: impl Into<Arc<Signature>>,
        function: &Function,
    ) -> Result<NativeCall, CallError> {
        let lease = function.owner.lease(Use::Call, &function.name);
        let lease = lease.map_err(|_| CallError::Closed {
            function: function.name.clone(),
        })?;
        let mut call = NativeCall::new(signature, function.address)?;
        call.lease = lease;
        Ok(call)
    }

    /// Sets what the function finds in `errno`. It is 0 otherwise.
    pub fn set_errno(&mut self, errno: i32) {
        self.frame.errno = errno;
    }

    /// What the last call that returned left in `errno`.
    pub fn errno(&self) -> i32 {
        self.frame.errno
    }

    /// What keeps the function's library loaded, if it has one. Tell it when native code was left
    /// in the middle of this call.
    pub fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    /// What is called with what.
    pub fn signature(&self) -> &Arc<Signature> {
        &self.signature
    }

    /// Has the following calls go to the function at `address`, which has the same signature. The
    /// library of the one before is not kept loaded any more.
    pub fn set_address(&mut self, address: u64) {
        self.lease = None;
        self.faulted = 0;
        self.address = address;
    }

    /// Sets all arguments.
    ///
    /// # Errors
    /// [`CallError::Count`] for another number of them, [`CallError::Argument`] for the first that
    /// is no value of its parameter's type. The call keeps what was set before the error.
    pub fn set_values(&mut self, values: &[Value]) -> Result<(), CallError> {
        self.signature.check_count(values.len())?;
        let signature = self.signature.clone();
        for (index, (ty, value)) in signature.params().iter().zip(values).enumerate() {
            let promoted = match signature.is_variadic_at(index) {
                true => promote(value),
                false => None,
            };
            let out = bytes_mut(&mut self.values, self.places[index]);
            marshal::encode(ty, promoted.as_ref().unwrap_or(value), out)
                .map_err(|error| argument(&signature, index, error))?;
        }
        Ok(())
    }

    /// Sets all arguments to those of a plan. `bases` has the native address of each buffer.
    ///
    /// # Errors
    /// [`CallError::Count`], [`CallError::Argument`] where `args` do not match the signature or
    /// `bases`.
    pub fn set_args(&mut self, args: &[ArgValue], bases: &[u64]) -> Result<(), CallError> {
        self.signature.check_count(args.len())?;
        for (index, arg) in args.iter().enumerate() {
            let out = bytes_mut(&mut self.values, self.places[index]);
            if set_arg(arg, bases, out).is_none() {
                let error = ValueError::Mismatch {
                    path: String::new(),
                    given: "a value of another size, or of an unknown buffer,".to_owned(),
                    expected: self.signature.params()[index].name(),
                };
                return Err(argument(&self.signature, index, error));
            }
        }
        Ok(())
    }

    /// The function to pass [`as_ptr`](Self::as_ptr) to. It owns nothing while native code runs,
    /// so it may be left at any point by restoring registers.
    pub fn trampoline() -> Trampoline {
        trampoline
    }

    /// Address of the function that is called.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// What the trampoline takes: once for each call, since libffi may change its pointers. The
    /// pointer is good until `self` is used again or dropped.
    pub fn as_ptr(&mut self) -> *mut c_void {
        self.as_ptr_at(self.address)
    }

    /// The same for a call of the function at another address, where it is translated.
    pub(crate) fn as_ptr_at(&mut self, entry: u64) -> *mut c_void {
        self.frame.code = CodePtr(entry as *mut c_void);
        self.ret.fill(Slot([0; 16]));
        let values = self.values.as_mut_ptr();
        for (pointer, place) in self.pointers.iter_mut().zip(&self.places) {
            *pointer = values.wrapping_add(place.slot).cast();
        }
        self.frame.cif = self.interface.as_raw_ptr();
        self.frame.ret = self.ret.as_mut_ptr().cast();
        self.frame.args = self.pointers.as_mut_ptr();
        std::ptr::from_mut(&mut *self.frame).cast()
    }

    /// Makes the call here and now, without a recorder, and takes its result.
    ///
    /// # Errors
    /// As [`NativeCall::value`].
    ///
    /// # Safety
    /// The function must have this signature and accept the arguments.
    pub unsafe fn run(&mut self) -> Result<Value, CallError> {
        let data = self.as_ptr();
        // SAFETY: the pointer is fresh, and the call is the caller's responsibility.
        unsafe { trampoline(data) };
        self.value()
    }

    /// What the last call returned, as far as it is a value of the return type. Zeros count as
    /// returned where no call did.
    ///
    /// # Errors
    /// [`CallError::Return`], which names what was there and what was expected.
    pub fn value(&self) -> Result<Value, CallError> {
        marshal::decode(self.signature.ret(), self.ret_bytes())
            .map_err(|e| CallError::Return(e.into()))
    }

    /// What the last call returned, to be shown; zeros where none has returned.
    pub fn result(&self) -> RetValue {
        RetValue::read(self.signature.ret(), self.ret_bytes())
    }

    fn ret_bytes(&self) -> &[u8] {
        // SAFETY: the slots are plain bytes, of which there are at least `ret_size`.
        unsafe { std::slice::from_raw_parts(self.ret.as_ptr().cast(), self.ret_size) }
    }
}

/// The bytes of one argument.
fn bytes_mut(values: &mut [Slot], place: Place) -> &mut [u8] {
    let slots = &mut values[place.slot..place.slot + place.size.div_ceil(16)];
    // SAFETY: the slots are plain bytes, of which there are at least `size`.
    unsafe { std::slice::from_raw_parts_mut(slots.as_mut_ptr().cast(), place.size) }
}

fn argument(signature: &Signature, index: usize, error: ValueError) -> CallError {
    CallError::Argument {
        index,
        name: signature.name(index).map(str::to_owned),
        error: error.into(),
    }
}

/// Writes one argument of a plan; `None` if it does not suit.
fn set_arg(arg: &ArgValue, bases: &[u64], out: &mut [u8]) -> Option<()> {
    let resolve = |buffer: usize, offset: i64| {
        let address = bases.get(buffer)?.wrapping_add_signed(offset);
        Some(address.to_le_bytes())
    };
    match arg {
        ArgValue::Scalar(bits) if out.len() <= 16 => {
            let size = out.len();
            out.copy_from_slice(&bits.to_le_bytes()[..size]);
        }
        ArgValue::PointerTo { buffer, offset } if out.len() == 8 => {
            out.copy_from_slice(&resolve(*buffer, *offset)?);
        }
        ArgValue::Struct { bytes, pointers } if out.len() == bytes.len() => {
            out.copy_from_slice(bytes);
            for PointerAt { at, buffer, offset } in pointers {
                let at = usize::try_from(*at).ok()?;
                let place = out.get_mut(at..at.checked_add(8)?)?;
                place.copy_from_slice(&resolve(*buffer, *offset)?);
            }
        }
        _ => return None,
    }
    Some(())
}

/// # Safety
/// `call` comes from [`NativeCall::as_ptr`], whose `NativeCall` is alive and not otherwise used.
unsafe extern "C" fn trampoline(call: *mut c_void) {
    let frame: *mut Frame = call.cast();
    // SAFETY: by the caller's promise the frame and all that it points to are alive; cif, ret
    // and args were made for each other by `new`. The call itself is what the user asked for: its
    // effects are contained by the engine, not here. `errno` is the thread's own.
    unsafe {
        let code = *(*frame).code.as_fun();
        let errno = libc::__errno_location();
        *errno = (*frame).errno;
        libffi::raw::ffi_call((*frame).cif, Some(code), (*frame).ret, (*frame).args);
        (*frame).errno = *errno;
    }
}
