//! What a file is that the loader refuses.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use object::Endianness;
use object::read::elf::FileHeader;

/// What kind of file this is, when the loader refused it.
pub(super) fn describe(path: &Path) -> Option<&'static str> {
    let data = {
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
