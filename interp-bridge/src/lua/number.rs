//! Numbers of C: how they are widened and cut, and what they are in memory.

use super::{
    scalar::Scalar,
    types::{Shape, Type},
};
use crate::memory::{POINTER_SIZE, Pointer};

/// A scalar with its value as wide as it gets: a signed integer extended by its sign.
pub(super) fn widened(ty: &Type, scalar: Scalar) -> Scalar {
    match scalar {
        Scalar::Int(bits) => Scalar::Int(extended(ty, bits)),
        other => other,
    }
}

/// Whether values of the type may be negative.
fn is_signed(ty: &Type) -> bool {
    match &ty.shape {
        Shape::Int { signed } => *signed,
        Shape::Enum(shape) => shape.signed,
        _ => false,
    }
}

fn extended(ty: &Type, bits: u64) -> u64 {
    let shift = 64 - 8 * ty.size.unwrap_or(8).min(8) as u32;
    match is_signed(ty) {
        true => (((bits << shift) as i64) >> shift) as u64,
        false => (bits << shift) >> shift,
    }
}

/// An integer as a number of Lua's.
pub(super) fn number_of(ty: &Type, bits: u64) -> f64 {
    let bits = extended(ty, bits);
    match is_signed(ty) {
        true => bits as i64 as f64,
        false => bits as f64,
    }
}

/// A scalar as a number of Lua's, if it is one.
pub(super) fn as_f64(ty: &Type, scalar: Scalar) -> Option<f64> {
    match scalar {
        Scalar::Int(bits) => Some(number_of(ty, bits)),
        Scalar::Float(value) => Some(value),
        Scalar::Bool(value) => Some(f64::from(u8::from(value))),
        Scalar::Complex(re, _) => Some(re),
        Scalar::Pointer(_) => None,
    }
}

/// Converts a number to another arithmetic type, as C does it.
pub(super) fn cut(scalar: Scalar, ty: &Type) -> Scalar {
    let float = |value: f64| match ty.size {
        Some(4) => f64::from(value as f32),
        _ => value,
    };
    match (&ty.shape, scalar) {
        (Shape::Bool, Scalar::Int(bits)) => Scalar::Bool(bits != 0),
        (Shape::Bool, Scalar::Float(value) | Scalar::Complex(value, _)) => {
            Scalar::Bool(value != 0.0)
        }
        (Shape::Int { .. } | Shape::Enum(_), Scalar::Int(bits)) => Scalar::Int(extended(ty, bits)),
        (Shape::Int { .. } | Shape::Enum(_), Scalar::Bool(value)) => Scalar::Int(value.into()),
        (Shape::Int { .. } | Shape::Enum(_), Scalar::Float(value) | Scalar::Complex(value, _)) => {
            let wide = match value >= 9_223_372_036_854_775_808.0 {
                true => value as u64,
                false => value as i64 as u64,
            };
            Scalar::Int(extended(ty, wide))
        }
        (Shape::Float, Scalar::Int(bits)) => Scalar::Float(float(bits as i64 as f64)),
        (Shape::Float, Scalar::Bool(value)) => Scalar::Float(f64::from(u8::from(value))),
        (Shape::Float, Scalar::Float(value) | Scalar::Complex(value, _)) => {
            Scalar::Float(float(value))
        }
        (Shape::Complex, Scalar::Int(bits)) => Scalar::Complex(bits as i64 as f64, 0.0),
        (Shape::Complex, Scalar::Bool(value)) => Scalar::Complex(f64::from(u8::from(value)), 0.0),
        (Shape::Complex, Scalar::Float(value)) => Scalar::Complex(value, 0.0),
        (_, same) => same,
    }
}

/// The scalar that bytes in memory are.
pub(super) fn from_bytes(ty: &Type, bytes: &[u8; 16]) -> Option<Scalar> {
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[at..at + 8]);
        u64::from_le_bytes(word)
    };
    let single = |at: usize| f64::from(f32::from_bits((word(0) >> (8 * at)) as u32));
    Some(match (&ty.shape, ty.size) {
        (Shape::Bool, _) => Scalar::Bool(bytes[0] != 0),
        (Shape::Int { .. } | Shape::Enum(_), _) => Scalar::Int(extended(ty, word(0))),
        (Shape::Float, Some(4)) => Scalar::Float(single(0)),
        (Shape::Float, _) => Scalar::Float(f64::from_bits(word(0))),
        (Shape::Complex, Some(8)) => Scalar::Complex(single(0), single(4)),
        (Shape::Complex, _) => Scalar::Complex(f64::from_bits(word(0)), f64::from_bits(word(8))),
        (Shape::Pointer { .. }, _) => Scalar::Pointer(Pointer::from_native(word(0))),
        _ => return None,
    })
}

/// A scalar's bytes in memory, and how many there are.
pub(super) fn to_bytes(ty: &Type, scalar: Scalar) -> ([u8; 16], usize) {
    let mut bytes = [0; 16];
    let size = ty.size.unwrap_or(0).min(16) as usize;
    let mut put = |at: usize, value: f64, size: usize| match size {
        4 => bytes[at..at + 4].copy_from_slice(&(value as f32).to_le_bytes()),
        _ => bytes[at..at + 8].copy_from_slice(&value.to_le_bytes()),
    };
    match scalar {
        Scalar::Int(bits) => bytes[..8].copy_from_slice(&bits.to_le_bytes()),
        Scalar::Bool(value) => bytes[0] = value.into(),
        Scalar::Float(value) => put(0, value, size),
        Scalar::Complex(re, im) => {
            put(0, re, size / 2);
            put(size / 2, im, size / 2);
        }
        Scalar::Pointer(pointer) => {
            bytes[..POINTER_SIZE as usize].copy_from_slice(&pointer.addr.to_le_bytes());
        }
    }
    (bytes, size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lua::types::TypeId;

    fn int(size: u64, signed: bool) -> Type {
        Type {
            id: TypeId(0),
            raw: TypeId(0),
            shape: Shape::Int { signed },
            size: Some(size),
            align: size,
            is_const: false,
        }
    }

    #[test]
    fn numbers_are_cut_to_their_type() {
        let cut_to = |value, size, signed| cut(Scalar::Float(value), &int(size, signed));
        assert_eq!(cut_to(300.0, 1, false), Scalar::Int(44));
        assert_eq!(cut_to(200.0, 1, true), Scalar::Int(-56i64 as u64));
        assert_eq!(cut_to(-1.5, 4, true), Scalar::Int(-1i64 as u64));
        assert_eq!(cut_to(-1.0, 8, false), Scalar::Int(u64::MAX));
        assert_eq!(
            cut_to(1.844674407370955e19, 8, false),
            Scalar::Int(18_446_744_073_709_549_568)
        );
        assert_eq!(cut_to(f64::NAN, 4, true), Scalar::Int(0));
    }

    #[test]
    fn bytes_and_numbers_are_one_another() {
        for (size, signed, value) in [(2, true, -2i64), (4, false, 0xffff_fffe), (8, true, -9)] {
            let ty = int(size, signed);
            let (bytes, len) = to_bytes(&ty, Scalar::Int(value as u64));
            assert_eq!(len as u64, size);
            assert_eq!(from_bytes(&ty, &bytes), Some(Scalar::Int(value as u64)));
            assert_eq!(number_of(&ty, value as u64), value as f64);
        }
    }
}
