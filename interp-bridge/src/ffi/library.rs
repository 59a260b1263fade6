//! Loading a library and finding the functions that it exports itself.
//!
//! Symbols come only from the library that was named: `dlsym` alone would also search its
//! dependencies, so the file's own dynamic symbol table decides, and the address found must lie
//! in that library.
//!
//! # Safety
//! Loading a library runs its constructors, and that is what the user asks for by naming it.
//! Handles are never closed, so addresses stay good for the life of the process; nor could they
//! be closed soundly, since native code may have been left in the middle of a call. The two
//! structures that the loader fills (`link_map`, `Dl_info`) are read while the handle is open,
//! and their strings are copied.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, OsStr, c_void};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use libloading::os::unix::{Library as Handle, RTLD_LOCAL, RTLD_NOW};

use tracer_user::modules::ModuleError;
use tracer_user::symbols::{Export, LibrarySymbols};

use super::{file_kind, near_names};

/// What keeps a function from being found.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// The loader refuses the library.
    #[error("cannot load `{library}`: {reason}")]
    Load {
        /// As the user named it.
        library: String,
        /// The loader's words, or a closer description.
        reason: String,
        /// What mends it.
        help: String,
    },
    /// The loaded file cannot be read as ELF.
    #[error("cannot read the symbols of the library: {0}")]
    Unreadable(#[from] ModuleError),
    /// No such symbol.
    #[error("{} exports no function `{name}`", path.display())]
    Missing {
        /// The library.
        path: PathBuf,
        /// The name.
        name: String,
        /// Exported names near it.
        near: Vec<String>,
    },
    /// A static or hidden function.
    #[error("`{name}` is a private function of {}", path.display())]
    Private {
        /// The library.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// Defined in another library.
    #[error("{} does not define `{name}`, it uses it from elsewhere", path.display())]
    Imported {
        /// The library.
        path: PathBuf,
        /// The name.
        name: String,
        /// The library that defines it, where known.
        provider: Option<PathBuf>,
    },
    /// A variable.
    #[error("`{name}` in {} is data, not a function", path.display())]
    Data {
        /// The library.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// The loader does not find what the file exports.
    #[error("the loader cannot resolve `{name}` in {}: {reason}", path.display())]
    Unresolved {
        /// The library.
        path: PathBuf,
        /// The name.
        name: String,
        /// The loader's words.
        reason: String,
    },
}

impl LibraryError {
    /// What mends it.
    pub fn help(&self) -> String {
        match self {
            LibraryError::Load { help, .. } => help.clone(),
            LibraryError::Unreadable(_) => "name an ELF library that can be read".into(),
            LibraryError::Missing { near, path, .. } => match near.as_slice() {
                [] => format!(
                    "`nm -D --defined-only {}` lists what it exports",
                    path.display()
                ),
                near => format!("did you mean `{}`?", near.join("` or `")),
            },
            LibraryError::Private { .. } => {
                "only exported functions can be called; export it, or call one that uses it".into()
            }
            LibraryError::Imported {
                provider: Some(provider),
                ..
            } => {
                format!("name the library that defines it: {}", provider.display())
            }
            LibraryError::Imported { .. } => "name the library that defines it".into(),
            LibraryError::Data { .. } => "name a function of the library".into(),
            LibraryError::Unresolved { .. } => {
                "only the default version of a symbol can be called".into()
            }
        }
    }

    /// Whether the user named a wrong function (exit 2), not the environment a bad library
    /// (exit 3).
    pub fn is_usage(&self) -> bool {
        !matches!(
            self,
            LibraryError::Load { .. } | LibraryError::Unreadable(_)
        )
    }
}

/// A loaded library. It stays loaded for the life of the process.
#[derive(Clone, Debug)]
pub struct Library {
    handle: usize,
    path: PathBuf,
    bias: u64,
    symbols: Arc<LibrarySymbols>,
}

/// An exported function of a loaded library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Its address in this process; for an IFUNC, of the implementation that was chosen.
    pub address: u64,
    /// Canonical path of the library.
    pub library: PathBuf,
    /// Offset in bytes of its first instruction in the library's file, for uprobes.
    pub file_offset: u64,
}

impl Library {
    /// Loads `name`: a path if it has a `/`, else a name for the dynamic loader's search.
    ///
    /// # Errors
    /// [`LibraryError::Load`], [`LibraryError::Unreadable`].
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
        // SAFETY: constructors run, as the module's docs say.
        let handle = unsafe { Handle::open(Some(name), RTLD_NOW | RTLD_LOCAL) };
        let handle = handle.map_err(|e| load(dl_words(&e)))?.into_raw();
        let mut map = MaybeUninit::<*const LinkMap>::uninit();
        // SAFETY: the handle is open, and RTLD_DI_LINKMAP stores one pointer.
        let status =
            unsafe { libc::dlinfo(handle, libc::RTLD_DI_LINKMAP, map.as_mut_ptr().cast()) };
        if status != 0 {
            return Err(load(
                "the loader does not say where it loaded it".to_owned(),
            ));
        }
        // SAFETY: dlinfo succeeded, so it stored a pointer to the handle's link map, which the
        // loader keeps while the handle is open; l_name is a C string or null.
        let (bias, found) = unsafe {
            let map = &*map.assume_init();
            let name =
                (!map.l_name.is_null()).then(|| CStr::from_ptr(map.l_name).to_bytes().to_vec());
            (map.l_addr as u64, name.unwrap_or_default())
        };
        if found.is_empty() {
            return Err(load("it is part of ffitrace itself".to_owned()));
        }
        let found = PathBuf::from(OsStr::from_bytes(&found));
        let path = found
            .canonicalize()
            .map_err(|e| load(format!("{}: {e}", found.display())))?;
        let symbols = Arc::new(LibrarySymbols::open(&path)?);
        Ok(Library {
            handle: handle as usize,
            path,
            bias,
            symbols,
        })
    }

    /// Canonical path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Finds the function `name` among what this library itself exports.
    ///
    /// # Errors
    /// Any but [`LibraryError::Load`] and [`LibraryError::Unreadable`].
    pub fn function(&self, name: &str) -> Result<Function, LibraryError> {
        let (path, name) = (self.path.clone(), name.to_owned());
        let unresolved = |name, reason| LibraryError::Unresolved {
            path: self.path.clone(),
            name,
            reason,
        };
        match self.symbols.get(&name) {
            Export::Function { .. } | Export::Indirect => {}
            Export::Data { .. } => return Err(LibraryError::Data { path, name }),
            Export::Private => return Err(LibraryError::Private { path, name }),
            Export::OldVersions(versions) => {
                let versions = versions.join(", ");
                let reason = format!("it is there for older programs only, as {versions}");
                return Err(unresolved(name, reason));
            }
            Export::Imported => {
                let provider = self.address(&name).ok().and_then(|a| Some(object_at(a)?.0));
                return Err(LibraryError::Imported {
                    path,
                    name,
                    provider,
                });
            }
            Export::Missing => {
                let near = near_names(&name, self.symbols.functions().into_iter());
                return Err(match self.address(&name).ok().and_then(object_at) {
                    Some((provider, _)) => LibraryError::Imported {
                        path,
                        name,
                        provider: Some(provider),
                    },
                    None => LibraryError::Missing { path, name, near },
                });
            }
        }
        let address = match self.address(&name) {
            Ok(address) => address,
            Err(reason) => return Err(unresolved(name, reason)),
        };
        if object_at(address).is_none_or(|(_, base)| base != self.base()) {
            return Err(unresolved(
                name,
                "its address lies in another library".to_owned(),
            ));
        }
        let file_offset = self.symbols.file_offset(address.wrapping_sub(self.bias));
        let Some(file_offset) = file_offset else {
            return Err(unresolved(
                name,
                "its address lies outside the file".to_owned(),
            ));
        };
        Ok(Function {
            name,
            address,
            library: path,
            file_offset,
        })
    }

    /// `dlsym`: an address, or the loader's words.
    fn address(&self, name: &str) -> Result<u64, String> {
        let symbol = CString::new(name).map_err(|e| e.to_string())?;
        // SAFETY: the handle is never closed, and the result is only kept as a number.
        let found = unsafe {
            libc::dlerror();
            libc::dlsym(self.handle as *mut c_void, symbol.as_ptr())
        };
        if found.is_null() {
            Err("it has no address".to_owned())
        } else {
            Ok(found as u64)
        }
    }

    /// The address at which the first page of the library is mapped.
    fn base(&self) -> u64 {
        // The dynamic section lies in the library, so the loader knows its object by it; asking
        // for it spares guessing how the lowest segment relates to the bias.
        let mut map = MaybeUninit::<*const LinkMap>::uninit();
        // SAFETY: as in `load`.
        let dynamic = unsafe {
            let handle = self.handle as *mut c_void;
            if libc::dlinfo(handle, libc::RTLD_DI_LINKMAP, map.as_mut_ptr().cast()) != 0 {
                return 0;
            }
            (*map.assume_init()).l_ld as u64
        };
        object_at(dynamic).map_or(0, |(_, base)| base)
    }
}

/// The public part of the loader's `struct link_map` (link.h).
#[repr(C)]
struct LinkMap {
    l_addr: usize,
    l_name: *const libc::c_char,
    l_ld: *const c_void,
    l_next: *const LinkMap,
    l_prev: *const LinkMap,
}

/// File and base address of the loaded object that holds `address`.
fn object_at(address: u64) -> Option<(PathBuf, u64)> {
    let mut info = MaybeUninit::<libc::Dl_info>::uninit();
    // SAFETY: dladdr takes any address, and fills `info` if it answers other than 0.
    let info = unsafe {
        if libc::dladdr(address as *const c_void, info.as_mut_ptr()) == 0 {
            return None;
        }
        info.assume_init()
    };
    if info.dli_fname.is_null() {
        return None;
    }
    // SAFETY: a non-null dli_fname is a C string of the loader's, alive while the object is.
    let name = unsafe { CStr::from_ptr(info.dli_fname) };
    let path = PathBuf::from(OsStr::from_bytes(name.to_bytes()));
    Some((path.canonicalize().unwrap_or(path), info.dli_fbase as u64))
}

/// dlerror's text out of libloading's error.
fn dl_words(error: &libloading::Error) -> String {
    use std::error::Error;
    let text = error
        .source()
        .map_or_else(|| error.to_string(), |s| s.to_string());
    text.trim_matches('"').to_owned()
}

/// The loader's words made shorter, and what mends them.
fn explain(name: &OsStr, words: &str) -> (String, String) {
    let path = Path::new(name);
    let is_path = name.as_bytes().contains(&b'/');
    if is_path && !path.exists() {
        return ("no such file".into(), "check the path".into());
    }
    if path.is_dir() {
        return ("it is a directory".into(), "name the library in it".into());
    }
    // A file without a slash in its name is not what the loader looks for.
    if !is_path && path.is_file() {
        let help = format!("for the file in this directory, write ./{}", path.display());
        return (words.to_owned(), help);
    }
    if is_path && let Some(kind) = file_kind::describe(path) {
        return (
            format!("it is {kind}"),
            "name a shared library for x86-64 (.so)".into(),
        );
    }
    // The loader begins with the file that it was after: the library, or one that it needs.
    let (subject, rest) = words.split_once(": ").unwrap_or(("", words));
    if words.contains("cannot open shared object file") && subject != name.to_string_lossy() {
        let help = format!("install the package with {subject}, which it needs");
        return (words.to_owned(), help);
    }
    if words.contains("cannot open shared object file") {
        let help = "install its package, or give a full path (`ldconfig -p` lists known names)";
        return ("the loader finds no such library".into(), help.into());
    }
    if words.contains("position-independent executable") {
        return (
            "it is a program".into(),
            "name a shared library (.so)".into(),
        );
    }
    (
        rest.to_owned(),
        "name a shared library that `ldd` can load".into(),
    )
}
