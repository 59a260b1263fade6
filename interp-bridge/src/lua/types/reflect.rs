//! Reading LuaJIT's table of types.
//!
//! ```text
//!  typeinfo(n) = { info, size, sib, name }                      lj_ctype.h of LuaJIT 2.1
//!  info:  kind (4 bits) │ flags │ alignment, attribute … │ number of the child type (16 bits)
//!  sib:   the next member, parameter or constant
//! ```

use std::{collections::HashMap, rc::Rc};

use mlua::{Function, Table};

use super::{
    BitField, Declared, EnumShape, FunctionShape, Member, Shape, StructShape, Type, TypeId,
};
use crate::lua::LuaFailure;

// Kinds, in the uppermost four bits of `info`.
const NUMBER: u32 = 0;
const STRUCT: u32 = 1;
const POINTER: u32 = 2;
const ARRAY: u32 = 3;
const VOID: u32 = 4;
const ENUM: u32 = 5;
const FUNCTION: u32 = 6;
const TYPEDEF: u32 = 7;
const ATTRIBUTE: u32 = 8;
const FIELD: u32 = 9;
const BIT_FIELD: u32 = 10;
const CONSTANT: u32 = 11;
const EXTERN: u32 = 12;

// Flags; some mean different things for different kinds.
const BOOL: u32 = 0x0800_0000;
const FLOAT: u32 = 0x0400_0000;
const CONST: u32 = 0x0200_0000;
const UNSIGNED: u32 = 0x0080_0000;
const UNION: u32 = 0x0080_0000;
const REFERENCE: u32 = 0x0080_0000;
const VARIADIC: u32 = 0x0080_0000;
const VLA: u32 = 0x0010_0000;
const VECTOR: u32 = 0x0800_0000;
const COMPLEX: u32 = 0x0400_0000;

// Attributes, in bits 16 to 23.
const QUALIFIER: u32 = 1;
const ALIGNED: u32 = 2;
const SUBTYPE: u32 = 3;
const REDIRECTED: u32 = 4;

/// Most types that lie between a name and what it means.
const MAX_CHAIN: usize = 1 << 16;

/// Reads types, one at a time.
pub(super) struct Reader {
    /// `ffi.typeinfo`.
    pub(super) typeinfo: Function,
}

/// An entry of the table.
struct Entry {
    info: u32,
    size: Option<u32>,
    next: u32,
    name: Option<String>,
}

/// A type without its typedefs and attributes, and what these said.
struct Resolved {
    number: u32,
    entry: Entry,
    is_const: bool,
    align: Option<u64>,
}

impl Entry {
    fn kind(&self) -> u32 {
        self.info >> 28
    }

    fn child(&self) -> u32 {
        self.info & 0xffff
    }

    fn attribute(&self) -> u32 {
        (self.info >> 16) & 0xff
    }

    fn has(&self, flag: u32) -> bool {
        self.info & flag != 0
    }

    fn align(&self) -> u64 {
        1 << ((self.info >> 16) & 15)
    }
}

impl Reader {
    fn entry(&self, id: u32) -> Result<Option<Entry>, LuaFailure> {
        let Some(table) = self.typeinfo.call::<Option<Table>>(id)? else {
            return Ok(None);
        };
        let name: Option<mlua::LuaString> = table.get("name")?;
        Ok(Some(Entry {
            info: table.get::<i64>("info")? as u32,
            size: table.get::<Option<i64>>("size")?.map(|size| size as u32),
            next: table.get::<Option<u32>>("sib")?.unwrap_or(0),
            name: name.map(|name| name.to_string_lossy()),
        }))
    }

    fn known(&self, id: u32) -> Result<Entry, LuaFailure> {
        let entry = self.entry(id)?;
        entry.ok_or_else(|| LuaFailure::new(format!("there is no C type with the number {id}")))
    }

    /// Follows typedefs and attributes to the type itself.
    fn resolved(&self, id: u32) -> Result<Resolved, LuaFailure> {
        let (mut id, mut entry, mut is_const, mut align) = (id, self.known(id)?, false, None);
        for _ in 0..MAX_CHAIN {
            match entry.kind() {
                TYPEDEF => {}
                ATTRIBUTE => match (entry.attribute(), entry.size) {
                    (QUALIFIER, Some(flags)) => is_const |= flags & CONST != 0,
                    (ALIGNED, Some(log)) => align = align.or(Some(1 << (log & 15))),
                    _ => {}
                },
                kind => {
                    // A struct with the flag has a member that is const.
                    is_const |= kind != STRUCT && entry.has(CONST);
                    return Ok(Resolved {
                        number: id,
                        entry,
                        is_const,
                        align,
                    });
                }
            }
            id = entry.child();
            entry = self.known(id)?;
        }
        Err(LuaFailure::new("a C type that leads to itself"))
    }

    pub(super) fn read(&self, id: TypeId) -> Result<Type, LuaFailure> {
        let Resolved {
            number,
            entry,
            is_const,
            align: wanted,
        } = self.resolved(id.0)?;
        let mut align = entry.align();
        let shape = match entry.kind() {
            NUMBER if entry.has(BOOL) => Shape::Bool,
            NUMBER if entry.has(FLOAT) && entry.size == Some(16) => {
                Shape::Other("LuaJIT's FFI does not convert `long double`")
            }
            NUMBER if entry.has(FLOAT) => Shape::Float,
            NUMBER => Shape::Int {
                signed: !entry.has(UNSIGNED),
            },
            VOID => Shape::Void,
            ENUM => Shape::Enum(Rc::new(self.enumeration(&entry)?)),
            POINTER if entry.has(REFERENCE) => Shape::Other("references of C++ are not handled"),
            POINTER => {
                align = 8;
                Shape::Pointer {
                    to: TypeId(entry.child()),
                }
            }
            ARRAY if entry.has(VECTOR) => Shape::Other("vectors are not handled"),
            ARRAY if entry.has(COMPLEX) => Shape::Complex,
            ARRAY => {
                let element = self.resolved(entry.child())?.entry;
                align = align.max(element.align());
                Shape::Array {
                    of: TypeId(entry.child()),
                    is_vla: entry.has(VLA),
                }
            }
            STRUCT => Shape::Struct(Rc::new(self.structure(&entry)?)),
            FUNCTION => Shape::Function(Rc::new(self.function(&entry)?)),
            _ => Shape::Other("it is no type of values"),
        };
        let size = match shape {
            Shape::Void | Shape::Function(_) => None,
            _ => entry.size.map(u64::from),
        };
        Ok(Type {
            id,
            raw: TypeId(number),
            shape,
            size,
            align: wanted.unwrap_or(align),
            is_const,
        })
    }

    fn constant(&self, entry: &Entry) -> Result<(TypeId, i64), LuaFailure> {
        let ty = self.resolved(entry.child())?.entry;
        let bits = entry.size.unwrap_or(u32::MAX);
        let value = match ty.has(UNSIGNED) && ty.kind() == NUMBER {
            true => i64::from(bits),
            false => i64::from(bits as i32),
        };
        Ok((TypeId(entry.child()), value))
    }

    fn enumeration(&self, entry: &Entry) -> Result<EnumShape, LuaFailure> {
        let int = self.resolved(entry.child())?.entry;
        let mut constants = Vec::new();
        let mut next = entry.next;
        while next != 0 {
            let entry = self.known(next)?;
            if let (CONSTANT, Some(name)) = (entry.kind(), &entry.name) {
                constants.push((name.clone(), self.constant(&entry)?.1));
            }
            next = entry.next;
        }
        Ok(EnumShape {
            signed: !int.has(UNSIGNED),
            constants,
        })
    }

    fn structure(&self, entry: &Entry) -> Result<StructShape, LuaFailure> {
        let mut members = Vec::new();
        let mut next = entry.next;
        while next != 0 {
            let member = self.known(next)?;
            let offset = u64::from(member.size.unwrap_or(0));
            match member.kind() {
                FIELD => members.push(Member::Field {
                    name: member.name.clone(),
                    ty: TypeId(member.child()),
                    offset,
                }),
                BIT_FIELD => members.push(Member::Bits(BitField {
                    name: member.name.clone(),
                    offset,
                    container: u64::from((member.info >> 16) & 0x7f),
                    position: member.info & 0x7f,
                    bits: (member.info >> 8) & 0x7f,
                    signed: !member.has(UNSIGNED),
                    is_bool: member.has(BOOL),
                    is_const: member.has(CONST),
                })),
                ATTRIBUTE if member.attribute() == SUBTYPE => members.push(Member::Inner {
                    ty: TypeId(member.child()),
                    offset,
                }),
                CONSTANT => {
                    if let Some(name) = member.name.clone() {
                        let (ty, value) = self.constant(&member)?;
                        members.push(Member::Constant { name, ty, value });
                    }
                }
                _ => {}
            }
            next = member.next;
        }
        Ok(StructShape {
            is_union: entry.has(UNION),
            is_vla: entry.has(VLA),
            members,
        })
    }

    fn function(&self, entry: &Entry) -> Result<FunctionShape, LuaFailure> {
        let mut function = FunctionShape {
            ret: TypeId(entry.child()),
            params: Vec::new(),
            names: Vec::new(),
            variadic: entry.has(VARIADIC),
        };
        let mut next = entry.next;
        while next != 0 {
            let parameter = self.known(next)?;
            if parameter.kind() == FIELD {
                function.params.push(TypeId(parameter.child()));
                function.names.push(parameter.name.unwrap_or_default());
            }
            next = parameter.next;
        }
        Ok(function)
    }

    /// Adds the names that were declared from type `first` on, which becomes the first unread one.
    pub(super) fn declared_from(
        &self,
        first: &mut u32,
        names: &mut HashMap<String, Declared>,
    ) -> Result<(), LuaFailure> {
        while let Some(entry) = self.entry(*first)? {
            let ty = TypeId(*first);
            *first += 1;
            let Some(name) = entry.name.clone() else {
                continue;
            };
            let declared = match entry.kind() {
                FUNCTION => Declared::Function {
                    ty,
                    symbol: self.symbol(&entry)?,
                },
                EXTERN => Declared::Variable {
                    ty: TypeId(entry.child()),
                    symbol: self.symbol(&entry)?,
                },
                CONSTANT => {
                    let (ty, value) = self.constant(&entry)?;
                    Declared::Constant { ty, value }
                }
                _ => continue,
            };
            names.insert(name, declared);
        }
        Ok(())
    }

    /// The name by which a function or variable is linked: its own, or that of `__asm__`.
    fn symbol(&self, entry: &Entry) -> Result<String, LuaFailure> {
        if entry.next != 0 {
            let next = self.known(entry.next)?;
            if next.kind() == ATTRIBUTE
                && next.attribute() == REDIRECTED
                && let Some(name) = next.name
            {
                return Ok(name);
            }
        }
        Ok(entry.name.clone().unwrap_or_default())
    }
}
