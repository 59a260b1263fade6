//! C types of scripts as the bridge's, and structs that are passed and returned by value.

use std::sync::Arc;

use mlua::Value;

use super::{
    cdata::{Boxed, Kind},
    failure::{Done, fail},
    session::Session,
    types::{Member, Shape, StructShape, Type},
};
use crate::{
    ctype::{CType, Field, Layout, Spelled, StructLayout, StructType},
    ffi::{Aggregate, Provenance},
    memory::{Init, Pointer},
};

impl Session {
    /// How a type travels.
    pub(super) fn c_type(&self, ty: &Type) -> Done<CType> {
        let bytes = ty.size.unwrap_or(0).min(16) as u8;
        Ok(match &ty.shape {
            Shape::Void => CType::Void,
            Shape::Bool => CType::Bool,
            Shape::Int { signed } => CType::int(bytes, *signed),
            // LuaJIT has no names for its constants that messages would need.
            Shape::Enum(shape) => CType::int(bytes, shape.signed),
            Shape::Float if bytes == 4 => CType::Float,
            Shape::Float => CType::Double,
            Shape::Complex if bytes == 8 => CType::ComplexFloat,
            Shape::Complex => CType::ComplexDouble,
            Shape::Pointer { .. } => CType::ptr(),
            Shape::Struct(shape) => CType::Struct(Arc::new(self.struct_type(ty, shape)?)),
            Shape::Array { of, .. } => {
                let element = self.types().get(*of)?;
                let len = ty.length(self.types().size_of(&element)?).unwrap_or(0);
                CType::array_of(self.c_type(&element)?, len)
            }
            Shape::Function(_) => CType::ptr(),
            Shape::Other(why) => {
                return fail(format!("'{}': {why}", self.types().name(ty.id)));
            }
        })
    }

    fn struct_type(&self, ty: &Type, shape: &StructShape) -> Done<StructType> {
        let types = self.types();
        let size = types.size_of(ty)?;
        let (mut fields, mut offsets) = (Vec::new(), Vec::new());
        for member in &shape.members {
            let (name, ty, offset) = match member {
                Member::Field { name, ty, offset } => (name.clone(), *ty, *offset),
                Member::Inner { ty, offset } => (None, *ty, *offset),
                Member::Bits(_) => {
                    return fail(format!(
                        "'{}' cannot be passed by value, since it has bit-fields; pass a pointer",
                        types.name(ty.id)
                    ));
                }
                Member::Constant { .. } => continue,
            };
            let field = types.get(ty)?;
            if matches!(field.shape, Shape::Enum(_)) && name.is_none() {
                continue;
            }
            let spelling = types.name(ty).to_string();
            fields.push(Field {
                name: name.unwrap_or_default(),
                ty: Spelled {
                    ty: self.c_type(&field)?,
                    spelling,
                },
            });
            offsets.push(offset);
        }
        let align = ty.align;
        Ok(StructType {
            name: types.name(ty.id).to_string(),
            is_union: shape.is_union,
            fields,
            layout: Ok(StructLayout {
                whole: Layout { size, align },
                offsets,
            }),
        })
    }

    /// A struct in memory, to be passed by value.
    pub(super) fn aggregate(&self, ty: &Type, at: Pointer) -> Done<Aggregate> {
        let CType::Struct(described) = self.c_type(ty)? else {
            return fail(format!(
                "'{}' cannot be passed by value",
                self.types().name(ty.id)
            ));
        };
        let size = self.types().size_of(ty)?;
        let mut bytes = vec![0; size as usize];
        self.read_any(at, &mut bytes)?;
        let memory = self.bridge.memory();
        let reached = super::place::reach(&memory, at, size, "read")?;
        let known = match reached {
            super::place::Reached::Known(id, offset) => memory.get(id).map(|r| (r, offset)),
            super::place::Reached::Native(_) => None,
        };
        let initialised = |range: std::ops::Range<u64>| match known {
            Some((record, offset)) => record
                .first_unreadable(range.start + offset..range.end + offset)
                .is_none(),
            None => true,
        };
        let pointers = known.into_iter().flat_map(|(record, offset)| {
            let inside = offset..offset + size;
            record
                .pointers()
                .filter(move |(at, _)| inside.contains(at) && at + 8 <= inside.end)
                .map(move |(at, allocation)| Provenance {
                    range: at - offset..at - offset + 8,
                    allocation,
                })
        });
        let made = Aggregate::from_memory(&described, &bytes, initialised, pointers);
        made.map_err(|error| super::LuaFailure::new(error.to_string()))
    }

    /// An object of its own for a struct that native code returned.
    pub(super) fn object_of(&self, ty: &Type, aggregate: &Aggregate) -> Done<Value> {
        let bytes = aggregate.bytes();
        let (_, at) = self.new_memory(ty, bytes.len() as u64, Init::Bytes(bytes))?;
        self.mark_native_pointers(ty, at)?;
        self.new_boxed(&Boxed::pointer_to(ty.id, Kind::Object, at))
    }

    /// Pointers that native code returned may lead to whatever it knows.
    fn mark_native_pointers(&self, ty: &Type, at: Pointer) -> Done<()> {
        let types = self.types();
        match &ty.shape {
            Shape::Pointer { .. } => {
                let mut bytes = [0; 8];
                self.read_any(at, &mut bytes)?;
                self.write_pointer(at, Pointer::from_native(u64::from_le_bytes(bytes)))
            }
            // Which member of a union it is, nobody knows.
            Shape::Struct(shape) if !shape.is_union => {
                for member in &shape.members {
                    if let Member::Field { ty, offset, .. } | Member::Inner { ty, offset } = member
                    {
                        let field = types.get(*ty)?;
                        self.mark_native_pointers(&field, at.offset(*offset as i64))?;
                    }
                }
                Ok(())
            }
            Shape::Array { of, .. } => {
                let element = types.get(*of)?;
                if !matches!(element.shape, Shape::Pointer { .. } | Shape::Struct(_)) {
                    return Ok(());
                }
                let step = types.size_of(&element)?;
                for index in 0..ty.length(step).unwrap_or(0) {
                    self.mark_native_pointers(&element, at.offset((index * step) as i64))?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
