//! `long double` on x86-64: the 80-bit format of the x87.
//!
//! ```text
//!  byte 9: sign, exponent high │ byte 8: exponent low │ bytes 7..0: integer bit and fraction
//! ```
//!
//! Rust has no such type, so values travel as bytes; conversions from and to `f64` are here. Text
//! is left to the C library, which knows the format exactly.
//!
//! # Safety
//! Two functions of the C library are called through [`NativeCall`] with their own signatures and
//! with buffers that live on the stack or in a `CString` here.
#![allow(unsafe_code)]

use std::ffi::CString;

use super::{NativeCall, Signature, Value};
use crate::ctype::CType;

unsafe extern "C" {
    fn strtold(text: *const libc::c_char, end: *mut *mut libc::c_char);
}

/// The 80 bits of a `long double`, little-endian. Its other six bytes in memory are padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LongDouble(pub [u8; 10]);

const BIAS: i32 = 16383;
const DOUBLE_BIAS: i32 = 1023;

impl LongDouble {
    /// Out of its parts: `mantissa` has the integer bit on top.
    fn new(negative: bool, exponent: u16, mantissa: u64) -> LongDouble {
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&mantissa.to_le_bytes());
        bytes[8..].copy_from_slice(&(exponent | u16::from(negative) << 15).to_le_bytes());
        LongDouble(bytes)
    }

    fn parts(self) -> (bool, i32, u64) {
        let [m0, m1, m2, m3, m4, m5, m6, m7, e0, e1] = self.0;
        let mantissa = u64::from_le_bytes([m0, m1, m2, m3, m4, m5, m6, m7]);
        let exponent = u16::from_le_bytes([e0, e1]);
        (exponent >> 15 != 0, i32::from(exponent & 0x7fff), mantissa)
    }

    /// The nearest `f64`, ties to even, as a C cast gives it.
    pub fn to_f64(self) -> f64 {
        let (negative, exponent, mantissa) = self.parts();
        let sign = u64::from(negative) << 63;
        if exponent == 0x7fff {
            let fraction = mantissa << 1 >> 12;
            let quiet = u64::from(mantissa << 1 != 0) << 51;
            return f64::from_bits(sign | 0x7ff << 52 | fraction | quiet);
        }
        if mantissa == 0 {
            return f64::from_bits(sign);
        }
        // A subnormal has its integer bit clear and the exponent of the smallest normal number.
        let shift = mantissa.leading_zeros();
        let (mantissa, exponent) = (mantissa << shift, exponent.max(1) - shift as i32);
        let exponent = exponent - BIAS + DOUBLE_BIAS;
        // 64 bits become 53, or fewer where the result is subnormal; all may be lost.
        let drop = 11 + (1 - exponent).max(0);
        if drop > 64 {
            return f64::from_bits(sign);
        }
        let wide = u128::from(mantissa);
        let (kept, rest) = (wide >> drop, wide & ((1 << drop) - 1));
        let half = 1u128 << (drop - 1);
        let up = rest > half || (rest == half && kept & 1 == 1);
        let kept = kept as u64 + u64::from(up);
        // A carry out of the fraction raises the exponent, which is just what rounding means.
        let bits = match exponent {
            ..=0 => kept,
            0x7ff.. => 0x7ff << 52,
            _ => kept + ((exponent as u64 - 1) << 52),
        };
        f64::from_bits(sign | bits.min(0x7ff << 52))
    }
}

impl From<f64> for LongDouble {
    /// Exact: every `f64` is a `long double`.
    fn from(value: f64) -> LongDouble {
        let bits = value.to_bits();
        let negative = value.is_sign_negative();
        let (exponent, fraction) = ((bits >> 52 & 0x7ff) as i32, bits << 12 >> 1);
        match exponent {
            0x7ff => LongDouble::new(negative, 0x7fff, fraction | 1 << 63),
            0 if fraction == 0 => LongDouble::new(negative, 0, 0),
            0 => {
                let shift = fraction.leading_zeros();
                let exponent = BIAS - DOUBLE_BIAS + 1 - shift as i32;
                LongDouble::new(negative, exponent as u16, fraction << shift)
            }
            _ => {
                let exponent = exponent - DOUBLE_BIAS + BIAS;
                LongDouble::new(negative, exponent as u16, fraction | 1 << 63)
            }
        }
    }
}

impl LongDouble {
    /// The value nearest to a decimal (or C's hexadecimal) number, as C's `strtold` reads it; all
    /// of `text` has to be one.
    pub fn parse(text: &str) -> Option<LongDouble> {
        let text = CString::new(text).ok().filter(|t| !t.is_empty())?;
        let mut end = std::ptr::null_mut::<libc::c_char>();
        let signature = Signature::new([CType::ptr(), CType::ptr()], CType::LongDouble);
        let mut call = NativeCall::new(signature, strtold as *const () as u64).ok()?;
        let arguments = [Value::from(text.as_ptr()), Value::from(&raw mut end)];
        call.set_values(&arguments).ok()?;
        // SAFETY: `strtold` has this signature; the text ends with a NUL, and `end` is writable.
        let value = unsafe { call.run() }.ok()?;
        // SAFETY: `strtold` has stored a pointer into the text, or to its end.
        let all = unsafe { *end } == 0 && end.cast_const() != text.as_ptr();
        match value {
            Value::LongDouble(value) if all => Some(value),
            _ => None,
        }
    }

    /// The value with so many significant digits, as C's `%.*Lg` writes it.
    fn text(self, digits: i32) -> Option<String> {
        // Sign, digits, point and exponent: `-1.23456789012345678901e-4932`.
        let mut buffer = [0u8; 64];
        let fixed = [CType::ptr(), CType::usize(), CType::ptr()];
        let tail = [CType::i32(), CType::LongDouble];
        let signature = Signature::variadic(fixed, tail, CType::i32());
        let mut call = NativeCall::new(signature, libc::snprintf as *const () as u64).ok()?;
        call.set_values(&[
            Value::from(buffer.as_mut_ptr()),
            Value::from(buffer.len()),
            Value::from(c"%.*Lg".as_ptr()),
            Value::from(digits),
            Value::from(self),
        ])
        .ok()?;
        // SAFETY: the arguments are what `snprintf` takes for this format.
        let len = unsafe { call.run() }.ok()?.as_int()?;
        let text = buffer.get(..usize::try_from(len).ok()?)?;
        Some(String::from_utf8_lossy(text).into_owned())
    }
}

/// As few digits as are read back as the same value.
impl std::fmt::Display for LongDouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // 21 digits tell all long doubles apart.
        let mut text = String::new();
        for digits in [1, 6, 15, 16, 17, 18, 19, 20, 21] {
            text = self.text(digits).unwrap_or_default();
            if LongDouble::parse(&text) == Some(*self) {
                break;
            }
        }
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::LongDouble;
    use proptest::prelude::*;

    #[test]
    fn known_bits() {
        // From `gcc -mlong-double-80`: 1.0L and -0.5L.
        let one = [0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f];
        assert_eq!(LongDouble::from(1.0).0, one);
        let minus_half = [0, 0, 0, 0, 0, 0, 0, 0x80, 0xfe, 0xbf];
        assert_eq!(LongDouble::from(-0.5).0, minus_half);
        // LDBL_MAX is past every double, LDBL_MIN below.
        let max = [255, 255, 255, 255, 255, 255, 255, 255, 0xfe, 0x7f];
        assert_eq!(LongDouble(max).to_f64(), f64::INFINITY);
        let min = [0, 0, 0, 0, 0, 0, 0, 0x80, 1, 0x80];
        assert!(LongDouble(min).to_f64() == 0.0 && LongDouble(min).to_f64().is_sign_negative());
        // One and its smallest step rounds to one; one and a half step of a double to even.
        let step = [1, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f];
        assert_eq!(LongDouble(step).to_f64(), 1.0);
        let odd = [0, 0x0c, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f];
        assert_eq!(LongDouble(odd).to_f64(), 1.0 + 2.0 * f64::EPSILON);
        assert!(LongDouble::from(f64::NAN).to_f64().is_nan());
    }

    proptest! {
        #[test]
        fn every_double_comes_back(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(!value.is_nan());
            prop_assert_eq!(LongDouble::from(value).to_f64().to_bits(), bits);
        }
    }

    #[test]
    fn text() {
        for text in [
            "0",
            "-1",
            "0.1",
            "1e+4000",
            "3.1415926535897932385",
            "inf",
            "-2.5",
        ] {
            let value = LongDouble::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(value.to_string(), text);
        }
        // Its nearest double differs from it.
        let tenth = LongDouble::parse("0.1").unwrap_or(LongDouble([0; 10]));
        assert_ne!(tenth, LongDouble::from(0.1));
        assert_eq!(tenth.to_f64(), 0.1);
        for text in ["", "x", "1x", "1 "] {
            assert_eq!(LongDouble::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_edges_come_back() {
        let edges = [
            0.0,
            -0.0,
            f64::MIN_POSITIVE,
            f64::MAX,
            f64::INFINITY,
            5e-324,
            2.5e-310,
        ];
        for value in edges.into_iter().flat_map(|v| [v, -v]) {
            assert_eq!(LongDouble::from(value).to_f64().to_bits(), value.to_bits());
        }
    }
}
