//! Names and source lines for addresses of this process.
//!
//! ```text
//!  ip ──(maps)──► file, offset ──(PT_LOAD)──► address in the file
//!        ├──(.symtab, .dynsym; also of a separate debug file)──► function + offset
//!        └──(DWARF; in the file or in a separate debug file)───► file and line
//! ```
//!
//! Separate debug files are taken where their build id equals the module's: by build id below
//! `/usr/lib/debug`, or by `.gnu_debuglink` beside the module and below `/usr/lib/debug`. A
//! debug file without a build id is not used, for nothing shows that it belongs to the module.
//!
//! All of it is read when it is first asked for, and kept.

mod debug;
mod exports;
mod marks;
mod table;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::modules::{self, Mapping};

pub use exports::{Export, LibrarySymbols};
pub use marks::Mark;
use table::FileSymbols;

/// A line of source code.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SourceLine {
    /// Path of the file, as the debug information has it.
    pub path: String,
    /// Line, from 1; 0 where the compiler assigned none.
    pub line: u32,
}

impl fmt::Display for SourceLine {
    /// The file's own name and the line, `w.c:12`: directories of the machine that built a
    /// library seldom mean anything where it runs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.path.rsplit('/').next().unwrap_or(&self.path);
        write!(f, "{name}:{}", self.line)
    }
}

/// What is known of a code address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// The address.
    pub ip: u64,
    /// The mapped file, or a name like `[vdso]`; `None` in anonymous memory and outside every
    /// mapping.
    pub module: Option<PathBuf>,
    /// Short name of the module: its soname if it has one, else the file's name.
    pub module_name: Option<String>,
    /// The function, as the symbol table spells it, without a version.
    pub name: Option<String>,
    /// Bytes from the function's start; without a name the address in the file's own terms, which
    /// `objdump` and `addr2line -e` take.
    pub offset: u64,
    /// Where the code came from.
    pub source: Option<SourceLine>,
    /// Offset in the file, as uprobes want it.
    pub file_offset: Option<u64>,
}

impl fmt::Display for Symbol {
    /// `w_oob+0x4`, without a symbol `libz.so.1+0x1234`, without a module `0x7f0012345678`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.as_ref().or(self.module_name.as_ref()) {
            Some(name) => write!(f, "{name}+{:#x}", self.offset),
            None => write!(f, "{:#x}", self.ip),
        }
    }
}

/// Looks addresses up, and remembers them.
#[derive(Default)]
pub struct Symbols {
    maps: Vec<Mapping>,
    files: HashMap<PathBuf, Option<FileSymbols>>,
    /// By address, and whether it was asked about as a return address.
    known: HashMap<(u64, bool), Arc<Symbol>>,
}

impl Symbols {
    /// Knows nothing yet.
    pub fn new() -> Symbols {
        Symbols::default()
    }

    /// What is at an address. New mappings are noticed; after `dlclose` or `munmap` call
    /// [`refresh`](Self::refresh).
    pub fn lookup(&mut self, ip: u64) -> Arc<Symbol> {
        self.resolve(ip, ip)
    }

    /// What is at the call before a return address: a call may be the last instruction of its
    /// function or line. The offset is that of the return address, as in other backtraces.
    pub fn lookup_return(&mut self, address: u64) -> Arc<Symbol> {
        self.resolve(address, address.wrapping_sub(1))
    }

    /// What is at an address in a mapping, of whatever process.
    pub fn lookup_in(&mut self, mapping: &Mapping, ip: u64) -> Symbol {
        in_mapping(&mut self.files, mapping, ip, ip)
    }

    /// Forgets which file is mapped where. What was read from the files stays.
    pub fn refresh(&mut self) {
        self.maps.clear();
        self.known.clear();
    }

    fn resolve(&mut self, ip: u64, inside: u64) -> Arc<Symbol> {
        let question = (ip, inside != ip);
        if let Some(symbol) = self.known.get(&question) {
            return Arc::clone(symbol);
        }
        if modules::find(&self.maps, inside).is_none() {
            self.maps = modules::mappings().unwrap_or_default();
        }
        let Some(mapping) = modules::find(&self.maps, inside) else {
            // Something may be mapped there later, so it is not remembered.
            return Arc::new(nothing(ip));
        };
        let symbol = Arc::new(in_mapping(&mut self.files, mapping, ip, inside));
        self.known.insert(question, Arc::clone(&symbol));
        symbol
    }
}

fn nothing(ip: u64) -> Symbol {
    Symbol {
        ip,
        module: None,
        module_name: None,
        name: None,
        offset: 0,
        source: None,
        file_offset: None,
    }
}

fn in_mapping(
    files: &mut HashMap<PathBuf, Option<FileSymbols>>,
    mapping: &Mapping,
    ip: u64,
    inside: u64,
) -> Symbol {
    let mut symbol = nothing(ip);
    if mapping.path.as_os_str().is_empty() {
        return symbol;
    }
    symbol.module = Some(mapping.path.clone());
    symbol.module_name = Some(file_name(&mapping.path));
    let within = inside - mapping.range.start;
    if !mapping.is_file() {
        symbol.offset = within + ip.wrapping_sub(inside);
        return symbol;
    }
    let offset = within + mapping.offset;
    symbol.file_offset = Some(offset);
    symbol.offset = offset + ip.wrapping_sub(inside);
    let file = files.entry(mapping.path.clone()).or_insert_with(|| {
        // A deleted or unreadable file leaves the module's name and the offset.
        FileSymbols::read(&mapping.path)
            .map_err(|error| tracing::debug!("no symbols: {error}"))
            .ok()
    });
    let Some(file) = file else { return symbol };
    let Some(address) = file.layout.address(offset, mapping.executable) else {
        return symbol;
    };
    if let Some(soname) = &file.soname {
        symbol.module_name = Some(soname.clone());
    }
    symbol.offset = address + ip.wrapping_sub(inside);
    if let Some((name, start)) = file.table.covering(address) {
        symbol.name = Some(name.to_owned());
        symbol.offset -= start;
    }
    symbol.source = file.line(address);
    symbol
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests;
