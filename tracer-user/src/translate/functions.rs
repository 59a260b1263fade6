//! Where functions begin and end, and what code may be translated at all.

use std::{collections::HashMap, ops::Range, path::PathBuf};

use crate::{
    extent::file_extents,
    modules::{self, Mapping},
};

/// The function around an address, or what is mapped there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Function {
    /// Its addresses.
    pub(super) range: Range<u64>,
    /// The code that is mapped around it.
    pub(super) mapped: Range<u64>,
    /// Whether it is a function, whose extent is known.
    pub(super) is_known: bool,
    /// Whether it belongs to the interpreter's own program.
    pub(super) ours: bool,
}

/// Code of this process that is mapped from files.
#[derive(Default)]
pub(super) struct Functions {
    maps: Vec<Mapping>,
    /// Extents of the functions of a mapped file, in this process; by where its code is mapped.
    known: HashMap<(u64, PathBuf), Vec<Range<u64>>>,
}

impl Functions {
    /// The mapping around `address`, where its code is mapped from a file and cannot be written.
    pub(super) fn fixed(&mut self, address: u64) -> Option<Mapping> {
        if modules::find(&self.maps, address).is_none() {
            self.maps = modules::mappings().unwrap_or_default();
        }
        let mapping = modules::find(&self.maps, address)?.clone();
        // Memory files have paths too, and whoever has one may write to it.
        let memory = ["/memfd:", "/dev/zero", "/SYSV"];
        let is_memory = |name: &&str| {
            mapping
                .path
                .as_os_str()
                .as_encoded_bytes()
                .starts_with(name.as_bytes())
        };
        if !mapping.is_file()
            || memory.iter().any(is_memory)
            || !mapping.executable
            || mapping.writable
        {
            return None;
        }
        Some(mapping)
    }

    /// The function around `address`; none where its code is not mapped from a file, or may change.
    pub(super) fn around(&mut self, address: u64) -> Option<Function> {
        let mapping = self.fixed(address)?;
        let key = (mapping.range.start, mapping.path.clone());
        let known = self
            .known
            .entry(key)
            .or_insert_with(|| file_extents(&mapping).unwrap_or_default());
        let after = known.partition_point(|range| range.start <= address);
        let function = known[..after]
            .last()
            .filter(|range| range.contains(&address));
        let own = super::build::build as *const () as u64;
        let ours = modules::find(&self.maps, own).is_some_and(|own| own.path == mapping.path);
        Some(Function {
            range: function.cloned().unwrap_or(mapping.range.clone()),
            mapped: mapping.range,
            is_known: function.is_some(),
            ours,
        })
    }

    /// What is mapped is read again when it is asked for.
    pub(super) fn look_again(&mut self) {
        self.maps.clear();
    }

    /// Forgets what is known: libraries came or went.
    pub(super) fn forget(&mut self) {
        *self = Functions::default();
    }
}
