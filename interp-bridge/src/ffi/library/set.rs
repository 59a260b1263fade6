//! Several libraries at once.
//!
//! ```text
//!  Libraries [liba.so, libb.so, libm.so.6] ──function("cos")──► the first that exports it itself
//! ```

use std::ffi::OsStr;
use std::path::PathBuf;

use super::{Function, Library, LibraryError, Unloaded};
use crate::ffi::near_names;

/// Libraries whose functions are found in the order of loading.
#[derive(Clone, Debug, Default)]
pub struct Libraries {
    all: Vec<Library>,
}

impl Libraries {
    /// None.
    pub fn new() -> Libraries {
        Libraries::default()
    }

    /// Loads one more, after all others. The same file under another name (a symbolic or hard
    /// link) is not taken a second time: the library that is there already is answered.
    ///
    /// # Errors
    /// As [`Library::load`].
    pub fn load(&mut self, name: &OsStr) -> Result<&Library, LibraryError> {
        let new = Library::load(name)?;
        Ok(self.add(new))
    }

    /// Takes a library that is loaded, after all others.
    pub fn add(&mut self, library: Library) -> &Library {
        let known = self.all.iter().position(|l| l.is_same(&library));
        let at = known.unwrap_or_else(|| {
            self.all.push(library);
            self.all.len() - 1
        });
        &self.all[at]
    }

    /// The libraries, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Library> {
        self.all.iter()
    }

    /// The function `name` (or `name@VERSION`) of the first library that exports it itself;
    /// [`Function::library`] says which one that is.
    ///
    /// # Errors
    /// Where none exports it: the most telling of their answers (that it is private there, or
    /// data, or comes from another library), else [`LibraryError::Nowhere`].
    pub fn function(&self, name: &str) -> Result<Function, LibraryError> {
        let mut telling = None;
        for library in &self.all {
            match library.function(name) {
                Ok(function) => return Ok(function),
                Err(LibraryError::Missing { .. }) => {}
                Err(error) => {
                    // That a library uses it says less than that one has it.
                    let imported = |e: &LibraryError| matches!(e, LibraryError::Imported { .. });
                    if telling
                        .as_ref()
                        .is_none_or(|e| imported(e) && !imported(&error))
                    {
                        telling = Some(error);
                    }
                }
            }
        }
        Err(telling.unwrap_or_else(|| LibraryError::Nowhere {
            name: name.to_owned(),
            near: near_names(name, self.all.iter().flat_map(Library::exports)),
            paths: self.all.iter().map(|l| l.path().to_owned()).collect(),
        }))
    }

    /// The library that code or data at `address` belongs to.
    pub fn at(&self, address: u64) -> Option<&Library> {
        self.all.iter().find(|library| library.holds(address))
    }

    /// Unloads a library, see [`Library::close`], and forgets it.
    ///
    /// # Errors
    /// As [`Library::close`]; it is kept then.
    pub fn close(&mut self, path: &std::path::Path) -> Result<Unloaded, LibraryError> {
        let at = self.all.iter().position(|l| l.path() == path);
        let at = at.ok_or_else(|| LibraryError::Closed {
            what: PathBuf::from(path).display().to_string(),
        })?;
        let unloaded = self.all[at].close()?;
        self.all.remove(at);
        Ok(unloaded)
    }
}
