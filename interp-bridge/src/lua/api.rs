//! The functions that the prelude builds `ffi` from.
//!
//! ```text
//!  Lua ─► prelude.lua ─► core.name(…) ─► Session ─► true, results …
//!                                              └──► false, message      raised at the script's line
//!                                                   nil, metamethod     called by the prelude
//! ```
//! No error passes through a function of ours as a Rust error: scripts get text, as from LuaJIT.

use std::rc::Rc;

use mlua::{Function, IntoLuaMulti, Lua, LuaString, MultiValue, Table, Value};

use super::{
    arith::Op,
    calls::Called,
    cdata::{self, Boxed, Kind},
    failure::{Done, LuaFailure, fail},
    index::Answer,
    libraries::Symbol,
    number::as_f64,
    scalar::{Given, How, Scalar},
    session::Session,
    types::{Found, Shape, TypeId},
};
use crate::memory::Provenance;

/// What a function of the core returns to the prelude.
type Reply = Result<MultiValue, mlua::Error>;

/// The reply of what runs at every turn, without a list of values: what became of it, the value or
/// message, and what there is to say of that.
type Short = Result<(Value, Value, bool), mlua::Error>;

fn short(lua: &Lua, answer: Done<Answer>) -> Short {
    Ok(match answer {
        Ok(Answer::Value(value)) => (Value::Boolean(true), value, false),
        Ok(Answer::Meta(handler)) => (Value::Nil, handler, false),
        Err(failure) => short_failure(lua, failure)?,
    })
}

fn short_failure(lua: &Lua, failure: LuaFailure) -> Short {
    let is_thrown = failure.thrown.is_some();
    let value = match failure.thrown {
        Some(value) => value,
        None => Value::String(lua.create_string(&failure.message)?),
    };
    Ok((Value::Boolean(false), value, is_thrown))
}

/// Success, with results.
fn yes(lua: &Lua, results: impl IntoLuaMulti) -> Reply {
    let mut reply = results.into_lua_multi(lua)?;
    reply.push_front(Value::Boolean(true));
    Ok(reply)
}

fn no(lua: &Lua, failure: LuaFailure) -> Reply {
    short_failure(lua, failure)?.into_lua_multi(lua)
}

/// Adds a function to the core.
pub(super) fn define<A, R>(
    lua: &Lua,
    core: &Table,
    session: &Rc<Session>,
    name: &str,
    work: impl Fn(&Session, A) -> Done<R> + 'static,
) -> mlua::Result<()>
where
    A: mlua::FromLuaMulti,
    R: IntoLuaMulti,
{
    let session = session.clone();
    let function =
        lua.create_function(move |lua, arguments: A| match work(&session, arguments) {
            Ok(results) => yes(lua, results),
            Err(failure) => no(lua, failure),
        })?;
    core.raw_set(name, function)
}

/// Adds one that may leave it to a metamethod.
fn define_open<A: mlua::FromLuaMulti>(
    lua: &Lua,
    core: &Table,
    session: &Rc<Session>,
    name: &str,
    work: impl Fn(&Session, A) -> Done<Answer> + 'static,
) -> mlua::Result<()> {
    let session = session.clone();
    let function =
        lua.create_function(move |lua, arguments: A| short(lua, work(&session, arguments)))?;
    core.raw_set(name, function)
}

/// The core: everything that the prelude asks of the session.
pub(super) fn core(lua: &Lua, session: &Rc<Session>) -> mlua::Result<Table> {
    let core = lua.create_table()?;
    operators(lua, &core, session)?;
    types(lua, &core, session)?;
    memory(lua, &core, session)?;
    libraries(lua, &core, session)?;
    super::trace::define_all(lua, &core, session)?;
    Ok(core)
}

fn operators(lua: &Lua, core: &Table, session: &Rc<Session>) -> mlua::Result<()> {
    define_open(
        lua,
        core,
        session,
        "index",
        |s, (cdata, key): (Value, Value)| s.index(&cdata, &key),
    )?;
    define_open(
        lua,
        core,
        session,
        "newindex",
        |s, (cdata, key, value): (Value, Value, Value)| {
            Ok(match s.set_index(&cdata, &key, &value)? {
                Some(handler) => Answer::Meta(handler),
                None => Answer::Value(Value::Nil),
            })
        },
    )?;
    for (name, op) in Op::ALL {
        define_open(
            lua,
            core,
            session,
            name,
            move |s, (a, b): (Value, Value)| s.operate(op, &a, &b),
        )?;
    }
    for name in ["__tostring", "__pairs", "__ipairs", "__gc"] {
        define(lua, core, session, name, move |s, cdata: Value| {
            let given = s.given(&cdata)?;
            let ty = s.type_with_methods(&given)?;
            Ok(ty.and_then(|ty| s.metamethod(&ty, name)))
        })?;
    }
    let caller = session.clone();
    let call = lua.create_function(move |lua, mut arguments: MultiValue| {
        let Some((function, arguments)) = arguments.make_contiguous().split_first() else {
            return short_failure(lua, LuaFailure::new("nothing to call"));
        };
        Ok(match caller.call(function, arguments) {
            // No result is told from nil.
            Ok(Called::Nothing) => (Value::Integer(0), Value::Nil, false),
            Ok(Called::Value(value)) => (Value::Boolean(true), value, false),
            Ok(Called::Owned(value)) => (Value::Boolean(true), value, true),
            Ok(Called::Meta(handler)) => (Value::Nil, handler, false),
            Err(failure) => short_failure(lua, failure)?,
        })
    })?;
    core.raw_set("call", call)
}

fn types(lua: &Lua, core: &Table, session: &Rc<Session>) -> mlua::Result<()> {
    define(lua, core, session, "type_of", |s, value: Value| {
        s.type_of(&value).map(|ty| ty.0)
    })?;
    define(lua, core, session, "new_type", |s, id: u32| {
        let (ty, kind) = (TypeId(id), Kind::Type);
        s.types().get(ty)?;
        s.new_boxed(&Boxed {
            ty,
            kind,
            bits: 0,
            extra: 0,
        })
    })?;
    define(
        lua,
        core,
        session,
        "retarget",
        |s, (ctype, id): (Value, u32)| {
            let own = cdata::type_of(&ctype).unwrap_or_default();
            match s.types().get(TypeId(id)).is_ok() && cdata::retarget(&ctype, own, TypeId(id)) {
                true => Ok(ctype),
                false => fail("not a type"),
            }
        },
    )?;
    define(
        lua,
        core,
        session,
        "sizeof",
        |s, (value, id, count): (Value, Option<u32>, Option<Value>)| s.size(&value, id, count),
    )?;
    define(lua, core, session, "alignof", |s, id: u32| {
        Ok(s.types().get(TypeId(id))?.align)
    })?;
    define(
        lua,
        core,
        session,
        "offsetof",
        |s, (id, name): (u32, LuaString)| {
            let ty = s.types().get(TypeId(id))?;
            Ok(match s.types().member(&ty, &name.to_string_lossy())? {
                Some(Found::Field { offset, .. }) => Some((Some(offset), None, None)),
                Some(Found::Bits { field, offset }) => {
                    Some((Some(offset), Some(field.position), Some(field.bits)))
                }
                _ => None,
            }
            .unwrap_or((None, None, None)))
        },
    )?;
    define(
        lua,
        core,
        session,
        "istype",
        |s, (id, value): (u32, Value)| s.is_type(TypeId(id), &value),
    )?;
    define(
        lua,
        core,
        session,
        "metatype",
        |s, (id, table): (u32, Table)| s.set_metatable(TypeId(id), table),
    )?;
    define(lua, core, session, "is_complex", |s, id: u32| {
        Ok(matches!(s.types().get(TypeId(id))?.shape, Shape::Complex))
    })?;
    define(lua, core, session, "tonumber", |s, value: Value| {
        Ok(match s.given(&value)? {
            Given::Scalar(ty, scalar) => as_f64(&ty, scalar),
            _ => None,
        })
    })?;
    define(lua, core, session, "widen", |s, value: Value| {
        let wide = s.size_type(true);
        match s.as_scalar(&value, wide, How::Convert)? {
            Scalar::Int(bits) => s.new_integer(wide, bits),
            _ => Ok(value),
        }
    })?;
    define(lua, core, session, "tostring", |s, value: Value| {
        s.describe(&value)
    })
}

fn memory(lua: &Lua, core: &Table, session: &Rc<Session>) -> mlua::Result<()> {
    define(lua, core, session, "new", |s, mut arguments: MultiValue| {
        let Some((Value::Integer(id), values)) = arguments.make_contiguous().split_first() else {
            return fail("a type is needed");
        };
        let ty = s.types().get(TypeId(*id as u32))?;
        Ok(match s.construct_plainly(&ty, values)? {
            Called::Owned(value) => (value, true),
            Called::Value(value) => (value, false),
            _ => (Value::Nil, false),
        })
    })?;
    define(
        lua,
        core,
        session,
        "cast",
        |s, (id, value): (u32, Value)| {
            let ty = s.types().get(TypeId(id))?;
            if ty.is_aggregate() || matches!(ty.shape, Shape::Void | Shape::Function(_)) {
                return fail(format!(
                    "invalid C type: cannot cast to '{}'",
                    s.types().name(ty.id)
                ));
            }
            let scalar = s.as_scalar(&value, &ty, How::Cast)?;
            s.boxed_scalar(&ty, scalar)
        },
    )?;
    define(lua, core, session, "release", |s, cdata: Value| {
        let owned = s.boxed(&cdata).map(|boxed| boxed.pointer().provenance);
        match owned {
            Some(Provenance::Alloc(id)) => s.release(id),
            _ => Ok(()),
        }
    })?;
    define(lua, core, session, "owns", |s, cdata: Value| {
        Ok(s.boxed(&cdata).is_some_and(|b| b.kind == Kind::Object))
    })?;
    define(
        lua,
        core,
        session,
        "string",
        |s, (value, len): (Value, Option<Value>)| {
            let text = s.string(&value, len)?;
            Ok(s.lua()?.create_string(text)?)
        },
    )?;
    define(
        lua,
        core,
        session,
        "copy",
        |s, (to, from, len): (Value, Value, Option<Value>)| s.copy_values(&to, &from, len),
    )?;
    define(
        lua,
        core,
        session,
        "fill",
        |s, (to, len, byte): (Value, Value, Option<Value>)| {
            let to = s.address_of(&to, false)?;
            let byte = match byte {
                Some(byte) => s.whole_number(&byte)? as u8,
                None => 0,
            };
            s.fill(to, s.length(&len)? as u64, byte)
        },
    )?;
    define(lua, core, session, "errno", |s, new: Option<Value>| {
        let old = s.calls.errno.get();
        if let Some(new) = new {
            s.calls.errno.set(s.whole_number(&new)? as i32);
        }
        Ok(old)
    })
}

fn libraries(lua: &Lua, core: &Table, session: &Rc<Session>) -> mlua::Result<()> {
    define(
        lua,
        core,
        session,
        "load",
        |s, (name, global): (LuaString, bool)| s.load_library(&name.to_string_lossy(), global),
    )?;
    define(
        lua,
        core,
        session,
        "symbol",
        |s, (namespace, name): (usize, LuaString)| {
            Ok(match s.symbol(namespace, &name.to_string_lossy())? {
                Symbol::Value(value) => (value, true),
                Symbol::Variable(value) => (value, false),
            })
        },
    )?;
    define(
        lua,
        core,
        session,
        "set_symbol",
        |s, (namespace, name, value): (usize, LuaString, Value)| {
            s.set_symbol(namespace, &name.to_string_lossy(), &value)
        },
    )?;
    define(lua, core, session, "callback_free", |s, cdata: Value| {
        s.callbacks.free(s.address_of(&cdata, false)?.addr)
    })?;
    define(
        lua,
        core,
        session,
        "callback_set",
        |s, (cdata, function): (Value, Function)| {
            s.callbacks.set(s.address_of(&cdata, false)?.addr, function)
        },
    )
}
