//! What scripts ask about cdata and types: sizes, kinds, words, and the memory behind them.

use std::rc::Rc;

use mlua::Value;

use super::{
    cdata::{Cdata, Kind},
    failure::{Done, fail},
    number::{number_of, to_bytes},
    scalar::{Given, How, Scalar},
    session::Session,
    types::{Shape, Type, TypeId},
};
use crate::memory::{Pointer, Provenance};

impl Session {
    /// The number of the type of a ctype or cdata.
    pub(super) fn type_of(&self, value: &Value) -> Done<TypeId> {
        match self.cdata(value) {
            Some(Cdata::Boxed(boxed)) => Ok(boxed.ty),
            Some(Cdata::Integer(ty, _) | Cdata::Complex(ty, ..)) => Ok(ty),
            None => {
                let name = self.name_given(&self.given(value)?);
                fail(format!("bad argument (C type expected, got {name})"))
            }
        }
    }

    /// A type by its name in C, which means the same in every script.
    pub(super) fn named_type(&self, name: &'static str) -> Done<Rc<Type>> {
        if let Some(known) = self.named.borrow().get(name) {
            return Ok(known.clone());
        }
        let id: u32 = self.helpers().type_number.call(name)?;
        let ty = self.types().get(TypeId(id))?;
        self.named.borrow_mut().insert(name, ty.clone());
        Ok(ty)
    }

    /// `ffi.sizeof`: of a cdata, or of a type with a number of elements; `nil` where it is unknown.
    pub(super) fn size(
        &self,
        value: &Value,
        id: Option<u32>,
        count: Option<Value>,
    ) -> Done<Option<u64>> {
        if let (None, Some(boxed)) = (id, self.boxed(value))
            && matches!(boxed.kind, Kind::Object)
            && let Provenance::Alloc(id) = boxed.pointer().provenance
        {
            return Ok(self.bridge.memory().get(id).map(|record| record.size()));
        }
        let id = match id {
            Some(id) => TypeId(id),
            None => self.type_of(value)?,
        };
        let types = self.types();
        let ty = types.get(id)?;
        let Some((base, element)) = types.open_end(&ty)? else {
            return Ok(ty.size);
        };
        let Some(count) = count else {
            return Ok(None);
        };
        let count = self.whole_number(&count)?;
        Ok(count
            .checked_mul(element)
            .and_then(|size| size.checked_add(base)))
    }

    /// `ffi.istype`.
    pub(super) fn is_type(&self, id: TypeId, value: &Value) -> Done<bool> {
        match self.cdata(value) {
            None => return Ok(false),
            Some(Cdata::Boxed(boxed)) if boxed.kind == Kind::Type => return Ok(false),
            Some(_) => {}
        }
        let types = self.types();
        let (wanted, own) = (types.get(id)?, types.get(self.type_of(value)?)?);
        if types.same(&wanted, &own) {
            return Ok(true);
        }
        Ok(match (&wanted.shape, &own.shape) {
            (Shape::Struct(_), Shape::Pointer { to }) => types.same(&wanted, &*types.get(*to)?),
            (Shape::Pointer { to: a }, Shape::Pointer { to: b }) => {
                self.alike(&*types.get(*a)?, &*types.get(*b)?)
            }
            _ => false,
        })
    }

    /// A number of bytes or elements.
    pub(super) fn whole_number(&self, value: &Value) -> Done<u64> {
        match self.as_scalar(value, self.size_type(true), How::Convert)? {
            Scalar::Int(bits) => Ok(bits),
            _ => fail("a number is needed"),
        }
    }

    /// The address that a value stands for where memory is wanted.
    pub(super) fn address_of(&self, value: &Value, text: bool) -> Done<Pointer> {
        let given = self.given(value)?;
        match &given {
            Given::Text(string) if text => self.text_pointer(string),
            Given::Text(_) | Given::Number(_) | Given::Nil | Given::Bool(_) => {
                let name = self.name_given(&given);
                fail(format!("cannot convert '{name}' to 'void *'"))
            }
            _ => {
                let ty = self.named_type("const void *")?;
                match self.given_as_scalar(&given, &ty, How::Convert)? {
                    Scalar::Pointer(pointer) => Ok(pointer),
                    _ => fail("a pointer is needed"),
                }
            }
        }
    }

    /// `ffi.string`.
    pub(super) fn string(&self, value: &Value, len: Option<Value>) -> Done<Vec<u8>> {
        let given = self.given(value)?;
        if let Some(len) = len {
            let at = self.address_of(value, true)?;
            let mut bytes = vec![0; self.length(&len)?];
            self.read(at, &mut bytes)?;
            return Ok(bytes);
        }
        // Without a length it ends at the first zero, or with the array.
        if let Given::Text(text) = &given {
            return Ok(text.as_bytes().to_vec());
        }
        let chars = self.named_type("const char *")?;
        let Scalar::Pointer(at) = self.given_as_scalar(&given, &chars, How::Convert)? else {
            return fail("a pointer is needed");
        };
        let limit = match &given {
            Given::Aggregate(ty, at) => self.array_bytes(ty, *at),
            _ => None,
        };
        match limit {
            Some(limit) => self.read_text_within(at, limit),
            None => self.read_text(at),
        }
    }

    /// A length in bytes.
    pub(super) fn length(&self, len: &Value) -> Done<usize> {
        let len = self.whole_number(len)?;
        match len <= crate::arena::MAX_SIZE {
            true => Ok(len as usize),
            false => fail("a length that is negative, or larger than memory is"),
        }
    }

    /// The bytes of an array; of one without a length, to the end of its allocation.
    pub(super) fn array_bytes(&self, ty: &Type, at: Pointer) -> Option<u64> {
        match (&ty.shape, ty.size, at.provenance) {
            (Shape::Array { .. }, Some(size), _) => Some(size),
            (Shape::Array { .. }, None, Provenance::Alloc(id)) => {
                self.bridge.memory().get(id).map(|record| record.size())
            }
            _ => None,
        }
    }

    /// `ffi.copy`.
    pub(super) fn copy_values(&self, to: &Value, from: &Value, len: Option<Value>) -> Done<()> {
        let to = self.address_of(to, false)?;
        let source = self.given(from)?;
        if let Given::Text(text) = &source {
            let bytes = text.as_bytes_with_nul();
            let len = match len {
                Some(len) => self.length(&len)?,
                None => bytes.len(),
            };
            return match bytes.get(..len) {
                Some(bytes) => self.write(to, bytes),
                None => fail("the string is shorter than what is to be copied of it"),
            };
        }
        let Some(len) = len else {
            return fail("bad argument #3 to 'copy' (number expected, got no value)");
        };
        let len = self.length(&len)?;
        if let Given::Scalar(ty, scalar) = &source
            && !matches!(scalar, Scalar::Pointer(_))
        {
            let (bytes, size) = to_bytes(ty, *scalar);
            return match bytes[..size].get(..len) {
                Some(bytes) => self.write(to, bytes),
                None => fail("the number is smaller than what is to be copied of it"),
            };
        }
        let from = self.address_of(from, true)?;
        self.copy(from, to, len as u64)
    }

    /// `tostring`, as LuaJIT writes it.
    pub(super) fn describe(&self, value: &Value) -> Done<String> {
        let types = self.types();
        let Some(boxed) = self.boxed(value) else {
            return fail("no cdata");
        };
        let name = types.name(boxed.ty);
        let ty = types.get(boxed.ty)?;
        let address = value.to_pointer() as u64;
        Ok(match boxed.kind {
            Kind::Type => format!("ctype<{name}>"),
            Kind::Object => format!("cdata<{name}>: {}", hex(boxed.bits)),
            Kind::Reference => format!("cdata<{}>: {}", reference(&name), hex(boxed.bits)),
            Kind::Function => format!("cdata<{name}>: {}", hex(boxed.bits)),
            Kind::Value => match &ty.shape {
                Shape::Pointer { .. } if boxed.bits == 0 => format!("cdata<{name}>: NULL"),
                Shape::Pointer { .. } => format!("cdata<{name}>: {}", hex(boxed.bits)),
                Shape::Enum(_) => format!("cdata<{name}>: {}", number_of(&ty, boxed.bits)),
                _ => format!("cdata<{name}>: {}", hex(address)),
            },
        })
    }
}

/// An address as LuaJIT writes it: eight digits, or as many bytes more as it needs.
fn hex(address: u64) -> String {
    let high = (address >> 32) as u32;
    let digits = match high {
        0 => 8,
        high => 8 + 2 + 2 * (high.ilog2() as usize / 8),
    };
    format!("0x{address:0digits$x}")
}

/// The name of a reference to a type: `int (&)[4]`, `struct point &`.
fn reference(name: &str) -> String {
    match name.split_once(" [") {
        Some((element, rest)) => format!("{element} (&)[{rest}"),
        None => format!("{name} &"),
    }
}

#[cfg(test)]
mod tests {
    use super::{hex, reference};

    #[test]
    fn addresses_are_as_long_as_luajit_writes_them() {
        assert_eq!(hex(0x1234), "0x00001234");
        assert_eq!(hex(0x12_3456_789a), "0x123456789a");
        assert_eq!(hex(0x7fff_1234_5678), "0x7fff12345678");
    }

    #[test]
    fn references_are_spelled_as_luajit_does() {
        assert_eq!(reference("int [4]"), "int (&)[4]");
        assert_eq!(reference("struct point"), "struct point &");
    }
}
