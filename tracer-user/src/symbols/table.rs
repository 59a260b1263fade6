//! The symbols of one ELF file, by address.

use std::fs::File;
use std::path::Path;

use object::read::elf::{Dyn, FileHeader, SectionTable, Sym, SymbolTable};
use object::{Endianness, ReadCache, elf};

use super::SourceLine;
use super::debug::DebugInfo;
use crate::modules::{self, Header, Layout, ModuleError};

/// What one mapped file says about its code.
pub(super) struct FileSymbols {
    pub(super) layout: Layout,
    pub(super) soname: Option<String>,
    pub(super) table: Table,
    debug: DebugInfo,
}

impl FileSymbols {
    pub(super) fn read(path: &Path) -> Result<FileSymbols, ModuleError> {
        let (data, header) = modules::open(path)?;
        let fail = |source| ModuleError::Elf {
            path: path.to_owned(),
            source,
        };
        let layout = Layout::of(&header, &data).map_err(fail)?;
        let endian = header.endian().map_err(fail)?;
        let sections = header.sections(endian, &data).map_err(fail)?;
        let soname = soname(endian, &sections, &data);
        let mut entries = Vec::new();
        collect(endian, &sections, &data, &mut entries);
        let debug = DebugInfo::of(path);
        // A stripped library's debug file still has the names of its private functions.
        if let Some(separate) = debug.separate_file()
            && let Ok((data, header)) = modules::open(separate)
            && let Ok(sections) = header.sections(endian, &data)
        {
            collect(endian, &sections, &data, &mut entries);
        }
        Ok(FileSymbols {
            layout,
            soname,
            table: Table::new(entries),
            debug,
        })
    }

    pub(super) fn line(&mut self, address: u64) -> Option<SourceLine> {
        self.debug.line(address)
    }
}

/// The name by which the dynamic loader knows a library.
fn soname<'a>(
    endian: Endianness,
    sections: &SectionTable<'a, Header, &'a ReadCache<File>>,
    data: &'a ReadCache<File>,
) -> Option<String> {
    let (entries, link) = sections.dynamic(endian, data).ok()??;
    let strings = sections.strings(endian, data, link).ok()?;
    let entry = entries
        .iter()
        .find(|entry| entry.d_tag(endian) == elf::DT_SONAME)?;
    let name = strings.get(u32::try_from(entry.d_val(endian)).ok()?).ok()?;
    Some(String::from_utf8_lossy(name).into_owned())
}

/// One symbol of code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) address: u64,
    pub(super) size: u64,
    /// The lower the better, among symbols of one address.
    rank: u8,
    name: Box<str>,
}

/// Adds the code symbols of both tables of a file.
fn collect<'a>(
    endian: Endianness,
    sections: &SectionTable<'a, Header, &'a ReadCache<File>>,
    data: &'a ReadCache<File>,
    entries: &mut Vec<Entry>,
) {
    for kind in [elf::SHT_SYMTAB, elf::SHT_DYNSYM] {
        let Ok(symbols) = sections.symbols(endian, data, kind) else {
            continue;
        };
        for symbol in symbols.symbols() {
            let code = matches!(
                symbol.st_type(),
                elf::STT_FUNC | elf::STT_GNU_IFUNC | elf::STT_NOTYPE
            );
            let (address, size) = (symbol.st_value(endian), symbol.st_size(endian));
            if !code || symbol.is_undefined(endian) || is_absolute(endian, symbol) || address == 0 {
                continue;
            }
            let name = name_of(endian, symbol, &symbols);
            if name.is_empty() {
                continue;
            }
            let rank = u8::from(symbol.st_type() == elf::STT_NOTYPE) * 4
                + u8::from(symbol.st_bind() == elf::STB_LOCAL) * 2
                + u8::from(symbol.st_bind() == elf::STB_WEAK);
            entries.push(Entry {
                address,
                size,
                rank,
                name: name.into(),
            });
        }
    }
}

fn is_absolute(endian: Endianness, symbol: &elf::Sym64<Endianness>) -> bool {
    symbol.st_shndx(endian) == elf::SHN_ABS
}

/// A symbol's name without its version: `.symtab` spells it `name@@VERSION`.
pub(super) fn name_of<'a>(
    endian: Endianness,
    symbol: &elf::Sym64<Endianness>,
    symbols: &SymbolTable<'a, Header, &'a ReadCache<File>>,
) -> String {
    let name = symbol.name(endian, symbols.strings()).unwrap_or_default();
    let name = String::from_utf8_lossy(name);
    match name.find('@') {
        Some(at) if at > 0 => name[..at].to_owned(),
        _ => name.into_owned(),
    }
}

/// Code symbols sorted by address, one an address.
#[derive(Debug, Default)]
pub(super) struct Table(Vec<Entry>);

/// How many symbols before an address are looked at for one whose size reaches it: more are only
/// nested in code that was written by hand.
const NESTING: usize = 32;

impl Table {
    pub(super) fn new(mut entries: Vec<Entry>) -> Table {
        // Of several names for one address: a function before a label, one with a size, a global
        // before a local one, and then the shortest, which is the least decorated.
        entries.sort_by(|a, b| {
            let key = |e: &Entry| (e.address, e.size == 0, e.rank, e.name.len());
            key(a).cmp(&key(b)).then_with(|| a.name.cmp(&b.name))
        });
        entries.dedup_by_key(|entry| entry.address);
        Table(entries)
    }

    /// The symbol that covers an address, with its own address. A symbol of size 0 reaches to
    /// the next one.
    pub(super) fn covering(&self, address: u64) -> Option<(&str, u64)> {
        let after = self.0.partition_point(|entry| entry.address <= address);
        let before = &self.0[after.saturating_sub(NESTING)..after];
        let last = before.last()?;
        if last.size == 0 {
            // But not where a larger symbol covers the place: labels inside a function.
            let outer = before.iter().rev().find(|e| address - e.address < e.size);
            let found = outer.unwrap_or(last);
            return Some((&found.name, found.address));
        }
        before
            .iter()
            .rev()
            .find(|entry| address - entry.address < entry.size)
            .map(|entry| (&*entry.name, entry.address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(address: u64, size: u64, rank: u8, name: &str) -> Entry {
        Entry {
            address,
            size,
            rank,
            name: name.into(),
        }
    }

    #[test]
    fn symbols_cover_their_size() {
        let table = Table::new(vec![
            entry(0x200, 0, 4, "label"),
            entry(0x100, 0x40, 0, "f"),
            entry(0x110, 0, 4, "inside_f"),
            entry(0x300, 0x100, 0, "outer"),
            entry(0x320, 0x10, 0, "nested"),
            entry(0x300, 0x100, 1, "weak_alias"),
            entry(0x300, 0, 0, "a"),
        ]);
        let at = |address| table.covering(address);
        assert_eq!(at(0xff), None);
        assert_eq!(at(0x100), Some(("f", 0x100)));
        assert_eq!(
            at(0x120),
            Some(("f", 0x100)),
            "a label inside does not end it"
        );
        assert_eq!(at(0x13f), Some(("f", 0x100)));
        assert_eq!(
            at(0x150),
            Some(("inside_f", 0x110)),
            "nothing else claims it"
        );
        assert_eq!(at(0x2ff), Some(("label", 0x200)));
        assert_eq!(at(0x31f), Some(("outer", 0x300)));
        assert_eq!(at(0x32f), Some(("nested", 0x320)));
        assert_eq!(at(0x330), Some(("outer", 0x300)));
        assert_eq!(at(0x400), None);
    }
}
