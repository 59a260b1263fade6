//! Static data of a library, as named allocations of the abstract memory.
//!
//! ```text
//!  .symtab, or .dynsym ──► objects: name, address + bias, size ──► Statics
//!  PT_LOAD, PT_GNU_RELRO ──► writable or not                        │ register
//!                                                                   ▼
//!                               external allocations of kind library static
//! ```
//!
//! What is there under several names is one allocation. Thread-local data has no one address and
//! is left out, by name. The data stays where it is: accesses of native code to it are not
//! recorded, so after each native call all that is writable may have changed.
//!
//! # Safety
//! Addresses are those of symbols of a loaded library, which the bridge never unloads.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use object::read::elf::{ElfFile64, ProgramHeader};
use object::{Object, ObjectSymbol, ReadCache, ReadRef, SymbolKind, elf};

use super::objects;
use crate::ffi::Library;
use crate::memory::{AllocId, AllocKind, ExternalRequest, Memory, MemoryError};

/// Why the static data of a library is not known.
#[derive(Debug, thiserror::Error)]
pub enum StaticsError {
    /// It is not loaded.
    #[error("{} is not loaded; load it first", .0.display())]
    NotLoaded(PathBuf),
    /// Its file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is not an ELF file for this machine.
    #[error("{} is no 64-bit ELF file that can be read: {source}", path.display())]
    Elf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: object::Error,
    },
}

/// One object of static data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticData {
    /// Its name, as the symbol table has it; the first in the alphabet where it has several.
    pub name: String,
    /// Its address in this process.
    pub base: u64,
    /// Its size in bytes, at least 1.
    pub size: u64,
    /// Whether it may be written: false in a segment that is read-only, from the beginning or
    /// since the loader relocated it.
    pub mutable: bool,
    /// Whether other libraries see it.
    pub exported: bool,
}

/// The static data of a library.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statics {
    /// What can be registered, by address; none overlaps another.
    pub data: Vec<StaticData>,
    /// What cannot, by name, and why.
    pub left_out: Vec<(String, &'static str)>,
    library: String,
}

/// What came of registering.
#[derive(Debug, Default)]
pub struct Registered {
    /// The allocations, in the order of [`Statics::data`].
    pub ids: Vec<(String, AllocId)>,
    /// What the memory refused, by name.
    pub refused: Vec<(String, MemoryError)>,
}

impl Statics {
    /// The static data of a library that is loaded.
    ///
    /// # Errors
    /// [`StaticsError`].
    pub fn of(library: &Path) -> Result<Statics, StaticsError> {
        let path = library
            .canonicalize()
            .unwrap_or_else(|_| library.to_owned());
        let all = objects::loaded();
        let object = all.iter().find(|object| object.path == path);
        let object = object.ok_or_else(|| StaticsError::NotLoaded(path.clone()))?;
        let mut found = read(&path, object.bias)?;
        found.library = object.name();
        Ok(found)
    }

    /// The static data of a library that an interpreter has loaded; keep it loaded while the data
    /// is registered, see [`Library::lease`].
    ///
    /// # Errors
    /// [`StaticsError::Io`], [`StaticsError::Elf`].
    pub fn of_library(library: &Library) -> Result<Statics, StaticsError> {
        let path = library.path();
        let name = path.file_name().unwrap_or(path.as_os_str());
        let mut found = read(path, library.bias())?;
        found.library = name.to_string_lossy().into_owned();
        Ok(found)
    }

    /// The data of that name.
    pub fn get(&self, name: &str) -> Option<&StaticData> {
        self.data.iter().find(|data| data.name == name)
    }

    /// Registers all of it as external allocations, which the interpreter reads and writes like
    /// its own. Native code accesses it unseen.
    ///
    /// # Safety
    /// The library must expect that what is writable is written, as its other users do; nothing
    /// in Rust may refer to it.
    pub unsafe fn register(&self, memory: &mut Memory) -> Registered {
        let mut done = Registered::default();
        for data in &self.data {
            let origin = format!("the static `{}` of {}", data.name, self.library);
            let request = ExternalRequest {
                name: Some(&data.name),
                base: data.base,
                size: data.size,
                align: 1,
                kind: AllocKind::LibraryStatic,
                origin: &origin,
                site: None,
                initialised: true,
                mutable: data.mutable,
            };
            // SAFETY: data of a loaded library; the rest is the caller's promise.
            match unsafe { memory.register_external(&request) } {
                Ok(id) => done.ids.push((data.name.clone(), id)),
                Err(error) => done.refused.push((data.name.clone(), error)),
            }
        }
        done
    }
}

fn read(path: &Path, bias: u64) -> Result<Statics, StaticsError> {
    let file = std::fs::File::open(path).map_err(|source| StaticsError::Io {
        path: path.to_owned(),
        source,
    })?;
    let data = ReadCache::new(file);
    parse(&data, bias).map_err(|source| StaticsError::Elf {
        path: path.to_owned(),
        source,
    })
}

fn parse<'d, R: ReadRef<'d>>(data: R, bias: u64) -> object::Result<Statics> {
    let file = ElfFile64::<object::Endianness, R>::parse(data)?;
    let endian = file.endian();
    let mut writable = Vec::new();
    let mut relro = Vec::new();
    for header in file.elf_program_headers() {
        let start = header.p_vaddr(endian);
        let range = start..start.saturating_add(header.p_memsz(endian));
        match header.p_type(endian) {
            elf::PT_LOAD if header.p_flags(endian) & elf::PF_W != 0 => writable.push(range),
            elf::PT_GNU_RELRO => relro.push(range),
            _ => {}
        }
    }
    let mut found = Statics::default();
    // The larger table has all that the dynamic one has.
    let symbols: Vec<_> = match file.symbols().next() {
        Some(_) => file.symbols().collect(),
        None => file.dynamic_symbols().collect(),
    };
    let mut objects: BTreeMap<u64, StaticData> = BTreeMap::new();
    for symbol in symbols {
        let Ok(name) = symbol.name() else { continue };
        let name = name.split('@').next().unwrap_or(name);
        if name.is_empty() || symbol.is_undefined() {
            continue;
        }
        match symbol.kind() {
            SymbolKind::Tls => {
                let why = "it is thread-local: each thread has its own";
                found.left_out.push((name.to_owned(), why));
                continue;
            }
            SymbolKind::Data => {}
            _ => continue,
        }
        let (address, size) = (symbol.address(), symbol.size());
        if size == 0 {
            // Marks of the linker mostly.
            let why = "the symbol table does not say how large it is";
            found.left_out.push((name.to_owned(), why));
            continue;
        }
        let within = |ranges: &[std::ops::Range<u64>]| ranges.iter().any(|r| r.contains(&address));
        let object = StaticData {
            name: name.to_owned(),
            base: address.wrapping_add(bias),
            size,
            mutable: within(&writable) && !within(&relro),
            exported: symbol.is_global(),
        };
        let better = objects.get(&object.base).is_none_or(|known| {
            let key = |o: &StaticData| (std::cmp::Reverse(o.size), !o.exported, o.name.clone());
            key(&object) < key(known)
        });
        if better {
            objects.insert(object.base, object);
        }
    }
    let mut end = 0;
    for object in objects.into_values() {
        if object.base < end {
            let why = "it lies inside another object";
            found.left_out.push((object.name, why));
            continue;
        }
        end = object.base + object.size;
        found.data.push(object);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::testing::Fixture;

    const SOURCE: &str = "int counter = 7;\n\
        static long hidden[3];\n\
        const char *const names[2] = { \"one\", \"two\" };\n\
        const int limit = 9;\n\
        extern int alias __attribute__((alias(\"counter\")));\n\
        __thread int per_thread = 1;\n\
        long use(void) { return counter + hidden[1] + per_thread + limit + names[0][0]; }\n\
        void change(void) { counter = 8; hidden[1] = 1; }\n";

    #[test]
    fn by_name_and_rights() {
        for strip in [false, true] {
            let flags: &[&str] = if strip { &["-O1", "-s"] } else { &["-O1"] };
            let fixture = Fixture::c("statics", SOURCE, flags);
            assert!(matches!(
                Statics::of(&fixture.path),
                Err(StaticsError::NotLoaded(_))
            ));
            // SAFETY: the fixture has no constructors.
            let library = unsafe { libloading::Library::new(&fixture.path) }.expect("loads");
            let statics = Statics::of(&fixture.path).expect("read");
            // SAFETY: a symbol of that type.
            let counter = *unsafe { library.get::<*mut i32>("counter") }.expect("there");
            // `alias` comes first in the alphabet.
            let found = statics.get("alias").expect("known");
            assert_eq!((found.base, found.size), (counter as u64, 4));
            assert!(found.mutable && found.exported);
            let rights = |name| statics.get(name).map(|data| (data.size, data.mutable));
            assert_eq!(
                rights("names"),
                Some((16, false)),
                "read-only once relocated"
            );
            assert_eq!(rights("limit"), Some((4, false)));
            assert_eq!(rights("hidden"), (!strip).then_some((24, true)));
            let thread = statics
                .left_out
                .iter()
                .find(|(name, _)| name == "per_thread");
            assert!(thread.expect("named").1.contains("thread-local"));

            let mut memory = Memory::new().expect("memory");
            // SAFETY: nothing refers to the fixture's data.
            let done = unsafe { statics.register(&mut memory) };
            assert!(done.refused.is_empty(), "{:?}", done.refused);
            let id = |name| {
                done.ids
                    .iter()
                    .find(|(n, _)| n == name)
                    .expect("registered")
                    .1
            };
            let id = id("alias");
            assert_eq!(memory.read_scalar(id, 0, 4).expect("readable"), 7);
            let record = memory.get(id).expect("known");
            assert_eq!(record.kind(), AllocKind::LibraryStatic);
            assert_eq!(
                record.origin().expect("told").what,
                "the static `alias` of statics.c.so"
            );
            memory.write_bytes(id, 0, &[9, 0, 0, 0]).expect("writable");
            // SAFETY: as above; nobody else writes it.
            assert_eq!(unsafe { counter.read_volatile() }, 9);
            // Once is enough.
            // SAFETY: as above.
            let again = unsafe { statics.register(&mut memory) };
            assert_eq!(again.refused.len(), done.ids.len());
        }
    }
}
