//! Libraries, and the functions that they have themselves.
//!
//! ```text
//!  NAME ──dlopen──► Library ──function(name)──► Function    exported by this very library
//!                      │────lease()───────────► Lease       keeps it loaded
//!                      └────close()───────────► dlclose, or who still needs it
//! ```
//!
//! Symbols come only from the library that was named: `dlsym` alone would also search its
//! dependencies, so the file's own symbol table decides, and the address found must lie in that
//! library as it is loaded. Paths are never compared: links have several, and a file can be
//! replaced. Whether the file is still what was loaded is seen by its bytes in memory.
//!
//! A name can have a version: `memcpy@GLIBC_2.2.5` is that version, `memcpy@@GLIBC_2.14` must also
//! be the one that callers get by default.
//!
//! A library's variables are in [`Statics`](crate::native::statics::Statics).
//!
//! Dropping a [`Library`] leaves it loaded, so that addresses stay good; [`Library::close`] unloads.

mod error;
mod file_kind;
mod lease;
mod loader;
mod set;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracer_user::symbols::{Export, LibrarySymbols};

use super::near_names;
use error::explain;
use lease::Shared;
use loader::object_at;

pub use error::LibraryError;
pub use lease::{Lease, Owner, Use, Uses};
pub use set::Libraries;

/// A loaded library.
#[derive(Clone, Debug)]
pub struct Library {
    path: PathBuf,
    bias: u64,
    dynamic: u64,
    symbols: Arc<LibrarySymbols>,
    state: Shared,
}

/// An exported function of a loaded library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name, without a version.
    pub name: String,
    /// Its address in this process; for an IFUNC, of the implementation that was chosen.
    pub address: u64,
    /// Canonical path of the library.
    pub library: PathBuf,
    /// Offset in bytes of its first instruction in the library's file, for uprobes.
    pub file_offset: u64,
    /// The library, to keep it loaded.
    pub owner: Owner,
}

/// What became of a library that was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unloaded {
    /// It is gone from memory.
    Gone,
    /// The loader keeps it: it was loaded more than once, another library needs it, or it is
    /// marked never to be unloaded.
    Kept,
}

impl Library {
    /// Loads `name`: a path if it has a `/`, else a name for the dynamic loader's search.
    ///
    /// # Errors
    /// [`LibraryError::Load`], [`LibraryError::Unreadable`], [`LibraryError::Replaced`].
    pub fn load(name: &OsStr) -> Result<Library, LibraryError> {
        let shown = name.to_string_lossy().into_owned();
        let load = |reason: String| {
            let (reason, help) = explain(name, &reason);
            LibraryError::Load {
                library: shown.clone(),
                reason,
                help,
            }
        };
        if name.is_empty() {
            return Err(load("no name".to_owned()));
        }
        let loaded = loader::open(name).map_err(load)?;
        let refused = |error| {
            // Nothing of it has been handed out.
            loader::close(loaded.handle);
            Err(error)
        };
        if loaded.name.as_os_str().is_empty() {
            return refused(load("it is part of ffitrace itself".to_owned()));
        }
        let path = match loaded.name.canonicalize() {
            Ok(path) => path,
            Err(e) => return refused(load(format!("{}: {e}", loaded.name.display()))),
        };
        let symbols = match LibrarySymbols::open(&path) {
            Ok(symbols) => Arc::new(symbols),
            Err(error) => return refused(error.into()),
        };
        if !loader::has_marks(loaded.bias, loaded.dynamic, symbols.marks()) {
            return refused(LibraryError::Replaced { path });
        }
        Ok(Library {
            path,
            bias: loaded.bias,
            dynamic: loaded.dynamic,
            symbols,
            state: Shared::new(loaded.handle),
        })
    }

    /// Canonical path of the file, as it was when it was loaded.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is to be added to the file's own addresses.
    pub fn bias(&self) -> u64 {
        self.bias
    }

    /// Names of the functions that it exports, sorted.
    pub fn exports(&self) -> impl Iterator<Item = &str> {
        self.symbols.functions().into_iter()
    }

    /// Whether both are the same library in memory, whatever names they were loaded by.
    pub fn is_same(&self, other: &Library) -> bool {
        self.dynamic == other.dynamic
    }

    /// Whether code or data at `address` belongs to it.
    pub fn holds(&self, address: u64) -> bool {
        let state = self.state.lock();
        state.handle.is_some() && self.holds_open(address)
    }

    /// As [`Library::holds`], of a library that is open.
    fn holds_open(&self, address: u64) -> bool {
        // Both are known by the address at which the object's first page is mapped.
        match (object_at(address), object_at(self.dynamic)) {
            (Some((_, one)), Some((_, other))) => one == other,
            _ => false,
        }
    }

    /// Keeps the library loaded: for a callback that was made for it, or a call under way.
    ///
    /// # Errors
    /// [`LibraryError::Closed`].
    pub fn lease(&self, what: Use) -> Result<Lease, LibraryError> {
        self.state.lease(what).ok_or_else(|| self.closed())
    }

    /// How often it is needed now.
    pub fn uses(&self) -> Uses {
        self.state.lock().uses
    }

    /// Unloads the library, which runs its destructors. Clones of this `Library` are closed too.
    ///
    /// # Errors
    /// [`LibraryError::InUse`] while callbacks or prepared calls of it live, and for good once
    /// native code was left in the middle of a call; [`LibraryError::Closed`] for a second time.
    pub fn close(&self) -> Result<Unloaded, LibraryError> {
        let mut state = self.state.lock();
        let handle = state.handle.ok_or_else(|| self.closed())?;
        if !state.uses.is_none() {
            let path = self.path.clone();
            let uses = state.uses;
            return Err(LibraryError::InUse { path, uses });
        }
        state.handle = None;
        loader::close(handle);
        Ok(match object_at(self.dynamic) {
            Some(_) => Unloaded::Kept,
            None => Unloaded::Gone,
        })
    }

    /// Finds the function `name`, `name@VERSION` or `name@@VERSION` among what this library itself
    /// exports.
    ///
    /// # Errors
    /// Any but those of [`Library::load`].
    pub fn function(&self, name: &str) -> Result<Function, LibraryError> {
        let state = self.state.lock();
        let handle = state.handle.ok_or_else(|| self.closed())?;
        let (name, version) = match name.split_once('@') {
            Some((name, version)) => (name.to_owned(), Some(version)),
            None => (name.to_owned(), None),
        };
        let export = match version {
            Some(version) => self.export_of_version(&name, version)?,
            None => self.symbols.get(&name),
        };
        self.check(handle, &name, export)?;
        let unresolved = |reason: &str| LibraryError::Unresolved {
            path: self.path.clone(),
            name: name.clone(),
            reason: reason.to_owned(),
        };
        let version = version.map(|v| v.trim_start_matches('@'));
        let address = loader::symbol(handle, &name, version).map_err(|e| unresolved(&e))?;
        if !self.holds_open(address) {
            return Err(unresolved("its address lies in another library"));
        }
        let file_offset = self.symbols.file_offset(address.wrapping_sub(self.bias));
        let file_offset =
            file_offset.ok_or_else(|| unresolved("its address lies outside the file"))?;
        Ok(Function {
            name,
            address,
            library: self.path.clone(),
            file_offset,
            owner: Owner(Some(self.state.clone())),
        })
    }

    /// The address of a variable that this library exports.
    ///
    /// # Errors
    /// [`LibraryError::Unresolved`] where it is a function, or has no address; else as for a
    /// function.
    pub fn variable(&self, name: &str) -> Result<u64, LibraryError> {
        let state = self.state.lock();
        let handle = state.handle.ok_or_else(|| self.closed())?;
        let unresolved = |reason: String| LibraryError::Unresolved {
            path: self.path.clone(),
            name: name.to_owned(),
            reason,
        };
        match self.symbols.get(name) {
            // The program itself may have a copy of it, which then is the one.
            Export::Data { .. } => loader::symbol(handle, name, None).map_err(unresolved),
            export => {
                self.check(handle, name, export)?;
                Err(unresolved("it is a function, and no variable".to_owned()))
            }
        }
    }

    /// What `name@VERSION` or `name@@VERSION` means; `version` has what follows the first `@`.
    fn export_of_version(&self, name: &str, version: &str) -> Result<Export, LibraryError> {
        let (text, must_be_default) = match version.strip_prefix('@') {
            Some(text) => (text, true),
            None => (version, false),
        };
        match self.symbols.get_version(name, text) {
            Some((export, is_default)) if is_default || !must_be_default => Ok(export),
            _ => Err(LibraryError::Version {
                path: self.path.clone(),
                name: name.to_owned(),
                version: format!("@{version}"),
                known: (self.symbols.versions(name).into_iter())
                    .map(str::to_owned)
                    .collect(),
            }),
        }
    }

    /// Whether the export is a function of this library.
    fn check(&self, handle: usize, name: &str, export: Export) -> Result<(), LibraryError> {
        let (path, name) = (self.path.clone(), name.to_owned());
        let provider = |name| {
            let address = loader::symbol(handle, name, None).ok()?;
            Some(object_at(address)?.0)
        };
        Err(match export {
            Export::Function { .. } | Export::Indirect => return Ok(()),
            Export::Data { .. } => LibraryError::Data { path, name },
            Export::Private => LibraryError::Private { path, name },
            Export::OldVersions(versions) => LibraryError::OldVersions {
                path,
                name,
                versions,
            },
            Export::Imported => LibraryError::Imported {
                provider: provider(&name),
                path,
                name,
            },
            Export::Missing => match provider(&name) {
                Some(provider) => LibraryError::Imported {
                    path,
                    name,
                    provider: Some(provider),
                },
                None => LibraryError::Missing {
                    near: near_names(&name, self.exports()),
                    path,
                    name,
                },
            },
        })
    }

    fn closed(&self) -> LibraryError {
        LibraryError::Closed {
            what: self.path.display().to_string(),
        }
    }
}
