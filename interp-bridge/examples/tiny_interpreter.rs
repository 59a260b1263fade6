//! A tiny interpreter on the bridge: one statement a line. `docs/guide.md` explains it.
#![allow(unsafe_code)]

use std::{collections::HashMap, error::Error, ffi::OsStr, io};

use interp_bridge::bridge::{Bridge, CallOptions};
use interp_bridge::diagnosis::{Context, Diagnoser};
use interp_bridge::ffi::{Library, NativeCall, Value};
use interp_bridge::memory::{AllocId, AllocRequest, Init};
use interp_bridge::prototype::Prototype;

type Fallible<T> = Result<T, Box<dyn Error>>;

struct Interpreter {
    bridge: Bridge,
    library: Library,
    names: HashMap<String, AllocId>,
}

impl Interpreter {
    /// Runs one statement and returns what it says.
    fn run(&mut self, line: &str) -> Fallible<String> {
        let mut words = line.splitn(3, ' ');
        let mut next = || words.next().ok_or("a word is missing");
        match next()? {
            "room" => self.allocate(next()?, next()?.parse()?, Init::Uninit),
            "text" => {
                let (name, text) = (next()?, format!("{}\0", next()?));
                self.allocate(name, text.len() as u64, Init::Bytes(text.as_bytes()))
            }
            "free" => {
                self.bridge.memory().free(self.find(next()?)?)?;
                Ok("freed".to_owned())
            }
            "show" => self.show(self.find(next()?)?),
            "call" => self.call(line.strip_prefix("call ").unwrap_or_default()),
            word => Err(format!("`{word}` is no statement").into()),
        }
    }

    fn allocate(&mut self, name: &str, size: u64, init: Init<'_>) -> Fallible<String> {
        let mut request = AllocRequest::default();
        (request.name, request.size, request.init) = (Some(name), size, init);
        let id = self.bridge.memory().allocate(&request)?;
        self.names.insert(name.to_owned(), id);
        Ok(format!("{size} bytes"))
    }

    fn find(&self, name: &str) -> Result<AllocId, &'static str> {
        self.names.get(name).copied().ok_or("no such name")
    }

    fn show(&self, id: AllocId) -> Fallible<String> {
        let memory = self.bridge.memory();
        let size = memory.get(id).ok_or("freed long ago")?.size();
        // An error where a byte was never written, by nobody.
        let bytes = memory.read_init(id, 0..size)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// `PROTOTYPE : ARGUMENT …`; an argument is a name, a number, or `<ascending>`.
    fn call(&self, text: &str) -> Fallible<String> {
        let (prototype, arguments) = text.split_once(" : ").ok_or("a prototype : arguments")?;
        let prototype = Prototype::parse(prototype, &[])?;
        let function = self.library.function(&prototype.name)?;
        let mut call = NativeCall::prepare(&prototype, &function)?;
        // A function of ours. Native code may call it while this value lives.
        let bridge = &self.bridge;
        let byte = |at: *const u8| -> Fallible<u128> {
            let memory = bridge.memory();
            let (id, offset) = memory.resolve(memory.with_exposed_provenance(at as u64)?, 1)?;
            Ok(memory.read_scalar(id, offset, 1)?)
        };
        let ascending = bridge.local_closure(|a: *const u8, b: *const u8| -> i32 {
            byte(a).expect("a letter").cmp(&byte(b).expect("a letter")) as i32
        });
        let value = |text: &str| match text.parse::<u64>() {
            Ok(number) => Ok(Value::from(number)),
            Err(_) if text == "<ascending>" => Ok(Value::from(ascending.address() as *const ())),
            Err(_) => Ok(bridge.pointer(self.find(text)?, 0)?),
        };
        let values: Fallible<Vec<Value>> = arguments.split(' ').map(value).collect();
        let (values, options) = (values?, CallOptions::default());
        // SAFETY: native code is what the program says it is; what it does wrong is reported.
        let done = unsafe { bridge.invoke(&mut call, &values, options) }?;
        let mut said = match done.value {
            Some(value) => value?.describe(),
            None => "the call did not return".to_owned(),
        };
        let mut memory = bridge.memory();
        for logged in memory.violations().entries() {
            let mut context = Context::of(&done.outcome);
            context.memory = Some(&memory);
            let found = Diagnoser::new().diagnose(logged, &context);
            said += &format!("\n  {}", found.message);
        }
        memory.violations_mut().clear();
        Ok(said)
    }
}

fn main() -> Fallible<()> {
    let (bridge, library) = (Bridge::new(None)?, Library::load(OsStr::new("libc.so.6"))?);
    let names = HashMap::new();
    let mut interpreter = Interpreter {
        bridge,
        library,
        names,
    };
    for line in io::read_to_string(io::stdin())?.lines() {
        let said = interpreter.run(line);
        let said = said.unwrap_or_else(|error| format!("error: {error}"));
        println!("{line}\n  {said}");
    }
    Ok(())
}
