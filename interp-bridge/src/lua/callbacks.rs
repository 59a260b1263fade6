//! Functions of the script that native code calls.
//!
//! ```text
//!  a Lua function where C wants a function pointer ─► Callback ─► its address
//!    native code calls it ─► arguments to Lua ─► the function ─► its result to C
//!                                                 └ error ─► the native call ends, and its caller
//!                                                            in the script gets that error
//! ```
//! The same function for the same type has one callback. It stays until `cb:free()`, as in LuaJIT:
//! nobody knows when native code has called it for the last time.

use std::{
    cell::RefCell,
    collections::HashMap,
    rc::{Rc, Weak},
    sync::Arc,
};

use mlua::{Function, MultiValue, Value};

use super::{
    failure::{Done, LuaFailure, fail},
    scalar::{How, Scalar},
    session::Session,
    types::{Shape, Type},
    values::{native_value, scalar_of},
};
use crate::{
    callback::{BodyResult, Callback},
    ffi::{self, Signature},
    memory::Pointer,
};

/// Most callbacks at a time: a script that makes one for each call forgets to free them.
const MAX_CALLBACKS: usize = 4096;

/// The callbacks of a session.
#[derive(Default)]
pub(super) struct Callbacks {
    live: RefCell<HashMap<u64, Entry>>,
    known: RefCell<HashMap<(usize, u32), u64>>,
    thrown: RefCell<Option<LuaFailure>>,
    weak: RefCell<Weak<Session>>,
}

struct Entry {
    _callback: Callback<'static>,
    function: Rc<RefCell<Function>>,
    key: (usize, u32),
}

/// What a body needs to know of its type.
struct Body {
    session: Weak<Session>,
    function: Rc<RefCell<Function>>,
    params: Vec<Rc<Type>>,
    ret: Rc<Type>,
}

impl Callbacks {
    /// Who the callbacks are for.
    pub(super) fn serve(&self, session: &Rc<Session>) {
        *self.weak.borrow_mut() = Rc::downgrade(session);
    }

    /// The error that ended the native call which is just over.
    pub(super) fn take_thrown(&self) -> Option<LuaFailure> {
        self.thrown.borrow_mut().take()
    }

    /// `cb:free()`.
    pub(super) fn free(&self, address: u64) -> Done<()> {
        match self.live.borrow_mut().remove(&address) {
            Some(entry) => {
                self.known.borrow_mut().remove(&entry.key);
                Ok(())
            }
            None => fail("bad callback: it was freed, or is none"),
        }
    }

    /// `cb:set(function)`.
    pub(super) fn set(&self, address: u64, function: Function) -> Done<()> {
        match self.live.borrow().get(&address) {
            Some(entry) => {
                *entry.function.borrow_mut() = function;
                // Who has the former function made into a callback gets another.
                self.known.borrow_mut().remove(&entry.key);
                Ok(())
            }
            None => fail("bad callback: it was freed, or is none"),
        }
    }

    /// Ends all.
    pub(super) fn clear(&self) {
        self.known.borrow_mut().clear();
        let all = std::mem::take(&mut *self.live.borrow_mut());
        drop(all);
    }
}

impl Session {
    /// The address by which native code calls a Lua function, as one of this type.
    pub(super) fn callback_pointer(&self, function: &Function, ty: &Type) -> Done<Pointer> {
        let key = (function.to_pointer() as usize, ty.id.0);
        if let Some(known) = self.callbacks.known.borrow().get(&key) {
            return Ok(Pointer::from_native(*known));
        }
        let types = self.types();
        let Shape::Function(shape) = &ty.shape else {
            return fail(format!("'{}' is no function", types.name(ty.id)));
        };
        if shape.variadic {
            return fail(format!(
                "cannot convert 'function' to '{}': a callback cannot take a variable number of \
                 arguments",
                types.name(ty.id)
            ));
        }
        if self.callbacks.live.borrow().len() >= MAX_CALLBACKS {
            return fail("too many callbacks: free those that are not needed, with cb:free()");
        }
        let params = shape.params.iter().map(|ty| types.get(*ty));
        let params = params.collect::<Done<Vec<_>>>()?;
        let ret = types.get(shape.ret)?;
        if let Some(aggregate) = params.iter().chain([&ret]).find(|ty| ty.is_aggregate()) {
            let name = types.name(aggregate.id);
            return fail(format!(
                "cannot convert 'function' to '{}': a callback cannot take or return '{name}' by \
                 value; take a pointer",
                types.name(ty.id)
            ));
        }
        let natives = params.iter().map(|ty| self.c_type(ty));
        let signature = Signature::new(natives.collect::<Done<Vec<_>>>()?, self.c_type(&ret)?);
        let slot = Rc::new(RefCell::new(function.clone()));
        let body = Body {
            session: self.callbacks.weak.borrow().clone(),
            function: slot.clone(),
            params,
            ret,
        };
        let callback = self
            .bridge
            .local_callback(Arc::new(signature), move |call| body.run(call.args))?;
        let address = callback.address();
        let entry = Entry {
            _callback: callback,
            function: slot,
            key,
        };
        self.callbacks.live.borrow_mut().insert(address, entry);
        self.callbacks.known.borrow_mut().insert(key, address);
        Ok(Pointer::from_native(address))
    }
}

impl Body {
    fn run(&self, arguments: &[ffi::Value]) -> BodyResult {
        let Some(session) = self.session.upgrade() else {
            return Err("the session is over".into());
        };
        self.call(&session, arguments).map_err(|error| {
            let words = error.message.clone();
            *session.callbacks.thrown.borrow_mut() = Some(error);
            words.into()
        })
    }

    fn call(&self, session: &Session, arguments: &[ffi::Value]) -> Done<ffi::Value> {
        if let Some(around) = &*session.calls.surroundings.borrow() {
            around.interrupted();
        }
        let mut given = MultiValue::with_capacity(arguments.len() + 1);
        given.push_back(Value::Function(self.function.borrow().clone()));
        for (ty, value) in self.params.iter().zip(arguments) {
            let scalar = scalar_of(value.clone());
            let scalar = scalar.ok_or_else(|| LuaFailure::new("an argument without a value"))?;
            given.push_back(session.to_lua(ty, scalar)?);
        }
        let (ok, result): (bool, Value) = session.helpers().guarded.call(given)?;
        if !ok {
            return Err(LuaFailure {
                message: "an error in a callback".to_owned(),
                thrown: Some(result),
            });
        }
        if matches!(self.ret.shape, Shape::Void) {
            return Ok(ffi::Value::Void);
        }
        let scalar = match (&result, &self.ret.shape) {
            // Nothing returned is zero, as what LuaJIT happens to return mostly is.
            (Value::Nil, shape) if !matches!(shape, Shape::Pointer { .. }) => Scalar::Int(0),
            _ => session.as_scalar(&result, &self.ret, How::Convert)?,
        };
        let scalar = super::number::cut(scalar, &self.ret);
        if let Scalar::Pointer(pointer) = scalar {
            session.bridge.memory().expose_pointer(pointer);
        }
        Ok(native_value(&self.ret, scalar))
    }
}
