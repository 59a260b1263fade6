//! What each function reads and writes, by its definition. See `native/sweep.c`.

/// What a function does to the last `n` bytes of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Does {
    /// Nothing.
    Not,
    /// These bytes and no other.
    Exactly,
    /// All of them; perhaps others of the buffer, before them.
    AtLeast,
    /// Perhaps some.
    Perhaps,
    /// Exactly as many bytes that begin 9 bytes earlier.
    Shifted,
}

/// Characters of one byte or of four.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Bytes, any number of them.
    Bytes,
    /// A string that ends in a NUL, so at least that.
    Chars,
    /// Wide characters, any number of them.
    Words,
    /// A string of wide characters.
    Wide,
}

/// One function.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) unit: Unit,
    /// What it reads of the first buffer and of the second one.
    pub(crate) reads: (Does, Does),
    /// What it writes of the first buffer and of the second one.
    pub(crate) writes: (Does, Does),
    pub(crate) in_musl: bool,
}

impl Function {
    /// Whether the second buffer must hold what the first one holds.
    pub(crate) fn compares(&self) -> bool {
        self.writes.1 == Does::Not
    }
}

/// All functions of the sweep.
pub(crate) fn functions() -> Vec<Function> {
    use Does::{AtLeast, Exactly, Not, Perhaps, Shifted};
    use Unit::{Bytes, Chars, Wide, Words};
    let of = |unit, reads, writes, names: &[&'static str]| -> Vec<Function> {
        let function = |name: &&'static str| Function {
            name,
            unit,
            reads,
            writes,
            in_musl: !["rawmemchr", "memcmpeq"].contains(name),
        };
        names.iter().map(function).collect()
    };
    let nothing = (Not, Not);
    [
        // Copies: not a byte more than they are told.
        of(
            Bytes,
            (Exactly, Not),
            (Not, Exactly),
            &["memcpy", "memmove", "mempcpy"],
        ),
        of(Bytes, (Shifted, Not), (Exactly, Not), &["memmove_up"]),
        of(Bytes, (Exactly, Not), (Shifted, Not), &["memmove_down"]),
        of(Bytes, nothing, (Not, Exactly), &["memset"]),
        of(Words, (Exactly, Not), (Not, Exactly), &["wmemcpy"]),
        of(Words, nothing, (Not, Exactly), &["wmemset"]),
        // Comparisons of what is equal: all of it.
        of(
            Bytes,
            (AtLeast, AtLeast),
            nothing,
            &["memcmp", "bcmp", "memcmpeq"],
        ),
        of(Words, (AtLeast, AtLeast), nothing, &["wmemcmp"]),
        of(
            Chars,
            (AtLeast, AtLeast),
            nothing,
            &[
                "strcmp",
                "strncmp",
                "strncmp_more",
                "strcasecmp",
                "strncasecmp",
            ],
        ),
        of(Wide, (AtLeast, AtLeast), nothing, &["wcscmp", "wcsncmp"]),
        // Searches for what is not there: to the end.
        of(Bytes, (AtLeast, Not), nothing, &["memchr", "memrchr"]),
        of(Words, (AtLeast, Not), nothing, &["wmemchr"]),
        of(
            Chars,
            (AtLeast, Not),
            nothing,
            &[
                "memchr_last",
                "rawmemchr",
                "strlen",
                "strnlen_more",
                "strchr",
                "strchr_nul",
                "strchrnul",
                "strrchr",
                "strspn",
                "strcspn",
                "strpbrk",
                "strstr",
                "strcasestr",
            ],
        ),
        of(
            Wide,
            (AtLeast, Not),
            nothing,
            &["wcslen", "wcsnlen", "wcschr", "wcsrchr", "wcsstr"],
        ),
        // strnlen is told of all but the last byte; memmem needs two to begin with.
        of(Chars, (Perhaps, Not), nothing, &["strnlen", "memmem"]),
        // Copies of strings. What they append to is read, too.
        of(Bytes, (AtLeast, Not), (Not, Exactly), &["memccpy"]),
        of(
            Chars,
            (AtLeast, Not),
            (Not, Exactly),
            &["strcpy", "stpcpy", "strncpy", "stpncpy"],
        ),
        of(
            Chars,
            (AtLeast, Perhaps),
            (Not, Exactly),
            &["strcat", "strncat"],
        ),
        of(Wide, (AtLeast, Not), (Not, Exactly), &["wcscpy"]),
        of(Wide, (AtLeast, Perhaps), (Not, Exactly), &["wcscat"]),
    ]
    .concat()
}
