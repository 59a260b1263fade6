//! What keeps a library from being loaded, searched or unloaded.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use tracer_user::modules::ModuleError;

use super::{Uses, file_kind};

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
    /// There for older programs only.
    #[error("`{name}` in {} is there for older programs only, as {}", path.display(), versions.join(", "))]
    OldVersions {
        /// The library.
        path: PathBuf,
        /// The name.
        name: String,
        /// Its versions.
        versions: Vec<String>,
    },
    /// No such version of a symbol.
    #[error("{} has no `{name}` of version {version}", path.display())]
    Version {
        /// The library.
        path: PathBuf,
        /// The name.
        name: String,
        /// The version, with what came before it: `@V1`, `@@V2`.
        version: String,
        /// The versions that there are.
        known: Vec<String>,
    },
    /// In none of several libraries.
    #[error("no library exports a function `{name}`")]
    Nowhere {
        /// The name.
        name: String,
        /// The libraries.
        paths: Vec<PathBuf>,
        /// Exported names near it.
        near: Vec<String>,
    },
    /// The file is not what is loaded.
    #[error("{} is not the library any more that was loaded from there", path.display())]
    Replaced {
        /// The library.
        path: PathBuf,
    },
    /// The library, or that of a function, was closed.
    #[error("{what} was unloaded")]
    Closed {
        /// The library or function.
        what: String,
    },
    /// Something still needs the library.
    #[error("{} cannot be unloaded: {uses}", path.display())]
    InUse {
        /// The library.
        path: PathBuf,
        /// What needs it.
        uses: Uses,
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
            LibraryError::Unresolved { .. } => "name another function of the library".into(),
            LibraryError::OldVersions { name, versions, .. } => {
                let version = versions.first().map_or("VERSION", String::as_str);
                format!("an interpreter can ask for `{name}@{version}`; a prototype cannot")
            }
            LibraryError::Version { known, .. } => match known.as_slice() {
                [] => "leave the version out".into(),
                known => format!("its versions are {}", known.join(", ")),
            },
            LibraryError::Nowhere { near, .. } => match near.as_slice() {
                [] => "name one more library".into(),
                near => format!("did you mean `{}`?", near.join("` or `")),
            },
            LibraryError::Replaced { .. } => {
                "start again, or load the new file under another name".into()
            }
            LibraryError::Closed { .. } => "load the library again".into(),
            LibraryError::InUse { uses, .. } => match uses.left {
                0 => "free its callbacks and drop its prepared calls first".into(),
                _ => "it stays loaded for the life of the process".into(),
            },
        }
    }

    /// Whether the user named a wrong function (exit 2), not the environment a bad library
    /// (exit 3).
    pub fn is_usage(&self) -> bool {
        !matches!(
            self,
            LibraryError::Load { .. } | LibraryError::Unreadable(_) | LibraryError::Replaced { .. }
        )
    }
}

/// The loader's words made shorter, and what mends them.
pub(super) fn explain(name: &OsStr, words: &str) -> (String, String) {
    let path = Path::new(name);
    let is_path = name.as_bytes().contains(&b'/');
    if is_path && let Err(error) = std::fs::File::open(path) {
        return match error.kind() {
            io::ErrorKind::NotFound => ("no such file".into(), "check the path".into()),
            io::ErrorKind::PermissionDenied => (
                "Permission denied".into(),
                "check the modes of the file and of the directories above it".into(),
            ),
            _ => (error.to_string(), "check the path".into()),
        };
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
