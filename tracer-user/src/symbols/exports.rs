//! What a library offers by name: only its own exported functions may be called.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use object::elf;
use object::read::elf::{FileHeader, Sym};

use super::marks::{self, Mark};
use super::table::name_of;
use crate::modules::{self, Layout, ModuleError};

/// What a name means in a library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Export {
    /// An exported function.
    Function {
        /// Its address in the file's own terms.
        address: u64,
        /// Its offset in the file, as uprobes want it; `None` if it is not in the file.
        file_offset: Option<u64>,
        /// Its size in bytes, 0 if not stated.
        size: u64,
    },
    /// An exported function that is chosen at run time (`STT_GNU_IFUNC`): the library's own code
    /// decides between several. Its address is only known from `dlsym`; the file offset for a
    /// uprobe is then that of [`LibrarySymbols::file_offset`].
    Indirect,
    /// An exported variable.
    Data {
        /// Its size in bytes.
        size: u64,
    },
    /// Defined, but only for older programs: none of its versions is the default.
    OldVersions(Vec<String>),
    /// Defined in the library, but not exported.
    Private,
    /// Used by the library, but defined in another one.
    Imported,
    /// Not in the library.
    Missing,
}

/// The names of a library file.
#[derive(Debug)]
pub struct LibrarySymbols {
    layout: Layout,
    exported: HashMap<String, Export>,
    private: HashSet<String>,
    imported: HashSet<String>,
    /// What a name means in a version, and whether that is the default.
    versioned: HashMap<(String, String), (Export, bool)>,
    marks: Vec<Mark>,
}

impl LibrarySymbols {
    /// Reads the symbol tables of a library file.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or is no 64-bit ELF file.
    pub fn open(path: &Path) -> Result<LibrarySymbols, ModuleError> {
        let (data, header) = modules::open(path)?;
        let fail = |source| ModuleError::Elf {
            path: path.to_owned(),
            source,
        };
        let endian = header.endian().map_err(fail)?;
        let layout = Layout::of(&header, &data).map_err(fail)?;
        let sections = header.sections(endian, &data).map_err(fail)?;
        let versions = sections.versions(endian, &data).map_err(fail)?;
        let mut found = LibrarySymbols {
            layout,
            exported: HashMap::new(),
            private: HashSet::new(),
            imported: HashSet::new(),
            versioned: HashMap::new(),
            marks: marks::marks(&header, &data, &sections).map_err(fail)?,
        };

        let symbols = sections
            .symbols(endian, &data, elf::SHT_DYNSYM)
            .map_err(fail)?;
        for (index, symbol) in symbols.enumerate() {
            let name = name_of(endian, symbol, &symbols);
            if name.is_empty() {
                continue;
            }
            if symbol.is_undefined(endian) {
                found.imported.insert(name);
                continue;
            }
            if symbol.st_bind() == elf::STB_LOCAL || is_hidden(symbol.st_visibility()) {
                found.private.insert(name);
                continue;
            }
            let (address, size) = (symbol.st_value(endian), symbol.st_size(endian));
            let export = match symbol.st_type() {
                // An assembler that was told nothing leaves functions without a type.
                elf::STT_FUNC => Export::Function {
                    address,
                    file_offset: found.layout.offset(address),
                    size,
                },
                elf::STT_NOTYPE if found.layout.is_code(address) => Export::Function {
                    address,
                    file_offset: found.layout.offset(address),
                    size,
                },
                elf::STT_GNU_IFUNC => Export::Indirect,
                // The names of the versions themselves.
                _ if symbol.st_shndx(endian) == elf::SHN_ABS => continue,
                _ => Export::Data { size },
            };
            let version = versions
                .as_ref()
                .map(|table| table.version_index(endian, index));
            let text = version.and_then(|version| {
                let known = versions.as_ref()?.version(version).ok()??;
                Some(String::from_utf8_lossy(known.name()).into_owned())
            });
            let is_default = version.is_none_or(|version| !version.is_hidden());
            if let Some(text) = &text {
                let key = (name.clone(), text.clone());
                found.versioned.insert(key, (export.clone(), is_default));
            }
            match version {
                Some(version) if version.is_hidden() => {
                    let text = text.unwrap_or_default();
                    let old = found
                        .exported
                        .entry(name)
                        .or_insert(Export::OldVersions(Vec::new()));
                    // Else the default version is there already, and is what callers get.
                    if let Export::OldVersions(versions) = old {
                        versions.push(text);
                    }
                }
                _ => {
                    found.exported.insert(name, export);
                }
            }
        }

        let symbols = sections
            .symbols(endian, &data, elf::SHT_SYMTAB)
            .map_err(fail)?;
        for symbol in symbols.symbols() {
            let named = matches!(
                symbol.st_type(),
                elf::STT_FUNC | elf::STT_GNU_IFUNC | elf::STT_OBJECT | elf::STT_NOTYPE
            );
            if named && !symbol.is_undefined(endian) {
                let name = name_of(endian, symbol, &symbols);
                if !name.is_empty() && !found.exported.contains_key(&name) {
                    found.private.insert(name);
                }
            }
        }
        Ok(found)
    }

    /// Where in the file the byte at `address`, in the file's own terms, is.
    pub fn file_offset(&self, address: u64) -> Option<u64> {
        self.layout.offset(address)
    }

    /// What `name` means in this library.
    pub fn get(&self, name: &str) -> Export {
        if let Some(export) = self.exported.get(name) {
            return export.clone();
        }
        if self.private.contains(name) {
            return Export::Private;
        }
        if self.imported.contains(name) {
            return Export::Imported;
        }
        Export::Missing
    }

    /// What `name` means in one of its versions, and whether that is the version that callers get
    /// who name none. `None` if the library has no such version of it.
    pub fn get_version(&self, name: &str, version: &str) -> Option<(Export, bool)> {
        let key = (name.to_owned(), version.to_owned());
        self.versioned.get(&key).cloned()
    }

    /// The versions in which `name` is exported, sorted.
    pub fn versions(&self, name: &str) -> Vec<&str> {
        let all = self.versioned.keys().filter(|(known, _)| known == name);
        let mut versions: Vec<&str> = all.map(|(_, version)| version.as_str()).collect();
        versions.sort_unstable();
        versions
    }

    /// Bytes by which the library is recognised in memory.
    pub fn marks(&self) -> &[Mark] {
        &self.marks
    }

    /// The names of all exported functions, sorted.
    pub fn functions(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .exported
            .iter()
            .filter(|(_, export)| matches!(export, Export::Function { .. } | Export::Indirect))
            .map(|(name, _)| name.as_str())
            .collect();
        names.sort_unstable();
        names
    }
}

fn is_hidden(visibility: u8) -> bool {
    matches!(visibility, elf::STV_HIDDEN | elf::STV_INTERNAL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::testing::Library;

    const SOURCE: &str = r#"
        #include <stdlib.h>
        #include <string.h>
        int counter = 3;
        static __thread int local_counter = 4;
        __thread int thread_counter = 5;
        __attribute__((noinline, used)) static int secret(int a) { return a + local_counter; }
        __attribute__((visibility("hidden"))) int hidden(int a) { return secret(a); }
        int visible_function(int a) { return hidden(a) + (int)strlen(getenv("HOME")); }
        static int fast(int a) { return a; }
        static int (*choose(void))(int) { return fast; }
        int chosen(int a) __attribute__((ifunc("choose")));
        int old_one(int a) { return a; }
        int old_two(int a) { return a + 1; }
        int only_old(int a) { return a; }
        __asm__(".symver old_one,multi@V1");
        __asm__(".symver old_two,multi@@V2");
        __asm__(".symver only_old,retired@V1");
        __asm__(".text\n.globl bare\nbare:\n ret\n");
    "#;

    fn library() -> (Library, LibrarySymbols) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let script = dir.path().join("versions");
        std::fs::write(&script, "V1 { multi; retired; };\nV2 { multi; } V1;\n").expect("script");
        let flag = format!("-Wl,--version-script={}", script.display());
        let library = Library::compile("names", SOURCE, &["-O1", &flag]);
        let symbols = LibrarySymbols::open(&library.path).expect("a library");
        (library, symbols)
    }

    #[test]
    fn names_and_what_they_are() {
        let (library, symbols) = library();
        let Export::Function {
            address,
            file_offset: Some(offset),
            size,
        } = symbols.get("visible_function")
        else {
            panic!("{:?}", symbols.get("visible_function"))
        };
        assert!(size > 0 && address > 0);
        // At that offset the file has the bytes that run at the function's address.
        let file = std::fs::read(&library.path).expect("the library");
        let handle = library.load();
        let loaded = Library::symbol(handle, c"visible_function");
        #[allow(unsafe_code)]
        // SAFETY: the function's own code, `size` bytes, readable while the library is loaded.
        let code = unsafe { std::slice::from_raw_parts(loaded as *const u8, size as usize) };
        assert_eq!(&file[offset as usize..(offset + size) as usize], code);

        assert!(matches!(symbols.get("bare"), Export::Function { .. }));
        assert_eq!(symbols.get("chosen"), Export::Indirect);
        assert_eq!(symbols.get("counter"), Export::Data { size: 4 });
        assert_eq!(symbols.get("thread_counter"), Export::Data { size: 4 });
        assert_eq!(symbols.get("secret"), Export::Private);
        assert_eq!(symbols.get("hidden"), Export::Private);
        assert_eq!(symbols.get("getenv"), Export::Imported);
        assert_eq!(
            symbols.get("retired"),
            Export::OldVersions(vec!["V1".to_owned()])
        );
        let version = |name, version| {
            symbols
                .get_version(name, version)
                .map(|(_, default)| default)
        };
        assert_eq!(version("multi", "V1"), Some(false));
        assert_eq!(version("multi", "V2"), Some(true));
        assert_eq!(version("multi", "V3"), None);
        assert_eq!(version("retired", "V1"), Some(false));
        assert_eq!(symbols.versions("multi"), ["V1", "V2"]);
        let names = symbols.functions();
        assert_eq!(symbols.get("something_else"), Export::Missing);
        assert!(names.contains(&"multi") && names.contains(&"chosen"));
        assert!(!names.contains(&"counter") && !names.contains(&"hidden"));

        // The default version is what the dynamic loader gives.
        let Export::Function { address: multi, .. } = symbols.get("multi") else {
            panic!("multi")
        };
        let base = loaded - address;
        assert_eq!(Library::symbol(handle, c"multi"), base + multi);
    }

    #[test]
    fn marks_are_in_memory() {
        let library = Library::compile("marks", "const int fixed = 5;", &["-O1"]);
        let symbols = LibrarySymbols::open(&library.path).expect("a library");
        let handle = library.load();
        let loaded = Library::symbol(handle, c"fixed");
        let mappings = modules::mappings().expect("the mappings");
        let mapping = modules::find(&mappings, loaded).expect("a mapping");
        let offset = loaded - mapping.range.start + mapping.offset;
        let bias = loaded - symbols.layout.address(offset, false).expect("an address");
        assert!(!symbols.marks().is_empty());
        for mark in symbols.marks() {
            #[allow(unsafe_code)]
            // SAFETY: loaded, readable bytes of the library, which stays loaded.
            let bytes = unsafe {
                let start = (bias + mark.address) as *const u8;
                std::slice::from_raw_parts(start, mark.len as usize)
            };
            assert!(mark.is(bytes));
            let mut other = bytes.to_vec();
            other[0] ^= 1;
            assert!(!mark.is(&other));
        }
    }

    #[test]
    fn the_c_library() {
        let getenv = crate::symbols::Symbols::new().lookup(libc::getenv as *const () as u64);
        let path = getenv.module.clone().expect("mapped from a file");
        let symbols = LibrarySymbols::open(&path).expect("a library");
        let Export::Function { file_offset, .. } = symbols.get("getenv") else {
            panic!("getenv")
        };
        assert_eq!(file_offset, getenv.file_offset);
        // Old and new versions of it exist; the default one is chosen at run time.
        assert_eq!(symbols.get("memcpy"), Export::Indirect);
        assert!(matches!(symbols.get("environ"), Export::Data { .. }));
    }
}
