//! Scalars as the bridge's values, and back.

use super::{
    scalar::Scalar,
    types::{Shape, Type},
};
use crate::{
    ffi,
    memory::{Pointer, Provenance},
};

/// A scalar as a value of the bridge.
pub(super) fn native_value(ty: &Type, scalar: Scalar) -> ffi::Value {
    let unsigned = match &ty.shape {
        Shape::Int { signed } => !signed,
        Shape::Enum(shape) => !shape.signed,
        _ => false,
    };
    match scalar {
        Scalar::Int(bits) if unsigned => ffi::Value::from(bits),
        Scalar::Int(bits) => ffi::Value::from(bits as i64),
        Scalar::Bool(value) => ffi::Value::Bool(value),
        Scalar::Float(value) if ty.size == Some(4) => ffi::Value::F32(value as f32),
        Scalar::Float(value) => ffi::Value::F64(value),
        Scalar::Complex(re, im) if ty.size == Some(8) => {
            ffi::Value::ComplexF32(re as f32, im as f32)
        }
        Scalar::Complex(re, im) => ffi::Value::ComplexF64(re, im),
        Scalar::Pointer(pointer) => match pointer.provenance {
            Provenance::Alloc(id) => ffi::Value::pointer_to(pointer.addr, id),
            _ => ffi::Value::pointer(pointer.addr),
        },
    }
}

/// A value of the bridge as a scalar; `None` for what is none.
pub(super) fn scalar_of(value: ffi::Value) -> Option<Scalar> {
    Some(match value {
        ffi::Value::Int(value) => Scalar::Int(value as u64),
        ffi::Value::Uint(value) => Scalar::Int(value as u64),
        ffi::Value::Bool(value) => Scalar::Bool(value),
        ffi::Value::F32(value) => Scalar::Float(value.into()),
        ffi::Value::F64(value) => Scalar::Float(value),
        ffi::Value::ComplexF32(re, im) => Scalar::Complex(re.into(), im.into()),
        ffi::Value::ComplexF64(re, im) => Scalar::Complex(re, im),
        ffi::Value::Pointer(pointer) => Scalar::Pointer(match pointer.allocation {
            Some(id) => Pointer::to(id, pointer.addr),
            None => Pointer::from_native(pointer.addr),
        }),
        ffi::Value::Void | ffi::Value::LongDouble(_) | ffi::Value::Struct(_) => return None,
    })
}
