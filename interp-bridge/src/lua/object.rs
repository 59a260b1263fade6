//! Making arrays, structs and unions, and giving them values, by LuaJIT's initialiser rules.
//!
//! ```text
//!  ffi.new(type, values…)
//!    none                     all zero
//!    one that is the whole    a string, a table, an object of the same type
//!    one or more elements     in order; a single one is for every element of an array
//! ```

use mlua::{LuaString, Table, Value};

use super::{
    cdata::{Boxed, Kind},
    failure::{Done, fail},
    number::cut,
    scalar::{Given, How, Scalar},
    session::Session,
    types::{BitField, Member, Shape, StructShape, Type},
};
use crate::memory::{AllocId, AllocKind, AllocRequest, Init, Pointer};

/// Where the values for the members of a struct come from.
enum Values<'v> {
    /// The arguments of `ffi.new`, and how many of them are used.
    List(&'v [Value], usize),
    /// A table by position; the next one.
    Positions(&'v Table, i64),
    /// A table by name.
    Names(&'v Table),
}

impl Session {
    /// `ffi.new`.
    pub(super) fn new_value(&self, ty: &Type, arguments: &[Value]) -> Done<Value> {
        let (size, values) = self.size_for(ty, arguments)?;
        if !ty.is_aggregate() {
            let scalar = match values {
                [] => zero(ty),
                [value] => self.as_scalar(value, ty, How::Convert)?,
                [re, im] if matches!(ty.shape, Shape::Complex) => self.complex(re, im)?,
                _ => return self.too_many(ty),
            };
            return self.boxed_scalar(ty, scalar);
        }
        let (id, pointer) = self.new_memory(ty, size, Init::Zeroed)?;
        let owner = self.new_boxed(&Boxed::pointer_to(ty.id, Kind::Object, pointer))?;
        if let Err(error) = self.initialise(pointer, ty, size, values) {
            self.release(id)?;
            return Err(error);
        }
        Ok(owner)
    }

    /// Memory for an object of this type, named by the type and the script's line.
    pub(super) fn new_memory(
        &self,
        ty: &Type,
        size: u64,
        init: Init<'_>,
    ) -> Done<(AllocId, Pointer)> {
        let name = format!("{} at {}", self.types().name(ty.id), self.script_line());
        let id = self.allocate(&AllocRequest {
            name: Some(&name),
            size,
            align: ty.align.max(8),
            init,
            mutable: true,
            kind: AllocKind::Heap,
        })?;
        Ok((id, self.pointer_to(id)?))
    }

    /// A complex number of two parts.
    pub(super) fn complex(&self, re: &Value, im: &Value) -> Done<Scalar> {
        let double = self.named_type("double")?;
        let part = |value| match self.as_scalar(value, &double, How::Convert)? {
            Scalar::Float(part) => Ok(part),
            _ => fail("a complex number is of two numbers"),
        };
        Ok(Scalar::Complex(part(re)?, part(im)?))
    }

    /// The size of a new object, and the arguments that are its values: the number of elements
    /// comes first where the type leaves it open.
    fn size_for<'a>(&self, ty: &Type, arguments: &'a [Value]) -> Done<(u64, &'a [Value])> {
        let types = self.types();
        let unknown = || {
            fail(format!(
                "size of C type '{}' is unknown or too large",
                types.name(ty.id)
            ))
        };
        let Some((base, element)) = types.open_end(ty)? else {
            return match ty.size {
                Some(size) => Ok((size, arguments)),
                None => unknown(),
            };
        };
        let Some((count, values)) = arguments.split_first() else {
            return unknown();
        };
        let size = u64::try_from(self.whole_number(count)? as i64).ok();
        let size = size.and_then(|count| count.checked_mul(element)?.checked_add(base));
        match size.filter(|size| *size <= crate::arena::MAX_SIZE) {
            Some(size) => Ok((size, values)),
            None => unknown(),
        }
    }

    fn too_many<T>(&self, ty: &Type) -> Done<T> {
        fail(format!(
            "too many initializers for '{}'",
            self.types().name(ty.id)
        ))
    }

    /// Sets what is all zero.
    fn initialise(&self, at: Pointer, ty: &Type, size: u64, values: &[Value]) -> Done<()> {
        match (values, &ty.shape) {
            ([], _) => Ok(()),
            ([value], _) if !self.is_element(ty, value)? => {
                self.assign_sized(at, ty, Some(size), value)
            }
            (_, Shape::Array { of, .. }) => {
                let element = self.types().get(*of)?;
                self.fill_array(at, ty, &element, size, values)
            }
            (_, Shape::Struct(shape)) => {
                let mut values = Values::List(values, 0);
                self.fill_struct(at, shape, &mut values)?;
                match values {
                    Values::List(all, used) if used < all.len() => self.too_many(ty),
                    _ => Ok(()),
                }
            }
            _ => self.too_many(ty),
        }
    }

    /// Whether a single initialiser is one for an element, and not for the whole.
    fn is_element(&self, ty: &Type, value: &Value) -> Done<bool> {
        Ok(match (self.given(value)?, &ty.shape) {
            (Given::Table(_), _) => false,
            (Given::Text(_), Shape::Array { of, .. }) => {
                let element = self.types().get(*of)?;
                !is_byte(&element)
            }
            (Given::Aggregate(from, _), _) => !self.types().same(ty, &from),
            _ => true,
        })
    }

    fn fill_array(
        &self,
        at: Pointer,
        ty: &Type,
        element: &Type,
        size: u64,
        values: &[Value],
    ) -> Done<()> {
        let step = self.types().size_of(element)?;
        if (values.len() as u64).saturating_mul(step) > size {
            return self.too_many(ty);
        }
        for (index, value) in values.iter().enumerate() {
            self.assign(at.offset((index as u64 * step) as i64), element, value)?;
        }
        match values {
            [_] => self.repeat(at, step, size),
            _ => Ok(()),
        }
    }

    /// Copies the first `step` bytes over all `size`.
    fn repeat(&self, at: Pointer, step: u64, size: u64) -> Done<()> {
        let mut done = step;
        while done > 0 && done < size {
            let more = done.min(size - done);
            self.copy(at, at.offset(done as i64), more)?;
            done += more;
        }
        Ok(())
    }

    /// Assigns a Lua value to what has this type.
    pub(super) fn assign(&self, at: Pointer, ty: &Type, value: &Value) -> Done<()> {
        self.assign_sized(at, ty, ty.size, value)
    }

    fn assign_sized(&self, at: Pointer, ty: &Type, size: Option<u64>, value: &Value) -> Done<()> {
        if !ty.is_aggregate() {
            let scalar = self.as_scalar(value, ty, How::Convert)?;
            return self.save(at, ty, scalar);
        }
        let given = self.given(value)?;
        match (&given, &ty.shape) {
            (Given::Aggregate(from, source), _) if self.types().same(ty, from) => {
                let size = match size {
                    Some(size) => size,
                    None => self.types().size_of(ty)?,
                };
                self.copy(*source, at, size)
            }
            (Given::Text(text), Shape::Array { of, .. }) => {
                let element = self.types().get(*of)?;
                match is_byte(&element) {
                    true => self.put_text(at, size, text),
                    false => self.cannot(&given, ty),
                }
            }
            (Given::Table(table), Shape::Array { of, .. }) => {
                let element = self.types().get(*of)?;
                self.array_from_table(at, ty, &element, size, table)
            }
            (Given::Table(table), Shape::Struct(shape)) => {
                self.fill(at, size.unwrap_or(0), 0)?;
                self.fill_struct(at, shape, &mut Values::Positions(table, 0))
            }
            _ => self.cannot(&given, ty),
        }
    }

    /// A string with its zero byte, cut where the array ends.
    fn put_text(&self, at: Pointer, size: Option<u64>, text: &LuaString) -> Done<()> {
        let bytes = text.as_bytes_with_nul();
        let len = size.map_or(bytes.len(), |size| bytes.len().min(size as usize));
        self.write(at, &bytes[..len])
    }

    fn array_from_table(
        &self,
        at: Pointer,
        ty: &Type,
        element: &Type,
        size: Option<u64>,
        table: &Table,
    ) -> Done<()> {
        let step = self.types().size_of(element)?;
        let first = i64::from(table.raw_get::<Value>(0)?.is_nil());
        let mut done = 0;
        for index in first.. {
            let value: Value = table.raw_get(index)?;
            if value.is_nil() {
                break;
            }
            if size.is_some_and(|size| done + step > size) {
                return self.too_many(ty);
            }
            self.assign(at.offset(done as i64), element, &value)?;
            done += step;
        }
        match size {
            Some(size) if done == step => self.repeat(at, step, size),
            Some(size) => self.fill(at.offset(done as i64), size - done, 0),
            None => Ok(()),
        }
    }

    fn fill_struct(&self, at: Pointer, shape: &StructShape, values: &mut Values<'_>) -> Done<()> {
        for member in &shape.members {
            match member {
                Member::Field {
                    name: Some(name),
                    ty,
                    offset,
                } => match next(values, name)? {
                    Next::Value(value) => {
                        let ty = self.types().get(*ty)?;
                        self.assign(at.offset(*offset as i64), &ty, &value)?;
                    }
                    Next::None => continue,
                    Next::End => break,
                },
                Member::Bits(field) if field.name.is_some() => {
                    let name = field.name.as_deref().unwrap_or_default();
                    match next(values, name)? {
                        Next::Value(value) => {
                            self.set_bits(at.offset(field.offset as i64), field, &value)?;
                        }
                        Next::None => continue,
                        Next::End => break,
                    }
                }
                Member::Inner { ty, offset } => {
                    let inner = self.types().get(*ty)?;
                    if let Shape::Struct(shape) = &inner.shape {
                        self.fill_struct(at.offset(*offset as i64), shape, values)?;
                    }
                    // What is in it was for the first of the members.
                    if !shape.is_union {
                        continue;
                    }
                }
                _ => continue,
            }
            // A union takes a value for one of its members.
            if shape.is_union {
                break;
            }
        }
        Ok(())
    }

    /// Reads a field of bits.
    pub(super) fn bits(&self, at: Pointer, field: &BitField) -> Done<Value> {
        let mut bytes = [0; 8];
        self.read(at, &mut bytes[..field.container.min(8) as usize])?;
        let mask = u64::MAX >> (64 - field.bits.clamp(1, 64));
        let bits = (u64::from_le_bytes(bytes) >> field.position) & mask;
        Ok(if field.is_bool {
            Value::Boolean(bits != 0)
        } else if field.signed {
            let shift = 64 - field.bits.clamp(1, 64);
            Value::Number((((bits << shift) as i64) >> shift) as f64)
        } else {
            Value::Number(bits as f64)
        })
    }

    /// Writes a field of bits, and no other bit.
    pub(super) fn set_bits(&self, at: Pointer, field: &BitField, value: &Value) -> Done<()> {
        let bits = match self.as_scalar(value, self.size_type(field.signed), How::Convert)? {
            Scalar::Int(bits) => match field.is_bool {
                true => u64::from(bits != 0),
                false => bits,
            },
            _ => 0,
        };
        let mask = (u64::MAX >> (64 - field.bits.clamp(1, 64))) << field.position;
        let mut bytes = [0; 8];
        let len = field.container.min(8) as usize;
        self.read_any(at, &mut bytes[..len])?;
        let all = u64::from_le_bytes(bytes) & !mask | (bits << field.position) & mask;
        self.write(at, &all.to_le_bytes()[..len])
    }

    /// `ffi.fill`.
    pub(super) fn fill(&self, at: Pointer, len: u64, byte: u8) -> Done<()> {
        match len {
            0 => Ok(()),
            _ => self.write(at, &vec![byte; len as usize]),
        }
    }
}

/// What there is for a member.
enum Next {
    Value(Value),
    /// Nothing; others may have something.
    None,
    /// Nothing, and nothing more.
    End,
}

fn next(values: &mut Values<'_>, name: &str) -> Done<Next> {
    match values {
        Values::List(all, used) => Ok(match all.get(*used) {
            Some(value) => {
                *used += 1;
                Next::Value(value.clone())
            }
            None => Next::End,
        }),
        Values::Positions(table, position) => {
            let mut value: Value = table.raw_get(*position)?;
            if value.is_nil() && *position == 0 {
                value = table.raw_get(1)?;
                if value.is_nil() {
                    *values = Values::Names(table);
                    return next(values, name);
                }
                *position = 1;
            }
            *position += 1;
            Ok(match value.is_nil() {
                true => Next::End,
                false => Next::Value(value),
            })
        }
        Values::Names(table) => {
            let value: Value = table.raw_get(name)?;
            Ok(match value.is_nil() {
                true => Next::None,
                false => Next::Value(value),
            })
        }
    }
}

fn is_byte(element: &Type) -> bool {
    matches!(element.shape, Shape::Int { .. }) && element.size == Some(1)
}

/// The zero of a scalar type.
fn zero(ty: &Type) -> Scalar {
    match ty.shape {
        Shape::Pointer { .. } => Scalar::Pointer(Pointer::from_number(0)),
        _ => cut(Scalar::Int(0), ty),
    }
}
