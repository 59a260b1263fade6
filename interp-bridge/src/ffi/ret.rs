//! Return values: from raw bytes to something to show.

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::LongDouble;
use crate::ctype::{CType, IntType};

/// A value of a C type, read from memory.
#[derive(Clone, Debug, PartialEq)]
pub enum RetValue {
    /// `void`.
    Void,
    /// `_Bool`.
    Bool(bool),
    /// An integer.
    Int(i128),
    /// `unsigned __int128`.
    Uint(u128),
    /// `char`.
    Char(i8),
    /// An enumeration: its number, and its constant's name if it is one.
    Enum(i128, Option<String>),
    /// `float`.
    Float(f32),
    /// `double`.
    Double(f64),
    /// `long double`.
    LongDouble(LongDouble),
    /// A complex number: real and imaginary part.
    Complex(f64, f64),
    /// A pointer.
    Pointer(u64),
    /// A struct or union: fields by name, in order.
    Struct(Vec<(String, RetValue)>),
    /// An array in a struct.
    Array(Vec<RetValue>),
}

impl RetValue {
    /// Reads a value of type `ty` from the front of `bytes`; what is missing counts as zero.
    pub fn read(ty: &CType, bytes: &[u8]) -> RetValue {
        let mut low = [0; 16];
        let known = bytes.len().min(16);
        low[..known].copy_from_slice(&bytes[..known]);
        let wide = u128::from_le_bytes(low);
        let bits = wide as u64;
        match ty {
            CType::Bool => RetValue::Bool(bits & 0xff != 0),
            CType::Char => RetValue::Char(bits as i8),
            CType::Int(IntType {
                bytes: 16,
                signed: false,
            }) => RetValue::Uint(wide),
            CType::Int(int) => RetValue::Int(int.decode(wide)),
            CType::Enum(e) => {
                let value = e.int.decode(wide);
                let name = e
                    .constants
                    .iter()
                    .find(|c| c.1 == value)
                    .map(|c| c.0.clone());
                RetValue::Enum(value, name)
            }
            CType::Float => RetValue::Float(f32::from_bits(bits as u32)),
            CType::Double => RetValue::Double(f64::from_bits(bits)),
            CType::LongDouble => {
                let mut value = [0; 10];
                value.copy_from_slice(&low[..10]);
                RetValue::LongDouble(LongDouble(value))
            }
            CType::ComplexFloat => {
                let part = |bits: u64| f64::from(f32::from_bits(bits as u32));
                RetValue::Complex(part(bits), part(bits >> 32))
            }
            CType::ComplexDouble => {
                RetValue::Complex(f64::from_bits(bits), f64::from_bits((wide >> 64) as u64))
            }
            CType::Pointer(_) | CType::FunctionPointer(_) => RetValue::Pointer(bits),
            CType::Struct(s) => {
                let offsets = s
                    .layout
                    .as_ref()
                    .map(|l| l.offsets.as_slice())
                    .unwrap_or(&[]);
                let fields = s.fields.iter().zip(offsets).map(|(field, offset)| {
                    let rest = bytes.get(*offset as usize..).unwrap_or(&[]);
                    (field.name.clone(), RetValue::read(&field.ty.ty, rest))
                });
                RetValue::Struct(fields.collect())
            }
            CType::Array(element, len) => {
                let size = element.by_value().map_or(0, |l| l.size as usize);
                let element_at = |i: u64| {
                    let rest = bytes.get(i as usize * size..).unwrap_or(&[]);
                    RetValue::read(element, rest)
                };
                RetValue::Array((0..*len).map(element_at).collect())
            }
            CType::Void | CType::Incomplete(_) | CType::Opaque { .. } => RetValue::Void,
        }
    }

    /// The value in C's words: `42`, `1.5`, `0x7f…`, `{.quot=3,.rem=1}`; empty for `void`.
    pub fn text(&self) -> String {
        match self {
            RetValue::Void => String::new(),
            RetValue::Bool(value) => value.to_string(),
            RetValue::Int(value) | RetValue::Enum(value, _) => value.to_string(),
            RetValue::Uint(value) => value.to_string(),
            RetValue::Char(value) => value.to_string(),
            RetValue::Float(value) => value.to_string(),
            RetValue::Double(value) => value.to_string(),
            RetValue::LongDouble(value) => value.to_string(),
            RetValue::Complex(re, im) => format!("{re}{im:+}i"),
            RetValue::Pointer(value) => format!("{value:#x}"),
            RetValue::Struct(fields) => {
                let fields = fields
                    .iter()
                    .map(|(name, value)| format!(".{name}={}", value.text()));
                format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
            }
            RetValue::Array(values) => {
                let values = values.iter().map(RetValue::text);
                format!("{{{}}}", values.collect::<Vec<_>>().join(","))
            }
        }
    }
}

/// `void` is null; a scalar is a string, exact whatever its width; a struct an object.
impl Serialize for RetValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            RetValue::Void => serializer.serialize_none(),
            RetValue::Struct(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (name, value) in fields {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
            RetValue::Array(values) => serializer.collect_seq(values),
            scalar => serializer.serialize_str(&scalar.text()),
        }
    }
}
