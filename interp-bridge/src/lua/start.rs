//! Starting a session, running scripts in it, ending it.
//!
//! # Safety
//! A Lua state with all of its libraries can do whatever C can; scripts are the user's own
//! programs, as native code is.
#![allow(unsafe_code)]

use std::{path::PathBuf, rc::Rc};

use mlua::{Function, Lua, LuaOptions, MultiValue, StdLib, Table, Value};

use super::{
    LuaFailure, api,
    calls::Surroundings,
    cdata::Known,
    failure::Done,
    findings::Finding,
    session::{Helpers, Session, SessionOptions},
    types::{TypeId, Types},
};
use crate::{
    bridge::{Bridge, Observer},
    memory::Memory,
};
use tracer_user::session::CallStats;

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
#[error("cannot start Lua: {0}")]
pub struct StartError(String);

impl From<mlua::Error> for StartError {
    fn from(error: mlua::Error) -> StartError {
        StartError(error.to_string())
    }
}

impl From<LuaFailure> for StartError {
    fn from(error: LuaFailure) -> StartError {
        StartError(error.message)
    }
}

/// A script's error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptError {
    /// What was raised, in words.
    pub message: String,
    /// Where, innermost first.
    pub stack: Vec<String>,
    /// Whether the text is no Lua.
    pub is_syntax: bool,
    /// Whether more text could make it Lua.
    pub is_incomplete: bool,
    /// Whether it says that a library cannot be loaded.
    pub is_load_failure: bool,
}

/// What came of a session.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Violations, those that were expected included.
    pub findings: Vec<Finding>,
    /// How many were not expected.
    pub unexpected: u64,
    /// Why the trace is not complete, if it is not.
    pub incomplete: Option<String>,
    /// Native calls.
    pub calls: u64,
    /// Sums over all of them.
    pub stats: CallStats,
    /// Time in native code, in nanoseconds.
    pub ns: u64,
    /// Reads of string functions past the end that are no violation.
    pub overreads: u64,
    /// Functions that were called: name, library, how often.
    pub functions: Vec<(String, PathBuf, u64)>,
    /// Libraries that were loaded by name.
    pub libraries: Vec<PathBuf>,
    /// Whether native code was left in the middle of a call.
    pub abrupt: bool,
}

/// A script that was compiled.
pub struct Chunk(Function);

/// A Lua state with its session.
pub struct LuaSession {
    lua: Lua,
    session: Rc<Session>,
    prelude: Table,
}

impl LuaSession {
    /// A session over a bridge that no call was made with.
    ///
    /// # Errors
    /// [`StartError`] where LuaJIT cannot be started, or is not the one that this was built for.
    pub fn new(bridge: Bridge, options: SessionOptions) -> Result<LuaSession, StartError> {
        let plain = LuaOptions::new().catch_rust_panics(false);
        // SAFETY: see the module.
        let lua = unsafe { Lua::unsafe_new_with(StdLib::ALL, plain) };
        let folder = options.folder.clone();
        let session = Session::new(bridge, options, &lua);
        session.callbacks.serve(&session);
        let core = api::core(&lua, &session)?;
        let loaded: Table = lua.globals().get::<Table>("package")?.get("loaded")?;
        let native: Value = loaded.get("ffi")?;
        let prelude = lua.load(include_str!("prelude.lua")).set_name("=[ffi]");
        let prelude: Table = prelude.call((native, core.clone()))?;
        begin(&lua, &session, &prelude)?;
        let made = LuaSession {
            lua,
            session,
            prelude,
        };
        made.provide_trace(core)?;
        if let Some(folder) = folder {
            made.look_in(&folder.to_string_lossy())?;
        }
        Ok(made)
    }

    /// `require "trace"` finds the module, which records from then on.
    fn provide_trace(&self, core: Table) -> mlua::Result<()> {
        let package: Table = self.lua.globals().get("package")?;
        let preload: Table = package.get("preload")?;
        let checked: Function = self.prelude.get("checked")?;
        let prelude = self.prelude.clone();
        let loader = self.lua.create_function(move |lua, _: MultiValue| {
            let trace = lua.load(include_str!("trace.lua")).set_name("=[trace]");
            trace.call::<Table>((core.clone(), prelude.clone(), checked.clone()))
        })?;
        preload.set("trace", loader)
    }

    /// `require` looks in this folder first.
    fn look_in(&self, folder: &str) -> mlua::Result<()> {
        let package: Table = self.lua.globals().get("package")?;
        let path: String = package.get("path")?;
        package.set("path", format!("{folder}/?.lua;{path}"))
    }

    pub(super) fn lua(&self) -> &Lua {
        &self.lua
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// The bridge that native calls are made with.
    pub fn bridge(&self) -> &Bridge {
        &self.session.bridge
    }

    /// Sends every access event to an observer, beside what scripts see of them.
    pub fn observe(&self, observer: Box<dyn Observer<Memory>>) {
        let session = &self.session;
        session.recording.write_to(&session.bridge, observer);
    }

    /// Tells somebody where native code runs.
    pub fn set_surroundings(&self, surroundings: Box<dyn Surroundings>) {
        *self.session.calls.surroundings.borrow_mut() = Some(surroundings);
    }

    /// Has `os.exit` end the session by this function, which gets what came of it and the status.
    ///
    /// # Errors
    /// Where Lua has no memory for it.
    pub fn on_exit(&self, work: impl Fn(&Summary, i32) + 'static) -> Result<(), StartError> {
        let session = self.session.clone();
        let exit = self.lua.create_function(move |_, status: Value| {
            let status = match status {
                Value::Nil | Value::Boolean(true) => 0,
                Value::Boolean(false) => 1,
                Value::Integer(status) => status as i32,
                Value::Number(status) => status as i32,
                _ => 1,
            };
            work(&summary(&session), status);
            Ok(())
        })?;
        Ok(self.lua.globals().get::<Table>("os")?.set("exit", exit)?)
    }

    /// Sets the arguments that a script finds in `arg`: its name at 0.
    ///
    /// # Errors
    /// Where Lua has no memory for it.
    pub fn set_arguments(&self, script: &str, arguments: &[String]) -> Result<(), StartError> {
        let arg = self.lua.create_sequence_from(arguments.iter().cloned())?;
        arg.raw_set(0, script)?;
        Ok(self.lua.globals().set("arg", arg)?)
    }

    /// Makes a module a global, as `repl` does.
    ///
    /// # Errors
    /// Where the module cannot be loaded.
    pub fn require(&self, name: &str) -> Result<(), StartError> {
        let require: Function = self.lua.globals().get("require")?;
        let module: Value = require.call(name)?;
        Ok(self.lua.globals().set(name, module)?)
    }

    /// Compiles a script. A first line that begins with `#` is left out.
    ///
    /// # Errors
    /// [`ScriptError`] where it is no Lua.
    pub fn compile(&self, text: &[u8], name: &str) -> Result<Chunk, ScriptError> {
        let first = text.iter().position(|byte| *byte == b'\n');
        let text = match text.first() {
            Some(b'#') => &text[first.unwrap_or(text.len())..],
            _ => text,
        };
        let compiled = self.lua.load(text).set_name(name).into_function();
        compiled.map(Chunk).map_err(|error| {
            let (message, is_incomplete) = match error {
                mlua::Error::SyntaxError {
                    message,
                    incomplete_input,
                } => (message, incomplete_input),
                other => (other.to_string(), false),
            };
            ScriptError {
                message,
                stack: Vec::new(),
                is_syntax: true,
                is_incomplete,
                is_load_failure: false,
            }
        })
    }

    /// Runs a script with these arguments, and returns what it returns.
    ///
    /// # Errors
    /// What it raised.
    pub fn run(&self, chunk: &Chunk, arguments: &[String]) -> Result<MultiValue, ScriptError> {
        let failed = |error: mlua::Error| ScriptError {
            message: error.to_string(),
            stack: Vec::new(),
            is_syntax: false,
            is_incomplete: false,
            is_load_failure: false,
        };
        let run: Function = self.prelude.get("run").map_err(failed)?;
        let given = std::iter::once(Ok(Value::Function(chunk.0.clone())));
        let arguments = arguments.iter();
        let texts = arguments.map(|text| self.lua.create_string(text).map(Value::String));
        let given: Result<MultiValue, _> = given.chain(texts).collect();
        let mut results: MultiValue = run.call(given.map_err(failed)?).map_err(failed)?;
        if let Some(Value::Boolean(true)) = results.pop_front() {
            return Ok(results);
        }
        let text = |value: Option<Value>| match value {
            Some(Value::String(text)) => text.to_string_lossy(),
            _ => String::new(),
        };
        let message = text(results.pop_front());
        let stack = match results.pop_front() {
            Some(Value::Table(frames)) => frames.sequence_values().flatten().collect(),
            _ => Vec::new(),
        };
        Err(ScriptError {
            is_load_failure: self.session.findings.is_load_failure(&message),
            message,
            stack,
            is_syntax: false,
            is_incomplete: false,
        })
    }

    /// How many violations are known, at most as many as are kept.
    pub fn finding_count(&self) -> usize {
        self.session.findings.len()
    }

    /// The violations from the `first` on.
    pub fn findings_from(&self, first: usize) -> Vec<Finding> {
        self.session.findings.from(first)
    }

    /// Ends the session: finalizers run, the last made first, and callbacks are freed.
    pub fn finish(self) -> Summary {
        let close = self.prelude.get::<Function>("close");
        let errors = close.and_then(|close| close.call::<Vec<String>>(()));
        for error in errors.unwrap_or_else(|error| vec![error.to_string()]) {
            eprintln!("ffitrace: an error in a finalizer: {error}");
        }
        let summary = summary(&self.session);
        let session = self.session.clone();
        drop(self.prelude);
        drop(self.lua);
        session.callbacks.clear();
        summary
    }
}

fn begin(lua: &Lua, session: &Rc<Session>, prelude: &Table) -> Done<()> {
    let helper = |name: &str| prelude.get::<Function>(name);
    let debug: Table = lua.globals().get("debug")?;
    let io: Table = lua.globals().get("io")?;
    let metatable: Function = debug.get("getmetatable")?;
    let known: Table = prelude.get("types")?;
    let id = |name: &str| known.get(name).map(TypeId);
    let helpers = Helpers {
        new_boxed: helper("new_boxed")?,
        new_int64: helper("new_int64")?,
        new_uint64: helper("new_uint64")?,
        new_complex: helper("new_complex")?,
        pointer_to: helper("pointer_to")?,
        type_number: helper("type_number")?,
        is_namespace: helper("is_namespace")?,
        guarded: helper("guarded")?,
        metatable: metatable.clone(),
        callback_methods: prelude.get("callback_methods")?,
        file_metatable: metatable.call(io.get::<Value>("stdout")?)?,
    };
    let types = Types::new(helper("typeinfo")?, helper("name_of")?);
    let known = Known {
        boxed: id("boxed")?,
        int64: id("int64")?,
        uint64: id("uint64")?,
        complex: id("complex")?,
    };
    session.begin(helpers, types, known)
}

fn summary(session: &Session) -> Summary {
    let totals = session.calls.totals.borrow();
    Summary {
        findings: session.findings.from(0),
        unexpected: session.findings.unexpected(),
        incomplete: session.findings.incomplete(),
        calls: totals.calls,
        stats: totals.stats,
        ns: totals.ns,
        overreads: totals.overreads,
        functions: session.calls.called(),
        libraries: session.loaded(),
        abrupt: session.calls.abrupt.get(),
    }
}
