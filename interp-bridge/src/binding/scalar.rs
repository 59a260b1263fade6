//! Numbers checked against C types.

use super::error::BindingError;
use super::number::{shorten, unsigned};
use crate::ctype::{CType, IntType};
use crate::ffi::LongDouble;

/// A scalar's type as far as ranges go.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    Bool,
    Int(IntType),
    Float,
    Double,
    LongDouble,
    ComplexFloat,
    ComplexDouble,
    Pointer,
}

impl Target {
    /// `None` for structs, arrays and what has no values.
    pub(super) fn of(ty: &CType) -> Option<Target> {
        Some(match ty {
            CType::Bool => Target::Bool,
            CType::Float => Target::Float,
            CType::Double => Target::Double,
            CType::LongDouble => Target::LongDouble,
            CType::ComplexFloat => Target::ComplexFloat,
            CType::ComplexDouble => Target::ComplexDouble,
            CType::Pointer(_) | CType::FunctionPointer(_) => Target::Pointer,
            other => Target::Int(other.as_int()?),
        })
    }
}

/// Where a number goes, for messages and names.
pub(super) struct Place<'a> {
    /// The binding's name.
    pub(super) name: &'a str,
    /// The type as written.
    pub(super) ty: &'a str,
    /// Enumeration constants in scope.
    pub(super) constants: &'a [(String, i128)],
}

impl Place<'_> {
    fn wrong(&self, text: &str, why: String, help: &str) -> BindingError {
        let (name, value) = (self.name.to_owned(), shorten(text.as_bytes()));
        BindingError::Value {
            name,
            value,
            why,
            help: help.to_owned(),
        }
    }

    /// The bits of `text` as a value of `target`, in the low bytes.
    pub(super) fn bits(&self, text: &str, target: Target) -> Result<u128, BindingError> {
        match target {
            Target::Float | Target::Double => self.float_bits(text, target).map(u128::from),
            Target::LongDouble => self.long_double_bits(text),
            Target::ComplexFloat => self.complex_bits(text, Target::Float, 32),
            Target::ComplexDouble => self.complex_bits(text, Target::Double, 64),
            Target::Int(int @ IntType { bytes: 16, .. }) if is_number(text) => {
                self.wide_bits(text, int)
            }
            Target::Pointer if text == "null" || text == "NULL" || text == "nullptr" => Ok(0),
            Target::Bool if text == "true" => Ok(1),
            Target::Bool if text == "false" => Ok(0),
            _ => match self.integer(text) {
                Some(value) => self.int_bits(value, text, target),
                None => Err(self.not_an_integer(text, target)),
            },
        }
    }

    /// The bits of a number as one of the two types that go further than `integer` does.
    fn wide_bits(&self, text: &str, int: IntType) -> Result<u128, BindingError> {
        let digits = text.trim_start_matches(['-', '+']);
        let negative = text.starts_with('-');
        let size = unsigned(digits).ok_or_else(|| self.not_an_integer(text, Target::Int(int)))?;
        let least = i128::MIN.unsigned_abs();
        let fits = match (int.signed, negative) {
            (true, true) => size <= least,
            (true, false) => size < least,
            (false, true) => size == 0,
            (false, false) => true,
        };
        if !fits {
            return Err(BindingError::Range {
                name: self.name.to_owned(),
                value: text.to_owned(),
                ty: self.ty.to_owned(),
                range: int.range_text(),
                instead: None,
            });
        }
        Ok(match negative {
            true => size.wrapping_neg(),
            false => size,
        })
    }

    /// The bits of an integer as a value of `target`.
    pub(super) fn int_bits(
        &self,
        value: i128,
        text: &str,
        target: Target,
    ) -> Result<u128, BindingError> {
        let int = match target {
            Target::Float => return Ok(u128::from((value as f32).to_bits())),
            Target::Double => return Ok(u128::from((value as f64).to_bits())),
            Target::LongDouble | Target::ComplexFloat | Target::ComplexDouble => {
                return self.bits(&value.to_string(), target);
            }
            Target::Bool => {
                return u128::try_from(value)
                    .ok()
                    .filter(|v| *v < 2)
                    .ok_or_else(|| {
                        self.wrong(
                            text,
                            "a bool is true or false".into(),
                            "write true, false, 0 or 1",
                        )
                    });
            }
            Target::Pointer => IntType {
                bytes: 8,
                signed: false,
            },
            Target::Int(int) => int,
        };
        let (low, high) = int.range();
        if (low..=high).contains(&value) {
            let mask = u128::MAX >> (128 - u32::from(int.bytes) * 8);
            return Ok(value as u128 & mask);
        }
        // Bits that fit with the other sign: `-1` for size_t, `0xffffffff` for int.
        let other = IntType {
            signed: !int.signed,
            ..int
        }
        .range();
        let instead = (other.0..=other.1).contains(&value).then(|| {
            let bits = value as u128 & (u128::MAX >> (128 - u32::from(int.bytes) * 8));
            if int.signed {
                int.decode(bits).to_string()
            } else {
                format!("{bits:#x}")
            }
        });
        Err(BindingError::Range {
            name: self.name.to_owned(),
            value: text.to_owned(),
            ty: self.ty.to_owned(),
            range: int.range_text(),
            instead,
        })
    }

    /// An integer in any of its spellings: `42`, `-0x10`, `'a'`, an enumeration constant.
    fn integer(&self, text: &str) -> Option<i128> {
        if let Some(inner) = text.strip_prefix('\'').and_then(|t| t.strip_suffix('\'')) {
            return super::char_value(inner).map(i128::from);
        }
        if let Some((_, value)) = self.constants.iter().rev().find(|(name, _)| name == text) {
            return Some(*value);
        }
        let (negative, digits) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        // What overflows u128 overflows every type; it need not be told apart.
        let value = i128::try_from(unsigned(digits)?).unwrap_or(i128::MAX);
        Some(if negative { -value } else { value })
    }

    fn not_an_integer(&self, text: &str, target: Target) -> BindingError {
        let ty = self.ty;
        if let Target::Pointer = target {
            let help = "give a buffer ('str:hello', 'zero:64'), '&NAME', null or an address (0x…)";
            return self.wrong(text, format!("no value for the pointer `{ty}`"), help);
        }
        if text == "null" || text == "NULL" {
            return self.wrong(text, format!("`{ty}` is no pointer"), "write 0");
        }
        if text.parse::<f64>().is_ok() {
            let help = "write a whole number";
            return self.wrong(text, format!("`{ty}` holds whole numbers"), help);
        }
        let names: Vec<&str> = self
            .constants
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        let near = crate::ffi::near_names(text, names.iter().copied());
        let help = match near.first() {
            Some(near) => format!("did you mean {near}?"),
            None => "write a number like 42, -1, 0x10 or 'a', or len(NAME)".to_owned(),
        };
        self.wrong(text, format!("no number for `{ty}`"), &help)
    }

    fn float_bits(&self, text: &str, target: Target) -> Result<u64, BindingError> {
        let digits = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'));
        let special = matches!(
            text.trim_start_matches(['-', '+'])
                .to_ascii_lowercase()
                .as_str(),
            "inf" | "infinity" | "nan"
        );
        let value = (digits || special)
            .then(|| text.parse::<f64>().ok())
            .flatten();
        let value = match value {
            Some(value) => value,
            None => match self.integer(text) {
                Some(value) => value as f64,
                None => {
                    let why = format!("no number for `{}`", self.ty);
                    return Err(self.wrong(text, why, "write a number like 1.5, -2 or 1e9"));
                }
            },
        };
        if let Target::Double = target {
            if value.is_infinite() && !special {
                return Err(self.float_range(text, f64::MIN, f64::MAX));
            }
            return Ok(value.to_bits());
        }
        // Parsed afresh, since rounding twice may differ from rounding once.
        let narrow = text.parse::<f32>().unwrap_or(value as f32);
        if narrow.is_infinite() && !special {
            return Err(self.float_range(text, f64::from(f32::MIN), f64::from(f32::MAX)));
        }
        Ok(u64::from(narrow.to_bits()))
    }

    fn long_double_bits(&self, text: &str) -> Result<u128, BindingError> {
        // Enumeration constants, characters and the like are exact as doubles too.
        let plain = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'));
        let value = match plain.then(|| LongDouble::parse(text)).flatten() {
            Some(value) => value,
            None => LongDouble::from(f64::from_bits(self.float_bits(text, Target::Double)?)),
        };
        let mut bytes = [0; 16];
        bytes[..10].copy_from_slice(&value.0);
        Ok(u128::from_le_bytes(bytes))
    }

    /// `1.5`, `2i` or `1.5-2i`, each part `width` bits wide.
    fn complex_bits(&self, text: &str, part: Target, width: u32) -> Result<u128, BindingError> {
        let Some(body) = text.strip_suffix('i') else {
            return self.float_bits(text, part).map(u128::from);
        };
        let bytes = body.as_bytes();
        let is_split =
            |i: &usize| matches!(bytes[*i], b'+' | b'-') && !matches!(bytes[*i - 1], b'e' | b'E');
        let (re, im) = match (1..bytes.len()).rev().find(is_split) {
            Some(at) => body.split_at(at),
            None => ("0", body),
        };
        let (re, im) = (self.float_bits(re, part)?, self.float_bits(im, part)?);
        Ok(u128::from(re) | u128::from(im) << width)
    }

    fn float_range(&self, text: &str, low: f64, high: f64) -> BindingError {
        BindingError::Range {
            name: self.name.to_owned(),
            value: text.to_owned(),
            ty: self.ty.to_owned(),
            range: format!("{low:e} to {high:e}"),
            instead: None,
        }
    }
}

/// Whether it is digits with at most one sign, in whatever base.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    digits.starts_with(|c: char| c.is_ascii_digit())
}
