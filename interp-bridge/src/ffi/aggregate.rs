//! Structs and unions by value, made from interpreter memory or from their fields.
//!
//! ```text
//!  interpreter memory: bytes, initialised or not, pointers ──from_memory──┐
//!  values of the fields ───────────────────────────────────from_fields───┴► Aggregate ──► call
//! ```

use std::ops::Range;
use std::sync::Arc;

use super::ValueError;
use super::marshal::{check, decode, encode, size_error};
use super::value::{Aggregate, Pointer, Provenance, Value};
use crate::ctype::{CType, Field, StructType};

impl StructType {
    /// Calls `f` with each field and its bytes in `bytes`, a value of this type.
    pub(super) fn each_field(
        &self,
        bytes: &[u8],
        mut f: impl FnMut(&Field, &[u8]) -> Result<(), ValueError>,
    ) -> Result<(), ValueError> {
        let layout = self.layout.as_ref().map_err(Clone::clone)?;
        for (field, offset) in self.fields.iter().zip(&layout.offsets) {
            let size = field.ty.ty.by_value()?.size;
            let part = bytes.get(*offset as usize..(offset + size) as usize);
            f(field, part.unwrap_or_default())?;
        }
        Ok(())
    }
}

impl Aggregate {
    /// A struct or union as interpreter memory holds it.
    ///
    /// - `bytes`: all of it; padding and uninitialised bytes may be anything, and reach native
    ///   code as zeros.
    /// - `initialised`: whether all bytes of a range have a value. It is asked for each scalar
    ///   field, and for the bytes of unions.
    /// - `provenance`: which bytes are pointers to which allocation. Those in padding are left out,
    ///   for native code does not get them.
    ///
    /// # Errors
    /// [`ValueError::Uninitialised`] names the field without a value, `.part_1.high`; the members
    /// of a union need none. [`ValueError::Invalid`] names one whose bytes are no value of its
    /// type. [`ValueError::Size`] and [`ValueError::Unsupported`] for what is no such struct.
    pub fn from_memory(
        ty: &Arc<StructType>,
        bytes: &[u8],
        initialised: impl Fn(Range<u64>) -> bool,
        provenance: impl IntoIterator<Item = Provenance>,
    ) -> Result<Aggregate, ValueError> {
        let whole = CType::Struct(ty.clone());
        let size = whole.by_value()?.size;
        if bytes.len() as u64 != size {
            return Err(size_error(&whole, bytes.len(), size));
        }
        let mut out = vec![0; bytes.len()];
        let mut given = Vec::new();
        let mut copy = |range: Range<u64>| {
            let place = range.start as usize..range.end as usize;
            out[place.clone()].copy_from_slice(&bytes[place]);
            given.push(range);
        };
        values(&whole, 0, &initialised, &mut copy)?;
        check(&whole, &out)?;
        let kept = |p: &Provenance| {
            let overlaps = |g: &Range<u64>| g.start < p.range.end && p.range.start < g.end;
            given.iter().any(overlaps)
        };
        Ok(Aggregate {
            ty: ty.clone(),
            bytes: out,
            provenance: provenance.into_iter().filter(kept).collect(),
        })
    }

    /// A struct of these fields, in order; a union of its first member, if one value is given.
    ///
    /// # Errors
    /// [`ValueError::Fields`] for another number of them; else what is wrong with which field.
    pub fn from_fields(ty: &Arc<StructType>, fields: &[Value]) -> Result<Aggregate, ValueError> {
        let layout = ty.layout.as_ref().map_err(Clone::clone)?;
        let expected = match ty.is_union {
            true => ty.fields.len().min(1),
            false => ty.fields.len(),
        };
        if fields.len() != expected {
            return Err(ValueError::Fields {
                ty: ty.name.clone(),
                given: fields.len(),
                expected,
            });
        }
        let mut made = Aggregate {
            ty: ty.clone(),
            bytes: vec![0; layout.whole.size as usize],
            provenance: Vec::new(),
        };
        for (index, value) in fields.iter().enumerate() {
            made.set(index, value)?;
        }
        Ok(made)
    }

    /// A union whose member `name` has this value; its other bytes are zero.
    ///
    /// # Errors
    /// [`ValueError::Mismatch`] if there is no such member; else what is wrong with the value.
    pub fn of_member(
        ty: &Arc<StructType>,
        name: &str,
        value: &Value,
    ) -> Result<Aggregate, ValueError> {
        let layout = ty.layout.as_ref().map_err(Clone::clone)?;
        let index = ty.fields.iter().position(|f| f.name == name);
        let index = index.ok_or_else(|| ValueError::Mismatch {
            path: format!(".{name}"),
            given: "no member".to_owned(),
            expected: ty.name.clone(),
        })?;
        let mut made = Aggregate {
            ty: ty.clone(),
            bytes: vec![0; layout.whole.size as usize],
            provenance: Vec::new(),
        };
        made.set(index, value)?;
        Ok(made)
    }

    fn set(&mut self, index: usize, value: &Value) -> Result<(), ValueError> {
        let ty = self.ty.clone();
        let layout = ty.layout.as_ref().map_err(Clone::clone)?;
        let (field, offset) = (&ty.fields[index], layout.offsets[index]);
        let size = field.ty.ty.by_value()?.size;
        let place = offset as usize..(offset + size) as usize;
        encode(&field.ty.ty, value, &mut self.bytes[place])
            .map_err(|e| e.inside(&format!(".{}", field.name)))?;
        let moved = |p: &Provenance| Provenance {
            range: p.range.start + offset..p.range.end + offset,
            allocation: p.allocation,
        };
        match value {
            Value::Pointer(Pointer {
                allocation: Some(allocation),
                ..
            }) => self.provenance.push(Provenance {
                range: offset..offset + size,
                allocation: *allocation,
            }),
            Value::Struct(inner) => self.provenance.extend(inner.provenance.iter().map(moved)),
            _ => {}
        }
        Ok(())
    }

    /// Its type.
    pub fn ty(&self) -> &Arc<StructType> {
        &self.ty
    }

    /// Its bytes as in memory.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Which bytes are pointers to which allocation.
    pub fn provenance(&self) -> &[Provenance] {
        &self.provenance
    }

    /// The value of the field `name`; of an array field, give its index: `name[2]`. `None` if
    /// there is no such field, or for a member of a union that holds no value of its type.
    pub fn field(&self, name: &str) -> Option<Value> {
        let layout = self.ty.layout.as_ref().ok()?;
        let (name, index) = match name.split_once('[') {
            Some((name, rest)) => (name, Some(rest.strip_suffix(']')?.parse::<u64>().ok()?)),
            None => (name, None),
        };
        let at = self.ty.fields.iter().position(|f| f.name == name)?;
        let (mut ty, mut offset) = (&self.ty.fields[at].ty.ty, layout.offsets[at]);
        if let (CType::Array(element, len), Some(index)) = (ty, index) {
            if index >= *len {
                return None;
            }
            offset += index * element.by_value().ok()?.size;
            ty = element;
        }
        let size = ty.by_value().ok()?.size;
        let part = self.bytes.get(offset as usize..(offset + size) as usize)?;
        let mut value = decode(ty, part).ok()?;
        let here = |p: &&Provenance| offset <= p.range.start && p.range.end <= offset + size;
        match &mut value {
            Value::Pointer(pointer) => {
                let whole = |p: &&Provenance| p.range == (offset..offset + size);
                pointer.allocation = self.provenance.iter().find(whole).map(|p| p.allocation);
            }
            Value::Struct(inner) => {
                let moved = |p: &Provenance| Provenance {
                    range: p.range.start - offset..p.range.end - offset,
                    allocation: p.allocation,
                };
                inner.provenance = self.provenance.iter().filter(here).map(moved).collect();
            }
            _ => {}
        }
        Some(value)
    }

    /// Whether it is a value of `ty`.
    pub(super) fn is_a(&self, ty: &Arc<StructType>) -> bool {
        Arc::ptr_eq(&self.ty, ty) || self.ty == *ty
    }
}

/// Calls `give` with the range of each scalar in a value of `ty` at `offset`. All of a scalar must
/// be initialised; a union gives each of its bytes that is.
fn values(
    ty: &CType,
    offset: u64,
    initialised: &impl Fn(Range<u64>) -> bool,
    give: &mut impl FnMut(Range<u64>),
) -> Result<(), ValueError> {
    let size = ty.by_value()?.size;
    match ty {
        CType::Struct(s) if s.is_union => {
            for at in offset..offset + size {
                if initialised(at..at + 1) {
                    give(at..at + 1);
                }
            }
        }
        CType::Struct(s) => {
            let layout = s.layout.as_ref().map_err(Clone::clone)?;
            for (field, at) in s.fields.iter().zip(&layout.offsets) {
                values(&field.ty.ty, offset + at, initialised, give)
                    .map_err(|e| e.inside(&format!(".{}", field.name)))?;
            }
        }
        CType::Array(element, len) => {
            let size = element.by_value()?.size;
            for i in 0..*len {
                values(element, offset + i * size, initialised, give)
                    .map_err(|e| e.inside(&format!("[{i}]")))?;
            }
        }
        scalar => {
            // The last six bytes of `long double` are padding.
            let used = match scalar {
                CType::LongDouble => 10,
                _ => size,
            };
            let range = offset..offset + used;
            if !initialised(range.clone()) {
                return Err(ValueError::Uninitialised {
                    path: String::new(),
                    expected: scalar.kind().to_owned(),
                });
            }
            give(range);
        }
    }
    Ok(())
}
