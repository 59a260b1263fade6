//! One native call, prepared with libffi so that making it needs nothing but a pointer.
//!
//! ```text
//!  NativeCall::prepare ─► set_args ─► as_ptr ─► trampoline(ptr) ─► ffi_call ─► result
//!                            └──────────── again for a repeat ◄────────────────┘
//! ```
//!
//! # Safety
//! The engine runs [`trampoline`](NativeCall::trampoline) inside a region that a signal handler
//! may leave by restoring registers. So the trampoline's frame owns nothing: it reads a
//! [`Frame`] through a raw pointer, calls `ffi_call`, which works on the stack alone, and
//! returns. All memory that it touches belongs to the [`NativeCall`] and is never moved, and
//! every size in it was checked against libffi's own layout when the call was prepared.
#![allow(unsafe_code)]

use std::ffi::c_void;

use libffi::low::{self, CodePtr};
use libffi::middle::{Cif, Type};

use super::{Function, RetValue};
use crate::binding::{ArgValue, PointerAt};
use crate::ctype::{CType, IntType};
use crate::prototype::Prototype;

/// Most bytes of one struct by value: they travel on the stack, and libffi describes each
/// element of an array by an object of its own.
const MAX_STRUCT: u64 = 64 << 10;

/// Makes the call that the pointer from [`NativeCall::as_ptr`] stands for.
pub type Trampoline = unsafe extern "C" fn(*mut c_void);

/// A call that cannot be prepared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// A struct too large to pass by value.
    #[error("`{name}` has {size} bytes, the limit for a struct by value is {MAX_STRUCT}")]
    TooLarge {
        /// The struct.
        name: String,
        /// Its size in bytes.
        size: u64,
    },
    /// A type that has no libffi description.
    #[error("`{0}` cannot be passed by value")]
    Type(String),
    /// libffi refuses the signature.
    #[error("libffi refuses the signature of `{function}`: {reason}")]
    Ffi {
        /// The function.
        function: String,
        /// libffi's reason.
        reason: String,
    },
    /// Our layout of a struct and libffi's differ.
    #[error("ffitrace and libffi disagree on the layout of `{0}`")]
    Layout(String),
    /// Arguments that do not match the prototype.
    #[error("argument {index} does not match the prototype")]
    Argument {
        /// Counted from 0.
        index: usize,
    },
}

impl CallError {
    /// What mends it.
    pub fn help(&self) -> String {
        "pass a pointer instead, or wrap the function in C".into()
    }
}

/// What the trampoline reads.
#[repr(C)]
struct Frame {
    cif: *mut low::ffi_cif,
    code: CodePtr,
    ret: *mut c_void,
    args: *mut *mut c_void,
}

/// Storage of 16 bytes, aligned for every type that is passed by value.
#[repr(C, align(16))]
#[derive(Clone, Copy)]
struct Slot([u8; 16]);

/// A function with its signature and arguments, ready to be called any number of times.
pub struct NativeCall {
    /// Boxed: the frame points to it.
    cif: Box<Cif>,
    ret_type: CType,
    ret: Box<[Slot]>,
    /// Value of each argument.
    values: Vec<Box<[Slot]>>,
    sizes: Vec<usize>,
    /// Pointers to the values. libffi may overwrite them, so they are set before each call.
    pointers: Box<[*mut c_void]>,
    frame: Box<Frame>,
}

// SAFETY: every pointer in it leads to memory that it owns and that no other value knows, or to
// libffi's descriptions of scalars, which nothing writes after the program's start.
unsafe impl Send for NativeCall {}

impl NativeCall {
    /// Prepares a call of `function` as `prototype` declares it.
    ///
    /// # Errors
    /// [`CallError`] for a type that libffi does not pass as the psABI wants it.
    pub fn prepare(prototype: &Prototype, function: &Function) -> Result<NativeCall, CallError> {
        let params = prototype.params.iter().map(|p| ffi_type(&p.ty.ty));
        let params = params.collect::<Result<Vec<Type>, CallError>>()?;
        let ret_type = match &prototype.ret.ty {
            CType::Void => Type::void(),
            ty => ffi_type(ty)?,
        };
        let cif = Cif::try_new(params, ret_type).map_err(|e| CallError::Ffi {
            function: prototype.name.clone(),
            reason: format!("{e:?}"),
        })?;
        let cif = Box::new(cif);
        let size = |ty: &CType| ty.by_value().map_or(0, |l| l.size as usize);
        let sizes: Vec<usize> = prototype.params.iter().map(|p| size(&p.ty.ty)).collect();
        let ret = slots(size(&prototype.ret.ty));
        let mut values: Vec<Box<[Slot]>> = sizes.iter().map(|s| slots(*s)).collect();
        let pointers = values.iter_mut().map(|v| v.as_mut_ptr().cast()).collect();
        let frame = Box::new(Frame {
            cif: std::ptr::null_mut(),
            code: CodePtr(function.address as *mut c_void),
            ret: std::ptr::null_mut(),
            args: std::ptr::null_mut(),
        });
        let ret_type = prototype.ret.ty.clone();
        Ok(NativeCall {
            cif,
            ret_type,
            ret,
            values,
            sizes,
            pointers,
            frame,
        })
    }

    /// Sets all arguments. `bases` has the native address of each buffer of the plan.
    ///
    /// # Errors
    /// [`CallError::Argument`] where `args` do not match the prototype or `bases`.
    pub fn set_args(&mut self, args: &[ArgValue], bases: &[u64]) -> Result<(), CallError> {
        if args.len() != self.values.len() {
            return Err(CallError::Argument {
                index: args.len().min(self.values.len()),
            });
        }
        for (index, arg) in args.iter().enumerate() {
            let wrong = CallError::Argument { index };
            let resolve = |buffer: usize, offset: i64| {
                let base = bases.get(buffer).ok_or(CallError::Argument { index })?;
                Ok(base.wrapping_add_signed(offset))
            };
            let mut bytes = vec![0u8; self.sizes[index]];
            match arg {
                ArgValue::Scalar(bits) if bytes.len() <= 8 => {
                    let size = bytes.len();
                    bytes.copy_from_slice(&bits.to_le_bytes()[..size]);
                }
                ArgValue::PointerTo { buffer, offset } if bytes.len() == 8 => {
                    bytes.copy_from_slice(&resolve(*buffer, *offset)?.to_le_bytes());
                }
                ArgValue::Struct {
                    bytes: given,
                    pointers,
                } if bytes.len() == given.len() => {
                    bytes.copy_from_slice(given);
                    for PointerAt { at, buffer, offset } in pointers {
                        let at = *at as usize;
                        let place = bytes.get_mut(at..at + 8).ok_or(wrong.clone())?;
                        place.copy_from_slice(&resolve(*buffer, *offset)?.to_le_bytes());
                    }
                }
                _ => return Err(wrong),
            }
            for (slot, chunk) in self.values[index].iter_mut().zip(bytes.chunks(16)) {
                slot.0[..chunk.len()].copy_from_slice(chunk);
            }
        }
        Ok(())
    }

    /// The function to pass [`as_ptr`](Self::as_ptr) to. It owns nothing while native code runs,
    /// so it may be left at any point by restoring registers.
    pub fn trampoline() -> Trampoline {
        trampoline
    }

    /// What the trampoline takes: once for each call, since libffi may change its pointers. The
    /// pointer is good until `self` is used again or dropped.
    pub fn as_ptr(&mut self) -> *mut c_void {
        for slot in &mut self.ret {
            *slot = Slot([0; 16]);
        }
        for (pointer, value) in self.pointers.iter_mut().zip(&mut self.values) {
            *pointer = value.as_mut_ptr().cast();
        }
        self.frame.cif = self.cif.as_raw_ptr();
        self.frame.ret = self.ret.as_mut_ptr().cast();
        self.frame.args = self.pointers.as_mut_ptr();
        std::ptr::from_mut(&mut *self.frame).cast()
    }

    /// What the last call returned; zeros where none has returned.
    pub fn result(&self) -> RetValue {
        let bytes: Vec<u8> = self.ret.iter().flat_map(|slot| slot.0).collect();
        RetValue::read(&self.ret_type, &bytes)
    }
}

/// Room for `size` bytes, and for the full register that libffi always writes.
fn slots(size: usize) -> Box<[Slot]> {
    vec![Slot([0; 16]); size.div_ceil(16).max(1)].into_boxed_slice()
}

/// # Safety
/// `call` comes from [`NativeCall::as_ptr`], whose `NativeCall` is alive and not otherwise used.
unsafe extern "C" fn trampoline(call: *mut c_void) {
    let frame: *const Frame = call.cast();
    // SAFETY: by the caller's promise the frame and all that it points to are alive; cif, ret
    // and args were made for each other by `prepare`. The call itself is what the user asked
    // for: its effects are contained by the engine, not here.
    unsafe {
        let code = *(*frame).code.as_fun();
        libffi::raw::ffi_call((*frame).cif, Some(code), (*frame).ret, (*frame).args);
    }
}

/// libffi's description of a type, its layout checked against ours.
fn ffi_type(ty: &CType) -> Result<Type, CallError> {
    let int = |int: IntType| match (int.bytes, int.signed) {
        (1, true) => Type::i8(),
        (1, false) => Type::u8(),
        (2, true) => Type::i16(),
        (2, false) => Type::u16(),
        (4, true) => Type::i32(),
        (4, false) => Type::u32(),
        (_, true) => Type::i64(),
        (_, false) => Type::u64(),
    };
    Ok(match ty {
        CType::Bool => Type::u8(),
        CType::Float => Type::f32(),
        CType::Double => Type::f64(),
        CType::Pointer(_) | CType::FunctionPointer => Type::pointer(),
        CType::Struct(s) => {
            let layout = s
                .layout
                .as_ref()
                .map_err(|e| CallError::Type(e.to_string()))?;
            if layout.whole.size > MAX_STRUCT {
                return Err(CallError::TooLarge {
                    name: s.name.clone(),
                    size: layout.whole.size,
                });
            }
            let mut elements = Vec::new();
            // Offsets in bytes of the elements, for the comparison.
            let mut offsets = Vec::new();
            for (field, offset) in s.fields.iter().zip(&layout.offsets) {
                flatten(&field.ty.ty, *offset, &mut elements, &mut offsets)?;
            }
            let ty = Type::structure(elements);
            let mut theirs = vec![0usize; offsets.len()];
            // SAFETY: `ty` is a struct description with `offsets.len()` elements, alive here.
            let known = unsafe {
                let abi = low::ffi_abi_FFI_DEFAULT_ABI;
                low::get_struct_offsets(abi, ty.as_raw_ptr(), theirs.as_mut_ptr())
            };
            // SAFETY: the description is alive, and libffi has filled in its size.
            let size = unsafe { (*ty.as_raw_ptr()).size } as u64;
            let same = theirs.iter().zip(&offsets).all(|(a, b)| *a as u64 == *b);
            if known.is_err() || !same || size != layout.whole.size {
                return Err(CallError::Layout(s.name.clone()));
            }
            ty
        }
        other => match other.as_int() {
            Some(i) => int(i),
            None => return Err(CallError::Type(format!("{other:?}"))),
        },
    })
}

/// A field as libffi elements: an array is its elements one by one.
fn flatten(
    ty: &CType,
    offset: u64,
    elements: &mut Vec<Type>,
    offsets: &mut Vec<u64>,
) -> Result<(), CallError> {
    let CType::Array(element, len) = ty else {
        elements.push(ffi_type(ty)?);
        offsets.push(offset);
        return Ok(());
    };
    let size = element
        .by_value()
        .map_err(|e| CallError::Type(e.to_string()))?
        .size;
    for i in 0..*len {
        flatten(element, offset + i * size, elements, offsets)?;
    }
    Ok(())
}
