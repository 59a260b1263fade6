//! Where a loaded object keeps the addresses of the functions that it imports.
//!
//! ```text
//!  .rela.plt  R_X86_64_JUMP_SLOT malloc ──► a word of .got.plt, which `call malloc@plt` uses
//!  .rela.dyn  R_X86_64_GLOB_DAT  malloc ──► a word of .got, for `call *malloc@GOTPCREL`, `&malloc`
//!             R_X86_64_64        malloc ──► a word of .data, `void *(*allocate)(size_t) = malloc;`
//! ```
//!
//! The relocations are read from the file, whose addresses differ from those in the process by
//! the object's bias. Nothing here touches memory of the object.

use std::ops::Range;
use std::path::{Path, PathBuf};

use object::elf;
use object::read::elf::{ElfFile64, ProgramHeader};
use object::{
    Object, ObjectSymbol, ObjectSymbolTable, ReadCache, RelocationFlags, RelocationTarget,
};

use super::Function;

/// Why the slots of an object are not known.
#[derive(Debug, thiserror::Error)]
pub enum SlotsError {
    /// Its file cannot be opened.
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

/// Which relocation fills a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SlotKind {
    /// `R_X86_64_JUMP_SLOT`: may still be unbound, and lead into the object's own code then.
    JumpSlot,
    /// `R_X86_64_GLOB_DAT`.
    GlobDat,
    /// `R_X86_64_64` without an addend: a pointer in the object's data.
    Data,
}

/// A word that holds the address of a function of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    /// The function.
    pub(super) function: Function,
    /// Address in the file's own terms.
    pub(super) address: u64,
    /// How it is filled.
    pub(super) kind: SlotKind,
}

/// What an object's file says about its slots.
#[derive(Clone, Debug, Default)]
pub(super) struct ObjectSlots {
    /// The slots, in the order of the relocations.
    pub(super) slots: Vec<Slot>,
    /// Addresses, in the file's terms, that the loader makes read-only when it has relocated.
    pub(super) relro: Option<Range<u64>>,
    /// Addresses of all segments, in the file's terms.
    pub(super) span: Range<u64>,
    /// Functions of the table that the object itself defines.
    pub(super) defines: Vec<Function>,
    /// Whether it imports `dlopen`: what it loads later is not covered.
    pub(super) loads_others: bool,
    writable: Vec<Range<u64>>,
}

impl ObjectSlots {
    /// Reads them.
    ///
    /// # Errors
    /// [`SlotsError`].
    pub(super) fn read(path: &Path) -> Result<ObjectSlots, SlotsError> {
        let file = std::fs::File::open(path).map_err(|source| SlotsError::Io {
            path: path.to_owned(),
            source,
        })?;
        let data = ReadCache::new(file);
        ObjectSlots::parse(&data).map_err(|source| SlotsError::Elf {
            path: path.to_owned(),
            source,
        })
    }

    fn parse<'d, R: object::ReadRef<'d>>(data: R) -> object::Result<ObjectSlots> {
        let file = ElfFile64::<object::Endianness, R>::parse(data)?;
        let endian = file.endian();
        let mut found = ObjectSlots::default();
        let mut span: Option<Range<u64>> = None;
        for header in file.elf_program_headers() {
            let start = header.p_vaddr(endian);
            let range = start..start.saturating_add(header.p_memsz(endian));
            match header.p_type(endian) {
                elf::PT_LOAD => {
                    if header.p_flags(endian) & elf::PF_W != 0 {
                        found.writable.push(range.clone());
                    }
                    span = Some(match span {
                        Some(all) => all.start.min(range.start)..all.end.max(range.end),
                        None => range,
                    });
                }
                elf::PT_GNU_RELRO => found.relro = Some(range),
                _ => {}
            }
        }
        found.span = span.unwrap_or(0..0);
        let Some(symbols) = file.dynamic_symbol_table() else {
            return Ok(found);
        };
        for symbol in symbols.symbols() {
            let Ok(name) = symbol.name() else { continue };
            if symbol.is_undefined() {
                found.loads_others |= matches!(name, "dlopen" | "dlmopen");
            } else {
                found.defines.extend(Function::of_symbol(name));
            }
        }
        for (address, relocation) in file.dynamic_relocations().into_iter().flatten() {
            let RelocationFlags::Elf { r_type } = relocation.flags() else {
                continue;
            };
            let kind = match r_type {
                elf::R_X86_64_JUMP_SLOT => SlotKind::JumpSlot,
                elf::R_X86_64_GLOB_DAT => SlotKind::GlobDat,
                // With an addend it is not the function that is meant.
                elf::R_X86_64_64 if relocation.addend() == 0 => SlotKind::Data,
                _ => continue,
            };
            let RelocationTarget::Symbol(index) = relocation.target() else {
                continue;
            };
            let symbol = symbols.symbol_by_index(index)?;
            let function = symbol.name().ok().and_then(Function::of_symbol);
            if let Some(function) = function
                && found.is_writable(address)
            {
                found.slots.push(Slot {
                    function,
                    address,
                    kind,
                });
            }
        }
        Ok(found)
    }

    /// Whether a word of 8 bytes lies in a segment that was writable when it was relocated. Code
    /// is not, so it is never taken for a slot.
    fn is_writable(&self, address: u64) -> bool {
        self.writable
            .iter()
            .any(|range| range.start <= address && address.saturating_add(8) <= range.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::testing::Fixture;

    const SOURCE: &str = r#"
        #include <stdlib.h>
        #include <string.h>
        #include <dlfcn.h>
        void *(*allocate)(size_t) = malloc;
        void (*const release[1])(void *) = { free };
        char *copy(const char *s) { return strdup(s); }
        void *address(void) { return (void *)calloc; }
        void *get(size_t n) { return allocate(n); }
        void *other(const char *s) { return dlopen(s, 1); }
    "#;

    fn kinds(slots: &ObjectSlots, function: Function) -> Vec<SlotKind> {
        let of_it = slots.slots.iter().filter(|slot| slot.function == function);
        of_it.map(|slot| slot.kind).collect()
    }

    #[test]
    fn relocations_of_all_kinds() {
        for flags in [&["-O1"][..], &["-O1", "-Wl,-z,lazy"], &["-O1", "-fno-plt"]] {
            let fixture = Fixture::c("slots", SOURCE, flags);
            let slots = ObjectSlots::read(&fixture.path).expect("a library");
            assert_eq!(kinds(&slots, Function::Malloc), [SlotKind::Data]);
            assert_eq!(kinds(&slots, Function::Free), [SlotKind::Data]);
            assert_eq!(kinds(&slots, Function::Calloc), [SlotKind::GlobDat]);
            let call = if flags.contains(&"-fno-plt") {
                SlotKind::GlobDat
            } else {
                SlotKind::JumpSlot
            };
            assert_eq!(kinds(&slots, Function::Strdup), [call], "{flags:?}");
            assert!(slots.loads_others && slots.defines.is_empty());
            let relro = slots.relro.clone().expect("the linker's default");
            // The constant table is in it, the variable is not.
            for slot in &slots.slots {
                match slot.function {
                    Function::Malloc => assert!(!relro.contains(&slot.address)),
                    Function::Free => assert!(relro.contains(&slot.address)),
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn what_is_no_library() {
        assert!(matches!(
            ObjectSlots::read(Path::new("/nowhere")),
            Err(SlotsError::Io { .. })
        ));
        assert!(matches!(
            ObjectSlots::read(Path::new("/etc/passwd")),
            Err(SlotsError::Elf { .. })
        ));
    }

    #[test]
    fn operators_of_its_own() {
        let source = "#include <cstdlib>\n#include <new>\n\
            void *operator new(std::size_t n) { return std::malloc(n); }\n\
            extern \"C\" int *make() { return new int; }\n";
        let fixture = Fixture::cpp("own_new", source, &["-O1"]);
        let slots = ObjectSlots::read(&fixture.path).expect("a library");
        assert_eq!(slots.defines, [Function::New]);
    }
}
