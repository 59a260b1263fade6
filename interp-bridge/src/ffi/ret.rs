//! Return values: from raw bytes to something to show.

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::ctype::CType;

/// A value of a C type, read from memory.
#[derive(Clone, Debug, PartialEq)]
pub enum RetValue {
    /// `void`.
    Void,
    /// `_Bool`.
    Bool(bool),
    /// An integer.
    Int(i128),
    /// `char`.
    Char(i8),
    /// An enumeration: its number, and its constant's name if it is one.
    Enum(i128, Option<String>),
    /// `float`.
    Float(f32),
    /// `double`.
    Double(f64),
    /// A pointer.
    Pointer(u64),
    /// A struct: fields by name, in order.
    Struct(Vec<(String, RetValue)>),
    /// An array in a struct.
    Array(Vec<RetValue>),
}

impl RetValue {
    /// Reads a value of type `ty` from the front of `bytes`; what is missing counts as zero.
    pub fn read(ty: &CType, bytes: &[u8]) -> RetValue {
        let mut low = [0; 8];
        let known = bytes.len().min(8);
        low[..known].copy_from_slice(&bytes[..known]);
        let bits = u64::from_le_bytes(low);
        match ty {
            CType::Bool => RetValue::Bool(bits & 0xff != 0),
            CType::Char => RetValue::Char(bits as i8),
            CType::Int(int) => RetValue::Int(int.decode(bits)),
            CType::Enum(e) => {
                let value = e.int.decode(bits);
                let name = e
                    .constants
                    .iter()
                    .find(|c| c.1 == value)
                    .map(|c| c.0.clone());
                RetValue::Enum(value, name)
            }
            CType::Float => RetValue::Float(f32::from_bits(bits as u32)),
            CType::Double => RetValue::Double(f64::from_bits(bits)),
            CType::Pointer(_) | CType::FunctionPointer => RetValue::Pointer(bits),
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
            RetValue::Char(value) => value.to_string(),
            RetValue::Float(value) => value.to_string(),
            RetValue::Double(value) => value.to_string(),
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
