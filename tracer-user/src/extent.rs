//! Extents of functions, from unwind tables.
//!
//! A stripped library has no symbols for its local functions, but exception tables cover nearly
//! all code (System V ABI, 4.2.4): the entry that covers an address says where the function
//! begins and ends.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
};

use addr2line::gimli::{
    BaseAddresses, CieOrFde, EhFrame, EndianSlice, NativeEndian, UnwindSection,
};
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic};
use object::{Object, ObjectSection, ObjectSegment};

use crate::{
    modules,
    resume::safe::{self, Safe},
};

/// The functions around `addresses` in this process, as their unwind entries delimit them, each
/// with the address that was asked for. Addresses where no file is mapped, or that no entry covers,
/// are left out. Each file is read once.
pub fn function_extents(addresses: &[u64]) -> Vec<(u64, Range<u64>)> {
    let mappings = modules::mappings().unwrap_or_default();
    // By file: address in this process, and offset in the file.
    let mut files: BTreeMap<PathBuf, Vec<(u64, u64)>> = BTreeMap::new();
    for &address in addresses {
        if let Some(mapping) = modules::find(&mappings, address)
            && mapping.is_file()
        {
            let offset = address - mapping.range.start + mapping.offset;
            files
                .entry(mapping.path.clone())
                .or_default()
                .push((address, offset));
        }
    }
    files
        .iter()
        .flat_map(|(path, wanted)| extents_in(path, wanted).unwrap_or_default())
        .collect()
}

fn extents_in(path: &Path, wanted: &[(u64, u64)]) -> Option<Vec<(u64, Range<u64>)>> {
    // Address in the file's own terms, and in this process.
    let mut found = Vec::new();
    let data = std::fs::read(path).ok()?;
    let file = object::File::parse(&*data).ok()?;
    let mut wanted: Vec<(u64, u64)> = wanted
        .iter()
        .filter_map(|&(address, offset)| Some((address_in(&file, offset)?, address)))
        .collect();
    wanted.sort_unstable();
    // One pass, however many are wanted: a libc has thousands of entries.
    each_extent(&file, &mut |range| {
        let first = wanted.partition_point(|(at, _)| *at < range.start);
        for (at, address) in &wanted[first..] {
            if !range.contains(at) {
                break;
            }
            let start = range.start.wrapping_add(address.wrapping_sub(*at));
            found.push((*address, start..start.wrapping_add(range.end - range.start)));
        }
    })?;
    Some(found)
}

/// The functions of a mapped file, as their unwind entries delimit them, by address in this
/// process. `None` where the file has no unwind entries that can be read.
pub(crate) fn file_extents(mapping: &modules::Mapping) -> Option<Vec<Range<u64>>> {
    let (cached, header) = modules::open(&mapping.path).ok()?;
    let layout = modules::Layout::of(&header, &cached).ok()?;
    let address = layout.address(mapping.offset, mapping.executable)?;
    let bias = mapping.range.start.wrapping_sub(address);
    let data = std::fs::read(&mapping.path).ok()?;
    let file = object::File::parse(&*data).ok()?;
    let mut found = Vec::new();
    each_extent(&file, &mut |range| {
        found.push(range.start.wrapping_add(bias)..range.end.wrapping_add(bias));
    })?;
    found.sort_unstable_by_key(|range| range.start);
    Some(found)
}

/// The file's own address of what is at an offset in it.
fn address_in(file: &object::File<'_>, offset: u64) -> Option<u64> {
    let segment = file.segments().find(|segment| {
        let (start, size) = segment.file_range();
        (start..start + size).contains(&offset)
    })?;
    Some(offset - segment.file_range().0 + segment.address())
}

fn each_extent(file: &object::File<'_>, each: &mut dyn FnMut(Range<u64>)) -> Option<()> {
    let section = file.section_by_name(".eh_frame")?;
    let frames = EhFrame::from(EndianSlice::new(section.data().ok()?, NativeEndian));
    let bases = BaseAddresses::default().set_eh_frame(section.address());
    let mut entries = frames.entries(&bases);
    while let Some(entry) = entries.next().ok()? {
        let CieOrFde::Fde(partial) = entry else {
            continue;
        };
        let entry = partial.parse(EhFrame::cie_from_offset).ok()?;
        let start = entry.initial_address();
        each(start..start.wrapping_add(entry.len()));
    }
    Some(())
}

/// Whether the function at `extent` in this process finds out how far it is to the end of a page:
/// takes an address modulo the page size, by `and` with 0xfff or by shifting all other bits out.
/// Code that reads more than it was told to must do so first.
pub fn minds_pages(extent: &Range<u64>) -> bool {
    const PAGE_BITS: u64 = 12;
    let mut code = vec![0; (extent.end - extent.start) as usize];
    let safe = Safe::promise();
    let read = safe::read_memory(safe, safe::process_id(safe), extent.start, &mut code);
    Decoder::with_ip(64, &code[..read], extent.start, DecoderOptions::NONE)
        .iter()
        .any(|instruction| match instruction.mnemonic() {
            Mnemonic::And => immediate(&instruction) == Some((1 << PAGE_BITS) - 1),
            Mnemonic::Shl => immediate(&instruction) == Some(32 - PAGE_BITS),
            _ => false,
        })
}

fn immediate(instruction: &Instruction) -> Option<u64> {
    (instruction.op_count() == 2)
        .then(|| instruction.try_immediate(1).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_function_of_libc() {
        let address = libc::getpid as *const () as u64;
        let extents = function_extents(&[address, 0]);
        assert_eq!(extents.len(), 1, "nothing is mapped at 0");
        let (asked, extent) = &extents[0];
        assert_eq!((*asked, extent.start), (address, address));
        assert!(extent.end > address && extent.end < address + 4096);
    }

    #[test]
    fn tells_code_that_minds_pages() {
        let minds = |code: &[u8]| {
            let start = code.as_ptr() as u64;
            minds_pages(&(start..start + code.len() as u64))
        };
        assert!(
            minds(&[0x90, 0x25, 0xff, 0x0f, 0, 0, 0xc3]),
            "and eax, 0xfff"
        );
        assert!(minds(&[0xc1, 0xe0, 20, 0xc3]), "shl eax, 20");
        assert!(!minds(&[0x25, 0xff, 0x07, 0, 0, 0xc3]), "and eax, 0x7ff");
        assert!(!minds(&[0xb8, 0xff, 0x0f, 0, 0, 0xc3]), "mov eax, 0xfff");
    }
}
