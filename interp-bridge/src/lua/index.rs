//! `cdata[key]` and `cdata.key`, to read and to write.

use std::rc::Rc;

use mlua::Value;

use super::{
    cdata::{Boxed, Kind},
    failure::{Done, fail},
    scalar::{Given, How, Scalar},
    session::Session,
    types::{BitField, Found, Shape, Type},
};
use crate::memory::Pointer;

/// What a metamethod comes to.
pub(super) enum Answer {
    Value(Value),
    /// The script's own metamethod has to say.
    Meta(Value),
}

/// What a key leads to.
enum Place {
    At(Pointer, Rc<Type>, bool),
    Bits(Pointer, BitField),
    Constant(Value),
    /// Nothing that C knows of.
    Nothing(Rc<Type>),
}

impl Session {
    /// `cdata[key]`.
    pub(super) fn index(&self, value: &Value, key: &Value) -> Done<Answer> {
        Ok(Answer::Value(match self.place_of(value, key)? {
            Place::At(at, ty, _) => self.value_at(at, &ty)?,
            Place::Bits(at, field) => self.bits(at, &field)?,
            Place::Constant(value) => value,
            Place::Nothing(ty) => {
                return match self.metamethod(&ty, "__index") {
                    Some(handler) => Ok(Answer::Meta(handler)),
                    None => self.no_member(&ty, key),
                };
            }
        }))
    }

    /// `cdata[key] = new`; the script's own `__newindex` where there is one to ask.
    pub(super) fn set_index(&self, value: &Value, key: &Value, new: &Value) -> Done<Option<Value>> {
        match self.place_of(value, key)? {
            Place::At(_, ty, true) => {
                let name = self.types().name(ty.id);
                return fail(format!(
                    "attempt to write to constant location of type '{name}'"
                ));
            }
            Place::At(at, ty, false) => self.assign(at, &ty, new)?,
            Place::Bits(_, field) if field.is_const => {
                return fail("attempt to write to constant location");
            }
            Place::Bits(at, field) => self.set_bits(at, &field, new)?,
            Place::Constant(_) => return fail("attempt to write to constant location"),
            Place::Nothing(ty) => {
                return match self.metamethod(&ty, "__newindex") {
                    Some(handler) => Ok(Some(handler)),
                    None => self.no_member(&ty, key),
                };
            }
        }
        Ok(None)
    }

    fn no_member<T>(&self, ty: &Type, key: &Value) -> Done<T> {
        let name = self.types().name(ty.id);
        match (key, &ty.shape) {
            (Value::String(member), Shape::Struct(_) | Shape::Enum(_)) => fail(format!(
                "'{name}' has no member named '{}'",
                member.to_string_lossy()
            )),
            _ => {
                let key = self.name_given(&self.given(key)?);
                fail(format!("'{name}' cannot be indexed with '{key}'"))
            }
        }
    }

    /// A value where it is: a scalar is read, of an aggregate a reference is given.
    pub(super) fn value_at(&self, at: Pointer, ty: &Type) -> Done<Value> {
        match &ty.shape {
            Shape::Array { .. } | Shape::Struct(_) => {
                self.new_boxed(&Boxed::pointer_to(ty.id, Kind::Reference, at))
            }
            Shape::Function(_) => self.function_value(ty.id, at.addr),
            Shape::Void => fail("'void' has no values"),
            Shape::Other(why) => fail(format!("'{}': {why}", self.types().name(ty.id))),
            _ => {
                let scalar = self.load(at, ty)?;
                self.to_lua(ty, scalar)
            }
        }
    }

    fn place_of(&self, value: &Value, key: &Value) -> Done<Place> {
        let (types, given) = (self.types(), self.given(value)?);
        match given {
            Given::Type => {
                let Some(boxed) = self.boxed(value) else {
                    return fail("not a type");
                };
                let ty = types.get(boxed.ty)?;
                if let Value::String(name) = key
                    && let Some(Found::Constant { ty, value }) =
                        types.member(&ty, &name.to_string_lossy())?
                {
                    return Ok(Place::Constant(self.constant(ty, value)?));
                }
                Ok(Place::Nothing(ty))
            }
            Given::Aggregate(ty, at) => match &ty.shape {
                Shape::Array { of, .. } => {
                    let (of, is_const) = (*of, ty.is_const);
                    let element = types.get(of)?;
                    self.element(at, ty, element, is_const, key)
                }
                _ => self.member_of(at, ty, key),
            },
            Given::Scalar(ty, Scalar::Pointer(at)) => {
                let Shape::Pointer { to } = ty.shape else {
                    return Ok(Place::Nothing(ty));
                };
                let target = types.get(to)?;
                match key {
                    Value::String(_) if matches!(target.shape, Shape::Struct(_)) => {
                        self.member_of(at, target, key)
                    }
                    _ => self.element(at, ty, target, false, key),
                }
            }
            Given::Scalar(ty, _) | Given::Code(ty, _) => {
                if self.metamethod(&ty, "__index").is_some() {
                    return Ok(Place::Nothing(ty));
                }
                fail(format!("'{}' cannot be indexed", types.name(ty.id)))
            }
            other => fail(format!("'{}' cannot be indexed", self.name_given(&other))),
        }
    }

    fn element(
        &self,
        at: Pointer,
        whole: Rc<Type>,
        element: Rc<Type>,
        is_const: bool,
        key: &Value,
    ) -> Done<Place> {
        let number = match key {
            Value::Integer(number) => Some(*number),
            Value::Number(number) => Some(*number as i64),
            Value::Other(_) => match self.as_scalar(key, self.size_type(true), How::Convert) {
                Ok(Scalar::Int(bits)) => Some(bits as i64),
                _ => None,
            },
            _ => None,
        };
        let Some(number) = number else {
            return Ok(Place::Nothing(whole));
        };
        let size = match element.shape {
            Shape::Function(_) => 0,
            _ => self.types().size_of(&element)?,
        };
        let is_const = is_const || element.is_const;
        let at = at.offset(number.wrapping_mul(size as i64));
        Ok(Place::At(at, element, is_const))
    }

    fn member_of(&self, at: Pointer, ty: Rc<Type>, key: &Value) -> Done<Place> {
        let types = self.types();
        let Value::String(name) = key else {
            return Ok(Place::Nothing(ty));
        };
        Ok(match types.member(&ty, &name.to_string_lossy())? {
            Some(Found::Field { ty: field, offset }) => {
                let field = types.get(field)?;
                let is_const = ty.is_const || field.is_const;
                Place::At(at.offset(offset as i64), field, is_const)
            }
            Some(Found::Bits { mut field, offset }) => {
                field.is_const |= ty.is_const;
                Place::Bits(at.offset(offset as i64), field)
            }
            Some(Found::Constant { ty, value }) => Place::Constant(self.constant(ty, value)?),
            None => Place::Nothing(ty),
        })
    }

    /// A constant as a Lua value. Those of enumerations are numbers here, as in LuaJIT.
    pub(super) fn constant(&self, ty: super::types::TypeId, value: i64) -> Done<Value> {
        let ty = self.types().get(ty)?;
        Ok(match ty.shape {
            Shape::Bool => Value::Boolean(value != 0),
            _ => Value::Number(value as f64),
        })
    }
}
