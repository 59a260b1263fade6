//! A signature as libffi wants it, for calls and for closures.
//!
//! ```text
//!  CType ──psABI class──► libffi type:  scalars are libffi's own
//!                                       ≤ 16 bytes: a struct of one eightbyte a class
//!                                       memory: a struct of a size and an alignment alone
//! ```
//!
//! libffi knows neither unions nor 128-bit integers, and describes an array element by element. So
//! it is not told what a type consists of, only how it travels, which
//! [`CType::passing`] knows by the psABI: an `__int128` becomes a struct of two integers with an
//! alignment of sixteen, a union of a double and a float becomes a struct of a double.
//!
//! # Safety
//! libffi keeps the pointers that it gets, so what they lead to is [`Fixed`] in memory and lives as
//! long as the [`CallInterface`] that owns it; after `new` nothing writes to it, neither libffi nor
//! we: sizes and alignments are set, which is what libffi would fill in.
#![allow(unsafe_code)]

use std::ptr::{NonNull, addr_of_mut, null_mut};

use libffi::low;

use super::{CallError, Signature};
use crate::ctype::{CType, Class, LayoutError, Passing};

/// Most bytes of one struct by value: it travels on the stack.
pub(super) const MAX_STRUCT: u64 = 64 << 10;

/// Most bytes of all arguments together, for the same reason.
const MAX_ARGUMENTS: u64 = 1 << 20;

/// A signature prepared for libffi. It can be shared between threads and used by any number of
/// calls and closures at once.
pub struct CallInterface {
    cif: Fixed<low::ffi_cif>,
    /// Never read here, but `cif` points to it.
    _params: Fixed<[*mut low::ffi_type]>,
    _described: Vec<Fixed<Description>>,
}

/// Owns a value that others have pointers to. Unlike a `Box`, it may be moved while they do.
struct Fixed<T: ?Sized>(NonNull<T>);

impl<T: ?Sized> Fixed<T> {
    fn new(value: Box<T>) -> Fixed<T> {
        Fixed(NonNull::from(Box::leak(value)))
    }
}

impl<T: ?Sized> Drop for Fixed<T> {
    fn drop(&mut self) {
        // SAFETY: the pointer comes from a leaked box, which nobody else gives back.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// A libffi struct that stands for a type, with room for its elements and the null after them.
struct Description {
    ty: low::ffi_type,
    elements: [*mut low::ffi_type; 3],
}

// SAFETY: all pointers in it lead to memory that it owns, which nothing writes after `new`, or to
// libffi's descriptions of scalars, which nothing writes after the program's start.
unsafe impl Send for CallInterface {}
// SAFETY: as for `Send`.
unsafe impl Sync for CallInterface {}

impl CallInterface {
    /// Prepares a signature.
    ///
    /// # Errors
    /// [`CallError`] for a type that is not passed by value, with the argument that has it.
    pub fn new(signature: &Signature) -> Result<CallInterface, CallError> {
        let mut described = Vec::new();
        let mut params = Vec::with_capacity(signature.params().len());
        let mut total = 0u64;
        for (index, ty) in signature.params().iter().enumerate() {
            let refused = |error| CallError::ArgumentType {
                index,
                name: signature.name(index).map(str::to_owned),
                error,
            };
            let size = check_size(ty, refused)?;
            total = total.saturating_add(size.next_multiple_of(8));
            params.push(describe(ty, false, &mut described).map_err(refused)?);
        }
        if total > MAX_ARGUMENTS {
            return Err(CallError::TooMuch {
                size: total,
                limit: MAX_ARGUMENTS,
            });
        }
        let ret = match signature.ret() {
            // Only its address is taken: libffi's own object.
            CType::Void => addr_of_mut!(low::types::void),
            ty => {
                check_size(ty, CallError::ReturnType)?;
                describe(ty, true, &mut described).map_err(CallError::ReturnType)?
            }
        };
        let (abi, count) = (low::ffi_abi_FFI_DEFAULT_ABI, params.len());
        let cif = Fixed::new(Box::new(low::ffi_cif::default()));
        let params = Fixed::new(params.into_boxed_slice());
        let (raw, list) = (cif.0.as_ptr(), params.0.as_ptr().cast());
        // SAFETY: `raw` is writable, `list` holds `count` descriptions, and all of them and the
        // result's live as long as the interface does: fixed, or libffi's own.
        let prepared = unsafe {
            match signature.fixed() {
                // libffi wants one fixed parameter at least; on x86-64 a call without is the same.
                Some(fixed @ 1..) => low::prep_cif_var(raw, abi, fixed, count, ret, list),
                _ => low::prep_cif(raw, abi, count, ret, list),
            }
        };
        prepared.map_err(|error| CallError::Ffi {
            signature: signature.to_string(),
            reason: format!("{error:?}"),
        })?;
        Ok(CallInterface {
            cif,
            _params: params,
            _described: described,
        })
    }

    /// The prepared `ffi_cif`, for `ffi_call` and `ffi_prep_closure_loc`. It is good while `self`
    /// lives, wherever `self` is moved to, and must not be written to.
    pub fn as_raw_ptr(&self) -> *mut low::ffi_cif {
        self.cif.0.as_ptr()
    }
}

fn check_size(ty: &CType, refused: impl Fn(LayoutError) -> CallError) -> Result<u64, CallError> {
    let size = ty.by_value().map_err(&refused)?.size;
    if matches!(ty, CType::Array(..)) {
        let (name, reason) = (ty.name(), "C has no arrays by value".to_owned());
        return Err(refused(LayoutError::Opaque { name, reason }));
    }
    if size > MAX_STRUCT {
        return Err(CallError::TooLarge {
            name: ty.name(),
            size,
            limit: MAX_STRUCT,
        });
    }
    Ok(size)
}

/// libffi's description of how `ty` travels. New ones are kept in `described`.
fn describe(
    ty: &CType,
    is_return: bool,
    described: &mut Vec<Fixed<Description>>,
) -> Result<*mut low::ffi_type, LayoutError> {
    use low::types;
    // Only addresses are taken here, and libffi only reads what is there.
    let scalar = match ty {
        CType::Bool => addr_of_mut!(types::uint8),
        CType::Float => addr_of_mut!(types::float),
        CType::Double => addr_of_mut!(types::double),
        CType::LongDouble => addr_of_mut!(types::longdouble),
        CType::Pointer(_) | CType::FunctionPointer(_) => addr_of_mut!(types::pointer),
        other => match other.as_int().map(|int| (int.bytes, int.signed)) {
            Some((1, true)) => addr_of_mut!(types::sint8),
            Some((1, false)) => addr_of_mut!(types::uint8),
            Some((2, true)) => addr_of_mut!(types::sint16),
            Some((2, false)) => addr_of_mut!(types::uint16),
            Some((4, true)) => addr_of_mut!(types::sint32),
            Some((4, false)) => addr_of_mut!(types::uint32),
            Some((8, true)) => addr_of_mut!(types::sint64),
            Some((8, false)) => addr_of_mut!(types::uint64),
            _ => null_mut(),
        },
    };
    if !scalar.is_null() {
        return Ok(scalar);
    }
    let (layout, passing) = (ty.by_value()?, ty.passing()?);
    // The eightbyte's own size only matters where a float is all there is of it.
    let eightbyte = |class: Class, bytes: u64| match class {
        Class::Integer => addr_of_mut!(types::uint64),
        Class::Sse if bytes <= 4 => addr_of_mut!(types::float),
        Class::Sse => addr_of_mut!(types::double),
    };
    let elements = match passing {
        // The result of such a function is on the x87 stack, as that of a `long double` function.
        Passing::X87 if is_return => return Ok(addr_of_mut!(types::longdouble)),
        Passing::One(class) => [eightbyte(class, layout.size), null_mut(), null_mut()],
        Passing::Two(low, high) => [
            eightbyte(low, 8),
            eightbyte(high, layout.size - 8),
            null_mut(),
        ],
        // Up to sixteen bytes go to memory for libffi if an element does, whatever its size.
        Passing::X87 | Passing::Memory if layout.size <= 16 => {
            let large = Description::boxed(64, 1, [null_mut(); 3], described);
            [large, null_mut(), null_mut()]
        }
        Passing::X87 | Passing::Memory => [null_mut(); 3],
    };
    let (size, align) = (layout.size as usize, layout.align as u16);
    Ok(Description::boxed(size, align, elements, described))
}

impl Description {
    /// A struct of this size, alignment and elements, kept in `described`.
    fn boxed(
        size: usize,
        alignment: u16,
        elements: [*mut low::ffi_type; 3],
        described: &mut Vec<Fixed<Description>>,
    ) -> *mut low::ffi_type {
        let ty = low::ffi_type {
            size,
            alignment,
            type_: low::type_tag::STRUCT,
            elements: null_mut(),
        };
        let new = Fixed::new(Box::new(Description { ty, elements }));
        let raw = new.0.as_ptr();
        // SAFETY: the description was just made, and nobody else knows it yet.
        let ty = unsafe {
            (*raw).ty.elements = addr_of_mut!((*raw).elements).cast();
            addr_of_mut!((*raw).ty)
        };
        described.push(new);
        ty
    }
}
