//! The C types of a session, as LuaJIT's own parser has laid them out.
//!
//! ```text
//!  ffi.cdef "…" ─► LuaJIT's parser ─► its table of types ──typeinfo(number)──► Type   reflect.rs
//! ```
//! LuaJIT knows C declarations as its users write them: `[?]`, `$`, attributes, bit-fields,
//! redirected names. So it parses them and decides on sizes and offsets, and a type here is the
//! one of the same number there, read once.

mod reflect;

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use mlua::Function;

use super::LuaFailure;
use reflect::Reader;

/// The number of a type in LuaJIT's table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct TypeId(pub(super) u32);

/// A C type. Typedefs and attributes are resolved.
#[derive(Clone, Debug)]
pub(super) struct Type {
    /// Its number as it was asked for: of the typedef, or with qualifiers.
    pub(super) id: TypeId,
    /// Its number without typedefs and qualifiers of structs.
    pub(super) raw: TypeId,
    pub(super) shape: Shape,
    /// Bytes; `None` for what has no size, or one that is not known.
    pub(super) size: Option<u64>,
    /// A power of two.
    pub(super) align: u64,
    pub(super) is_const: bool,
}

/// What kind of type it is.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    Void,
    Bool,
    Int {
        signed: bool,
    },
    Float,
    Complex,
    Enum(Rc<EnumShape>),
    Pointer {
        to: TypeId,
    },
    /// Its length is that of the size; without a size it is the end of a struct, or `[?]`.
    Array {
        of: TypeId,
        is_vla: bool,
    },
    Struct(Rc<StructShape>),
    Function(Rc<FunctionShape>),
    /// What the session does not handle, in words.
    Other(&'static str),
}

#[derive(Clone, Debug)]
pub(super) struct EnumShape {
    pub(super) signed: bool,
    pub(super) constants: Vec<(String, i64)>,
}

#[derive(Clone, Debug)]
pub(super) struct StructShape {
    pub(super) is_union: bool,
    /// Whether its last member is an array of variable length.
    pub(super) is_vla: bool,
    pub(super) members: Vec<Member>,
}

/// What stands between the braces of a struct.
#[derive(Clone, Debug)]
pub(super) enum Member {
    Field {
        name: Option<String>,
        ty: TypeId,
        offset: u64,
    },
    Bits(BitField),
    /// A struct, union or enumeration without a name: its members are found in this one.
    Inner {
        ty: TypeId,
        offset: u64,
    },
    Constant {
        name: String,
        ty: TypeId,
        value: i64,
    },
}

/// A field of bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BitField {
    pub(super) name: Option<String>,
    /// Where the container begins.
    pub(super) offset: u64,
    /// Bytes of the container.
    pub(super) container: u64,
    /// First bit in it.
    pub(super) position: u32,
    /// How many.
    pub(super) bits: u32,
    pub(super) signed: bool,
    pub(super) is_bool: bool,
    pub(super) is_const: bool,
}

#[derive(Clone, Debug)]
pub(super) struct FunctionShape {
    pub(super) ret: TypeId,
    pub(super) params: Vec<TypeId>,
    pub(super) names: Vec<String>,
    pub(super) variadic: bool,
}

/// What a name in a struct leads to.
#[derive(Clone, Debug)]
pub(super) enum Found {
    Field { ty: TypeId, offset: u64 },
    Bits { field: BitField, offset: u64 },
    Constant { ty: TypeId, value: i64 },
}

/// What a declared name means in a namespace of C.
#[derive(Clone, Debug)]
pub(super) enum Declared {
    Function { ty: TypeId, symbol: String },
    Variable { ty: TypeId, symbol: String },
    Constant { ty: TypeId, value: i64 },
}

/// All types that a session has met.
pub(super) struct Types {
    reader: Reader,
    /// By their numbers, which are small.
    known: RefCell<Vec<Option<Rc<Type>>>>,
    names: RefCell<HashMap<String, Declared>>,
    spellings: RefCell<HashMap<TypeId, Rc<str>>>,
    /// The first type that was not looked at for declared names.
    next: RefCell<u32>,
    name_of: Function,
}

impl Types {
    /// Over `ffi.typeinfo`, and a function that spells the type of a number.
    pub(super) fn new(typeinfo: Function, name_of: Function) -> Types {
        Types {
            reader: Reader { typeinfo },
            known: RefCell::default(),
            names: RefCell::default(),
            spellings: RefCell::default(),
            next: RefCell::new(1),
            name_of,
        }
    }

    /// The type of this number.
    pub(super) fn get(&self, id: TypeId) -> Result<Rc<Type>, LuaFailure> {
        if let Some(Some(known)) = self.known.borrow().get(id.0 as usize) {
            return Ok(known.clone());
        }
        let ty = Rc::new(self.reader.read(id)?);
        // A struct that is only named may still be declared.
        let is_final = ty.size.is_some() || !matches!(ty.shape, Shape::Struct(_));
        if is_final {
            let mut known = self.known.borrow_mut();
            if known.len() <= id.0 as usize {
                known.resize(id.0 as usize + 1, None);
            }
            known[id.0 as usize] = Some(ty.clone());
        }
        Ok(ty)
    }

    /// Its name in C.
    pub(super) fn name(&self, id: TypeId) -> Rc<str> {
        if let Some(known) = self.spellings.borrow().get(&id) {
            return known.clone();
        }
        let name: String = self
            .name_of
            .call::<String>(id.0)
            .unwrap_or_else(|_| "?".to_owned());
        let name: Rc<str> = name.into();
        self.spellings.borrow_mut().insert(id, name.clone());
        name
    }

    /// What was declared by a name, in C's namespace of functions, variables and constants.
    pub(super) fn declared(&self, name: &str) -> Result<Option<Declared>, LuaFailure> {
        let mut next = self.next.borrow_mut();
        let mut names = self.names.borrow_mut();
        self.reader.declared_from(&mut next, &mut names)?;
        Ok(names.get(name).cloned())
    }

    /// All declared names that begin so, sorted.
    pub(super) fn declared_names(&self, start: &str) -> Vec<String> {
        // Brings the table up to date; what is wrong with it is told where it is used.
        let _ = self.declared("");
        let names = self.names.borrow();
        let mut found: Vec<String> = names
            .keys()
            .filter(|name| name.starts_with(start))
            .cloned()
            .collect();
        found.sort();
        found
    }

    /// What a name means in a struct, union or enumeration, those without names in it included.
    pub(super) fn member(&self, ty: &Type, name: &str) -> Result<Option<Found>, LuaFailure> {
        let shape = match &ty.shape {
            Shape::Struct(shape) => shape,
            Shape::Enum(shape) => {
                let constant = |value| Found::Constant { ty: ty.id, value };
                return Ok(shape.value(name).map(constant));
            }
            _ => return Ok(None),
        };
        for member in &shape.members {
            match member {
                Member::Field {
                    name: Some(own),
                    ty,
                    offset,
                } if own == name => {
                    let (ty, offset) = (*ty, *offset);
                    return Ok(Some(Found::Field { ty, offset }));
                }
                Member::Bits(field) if field.name.as_deref() == Some(name) => {
                    let (field, offset) = (field.clone(), field.offset);
                    return Ok(Some(Found::Bits { field, offset }));
                }
                Member::Constant {
                    name: own,
                    ty,
                    value,
                } if own == name => {
                    let (ty, value) = (*ty, *value);
                    return Ok(Some(Found::Constant { ty, value }));
                }
                Member::Inner { ty, offset } => {
                    let inner = self.get(*ty)?;
                    if let Some(found) = self.member(&inner, name)? {
                        return Ok(Some(found.moved(*offset)));
                    }
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// The names of a struct's members, in order, those of members without names included.
    pub(super) fn member_names(&self, ty: &Type) -> Vec<String> {
        let Shape::Struct(shape) = &ty.shape else {
            return Vec::new();
        };
        let names = shape.members.iter().flat_map(|member| match member {
            Member::Field { name, .. } => name.iter().cloned().collect(),
            Member::Bits(field) => field.name.iter().cloned().collect(),
            Member::Inner { ty, .. } => match self.get(*ty) {
                Ok(inner) => self.member_names(&inner),
                Err(_) => Vec::new(),
            },
            Member::Constant { .. } => Vec::new(),
        });
        names.collect()
    }

    /// The size of a type that must have one.
    pub(super) fn size_of(&self, ty: &Type) -> Result<u64, LuaFailure> {
        ty.size.ok_or_else(|| {
            LuaFailure::new(format!("size of C type '{}' is unknown", self.name(ty.id)))
        })
    }

    /// Of a type whose number of elements is left open (`[?]`, at the end of a struct too): the size
    /// without any, and that of one.
    pub(super) fn open_end(&self, ty: &Type) -> Result<Option<(u64, u64)>, LuaFailure> {
        let (base, of) = match &ty.shape {
            Shape::Array { of, is_vla: true } => (0, *of),
            Shape::Struct(shape) if shape.is_vla => {
                let Some(Member::Field { ty: last, .. }) = shape.members.last() else {
                    return Ok(None);
                };
                match self.get(*last)?.shape {
                    Shape::Array { of, .. } => (ty.size.unwrap_or(0), of),
                    _ => return Ok(None),
                }
            }
            _ => return Ok(None),
        };
        Ok(Some((base, self.size_of(&*self.get(of)?)?)))
    }

    /// Whether values of both types are laid out and used alike, qualifiers aside.
    pub(super) fn same(&self, one: &Type, other: &Type) -> bool {
        if one.raw == other.raw {
            return true;
        }
        let by_id = |a: TypeId, b: TypeId| match (self.get(a), self.get(b)) {
            (Ok(a), Ok(b)) => self.same(&a, &b),
            _ => false,
        };
        match (&one.shape, &other.shape) {
            (Shape::Void, Shape::Void) | (Shape::Bool, Shape::Bool) => true,
            (Shape::Int { signed: a }, Shape::Int { signed: b }) => {
                a == b && one.size == other.size
            }
            (Shape::Float, Shape::Float) | (Shape::Complex, Shape::Complex) => {
                one.size == other.size
            }
            (Shape::Pointer { to: a }, Shape::Pointer { to: b }) => by_id(*a, *b),
            (Shape::Array { of: a, .. }, Shape::Array { of: b, .. }) => {
                one.size == other.size && by_id(*a, *b)
            }
            (Shape::Function(_), Shape::Function(_)) => self.name(one.id) == self.name(other.id),
            _ => false,
        }
    }
}

impl EnumShape {
    /// The value of a constant.
    pub(super) fn value(&self, name: &str) -> Option<i64> {
        let found = self.constants.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| *value)
    }
}

impl Type {
    /// Whether it is an array, struct or union: what has memory of its own.
    pub(super) fn is_aggregate(&self) -> bool {
        matches!(self.shape, Shape::Array { .. } | Shape::Struct(_))
    }

    /// Whether it is a 64-bit integer, which Lua's numbers cannot hold.
    pub(super) fn is_wide(&self) -> bool {
        matches!(self.shape, Shape::Int { .. }) && self.size == Some(8)
    }

    /// The number of elements of an array that has one.
    pub(super) fn length(&self, element: u64) -> Option<u64> {
        self.size.map(|size| size.checked_div(element).unwrap_or(0))
    }
}

impl Found {
    fn moved(self, by: u64) -> Found {
        match self {
            Found::Field { ty, offset } => Found::Field {
                ty,
                offset: offset + by,
            },
            Found::Bits { field, offset } => Found::Bits {
                field,
                offset: offset + by,
            },
            constant => constant,
        }
    }
}
