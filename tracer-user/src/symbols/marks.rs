//! The bytes by which a loaded library is recognised.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};

use object::elf;
use object::read::elf::{FileHeader, SectionHeader, SectionTable};
use object::{Endianness, ReadCache};

use crate::modules::Header;

type Sections<'data> = SectionTable<'data, elf::FileHeader64<Endianness>, &'data ReadCache<File>>;

/// Bytes of a library that loading does not change: its symbols and build id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Where they are, in the file's own terms.
    pub address: u64,
    /// How many.
    pub len: u64,
    hash: u64,
}

impl Mark {
    /// Whether these are the bytes.
    pub fn is(&self, bytes: &[u8]) -> bool {
        bytes.len() as u64 == self.len && hash(bytes) == self.hash
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// The marks of a file.
pub(super) fn marks<'data>(
    header: &Header,
    data: &'data ReadCache<File>,
    sections: &Sections<'data>,
) -> object::read::Result<Vec<Mark>> {
    let endian = header.endian()?;
    let mut found = Vec::new();
    for section in sections.iter() {
        let kind = section.sh_type(endian);
        // Only what is loaded, and into memory that nobody writes.
        let flags = section.sh_flags(endian);
        let is_loaded =
            flags & u64::from(elf::SHF_ALLOC) != 0 && flags & u64::from(elf::SHF_WRITE) == 0;
        if is_loaded && matches!(kind, elf::SHT_DYNSYM | elf::SHT_NOTE) {
            let bytes = section.data(endian, data)?;
            found.push(Mark {
                address: section.sh_addr(endian),
                len: bytes.len() as u64,
                hash: hash(bytes),
            });
        }
    }
    Ok(found)
}
