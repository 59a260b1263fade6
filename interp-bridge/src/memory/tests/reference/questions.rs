//! Reads of pointers, and where they lead, by the book.

use std::ops::Range;

use super::*;

impl Pair {
    /// Reads a pointer, and asks where `size` bytes at it are.
    pub(super) fn question(
        &self,
        index: usize,
        offset: u64,
        size: u64,
    ) -> Result<(), TestCaseError> {
        let one = &self.naive[index];
        let found = self.memory.read_pointer(one.id, offset);
        if !one.allows(offset, 8) {
            prop_assert!(found.is_err());
            return Ok(());
        }
        let bytes = &one.bytes[offset as usize..][..8];
        let bad = |byte: &Byte| !byte.readable();
        if let Some(first) = bytes.iter().position(bad) {
            let len = bytes[first..].iter().take_while(|byte| bad(byte)).count();
            let start = offset + first as u64;
            let expected: Range<u64> = start..start + len as u64;
            match found {
                Err(MemoryError::Uninit { uninit, .. }) => prop_assert_eq!(uninit, expected),
                other => prop_assert!(false, "{:?}", other),
            }
            return Ok(());
        }
        let pointer = found.expect("readable");
        let values: Vec<u8> = bytes.iter().map(|byte| byte.value).collect();
        prop_assert_eq!(pointer.addr.to_le_bytes().to_vec(), values);
        let targets: Vec<usize> = bytes
            .iter()
            .filter_map(|byte| match byte.origin {
                Origin::Pointer(target, _) => Some(target),
                _ => None,
            })
            .collect();
        let in_order = bytes
            .iter()
            .enumerate()
            .all(|(place, byte)| match byte.origin {
                Origin::Plain => false,
                Origin::Wildcard => true,
                Origin::Pointer(_, at) => place == usize::from(at),
            });
        let one_target = targets.windows(2).all(|pair| pair[0] == pair[1]);
        let expected = match targets.first() {
            _ if !in_order || !one_target => Provenance::None,
            None => Provenance::Wildcard,
            Some(target) => Provenance::Alloc(self.naive[*target].id),
        };
        prop_assert_eq!(pointer.provenance, expected);

        let holds = |one: &&Naive| {
            let from = pointer.addr.wrapping_sub(one.base);
            let len = one.bytes.len() as u64;
            one.live && from <= len && size <= len - from
        };
        let expected = match pointer.provenance {
            Provenance::None => None,
            Provenance::Wildcard => self
                .naive
                .iter()
                .filter(holds)
                .filter(|one| one.exposed)
                // Of two side by side, an address between them is that of the upper one.
                .max_by_key(|one| one.base)
                .map(|one| one.id),
            Provenance::Alloc(id) => self
                .naive
                .iter()
                .filter(holds)
                .map(|one| one.id)
                .find(|one| *one == id),
        };
        let actual = self.memory.resolve(pointer, size);
        prop_assert_eq!(actual.ok().map(|(id, _)| id), expected);
        Ok(())
    }
}
