//! `ffi.C` and `ffi.load`: where functions and variables come from.
//!
//! ```text
//!  ffi.C          libc, libm, and every library that was loaded with global = true
//!  ffi.load "z"   libz.so; a name with a dot or a slash is taken as it is
//!  name ─► its declaration ─► function, variable or constant
//! ```

use std::{
    cell::RefCell,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use mlua::Value;

use super::{
    failure::{Done, LuaFailure, fail},
    session::Session,
    types::Declared,
};
use crate::{
    ffi::{Function, Library, LibraryError},
    memory::Pointer,
};

/// What `ffi.C` has of its own: what a program in C is linked with.
const C_LIBRARIES: [&str; 2] = ["libc.so.6", "libm.so.6"];
/// Most bytes of a linker's script.
const MAX_SCRIPT: u64 = 4096;

/// The namespaces of a session: the first is `ffi.C`.
#[derive(Default)]
pub(super) struct Namespaces {
    all: RefCell<Vec<Vec<Library>>>,
}

/// What a name in a namespace leads to.
pub(super) enum Symbol {
    /// Something that stays what it is.
    Value(Value),
    /// A variable, to be read each time.
    Variable(Value),
}

impl Session {
    /// The namespace of `ffi.C`.
    fn c_namespace(&self) -> Done<()> {
        if !self.namespaces.all.borrow().is_empty() {
            return Ok(());
        }
        let libraries = C_LIBRARIES
            .iter()
            .map(|name| Library::load(OsStr::new(name)));
        let libraries = libraries.collect::<Result<Vec<_>, _>>()?;
        self.namespaces.all.borrow_mut().push(libraries);
        Ok(())
    }

    /// `ffi.load`: the number of a namespace.
    pub(super) fn load_library(&self, name: &str, global: bool) -> Done<usize> {
        self.c_namespace()?;
        let library = match load(name) {
            Ok(library) => library,
            Err(error) => {
                let help = error.help();
                let mut text = format!("cannot load \"{name}\": {error}");
                if !help.is_empty() {
                    text.push_str(&format!("; {help}"));
                }
                self.findings.could_not_load(&text);
                return fail(text);
            }
        };
        let mut all = self.namespaces.all.borrow_mut();
        if global && let Some(c) = all.first_mut() {
            c.push(library.clone());
        }
        all.push(vec![library]);
        Ok(all.len() - 1)
    }

    /// The libraries that the script has loaded by name.
    pub(super) fn loaded(&self) -> Vec<PathBuf> {
        let all = self.namespaces.all.borrow();
        let named = all.iter().skip(1).flatten();
        named.map(|library| library.path().to_owned()).collect()
    }

    /// `namespace.name`.
    pub(super) fn symbol(&self, namespace: usize, name: &str) -> Done<Symbol> {
        self.c_namespace()?;
        Ok(match self.types().declared(name)? {
            None => return fail(format!("missing declaration for symbol '{name}'")),
            Some(Declared::Constant { ty, value }) => Symbol::Value(self.constant(ty, value)?),
            Some(Declared::Function { ty, symbol }) => {
                let function = self.find(namespace, &symbol, find_function)?;
                Symbol::Value(self.library_function(ty, function)?)
            }
            Some(Declared::Variable { ty, symbol }) => {
                let address = self.find(namespace, &symbol, Library::variable)?;
                let ty = self.types().get(ty)?;
                let at = Pointer::from_native(address);
                Symbol::Variable(self.value_at(at, &ty)?)
            }
        })
    }

    /// `namespace.name = value`.
    pub(super) fn set_symbol(&self, namespace: usize, name: &str, value: &Value) -> Done<()> {
        self.c_namespace()?;
        match self.types().declared(name)? {
            None => fail(format!("missing declaration for symbol '{name}'")),
            Some(Declared::Variable { ty, symbol }) => {
                let ty = self.types().get(ty)?;
                if ty.is_const {
                    return fail("attempt to write to constant location");
                }
                let address = self.find(namespace, &symbol, Library::variable)?;
                self.assign(Pointer::from_native(address), &ty, value)
            }
            Some(_) => fail("attempt to write to constant location"),
        }
    }

    fn find<T>(
        &self,
        namespace: usize,
        name: &str,
        look: impl Fn(&Library, &str) -> Result<T, LibraryError>,
    ) -> Done<T> {
        let libraries = self.namespaces.all.borrow().get(namespace).cloned();
        let mut telling: Option<LibraryError> = None;
        for library in libraries.unwrap_or_default() {
            match look(&library, name) {
                Ok(found) => return Ok(found),
                Err(error) => telling = Some(telling.unwrap_or(error)),
            }
        }
        let why = telling.map_or_else(String::new, |error| {
            let help = error.help();
            match help.is_empty() {
                true => format!(": {error}"),
                false => format!(": {error}; {help}"),
            }
        });
        Err(LuaFailure::new(format!(
            "cannot resolve symbol '{name}'{why}"
        )))
    }
}

/// A function of a library, or of one that it needs, as the dynamic loader finds it.
fn find_function(library: &Library, name: &str) -> Result<Function, LibraryError> {
    match library.function(name) {
        Err(LibraryError::Imported {
            provider: Some(provider),
            ..
        }) => Library::load(provider.as_os_str())?.function(name),
        found => found,
    }
}

fn load(name: &str) -> Result<Library, LibraryError> {
    let file = file_name(name);
    match Library::load(OsStr::new(&file)) {
        Ok(library) => Ok(library),
        Err(error) => match script_target(&error.to_string()) {
            Some(target) => Library::load(target.as_os_str()),
            None => Err(error),
        },
    }
}

/// The file of a library, from its name: `z` is `libz.so`.
fn file_name(name: &str) -> String {
    if name.contains('/') {
        return name.to_owned();
    }
    let mut file = name.to_owned();
    if !file.contains('.') {
        file.push_str(".so");
    }
    match file.starts_with("lib") {
        true => file,
        false => format!("lib{file}"),
    }
}

/// The library that a linker's script names first, where the loader's message is about one:
/// `libm.so` of a development package is a text.
fn script_target(message: &str) -> Option<PathBuf> {
    if !message.contains("invalid ELF header") && !message.contains("file too short") {
        return None;
    }
    let path = message
        .split([' ', ':', ',', '`', '\''])
        .find(|word| word.starts_with('/'))
        .map(Path::new)?;
    let small = fs::metadata(path).ok()?.len() <= MAX_SCRIPT;
    let text = small.then(|| fs::read_to_string(path).ok()).flatten()?;
    first_library(&text)
}

fn first_library(script: &str) -> Option<PathBuf> {
    let (_, group) = script
        .split_once("GROUP")
        .or_else(|| script.split_once("INPUT"))?;
    let (_, inside) = group.split_once('(')?;
    let first = inside
        .split([' ', ')', ',', '\n', '\t'])
        .find(|w| !w.is_empty())?;
    Some(PathBuf::from(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_libraries_are_completed_as_luajit_does() {
        assert_eq!(file_name("z"), "libz.so");
        assert_eq!(file_name("libz"), "libz.so");
        assert_eq!(file_name("z.so.1"), "libz.so.1");
        assert_eq!(file_name("./x.so"), "./x.so");
    }

    #[test]
    fn a_linkers_script_names_its_library() {
        let script = "/* GNU ld script\n*/\nOUTPUT_FORMAT(elf64-x86-64)\nGROUP ( /lib/libm.so.6  \
                      AS_NEEDED ( /lib/libmvec.so.1 ) )";
        assert_eq!(first_library(script), Some(PathBuf::from("/lib/libm.so.6")));
        assert_eq!(first_library("nothing"), None);
    }
}
