//! What a library's file says about its symbols. The dynamic symbol table decides what may be
//! called; the full one, where it was not stripped, only serves to explain.

use std::fs::File;
use std::path::Path;

use object::elf::{SHN_UNDEF, STB_LOCAL, STT_FUNC, STT_GNU_IFUNC, STT_NOTYPE};
use object::read::elf::{ElfFile64, FileHeader, Sym};
use object::{Endianness, Object, ObjectSegment, ReadCache, SegmentFlags};

type Elf<'a> = ElfFile64<'a, Endianness, &'a ReadCache<File>>;

/// What a name is in a library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Symbol {
    /// A function that the library exports.
    Function,
    /// Exported, but data.
    Data,
    /// A function of the library that it does not export.
    Private,
    /// Used by the library, defined elsewhere.
    Imported,
    /// Nowhere in the library; exported names that are near.
    Missing(Vec<String>),
}

/// Why a file's symbols cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ElfError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Object(#[from] object::Error),
}

/// Looks `name` up in the file at `path`.
pub(super) fn symbol(path: &Path, name: &str) -> Result<Symbol, ElfError> {
    let cache = ReadCache::new(File::open(path)?);
    let elf = Elf::parse(&cache)?;
    let endian = elf.endian();
    let table = elf.elf_dynamic_symbol_table();
    let mut imported = false;
    let mut found = None;
    let mut functions: Vec<&str> = Vec::new();
    for symbol in table.iter() {
        let Ok(text) = std::str::from_utf8(symbol.name(endian, table.strings())?) else {
            continue;
        };
        let defined = symbol.st_shndx(endian) != SHN_UNDEF && symbol.st_bind() != STB_LOCAL;
        let callable = match symbol.st_type() {
            STT_FUNC | STT_GNU_IFUNC => true,
            // Hand-written assembly often has no type; its segment tells.
            STT_NOTYPE => is_code(&elf, symbol.st_value(endian)),
            _ => false,
        };
        if text == name {
            imported |= !defined;
            if defined && (callable || found.is_none()) {
                found = Some(if callable {
                    Symbol::Function
                } else {
                    Symbol::Data
                });
            }
        } else if defined && callable {
            functions.push(text);
        }
    }
    if let Some(found) = found {
        return Ok(found);
    }
    if imported {
        return Ok(Symbol::Imported);
    }
    let full = elf.elf_symbol_table();
    for symbol in full.iter() {
        let is_function = matches!(symbol.st_type(), STT_FUNC | STT_GNU_IFUNC);
        let defined = symbol.st_shndx(endian) != SHN_UNDEF;
        if is_function && defined && symbol.name(endian, full.strings())? == name.as_bytes() {
            return Ok(Symbol::Private);
        }
    }
    Ok(Symbol::Missing(super::near_names(
        name,
        functions.into_iter(),
    )))
}

/// The file offset of the byte that is loaded at `address`, relative to the load bias.
pub(super) fn file_offset(path: &Path, address: u64) -> Result<Option<u64>, ElfError> {
    let cache = ReadCache::new(File::open(path)?);
    let elf = Elf::parse(&cache)?;
    Ok(elf.segments().find_map(|segment| {
        let (offset, size) = segment.file_range();
        let inside = address
            .checked_sub(segment.address())
            .filter(|d| *d < size)?;
        Some(offset + inside)
    }))
}

fn is_code(elf: &Elf<'_>, address: u64) -> bool {
    elf.segments().any(|segment| {
        let SegmentFlags::Elf { p_flags } = segment.flags() else {
            return false;
        };
        let inside = address.wrapping_sub(segment.address()) < segment.size();
        inside && p_flags & object::elf::PF_X != 0
    })
}

/// What kind of file this is, when the loader refused it.
pub(super) fn describe(path: &Path) -> Option<&'static str> {
    let data = {
        use std::io::Read;
        let mut head = Vec::new();
        File::open(path)
            .ok()?
            .take(64)
            .read_to_end(&mut head)
            .ok()?;
        head
    };
    if !data.starts_with(b"\x7fELF") {
        return Some(match () {
            () if data.starts_with(b"!<arch>") => "a static library (.a)",
            () if data.starts_with(b"/* GNU ld script") => "a linker script",
            () if data.is_empty() => "an empty file",
            () => "no ELF file",
        });
    }
    if data.get(4) != Some(&2) {
        return Some("a 32-bit ELF file");
    }
    let header = object::elf::FileHeader64::<Endianness>::parse(data.as_slice()).ok()?;
    let endian = header.endian().ok()?;
    if header.e_machine(endian) != object::elf::EM_X86_64 {
        return Some("an ELF file for another processor");
    }
    (header.e_type(endian) == object::elf::ET_REL).then_some("an object file (.o)")
}
