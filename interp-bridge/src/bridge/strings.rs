//! String functions of a C library, whose loops read past a string on purpose.
//!
//! ```text
//!            page                                                      page
//!             │        ┌── string ──┐0 ·  ·  ·  ·  ·  ·  ·  ·  ·  ·      │
//!             │     ├──block──┼──block──┼──block──┼──block──┤            │
//!                      reads what it may,  and what it need not: an over-read
//! ```
//!
//! They read whole blocks (words in musl, vectors in glibc, up to four at once), because that is
//! faster, and it cannot fault where the block shares a page with a byte that they may read. Such
//! a read is not a bug of the code under test, so it is a class of its own. What is one is decided
//! by *who* reads and by the *shape* of the read:
//!
//! * **Who.** The functions that the loader resolved for this process and processor (glibc chooses
//!   by IFUNC; their extent is that of their unwind entry, since a stripped libc has no symbols
//!   for the variants), and in any other library a function with such a name: musl's libc, or a
//!   copy linked into a library. The names are reserved to the C library (C11, 7.31), so user code
//!   that does the same under a name of its own stays a violation. A copy whose symbols are
//!   stripped is user code to us.
//! * **Shape.** The read stays in one page, and that page holds a byte of a live allocation that
//!   the read touches or is next to. A function that searches reads less than [`REACH`] bytes
//!   beyond it; one that compares a given number of bytes has no reason to read a block that holds
//!   none of them. What reaches further ran past the end: a string without its NUL, for instance,
//!   because the arena fills the bytes after an allocation with something else.
//!
//! # Safety
//! `dlsym` is asked for names only; what it returns is used as a number.
#![allow(unsafe_code)]

use std::{
    collections::HashMap,
    ffi::{CStr, CString},
    ops::Range,
};

use tracer_user::{
    extent::{function_extents, minds_pages},
    symbols::Symbols,
};

use crate::arena::OVERREAD_ROOM;

/// Bytes from the edge of an allocation that a search may look at: it goes on by at most four
/// vectors of 64 bytes that it reads together, of which one byte at least is the string's.
const REACH: u64 = OVERREAD_ROOM;

/// How far a string function may look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// It searches, and may read blocks that lie wholly beyond what it was given.
    Ahead,
    /// It knows how much there is, and may round the first or last block up.
    Block,
}

/// Functions that search, or copy what they find.
const SEARCHING: &[&str] = &[
    "memccpy",
    "memchr",
    "memrchr",
    "rawmemchr",
    "stpcpy",
    "stpncpy",
    "strcasecmp",
    "strcasecmp_l",
    "strcasestr",
    "strcat",
    "strchr",
    "strchrnul",
    "strcmp",
    "strcpy",
    "strcspn",
    "strlcat",
    "strlcpy",
    "strlen",
    "strncasecmp",
    "strncasecmp_l",
    "strncat",
    "strncmp",
    "strncpy",
    "strnlen",
    "strpbrk",
    "strrchr",
    "strspn",
    "strstr",
    "wcpcpy",
    "wcpncpy",
    "wcscat",
    "wcschr",
    "wcschrnul",
    "wcscmp",
    "wcscpy",
    "wcslen",
    "wcsncmp",
    "wcsncpy",
    "wcsnlen",
    "wcsrchr",
    "wcsstr",
    "wmemchr",
];

/// Functions that compare as many bytes as they are told. Some variants read more: of few bytes a
/// whole vector, if it does not cross a page. Functions that copy or fill by a given length have
/// no reason to.
const COMPARING: &[&str] = &["bcmp", "memcmp", "memcmpeq", "wmemcmp"];

/// What the names of glibc's variants end in: `__strlen_avx2_rtm`, `__memcmp_evex_movbe`.
const VARIANTS: &[&str] = &[
    "avx", "avx2", "avx512", "evex", "evex256", "evex512", "generic", "movbe", "rtm", "sse2",
    "sse42", "ssse3",
];

/// The string functions in use.
#[derive(Default)]
pub(super) struct StringFunctions {
    /// As the loader resolved them.
    addresses: Vec<(u64, Look)>,
    /// Found when they are first asked for: few calls read past an allocation at all.
    ranges: Option<Vec<(Range<u64>, Look)>>,
    symbols: Symbols,
    /// By instruction, for those outside the ranges.
    named: HashMap<u64, Option<Look>>,
}

impl StringFunctions {
    /// The functions of the libc that this process runs with. Asks the loader, which native code
    /// may have locked later on, for their addresses now.
    pub(super) fn find() -> StringFunctions {
        let names = SEARCHING.iter().map(|name| (*name, Look::Ahead));
        let addresses = names
            .chain(COMPARING.iter().map(|name| (*name, Look::Block)))
            .flat_map(|(name, look)| [(name.to_owned(), look), (format!("__{name}"), look)])
            .filter_map(|(name, look)| Some((address_of(&CString::new(name).ok()?)?, look)))
            .collect();
        StringFunctions {
            addresses,
            ..StringFunctions::default()
        }
    }

    /// How far the function around `ip` may look; `None` if it is no string function.
    pub(super) fn look(&mut self, ip: u64) -> Option<Look> {
        let addresses = &self.addresses;
        let ranges = self.ranges.get_or_insert_with(|| ranges_of(addresses));
        let next = ranges.partition_point(|(range, _)| range.start <= ip);
        if let Some((range, look)) = ranges[..next].last()
            && range.contains(&ip)
        {
            return Some(*look);
        }
        let symbols = &mut self.symbols;
        *self.named.entry(ip).or_insert_with(|| {
            let symbol = symbols.lookup(ip);
            let name = symbol.name.as_deref()?;
            searches(name).then_some(Look::Ahead)
        })
    }
}

fn address_of(name: &CStr) -> Option<u64> {
    // SAFETY: the name is a C string; RTLD_DEFAULT is always a valid handle.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) } as u64;
    (address != 0).then_some(address)
}

fn ranges_of(functions: &[(u64, Look)]) -> Vec<(Range<u64>, Look)> {
    let addresses: Vec<u64> = functions.iter().map(|(address, _)| *address).collect();
    let look = |address| {
        let found = functions.iter().find(|(known, _)| *known == address);
        found.map_or(Look::Block, |(_, look)| *look)
    };
    let mut ranges: Vec<_> = function_extents(&addresses)
        .into_iter()
        .map(|(address, range)| (range, look(address)))
        .filter(|(range, look)| *look == Look::Ahead || minds_pages(range))
        .collect();
    ranges.sort_unstable_by_key(|(range, _)| range.start);
    ranges.dedup_by_key(|(range, _)| range.start);
    ranges
}

/// Whether a symbol's name is that of a function that searches: `strlen`, `__GI_strlen` and
/// `__strlen_avx2` all are.
fn searches(name: &str) -> bool {
    let name = name.strip_prefix("__GI_").unwrap_or(name);
    let mut base = name.trim_start_matches('_');
    while let Some((rest, suffix)) = base.rsplit_once('_')
        && VARIANTS.contains(&suffix)
    {
        base = rest;
    }
    SEARCHING.contains(&base)
}

/// Whether a read that is not inside `object`, the live allocation nearest to it, has the shape of
/// an over-read of a function that looks so far.
pub(super) fn is_overread(look: Look, read: &Range<u64>, object: &Range<u64>) -> bool {
    const PAGE: u64 = 4096;
    let page = read.start & !(PAGE - 1)..(read.start & !(PAGE - 1)).saturating_add(PAGE);
    let overlap = |a: &Range<u64>, b: &Range<u64>| a.start < b.end && b.start < a.end;
    let reach = match look {
        Look::Ahead => object.start.saturating_sub(REACH)..object.end.saturating_add(REACH),
        // What touches the object goes beyond it by less than its own length.
        Look::Block if overlap(read, object) => read.clone(),
        Look::Block => return false,
    };
    read.end <= page.end
        && overlap(&page, object)
        && reach.start <= read.start
        && read.end <= reach.end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_string_functions() {
        for name in [
            "strlen",
            "__strlen_evex",
            "__strlen_avx2_rtm",
            "__GI_strchr",
            "__strcasecmp_l_avx2",
            "__stpcpy",
        ] {
            assert!(searches(name), "{name}");
        }
        for name in [
            "memcpy",
            "memcmp",
            "my_strlen",
            "strlen_fast",
            "strlen_utf8_avx2",
            "strtol",
            "avx2",
            "",
        ] {
            assert!(!searches(name), "{name}");
        }
    }

    #[test]
    fn shapes_of_over_reads() {
        let ahead = |start, len, object: Range<u64>| {
            is_overread(Look::Ahead, &(start..start + len), &object)
        };
        let string = 0x10_f20..0x10_f30;
        assert!(ahead(0x10_f20, 32, string.clone()), "past its end");
        assert!(ahead(0x10_f00, 64, string.clone()), "and before it");
        assert!(ahead(0x10_fc0, 64, string.clone()), "wholly past its end");
        assert!(!ahead(0x10_fe0, 64, string.clone()), "into the next page");
        assert!(!ahead(0x11_000, 32, string.clone()), "of the next page");
        assert!(ahead(0x10_110, 32, 0x10_000..0x10_030), "the fourth vector");
        assert!(!ahead(0x10_111, 32, 0x10_000..0x10_030), "one byte beyond");
        assert!(
            !ahead(0x0f_fe0, 32, 0x10_000..0x10_030),
            "of the page before"
        );

        let block = |start, len| is_overread(Look::Block, &(start..start + len), &string);
        assert!(block(0x10_f2f, 16) && block(0x10_f11, 16));
        assert!(!block(0x10_f30, 16) && !block(0x10_f10, 16));
    }

    #[test]
    fn the_functions_of_this_process() {
        let mut found = StringFunctions::find();
        let strlen = address_of(c"strlen").expect("every libc has it");
        assert_eq!(found.look(strlen), Some(Look::Ahead));
        assert_eq!(found.look(strlen + 4), Some(Look::Ahead));
        assert_eq!(found.look(address_of(c"memcpy").expect("likewise")), None);
        assert_eq!(found.look(address_of(c"getpid").expect("likewise")), None);
        assert_eq!(found.look(0), None);
    }
}
