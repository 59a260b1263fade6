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

use addr2line::gimli::{BaseAddresses, EhFrame, EndianSlice, NativeEndian, UnwindSection};
use object::{Object, ObjectSection, ObjectSegment};

use crate::modules;

/// The functions around `addresses` in this process, as their unwind entries delimit them.
/// Addresses where no file is mapped, or that no entry covers, are left out. Each file is read
/// once.
pub fn function_extents(addresses: &[u64]) -> Vec<Range<u64>> {
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

fn extents_in(path: &Path, wanted: &[(u64, u64)]) -> Option<Vec<Range<u64>>> {
    let data = std::fs::read(path).ok()?;
    let file = object::File::parse(&*data).ok()?;
    let section = file.section_by_name(".eh_frame")?;
    let frames = EhFrame::from(EndianSlice::new(section.data().ok()?, NativeEndian));
    let bases = BaseAddresses::default().set_eh_frame(section.address());
    let extent = |&(address, offset): &(u64, u64)| {
        let segment = file.segments().find(|segment| {
            let (start, size) = segment.file_range();
            (start..start + size).contains(&offset)
        })?;
        let at = offset - segment.file_range().0 + segment.address();
        let entry = frames
            .fde_for_address(&bases, at, EhFrame::cie_from_offset)
            .ok()?;
        let bias = address.wrapping_sub(at);
        let start = entry.initial_address().wrapping_add(bias);
        Some(start..start.wrapping_add(entry.len()))
    };
    Some(wanted.iter().filter_map(extent).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_function_of_libc() {
        let address = libc::getpid as *const () as u64;
        let extents = function_extents(&[address, 0]);
        assert_eq!(extents.len(), 1, "nothing is mapped at 0");
        assert_eq!(extents[0].start, address);
        assert!(extents[0].end > address && extents[0].end < address + 4096);
    }
}
