//! Values to bytes and back, checked against their types; both ways, for calls and for callbacks.
//!
//! ```text
//!  call:      &[Value] ─encode─► slots ─► ffi_call ─► return slot ─decode─► Value
//!  callback:  void **args ─arguments─► Vec<Value> ─► interpreter ─► Value ─store_return─► void *ret
//! ```
//!
//! What is decoded is checked: a `_Bool` is 0 or 1, a closed enumeration one of its constants, a
//! pointer that is promised not to be null is not. Fields of structs are checked likewise, unions
//! are not: which of their members is meant, only the program knows.
//!
//! # Safety
//! [`arguments`] and [`store_return`] follow pointers that libffi gives to a closure, which are
//! good for what the signature's types say; their callers promise that it is the same signature.
#![allow(unsafe_code)]

use std::ffi::c_void;

use super::value::{Aggregate, Pointer, Value};
use super::{CallError, LongDouble, Signature, ValueError};
use crate::ctype::{CType, IntType, PointerPromise};

/// Writes `value` as a `ty` to `out`, which has the type's size. Padding of `long double` is
/// zeroed, padding of structs is what their bytes say.
///
/// # Errors
/// [`ValueError`] where the value is none of the type.
pub fn encode(ty: &CType, value: &Value, out: &mut [u8]) -> Result<(), ValueError> {
    let mismatch = || ValueError::Mismatch {
        path: String::new(),
        given: value.describe(),
        expected: ty.name(),
    };
    match (ty, value) {
        (CType::Bool, Value::Bool(value)) => put(ty, out, &[u8::from(*value)]),
        (CType::Bool, Value::Int(_) | Value::Uint(_)) => match value.as_int() {
            Some(value @ (0 | 1)) => put(ty, out, &[value as u8]),
            _ => Err(range(ty, value, "0 to 1")),
        },
        (CType::Float, Value::F32(value)) => put(ty, out, &value.to_le_bytes()),
        (CType::Double, Value::F64(value)) => put(ty, out, &value.to_le_bytes()),
        (CType::LongDouble, Value::LongDouble(value)) => {
            let mut bytes = [0; 16];
            bytes[..10].copy_from_slice(&value.0);
            put(ty, out, &bytes)
        }
        (CType::ComplexFloat, Value::ComplexF32(re, im)) => {
            let bits = u64::from(re.to_bits()) | u64::from(im.to_bits()) << 32;
            put(ty, out, &bits.to_le_bytes())
        }
        (CType::ComplexDouble, Value::ComplexF64(re, im)) => {
            let bits = u128::from(re.to_bits()) | u128::from(im.to_bits()) << 64;
            put(ty, out, &bits.to_le_bytes())
        }
        (CType::Pointer(pointee), Value::Pointer(pointer)) => {
            check_pointer(pointer.addr, pointee.promise)?;
            put(ty, out, &pointer.addr.to_le_bytes())
        }
        (CType::FunctionPointer(function), Value::Pointer(pointer)) => {
            check_pointer(pointer.addr, function_promise(function.non_null))?;
            put(ty, out, &pointer.addr.to_le_bytes())
        }
        (CType::Struct(s), Value::Struct(aggregate)) => {
            if !aggregate.is_a(s) {
                return Err(mismatch());
            }
            put(ty, out, &aggregate.bytes)
        }
        (CType::Array(..) | CType::Void | CType::Incomplete(_) | CType::Opaque { .. }, _) => {
            ty.by_value()?;
            Err(mismatch())
        }
        (_, Value::Int(_) | Value::Uint(_)) => {
            let int = ty.as_int().ok_or_else(mismatch)?;
            let (bits, held) = match value {
                Value::Uint(value) => (*value, int.holds(Ok(*value))),
                Value::Int(value) => {
                    let sign = u128::try_from(*value).map_err(|_| *value);
                    (*value as u128, int.holds(sign))
                }
                _ => return Err(mismatch()),
            };
            if !held {
                return Err(range(ty, value, &int.range_text()));
            }
            check_constant(ty, bits)?;
            let bytes = bits.to_le_bytes();
            put(ty, out, &bytes[..usize::from(int.bytes)])
        }
        _ => Err(mismatch()),
    }
}

/// Reads a value of type `ty` from its bytes, of which there are as many as the type has.
///
/// # Errors
/// [`ValueError`] where the bytes are no value of the type; it names what was there and what was
/// expected.
pub fn decode(ty: &CType, bytes: &[u8]) -> Result<Value, ValueError> {
    if *ty == CType::Void {
        return Ok(Value::Void);
    }
    let size = ty.by_value()?.size;
    if bytes.len() as u64 != size {
        return Err(size_error(ty, bytes.len(), size));
    }
    check(ty, bytes)?;
    // Scalars have at most sixteen bytes.
    let mut low = [0; 16];
    let known = bytes.len().min(16);
    low[..known].copy_from_slice(&bytes[..known]);
    let bits = u128::from_le_bytes(low);
    let half = |shift: u32| (bits >> shift) as u32;
    let word = |shift: u32| (bits >> shift) as u64;
    let pointer = Pointer {
        addr: bits as u64,
        allocation: None,
    };
    Ok(match ty {
        CType::Bool => Value::Bool(bits != 0),
        CType::Float => Value::F32(f32::from_bits(half(0))),
        CType::Double => Value::F64(f64::from_bits(word(0))),
        CType::LongDouble => {
            let mut value = [0; 10];
            value.copy_from_slice(&low[..10]);
            Value::LongDouble(LongDouble(value))
        }
        CType::ComplexFloat => Value::ComplexF32(f32::from_bits(half(0)), f32::from_bits(half(32))),
        CType::ComplexDouble => {
            Value::ComplexF64(f64::from_bits(word(0)), f64::from_bits(word(64)))
        }
        CType::Pointer(_) | CType::FunctionPointer(_) => Value::Pointer(pointer),
        CType::Struct(s) => Value::Struct(Aggregate {
            ty: s.clone(),
            bytes: bytes.to_vec(),
            provenance: Vec::new(),
        }),
        other => match other.as_int() {
            Some(int @ IntType { signed: true, .. }) => Value::Int(int.decode(bits)),
            Some(_) => Value::Uint(bits),
            None => {
                return Err(ValueError::Mismatch {
                    path: String::new(),
                    given: "a value".to_owned(),
                    expected: ty.name(),
                });
            }
        },
    })
}

/// Checks that `bytes` are a value of `ty`: all scalars in it, whatever lies between them.
pub(super) fn check(ty: &CType, bytes: &[u8]) -> Result<(), ValueError> {
    let address = || {
        let low = bytes.first_chunk::<8>().copied().unwrap_or_default();
        u64::from_le_bytes(low)
    };
    match ty {
        CType::Bool => match bytes.first().copied().unwrap_or_default() {
            0 | 1 => Ok(()),
            other => Err(invalid(format!("{other:#04x}"), "a boolean".to_owned())),
        },
        CType::Enum(e) if e.closed => {
            let mut low = [0; 16];
            low[..bytes.len().min(16)].copy_from_slice(&bytes[..bytes.len().min(16)]);
            check_constant(ty, u128::from_le_bytes(low))
        }
        CType::Pointer(pointee) => check_pointer(address(), pointee.promise),
        CType::FunctionPointer(f) => check_pointer(address(), function_promise(f.non_null)),
        CType::Struct(s) if !s.is_union => s.each_field(bytes, |field, part| {
            check(&field.ty.ty, part).map_err(|e| e.inside(&format!(".{}", field.name)))
        }),
        CType::Array(element, _) if has_rules(element) => {
            let size = element.by_value()?.size.max(1) as usize;
            for (i, part) in bytes.chunks_exact(size).enumerate() {
                check(element, part).map_err(|e| e.inside(&format!("[{i}]")))?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Whether some bytes are no value of the type. Arrays of all others need no look.
fn has_rules(ty: &CType) -> bool {
    match ty {
        CType::Bool => true,
        CType::Enum(e) => e.closed,
        CType::Pointer(p) => p.promise != PointerPromise::default(),
        CType::FunctionPointer(f) => f.non_null,
        CType::Struct(s) => !s.is_union && s.fields.iter().any(|f| has_rules(&f.ty.ty)),
        CType::Array(element, _) => has_rules(element),
        _ => false,
    }
}

fn check_pointer(address: u64, promise: PointerPromise) -> Result<(), ValueError> {
    let what = if promise.non_null && address == 0 {
        "a non-null pointer".to_owned()
    } else if promise.align > 1 && !address.is_multiple_of(promise.align) {
        format!("a pointer aligned to {} bytes", promise.align)
    } else {
        return Ok(());
    };
    let encountered = match address {
        0 => "a null pointer".to_owned(),
        address => format!("{address:#x}"),
    };
    Err(invalid(encountered, what))
}

fn function_promise(non_null: bool) -> PointerPromise {
    PointerPromise { non_null, align: 0 }
}

/// Checks the low bits of `bits` against a closed enumeration's constants.
fn check_constant(ty: &CType, bits: u128) -> Result<(), ValueError> {
    let CType::Enum(e) = ty else { return Ok(()) };
    let value = e.int.decode(bits);
    if !e.closed || e.constants.iter().any(|(_, constant)| *constant == value) {
        return Ok(());
    }
    let expected = format!("a constant of `{}`", e.name);
    let width = usize::from(e.int.bytes) * 2 + 2;
    let mask = u128::MAX >> (128 - u32::from(e.int.bytes) * 8);
    Err(invalid(format!("{:#0width$x}", bits & mask), expected))
}

fn invalid(encountered: String, expected: String) -> ValueError {
    ValueError::Invalid {
        path: String::new(),
        encountered,
        expected,
    }
}

fn range(ty: &CType, value: &Value, range: &str) -> ValueError {
    let value = match value {
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        other => other.describe(),
    };
    ValueError::Range {
        path: String::new(),
        value,
        ty: ty.name(),
        range: range.to_owned(),
    }
}

pub(super) fn size_error(ty: &CType, given: usize, expected: u64) -> ValueError {
    ValueError::Size {
        ty: ty.name(),
        given: given as u64,
        expected,
    }
}

fn put(ty: &CType, out: &mut [u8], bytes: &[u8]) -> Result<(), ValueError> {
    if out.len() != bytes.len() {
        return Err(size_error(ty, out.len(), bytes.len() as u64));
    }
    out.copy_from_slice(bytes);
    Ok(())
}

/// The arguments of a callback, from what libffi gives to a closure.
///
/// # Errors
/// [`CallError::Argument`] for the first that is no value of its type.
///
/// # Safety
/// `raw` is the array that libffi gave to a closure made for `signature`, during that call.
pub unsafe fn arguments(
    signature: &Signature,
    raw: *const *const c_void,
) -> Result<Vec<Value>, CallError> {
    let mut values = Vec::with_capacity(signature.params().len());
    for (index, ty) in signature.params().iter().enumerate() {
        let wrong = |error: ValueError| CallError::Argument {
            index,
            name: signature.name(index).map(str::to_owned),
            error: error.into(),
        };
        let size = ty.by_value().map_err(|e| wrong(e.into()))?.size as usize;
        // SAFETY: by the caller's promise the array has a pointer for each parameter, each to a
        // value of the parameter's type, which the closure was prepared with and which has `size`
        // bytes; they are read here only, while the call lasts.
        let bytes = unsafe { std::slice::from_raw_parts((*raw.add(index)).cast::<u8>(), size) };
        values.push(decode(ty, bytes).map_err(wrong)?);
    }
    Ok(values)
}

/// Stores a callback's result where libffi wants it. Integers of less than eight bytes, truth
/// values included, are widened to eight (libffi's `ffi_arg`), as libffi's contract for closures
/// has it; all else has the size of its type.
///
/// # Errors
/// [`ValueError`] where the value is none of the type; nothing is stored then.
///
/// # Safety
/// `into` is the place that libffi gave to a closure whose result is a `ty`, during that call.
pub unsafe fn store_return(ty: &CType, value: &Value, into: *mut c_void) -> Result<(), ValueError> {
    if *ty == CType::Void {
        return match value {
            Value::Void => Ok(()),
            other => Err(ValueError::Mismatch {
                path: String::new(),
                given: other.describe(),
                expected: ty.name(),
            }),
        };
    }
    let size = ty.by_value()?.size as usize;
    let is_signed = ty.as_int().is_some_and(|int| int.signed);
    if *ty == CType::Bool || ty.as_int().is_some_and(|int| int.bytes < 8) {
        let mut bytes = [0u8; 8];
        encode(ty, value, &mut bytes[..size])?;
        if is_signed && bytes[size - 1] & 0x80 != 0 {
            bytes[size..].fill(0xff);
        }
        // SAFETY: by the caller's promise this is libffi's place for a result, which for integers
        // has at least the eight bytes of `ffi_arg`.
        unsafe { into.cast::<[u8; 8]>().write_unaligned(bytes) };
        return Ok(());
    }
    if let (CType::Struct(s), Value::Struct(aggregate)) = (ty, value)
        && aggregate.is_a(s)
    {
        // SAFETY: libffi's place has the size of the type, which is that of the bytes: they were
        // made for this very type.
        unsafe {
            std::ptr::copy_nonoverlapping(aggregate.bytes.as_ptr(), into.cast(), size);
        }
        return Ok(());
    }
    // All that is left is a scalar of at most sixteen bytes, or an error.
    let mut bytes = [0u8; 16];
    encode(ty, value, bytes.get_mut(..size).unwrap_or_default())?;
    // SAFETY: libffi's place has the size of the type, and a scalar has no more than 16 bytes:
    // `encode` refuses all else.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), into.cast(), size.min(16)) };
    Ok(())
}
