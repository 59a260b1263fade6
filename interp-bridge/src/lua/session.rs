//! A session: a bridge, and a Lua whose `ffi` works on its memory.
//!
//! ```text
//!  Lua ──owns──► functions of ours ──► Session ──► Bridge
//!        ◄─helpers (prelude.lua)────────┘
//! ```
//! The session goes when the Lua state does, which runs the finalizers of all cdata first.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::HashMap,
    path::PathBuf,
    rc::Rc,
    time::Duration,
};

use mlua::{Function, Lua, Table, Value};

use super::{
    callbacks::Callbacks,
    calls::Calls,
    cdata::{self, Boxed, Cdata, Known},
    failure::{Done, LuaFailure, fail},
    findings::Findings,
    libraries::Namespaces,
    strings::Strings,
    trace::Recording,
    types::{Shape, Type, TypeId, Types},
};
use crate::{
    bridge::{Bridge, StopAt},
    memory::{AllocId, AllocRequest, Pointer},
};

/// What is asked of a session.
#[derive(Clone, Debug, Default)]
pub struct SessionOptions {
    /// Whether violations are collected, instead of stopping the script.
    pub keep_going: bool,
    /// When to end a native call that does not return.
    pub timeout: Option<Duration>,
    /// Whether native calls end before their first violation. Otherwise they come back, and the
    /// script is stopped then.
    pub stop_at_first: bool,
    /// The folder of the script, where `require` looks first.
    pub folder: Option<PathBuf>,
}

/// Functions of the prelude.
pub(super) struct Helpers {
    pub(super) new_boxed: Function,
    pub(super) new_int64: Function,
    pub(super) new_uint64: Function,
    pub(super) new_complex: Function,
    /// The number of the type `T *`, for that of `T`.
    pub(super) pointer_to: Function,
    /// The number of a type, for its name in C.
    pub(super) type_number: Function,
    /// Whether a value is `ffi.C`, or from `ffi.load`.
    pub(super) is_namespace: Function,
    /// Calls a function and returns whether it succeeded, and its result or error.
    pub(super) guarded: Function,
    /// `debug.getmetatable`.
    pub(super) metatable: Function,
    /// `free` and `set` of pointers to functions.
    pub(super) callback_methods: Table,
    pub(super) file_metatable: Option<Table>,
}

/// Types that are needed at every turn.
struct Common {
    int64: Rc<Type>,
    uint64: Rc<Type>,
    void: TypeId,
}

/// See the module.
pub(super) struct Session {
    pub(super) bridge: Bridge,
    pub(super) options: SessionOptions,
    known: Cell<Known>,
    types: OnceCell<Types>,
    helpers: OnceCell<Helpers>,
    common: OnceCell<Common>,
    metatables: RefCell<HashMap<TypeId, Table>>,
    pointer_types: RefCell<HashMap<TypeId, TypeId>>,
    /// Types that are asked for by name.
    pub(super) named: RefCell<HashMap<&'static str, Rc<Type>>>,
    pub(super) strings: Strings,
    pub(super) namespaces: Namespaces,
    pub(super) calls: Calls,
    pub(super) callbacks: Callbacks,
    pub(super) findings: Findings,
    pub(super) recording: Recording,
    /// Bytes and objects that were made since the garbage collector last ran to its end.
    since_collection: Cell<(u64, u32)>,
    /// Bytes that are alive, as far as they were made by `ffi.new`.
    alive: Cell<u64>,
    lua: mlua::WeakLua,
}

/// How much may be made before garbage is collected for it: LuaJIT does not know what a cdata
/// stands for.
const COLLECT_BYTES: u64 = 32 << 20;
/// Likewise, for objects.
const COLLECT_OBJECTS: u32 = 200_000;

impl Session {
    pub(super) fn new(bridge: Bridge, options: SessionOptions, lua: &Lua) -> Rc<Session> {
        Rc::new(Session {
            bridge,
            options,
            known: Cell::default(),
            types: OnceCell::new(),
            helpers: OnceCell::new(),
            common: OnceCell::new(),
            metatables: RefCell::default(),
            pointer_types: RefCell::default(),
            named: RefCell::default(),
            strings: Strings::default(),
            namespaces: Namespaces::default(),
            calls: Calls::default(),
            callbacks: Callbacks::default(),
            findings: Findings::default(),
            recording: Recording::default(),
            since_collection: Cell::new((0, 0)),
            alive: Cell::new(0),
            lua: lua.weak(),
        })
    }

    /// Takes what the prelude has made, and sees whether cdata are laid out as they should be.
    pub(super) fn begin(&self, helpers: Helpers, types: Types, known: Known) -> Done<()> {
        let wrong = || {
            LuaFailure::new(
                "this LuaJIT lays its cdata out in another way than ffitrace knows; build it with \
                 the LuaJIT that it names",
            )
        };
        let fresh: Value = helpers.new_boxed.call(())?;
        let probe: Value = helpers.new_int64.call(())?;
        let as_known = cdata::type_of(&fresh) == Some(known.boxed)
            && cdata::type_of(&probe) == Some(known.int64)
            && Cdata::read(&probe, &known) == Some(Cdata::Integer(known.int64, 0));
        if !as_known {
            return Err(wrong());
        }
        let common = Common {
            int64: types.get(known.int64)?,
            uint64: types.get(known.uint64)?,
            void: TypeId(helpers.pointer_to.call::<u32>(Value::Nil)?),
        };
        self.known.set(known);
        let set = self.types.set(types).is_ok()
            && self.helpers.set(helpers).is_ok()
            && self.common.set(common).is_ok();
        match set {
            true => Ok(()),
            false => fail("a session that began twice"),
        }
    }

    pub(super) fn lua(&self) -> Done<Lua> {
        match self.lua.try_upgrade() {
            Some(lua) => Ok(lua),
            None => fail("the session is over"),
        }
    }

    #[allow(
        clippy::expect_used,
        reason = "no function of a session runs before it has begun"
    )]
    pub(super) fn types(&self) -> &Types {
        self.types.get().expect("the session has begun")
    }

    #[allow(
        clippy::expect_used,
        reason = "no function of a session runs before it has begun"
    )]
    pub(super) fn helpers(&self) -> &Helpers {
        self.helpers.get().expect("the session has begun")
    }

    #[allow(
        clippy::expect_used,
        reason = "no function of a session runs before it has begun"
    )]
    fn common(&self) -> &Common {
        self.common.get().expect("the session has begun")
    }

    /// `int64_t` or `uint64_t`.
    pub(super) fn size_type(&self, signed: bool) -> &Type {
        let common = self.common();
        match signed {
            true => &common.int64,
            false => &common.uint64,
        }
    }

    pub(super) fn void_type(&self) -> TypeId {
        self.common().void
    }

    /// The type of pointers to a type.
    pub(super) fn pointer_type(&self, to: TypeId) -> Done<TypeId> {
        if let Some(known) = self.pointer_types.borrow().get(&to) {
            return Ok(*known);
        }
        let ty = TypeId(self.helpers().pointer_to.call::<u32>(to.0)?);
        self.pointer_types.borrow_mut().insert(to, ty);
        Ok(ty)
    }

    /// What a cdata is; `None` for other values.
    pub(super) fn cdata(&self, value: &Value) -> Option<Cdata> {
        Cdata::read(value, &self.known.get())
    }

    /// A cdata of ours; `None` for LuaJIT's own, and other values.
    pub(super) fn boxed(&self, value: &Value) -> Option<Boxed> {
        match self.cdata(value)? {
            Cdata::Boxed(boxed) => Some(boxed),
            _ => None,
        }
    }

    /// A new cdata.
    pub(super) fn new_boxed(&self, boxed: &Boxed) -> Done<Value> {
        let fresh: Value = self.helpers().new_boxed.call(())?;
        made(cdata::fill(&fresh, boxed, &self.known.get()), fresh)
    }

    /// A new 64-bit integer.
    pub(super) fn new_integer(&self, ty: &Type, bits: u64) -> Done<Value> {
        let known = self.known.get();
        let signed = matches!(ty.shape, Shape::Int { signed: true });
        let (helper, ty) = match signed {
            true => (&self.helpers().new_int64, known.int64),
            false => (&self.helpers().new_uint64, known.uint64),
        };
        let fresh: Value = helper.call(())?;
        made(cdata::fill_integer(&fresh, ty, bits), fresh)
    }

    /// A new complex number.
    pub(super) fn new_complex(&self, re: f64, im: f64) -> Done<Value> {
        let fresh: Value = self.helpers().new_complex.call(())?;
        made(
            cdata::fill_complex(&fresh, &self.known.get(), [re, im]),
            fresh,
        )
    }

    /// Gives a type its metamethods. Each may have them once.
    pub(super) fn set_metatable(&self, ty: TypeId, table: Table) -> Done<()> {
        let ty = self.types().get(ty)?;
        if !matches!(ty.shape, Shape::Struct(_)) {
            let name = self.types().name(ty.id);
            return fail(format!(
                "bad argument #1 to 'metatype' (invalid C type: '{name}' is no struct or union)"
            ));
        }
        let raw = ty.raw;
        if self.metatables.borrow().contains_key(&raw) {
            return fail("cannot change a protected metatable");
        }
        self.metatables.borrow_mut().insert(raw, table);
        Ok(())
    }

    /// A metamethod of a type.
    pub(super) fn metamethod(&self, ty: &Type, name: &str) -> Option<Value> {
        if let (Shape::Pointer { to }, "__index") = (&ty.shape, name)
            && matches!(self.types().get(*to).ok()?.shape, Shape::Function(_))
        {
            return Some(Value::Table(self.helpers().callback_methods.clone()));
        }
        let tables = self.metatables.borrow();
        let table = tables.get(&ty.raw)?;
        let method: Value = table.raw_get(name).ok()?;
        (!method.is_nil()).then_some(method)
    }

    /// Whether a value is a namespace of functions.
    pub(super) fn is_namespace(&self, value: &Value) -> bool {
        let asked = self.helpers().is_namespace.call::<bool>(value.clone());
        asked.unwrap_or(false)
    }

    /// Makes an allocation for a cdata, after garbage was collected if much was made since.
    pub(super) fn allocate(&self, request: &AllocRequest<'_>) -> Done<AllocId> {
        let (bytes, objects) = self.since_collection.get();
        let (bytes, objects) = (bytes + request.size, objects + 1);
        let much = bytes > COLLECT_BYTES.max(self.alive.get()) || objects > COLLECT_OBJECTS;
        if much && bytes > request.size {
            self.collect()?;
            self.since_collection.set((request.size, 1));
        } else {
            self.since_collection.set((bytes, objects));
        }
        self.alive.set(self.alive.get() + request.size);
        let first = self.bridge.memory().allocate(request);
        match first {
            Ok(id) => Ok(id),
            // The arena is full of garbage, or of what is used.
            Err(_) => {
                self.collect()?;
                Ok(self.bridge.memory().allocate(request)?)
            }
        }
    }

    /// Collects garbage. What has a finalizer is freed by the one after it was run.
    fn collect(&self) -> Done<()> {
        let lua = self.lua()?;
        lua.gc_collect()?;
        Ok(lua.gc_collect()?)
    }

    /// A pointer to an allocation, with the address that native code gets.
    pub(super) fn pointer_to(&self, id: AllocId) -> Done<Pointer> {
        let addr = self.bridge.address(id)?;
        Ok(Pointer::to(id, addr))
    }

    /// Frees what a cdata owned.
    pub(super) fn release(&self, id: AllocId) -> Done<()> {
        let mut memory = self.bridge.memory();
        let size = memory.get(id).map_or(0, |record| record.size());
        self.alive.set(self.alive.get().saturating_sub(size));
        Ok(memory.free(id)?)
    }

    /// When native calls end for what they do wrong.
    pub(super) fn stop_at(&self) -> StopAt {
        match self.options.stop_at_first && !self.findings.collecting(&self.options) {
            true => StopAt::First,
            false => StopAt::Never,
        }
    }

    /// The address that a userdata stands for: its block's, or the `FILE *` of a file of `io`.
    pub(super) fn userdata_address(&self, value: &Value) -> u64 {
        let address = value.to_pointer() as u64;
        let (Value::UserData(userdata), Some(files)) = (value, &self.helpers().file_metatable)
        else {
            return address;
        };
        let metatable = self.helpers().metatable.call::<Option<Table>>(userdata);
        let metatable = metatable.ok().flatten();
        if metatable.as_ref() != Some(files) {
            return address;
        }
        let mut file = [0; 8];
        match self.bridge.memory().read_native(address, &mut file) {
            8 => u64::from_le_bytes(file),
            _ => address,
        }
    }
}

fn made(filled: bool, value: Value) -> Done<Value> {
    match filled {
        true => Ok(value),
        false => fail("LuaJIT made a cdata of another type than it was asked for"),
    }
}
