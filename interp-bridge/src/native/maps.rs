//! Mappings that native code makes, as external allocations.

use std::collections::BTreeMap;

use super::external;
use super::record::Caller;
use crate::memory::{AllocId, Freer, Memory};

/// Bytes of a page.
pub(super) const PAGE: u64 = 4096;

#[derive(Clone, Copy, Debug)]
struct Map {
    len: u64,
    writable: bool,
    site: u64,
    id: Option<AllocId>,
}

/// Live mappings by address.
#[derive(Debug, Default)]
pub(super) struct NativeMaps(BTreeMap<u64, Map>);

impl NativeMaps {
    /// Takes down a mapping, over whatever was there.
    pub(super) fn map(
        &mut self,
        memory: &mut Memory,
        base: u64,
        len: u64,
        writable: bool,
        by: Caller,
    ) {
        let len = len.next_multiple_of(PAGE);
        self.unmap(memory, base, len);
        self.enter(memory, base, len, writable, by.site);
    }

    fn enter(&mut self, memory: &mut Memory, base: u64, len: u64, writable: bool, site: u64) {
        let id = external::register_map(memory, base, len, writable, site);
        let map = Map {
            len,
            writable,
            site,
            id,
        };
        self.0.insert(base, map);
    }

    /// Takes down that a range was unmapped. What is left of mappings that it cuts are mappings
    /// of their own.
    pub(super) fn unmap(&mut self, memory: &mut Memory, base: u64, len: u64) {
        let end = base.saturating_add(len.next_multiple_of(PAGE));
        let cut: Vec<(u64, Map)> = self
            .0
            .range(..end)
            .rev()
            .take_while(|(start, map)| **start + map.len > base)
            .map(|(start, map)| (*start, *map))
            .collect();
        for (start, map) in cut {
            self.0.remove(&start);
            if let Some(id) = map.id {
                // The interpreter may have ended its life by itself.
                let _ = memory.free_by(id, Freer::Unmapped);
            }
            let map_end = start + map.len;
            if start < base {
                self.enter(memory, start, base - start, map.writable, map.site);
            }
            if end < map_end {
                self.enter(memory, end, map_end - end, map.writable, map.site);
            }
        }
    }

    /// Forgets all of them.
    pub(super) fn clear(&mut self, memory: &mut Memory) {
        for id in std::mem::take(&mut self.0)
            .into_values()
            .filter_map(|map| map.id)
        {
            let _ = memory.free(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::Function;

    fn ranges(memory: &Memory) -> Vec<(u64, u64)> {
        memory
            .externals()
            .map(|record| (record.base(), record.end()))
            .collect()
    }

    #[test]
    fn pieces_of_mappings() {
        let mut memory = Memory::new().expect("memory");
        let mut maps = NativeMaps::default();
        let by = Caller {
            function: Function::Mmap,
            site: 1,
            tid: 1,
        };
        let at = |page: u64| 0x10_0000_0000 + page * PAGE;
        maps.map(&mut memory, at(0), 10 * PAGE - 5, true, by);
        assert_eq!(ranges(&memory), [(at(0), at(10))]);
        maps.unmap(&mut memory, at(3), PAGE);
        assert_eq!(ranges(&memory), [(at(0), at(3)), (at(4), at(10))]);
        // One over the other, as with MAP_FIXED.
        maps.map(&mut memory, at(2), 4 * PAGE, false, by);
        assert_eq!(
            ranges(&memory),
            [(at(0), at(2)), (at(2), at(6)), (at(6), at(10))]
        );
        maps.unmap(&mut memory, at(0), 8 * PAGE);
        assert_eq!(ranges(&memory), [(at(8), at(10))]);
        maps.clear(&mut memory);
        assert_eq!(ranges(&memory), []);
    }
}
