//! Native calls by the script.
//!
//! ```text
//!  f(a, b) ─► arguments by the parameters' types ─► Bridge::invoke ─► what was found ─► result
//! ```
//!
//! # Safety
//! That a function has the type that it was declared with, and accepts what it is given, is the
//! script's promise, as it is C's: the command line says so. What native code does about it is
//! contained by the session.
#![allow(unsafe_code)]

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
};

use mlua::Value;

use super::{
    cdata::{Boxed, Kind},
    failure::{Done, LuaFailure, fail},
    scalar::{Given, How, Scalar},
    session::Session,
    types::{FunctionShape, Shape, Type, TypeId},
    values::{native_value, scalar_of},
};
use crate::{
    bridge::{CallOptions, CallOutcome, Invoked},
    callback::Leave,
    ctype::CType,
    ffi::{self, NativeCall, Signature},
    memory::{AllocId, Provenance},
};
use tracer_user::session::CallStats;

/// Most functions that are remembered for having been called by a pointer.
const MAX_BY_POINTER: usize = 4096;

/// Is told where native code runs.
pub trait Surroundings {
    /// A function of a library is about to be called.
    fn begins(&self, name: &str, library: &Path, address: u64);
    /// Native code has called a function of the script, which may print, and will go on.
    fn interrupted(&self) {}
    /// It is over.
    fn ends(&self);
}

/// A function that can be called.
pub(super) struct CFunction {
    pub(super) name: String,
    pub(super) address: u64,
    pub(super) library: PathBuf,
    /// What keeps its library loaded; none where it was found by a pointer.
    owner: Option<ffi::Function>,
    shape: Rc<FunctionShape>,
    params: Vec<Rc<Type>>,
    ret: Rc<Type>,
    signature: Arc<Signature>,
    /// Prepared calls: more than one if it is called again while it runs.
    ready: RefCell<Vec<NativeCall>>,
    pub(super) calls: Cell<u64>,
}

/// What a call was, for `trace.call_stats`.
#[derive(Clone, Debug, Default)]
pub(super) struct CallRecord {
    pub(super) name: String,
    pub(super) calls: u64,
    pub(super) stats: CallStats,
    pub(super) ns: u64,
    pub(super) overreads: u64,
}

/// The functions of a session, and what their calls came to.
#[derive(Default)]
pub(super) struct Calls {
    functions: RefCell<Vec<Rc<CFunction>>>,
    by_pointer: RefCell<HashMap<(TypeId, u64), Rc<CFunction>>>,
    pub(super) errno: Cell<i32>,
    pub(super) last: RefCell<CallRecord>,
    pub(super) totals: RefCell<CallRecord>,
    pub(super) surroundings: RefCell<Option<Box<dyn Surroundings>>>,
    /// Whether native code was left in the middle.
    pub(super) abrupt: Cell<bool>,
}

/// What calling a cdata comes to.
pub(super) enum Called {
    Nothing,
    Value(Value),
    /// An object that the script owns.
    Owned(Value),
    /// The script's own metamethod has to say.
    Meta(Value),
}

impl Calls {
    /// The functions of libraries that were called, with how often.
    pub(super) fn called(&self) -> Vec<(String, PathBuf, u64)> {
        let functions = self.functions.borrow();
        let by_pointer = self.by_pointer.borrow();
        let all = functions.iter().chain(by_pointer.values());
        let told = all.map(|f| (f.name.clone(), f.library.clone(), f.calls.get()));
        told.filter(|(_, _, calls)| *calls > 0).collect()
    }
}

impl Session {
    /// A function of a library as a cdata.
    pub(super) fn library_function(&self, ty: TypeId, function: ffi::Function) -> Done<Value> {
        let (address, library) = (function.address, function.library.clone());
        let name = function.name.clone();
        let known = self.c_function(ty, address, name, library, Some(function))?;
        let mut functions = self.calls.functions.borrow_mut();
        functions.push(Rc::new(known));
        let boxed = Boxed {
            ty,
            kind: Kind::Function,
            bits: address,
            extra: functions.len() as u64 - 1,
        };
        drop(functions);
        self.new_boxed(&boxed)
    }

    /// A function at an address as a cdata: a pointer to it.
    pub(super) fn function_value(&self, ty: TypeId, address: u64) -> Done<Value> {
        let pointer = crate::memory::Pointer::from_native(address);
        let ty = self.pointer_type(ty)?;
        self.new_boxed(&Boxed::pointer_to(ty, Kind::Value, pointer))
    }

    fn c_function(
        &self,
        ty: TypeId,
        address: u64,
        name: String,
        library: PathBuf,
        owner: Option<ffi::Function>,
    ) -> Done<CFunction> {
        let types = self.types();
        let Shape::Function(shape) = types.get(ty)?.shape.clone() else {
            return fail(format!("'{}' is not callable", types.name(ty)));
        };
        let params = shape.params.iter().map(|ty| types.get(*ty));
        let params = params.collect::<Done<Vec<_>>>()?;
        let ret = types.get(shape.ret)?;
        let fixed = params.iter().map(|ty| self.c_type(ty));
        let fixed = fixed.collect::<Done<Vec<_>>>()?;
        let returned = self.c_type(&ret)?;
        let signature = match shape.variadic {
            true => Signature::variadic(fixed, [], returned),
            false => Signature::new(fixed, returned),
        };
        Ok(CFunction {
            name,
            address,
            library,
            owner,
            params,
            ret,
            signature: Arc::new(signature.with_names(shape.names.iter().cloned())),
            shape,
            ready: RefCell::default(),
            calls: Cell::new(0),
        })
    }

    /// `cdata(…)`.
    pub(super) fn call(&self, value: &Value, arguments: &[Value]) -> Done<Called> {
        let given = self.given(value)?;
        let boxed = self.boxed(value);
        let function = match (&given, boxed) {
            (Given::Code(..), Some(boxed)) => {
                let functions = self.calls.functions.borrow();
                functions.get(boxed.extra as usize).cloned()
            }
            (Given::Scalar(ty, Scalar::Pointer(at)), _) => match ty.shape {
                Shape::Pointer { to } => self.function_at(to, at.addr)?,
                _ => None,
            },
            (Given::Type, Some(boxed)) => return self.construct(boxed.ty, arguments),
            _ => None,
        };
        if let Some(function) = function {
            return self.call_function(&function, arguments);
        }
        if let Some(ty) = self.type_with_methods(&given)?
            && let Some(handler) = self.metamethod(&ty, "__call")
        {
            return Ok(Called::Meta(handler));
        }
        fail(format!("'{}' is not callable", self.name_given(&given)))
    }

    fn construct(&self, ty: TypeId, arguments: &[Value]) -> Done<Called> {
        let ty = self.types().get(ty)?;
        match self.metamethod(&ty, "__new") {
            Some(handler) => Ok(Called::Meta(handler)),
            None => self.construct_plainly(&ty, arguments),
        }
    }

    /// `ffi.new`.
    pub(super) fn construct_plainly(&self, ty: &Type, arguments: &[Value]) -> Done<Called> {
        let value = self.new_value(ty, arguments)?;
        Ok(match ty.is_aggregate() {
            true => Called::Owned(value),
            false => Called::Value(value),
        })
    }

    /// The function that a pointer leads to; `None` if it is no pointer to a function.
    fn function_at(&self, ty: TypeId, address: u64) -> Done<Option<Rc<CFunction>>> {
        if !matches!(self.types().get(ty)?.shape, Shape::Function(_)) {
            return Ok(None);
        }
        if let Some(known) = self.calls.by_pointer.borrow().get(&(ty, address)) {
            return Ok(Some(known.clone()));
        }
        if address == 0 {
            return fail("attempt to call a null pointer");
        }
        let name = format!("function at {address:#x}");
        let function = Rc::new(self.c_function(ty, address, name, PathBuf::new(), None)?);
        let mut known = self.calls.by_pointer.borrow_mut();
        if known.len() >= MAX_BY_POINTER {
            known.clear();
        }
        known.insert((ty, address), function.clone());
        Ok(Some(function))
    }

    fn call_function(&self, function: &CFunction, arguments: &[Value]) -> Done<Called> {
        let fixed = function.params.len();
        if arguments.len() < fixed || (arguments.len() > fixed && !function.shape.variadic) {
            return fail("wrong number of arguments for function call");
        }
        let mut temporaries = Vec::new();
        let mut values = Vec::with_capacity(arguments.len());
        let made = self.arguments(function, arguments, &mut values, &mut temporaries);
        let done = made.and_then(|tail| {
            let mut call = self.prepared(function, tail)?;
            let done = self.make_call(function, &mut call, &values);
            if !function.shape.variadic && function.ready.borrow().len() < 8 {
                function.ready.borrow_mut().push(call);
            }
            done
        });
        for id in temporaries {
            self.release(id)?;
        }
        done
    }

    /// Converts all arguments, and returns the types of the variadic ones.
    fn arguments(
        &self,
        function: &CFunction,
        arguments: &[Value],
        values: &mut Vec<ffi::Value>,
        temporaries: &mut Vec<AllocId>,
    ) -> Done<Vec<CType>> {
        let mut tail = Vec::new();
        for (index, argument) in arguments.iter().enumerate() {
            let ty = match function.params.get(index) {
                Some(ty) => ty.clone(),
                None => {
                    let ty = self.variadic_type(argument)?;
                    tail.push(self.c_type(&ty)?);
                    ty
                }
            };
            let value = self.argument(argument, &ty, temporaries).map_err(|error| {
                let mut error = error;
                error.message = format!(
                    "bad argument #{} to '{}' ({})",
                    index + 1,
                    function.name,
                    error.message
                );
                error
            })?;
            values.push(value);
        }
        Ok(tail)
    }

    fn argument(
        &self,
        value: &Value,
        ty: &Type,
        temporaries: &mut Vec<AllocId>,
    ) -> Done<ffi::Value> {
        if !ty.is_aggregate() {
            let scalar = self.as_scalar(value, ty, How::Convert)?;
            return Ok(native_value(ty, scalar));
        }
        let at = match self.given(value)? {
            Given::Aggregate(from, at) if self.types().same(&from, ty) => at,
            // A table with its fields, or whatever else it can be made from.
            _ => {
                let made = self.new_value(ty, std::slice::from_ref(value))?;
                let at = self.boxed(&made).map(|boxed| boxed.pointer());
                let at = at.unwrap_or_default();
                if let Provenance::Alloc(id) = at.provenance {
                    temporaries.push(id);
                }
                at
            }
        };
        Ok(ffi::Value::Struct(self.aggregate(ty, at)?))
    }

    /// The type as which a variadic argument travels.
    fn variadic_type(&self, value: &Value) -> Done<Rc<Type>> {
        let types = self.types();
        let named = |text| self.named_type(text);
        match self.given(value)? {
            Given::Number(_) => named("double"),
            Given::Text(_) => named("const char *"),
            Given::Bool(_) => named("bool"),
            Given::Scalar(ty, Scalar::Float(_)) if ty.size == Some(4) => named("double"),
            Given::Scalar(ty, _) => Ok(ty),
            Given::Aggregate(ty, _) => match ty.shape {
                Shape::Array { of, .. } => types.get(self.pointer_type(of)?),
                _ => types.get(self.pointer_type(ty.id)?),
            },
            Given::Code(ty, _) => types.get(self.pointer_type(ty.id)?),
            _ => named("void *"),
        }
    }

    fn prepared(&self, function: &CFunction, tail: Vec<CType>) -> Done<NativeCall> {
        let ready = function.ready.borrow_mut().pop();
        if let Some(ready) = ready {
            return Ok(ready);
        }
        let signature = match function.shape.variadic {
            true => match function.signature.with_tail(tail) {
                Some(signature) => Arc::new(signature),
                None => function.signature.clone(),
            },
            false => function.signature.clone(),
        };
        Ok(match &function.owner {
            Some(owner) => NativeCall::of(signature, owner)?,
            None => NativeCall::new(signature, function.address)?,
        })
    }

    fn make_call(
        &self,
        function: &CFunction,
        call: &mut NativeCall,
        values: &[ffi::Value],
    ) -> Done<Called> {
        let options = CallOptions {
            timeout: self.options.timeout,
            stop: self.stop_at(),
        };
        call.set_errno(self.calls.errno.get());
        let surroundings = self.calls.surroundings.borrow();
        if let Some(around) = &*surroundings {
            around.begins(&function.name, &function.library, function.address);
        }
        self.recording.begin_call();
        // SAFETY: see the module.
        let invoked = unsafe { self.bridge.invoke(call, values, options) };
        self.recording.end_call();
        if let Some(around) = &*surroundings {
            around.ends();
        }
        drop(surroundings);
        let Invoked { value, outcome } = invoked?;
        function.calls.set(function.calls.get() + 1);
        if outcome.returned {
            self.calls.errno.set(call.errno());
        }
        self.count(&function.name, &outcome);
        let thrown = self.callbacks.take_thrown();
        if value.is_none() && thrown.is_none() {
            self.calls.abrupt.set(true);
        }
        if outcome.violations > 0 || !outcome.stats.complete() {
            self.note_findings(function, &outcome)?;
        }
        match value {
            Some(value) => self.returned(&function.ret, value?),
            None => Err(match (thrown, outcome.left) {
                (Some(thrown), Some(Leave::Stopped(_))) => thrown,
                (_, Some(left)) => {
                    LuaFailure::new(format!("'{}' did not return: {left}", function.name))
                }
                (_, None) => LuaFailure::new(format!("'{}' did not return", function.name)),
            }),
        }
    }

    fn count(&self, name: &str, outcome: &CallOutcome) {
        let ns = u64::try_from(outcome.elapsed.as_nanos()).unwrap_or(u64::MAX);
        let mut last = self.calls.last.borrow_mut();
        if last.name != name {
            name.clone_into(&mut last.name);
        }
        (last.calls, last.stats, last.ns) = (1, outcome.stats, ns);
        last.overreads = outcome.overreads;
        let mut totals = self.calls.totals.borrow_mut();
        totals.calls += 1;
        totals.stats.add(&outcome.stats);
        totals.ns = totals.ns.saturating_add(ns);
        totals.overreads += outcome.overreads;
    }

    fn returned(&self, ty: &Type, value: ffi::Value) -> Done<Called> {
        if let ffi::Value::Struct(aggregate) = value {
            return Ok(Called::Owned(self.object_of(ty, &aggregate)?));
        }
        let Some(scalar) = scalar_of(value) else {
            return Ok(Called::Nothing);
        };
        Ok(Called::Value(self.to_lua(ty, scalar)?))
    }
}
