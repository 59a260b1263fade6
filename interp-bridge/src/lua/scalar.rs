//! Scalars: between Lua's values, C's types and memory.
//!
//! ```text
//!  Lua value ──given()──► Given ──as_scalar(type)──► Scalar ─► memory, an argument, a cdata
//!  memory, a result ──────────────────────────────► Scalar ──to_lua(type)──► Lua value
//! ```
//! The rules are those of LuaJIT's FFI: which conversions are made by themselves, which only by
//! `ffi.cast`, and how numbers are cut to size.

use std::rc::Rc;

use mlua::{LuaString, Value};

use super::{
    cdata::{Boxed, Cdata, Kind},
    failure::{Done, fail},
    number::{cut, from_bytes, number_of, to_bytes, widened},
    session::Session,
    types::{Shape, Type, TypeId},
};
use crate::memory::Pointer;

/// A value that is no aggregate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scalar {
    /// An integer or enumeration constant: its low bits.
    Int(u64),
    Bool(bool),
    Float(f64),
    Complex(f64, f64),
    Pointer(Pointer),
}

/// Whether `ffi.cast` was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Convert,
    Cast,
}

/// A Lua value, as far as C is concerned.
#[derive(Clone, Debug)]
pub(super) enum Given {
    Nil,
    Bool(bool),
    Number(f64),
    Text(LuaString),
    Table(mlua::Table),
    Function(mlua::Function),
    /// The address of a userdata's block, or of what a light one is.
    Address(u64),
    /// A number, pointer or function of C.
    Scalar(Rc<Type>, Scalar),
    /// An array, struct or union, and where it is.
    Aggregate(Rc<Type>, Pointer),
    /// A function of C.
    Code(Rc<Type>, Pointer),
    /// A C type.
    Type,
    /// What has no meaning in C, by its name in Lua.
    Other(&'static str),
}

impl Session {
    /// What a Lua value is to C.
    pub(super) fn given(&self, value: &Value) -> Done<Given> {
        Ok(match value {
            Value::Nil => Given::Nil,
            Value::Boolean(value) => Given::Bool(*value),
            Value::Integer(value) => Given::Number(*value as f64),
            Value::Number(value) => Given::Number(*value),
            Value::String(text) => Given::Text(text.clone()),
            Value::Table(table) => Given::Table(table.clone()),
            Value::Function(function) => Given::Function(function.clone()),
            Value::LightUserData(_) => Given::Address(value.to_pointer() as u64),
            Value::UserData(_) => Given::Address(self.userdata_address(value)),
            Value::Other(_) => match self.cdata(value) {
                Some(cdata) => self.given_cdata(&cdata)?,
                None => Given::Other("cdata"),
            },
            other => Given::Other(other.type_name()),
        })
    }

    fn given_cdata(&self, cdata: &Cdata) -> Done<Given> {
        Ok(match *cdata {
            Cdata::Integer(ty, bits) => Given::Scalar(self.types().get(ty)?, Scalar::Int(bits)),
            Cdata::Complex(ty, re, im) => {
                Given::Scalar(self.types().get(ty)?, Scalar::Complex(re, im))
            }
            Cdata::Boxed(boxed) => {
                let ty = self.types().get(boxed.ty)?;
                match boxed.kind {
                    Kind::Type => Given::Type,
                    Kind::Object | Kind::Reference => Given::Aggregate(ty, boxed.pointer()),
                    Kind::Function => Given::Code(ty, boxed.pointer()),
                    Kind::Value => {
                        let scalar = unpacked(&ty, &boxed);
                        Given::Scalar(ty, scalar)
                    }
                }
            }
        })
    }

    /// The name that messages have for a value.
    pub(super) fn name_given(&self, given: &Given) -> String {
        match given {
            Given::Nil => "nil".into(),
            Given::Bool(_) => "boolean".into(),
            Given::Number(_) => "number".into(),
            Given::Text(_) => "string".into(),
            Given::Table(_) => "table".into(),
            Given::Function(_) => "function".into(),
            Given::Address(_) => "userdata".into(),
            Given::Scalar(ty, _) | Given::Aggregate(ty, _) | Given::Code(ty, _) => {
                self.types().name(ty.id).to_string()
            }
            Given::Type => "ctype".into(),
            Given::Other(name) => (*name).into(),
        }
    }

    pub(super) fn cannot<T>(&self, given: &Given, ty: &Type) -> Done<T> {
        let (from, to) = (self.name_given(given), self.types().name(ty.id));
        fail(format!("cannot convert '{from}' to '{to}'"))
    }

    /// Converts a Lua value to a scalar type.
    pub(super) fn as_scalar(&self, value: &Value, ty: &Type, how: How) -> Done<Scalar> {
        let given = self.given(value)?;
        self.given_as_scalar(&given, ty, how)
    }

    /// The same for what was looked at already.
    pub(super) fn given_as_scalar(&self, given: &Given, ty: &Type, how: How) -> Done<Scalar> {
        match &ty.shape {
            Shape::Pointer { to } => Ok(Scalar::Pointer(self.as_pointer(given, ty, *to, how)?)),
            Shape::Enum(shape) => match given {
                Given::Text(name) => match shape.value(&name.to_string_lossy()) {
                    Some(value) => Ok(Scalar::Int(value as u64)),
                    None => self.cannot(given, ty),
                },
                _ => self.as_number(given, ty, how),
            },
            Shape::Complex if matches!(given, Given::Table(_)) => {
                let Given::Table(table) = given else {
                    return self.cannot(given, ty);
                };
                let first = i64::from(table.raw_get::<Value>(0)?.is_nil());
                let part = |index: i64| -> Done<Value> {
                    let value: Value = table.raw_get(first + index)?;
                    Ok(if value.is_nil() {
                        Value::Integer(0)
                    } else {
                        value
                    })
                };
                self.complex(&part(0)?, &part(1)?)
            }
            Shape::Bool | Shape::Int { .. } | Shape::Float | Shape::Complex => {
                self.as_number(given, ty, how)
            }
            Shape::Other(why) => fail(format!("'{}': {why}", self.types().name(ty.id))),
            _ => self.cannot(given, ty),
        }
    }

    fn as_number(&self, given: &Given, ty: &Type, how: How) -> Done<Scalar> {
        let scalar = match given {
            Given::Bool(value) => Scalar::Bool(*value),
            Given::Number(value) => Scalar::Float(*value),
            Given::Scalar(_, Scalar::Pointer(pointer)) => {
                let is_int = matches!(ty.shape, Shape::Int { .. } | Shape::Enum(_));
                if how != How::Cast || !is_int {
                    return self.cannot(given, ty);
                }
                self.bridge.memory().expose_pointer(*pointer);
                Scalar::Int(pointer.addr)
            }
            Given::Aggregate(_, pointer) | Given::Code(_, pointer)
                if how == How::Cast && matches!(ty.shape, Shape::Int { .. }) =>
            {
                self.bridge.memory().expose_pointer(*pointer);
                Scalar::Int(pointer.addr)
            }
            Given::Address(addr) if how == How::Cast => Scalar::Int(*addr),
            Given::Scalar(from, Scalar::Int(bits))
                if matches!(ty.shape, Shape::Float | Shape::Complex) =>
            {
                Scalar::Float(number_of(from, *bits))
            }
            Given::Scalar(from, scalar) => widened(from, *scalar),
            _ => return self.cannot(given, ty),
        };
        Ok(cut(scalar, ty))
    }

    fn as_pointer(&self, given: &Given, ty: &Type, to: TypeId, how: How) -> Done<Pointer> {
        let cast = how == How::Cast;
        let types = self.types();
        let target = types.get(to)?;
        Ok(match given {
            Given::Nil => Pointer::from_number(0),
            Given::Address(addr) => Pointer::from_native(*addr),
            Given::Text(text) => {
                let is_text = match target.shape {
                    Shape::Void => target.is_const,
                    Shape::Int { .. } => target.is_const && target.size == Some(1),
                    _ => false,
                };
                if !is_text && !cast {
                    return self.cannot(given, ty);
                }
                self.text_pointer(text)?
            }
            Given::Function(function) => match target.shape {
                Shape::Function(_) => self.callback_pointer(function, &target)?,
                _ => return self.cannot(given, ty),
            },
            Given::Number(value) if cast => {
                Pointer::from_native(match cut(Scalar::Float(*value), self.size_type(false)) {
                    Scalar::Int(bits) => bits,
                    _ => 0,
                })
            }
            Given::Scalar(from, Scalar::Pointer(pointer)) => {
                let Shape::Pointer { to: source } = from.shape else {
                    return self.cannot(given, ty);
                };
                let source = types.get(source)?;
                if !cast && !self.compatible(&target, &source, false)? {
                    return self.cannot(given, ty);
                }
                *pointer
            }
            Given::Scalar(from, scalar) if cast && !matches!(from.shape, Shape::Complex) => {
                match cut(widened(from, *scalar), self.size_type(true)) {
                    Scalar::Int(bits) => Pointer::from_native(bits),
                    _ => return self.cannot(given, ty),
                }
            }
            Given::Aggregate(from, pointer) => {
                let source = match from.shape {
                    Shape::Array { of, .. } => types.get(of)?,
                    _ => from.clone(),
                };
                if !cast && !self.compatible(&target, &source, false)? {
                    return self.cannot(given, ty);
                }
                *pointer
            }
            Given::Code(from, pointer) => {
                if !cast && !self.compatible(&target, from, false)? {
                    return self.cannot(given, ty);
                }
                *pointer
            }
            _ => return self.cannot(given, ty),
        })
    }

    /// Whether a pointer to `source` may become one to `target` by itself: nothing const is lost,
    /// and they point to the like.
    fn compatible(&self, target: &Type, source: &Type, same: bool) -> Done<bool> {
        let types = self.types();
        if types.same(target, source) && target.is_const == source.is_const {
            return Ok(true);
        }
        if same {
            if target.is_const != source.is_const {
                return Ok(false);
            }
        } else {
            if source.is_const && !target.is_const {
                return Ok(false);
            }
            if matches!(target.shape, Shape::Void) || matches!(source.shape, Shape::Void) {
                return Ok(true);
            }
        }
        Ok(match (&target.shape, &source.shape) {
            (Shape::Int { .. }, Shape::Int { .. })
            | (Shape::Bool, Shape::Bool)
            | (Shape::Float, Shape::Float)
            | (Shape::Complex, Shape::Complex)
            | (Shape::Enum(_), Shape::Enum(_)) => target.size == source.size,
            (Shape::Pointer { to: a }, Shape::Pointer { to: b }) => {
                self.compatible(&*types.get(*a)?, &*types.get(*b)?, true)?
            }
            (Shape::Array { of: a, .. }, Shape::Array { of: b, .. }) => {
                target.size == source.size
                    && self.compatible(&*types.get(*a)?, &*types.get(*b)?, true)?
            }
            // As LuaJIT, which does not compare parameters.
            (Shape::Function(_), Shape::Function(_)) => true,
            _ => types.same(target, source),
        })
    }

    /// Reads a scalar.
    pub(super) fn load(&self, at: Pointer, ty: &Type) -> Done<Scalar> {
        if let Shape::Pointer { .. } = ty.shape {
            return Ok(Scalar::Pointer(self.read_pointer(at)?));
        }
        let size = self.types().size_of(ty)? as usize;
        let mut bytes = [0; 16];
        let Some(part) = bytes.get_mut(..size) else {
            return fail(format!("'{}' is too large", self.types().name(ty.id)));
        };
        self.read(at, part)?;
        from_bytes(ty, &bytes).map_or_else(
            || fail(format!("'{}' has no values", self.types().name(ty.id))),
            Ok,
        )
    }

    /// Writes a scalar of this type.
    pub(super) fn save(&self, at: Pointer, ty: &Type, scalar: Scalar) -> Done<()> {
        if let Scalar::Pointer(pointer) = scalar {
            return self.write_pointer(at, pointer);
        }
        let (bytes, size) = to_bytes(ty, scalar);
        self.write(at, &bytes[..size])
    }

    /// A scalar as scripts get it where C's values become Lua's: numbers, booleans, and cdata for
    /// what these cannot hold.
    pub(super) fn to_lua(&self, ty: &Type, scalar: Scalar) -> Done<Value> {
        match scalar {
            Scalar::Bool(value) => Ok(Value::Boolean(value)),
            Scalar::Float(value) => Ok(Value::Number(value)),
            Scalar::Int(bits) if !ty.is_wide() && matches!(ty.shape, Shape::Int { .. }) => {
                Ok(Value::Number(number_of(ty, bits)))
            }
            _ => self.boxed_scalar(ty, scalar),
        }
    }

    /// A scalar as a cdata of this type.
    pub(super) fn boxed_scalar(&self, ty: &Type, scalar: Scalar) -> Done<Value> {
        let bits = match scalar {
            Scalar::Int(bits) if ty.is_wide() => return self.new_integer(ty, bits),
            Scalar::Complex(re, im) => return self.new_complex(re, im),
            Scalar::Pointer(pointer) => {
                return self.new_boxed(&Boxed::pointer_to(ty.id, Kind::Value, pointer));
            }
            Scalar::Int(bits) => bits,
            Scalar::Bool(value) => u64::from(value),
            Scalar::Float(value) => value.to_bits(),
        };
        self.new_boxed(&Boxed {
            ty: ty.id,
            kind: Kind::Value,
            bits,
            extra: 0,
        })
    }
}

/// The scalar in a cdata.
fn unpacked(ty: &Type, boxed: &Boxed) -> Scalar {
    match ty.shape {
        Shape::Pointer { .. } => Scalar::Pointer(boxed.pointer()),
        Shape::Bool => Scalar::Bool(boxed.bits != 0),
        Shape::Float => Scalar::Float(f64::from_bits(boxed.bits)),
        _ => Scalar::Int(boxed.bits),
    }
}
