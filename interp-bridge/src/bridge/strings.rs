//! String functions of libc, whose vector loops read past a string on purpose.
//!
//! glibc and musl read whole aligned blocks, or blocks that stay within a page, because that is
//! faster and cannot fault. Such a read is not a bug of the code under test, so it is a class of
//! its own. The functions are found as the loader resolved them for this processor (glibc
//! chooses by IFUNC), and their extent is that of their unwind entry, since a stripped libc has no
//! symbols for the variants.
//!
//! # Safety
//! `dlsym` is asked for names only; what it returns is used as a number.
#![allow(unsafe_code)]

use std::{ffi::CStr, ops::Range};

use tracer_user::extent::function_extents;

/// Functions that search or compare, and so may look ahead. Those that copy or fill by a given
/// length have no reason to.
const NAMES: [&CStr; 28] = [
    c"strlen",
    c"strnlen",
    c"strchr",
    c"strchrnul",
    c"strrchr",
    c"strcmp",
    c"strncmp",
    c"strcasecmp",
    c"strncasecmp",
    c"strcpy",
    c"stpcpy",
    c"strncpy",
    c"stpncpy",
    c"strcat",
    c"strncat",
    c"strstr",
    c"strspn",
    c"strcspn",
    c"strpbrk",
    c"memchr",
    c"memrchr",
    c"rawmemchr",
    c"memcmp",
    c"wcslen",
    c"wcsnlen",
    c"wcschr",
    c"wcscmp",
    c"wmemchr",
];

/// The string functions in use.
#[derive(Debug, Default)]
pub(super) struct StringFunctions {
    addresses: Vec<u64>,
    /// Found when they are first asked for: few calls read past an allocation at all.
    ranges: Option<Vec<Range<u64>>>,
}

impl StringFunctions {
    /// The functions of the libc that this process runs with. Asks the loader, which native code
    /// may have locked later on, for their addresses now.
    pub(super) fn find() -> StringFunctions {
        let addresses = NAMES
            .iter()
            // SAFETY: the name is a C string; RTLD_DEFAULT is always a valid handle.
            .map(|name| unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) } as u64)
            .filter(|address| *address != 0)
            .collect();
        StringFunctions {
            addresses,
            ranges: None,
        }
    }

    /// Whether the search has been made.
    pub(super) fn found(&self) -> bool {
        !self.addresses.is_empty()
    }

    /// Whether `ip` is in one of the functions.
    pub(super) fn contains(&mut self, ip: u64) -> bool {
        let addresses = &self.addresses;
        let ranges = self.ranges.get_or_insert_with(|| {
            let mut ranges = function_extents(addresses);
            ranges.sort_unstable_by_key(|range| range.start);
            ranges.dedup();
            ranges
        });
        let next = ranges.partition_point(|range| range.start <= ip);
        next > 0 && ranges[next - 1].contains(&ip)
    }
}
