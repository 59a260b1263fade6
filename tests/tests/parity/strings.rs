//! libc's memory and string functions. See `native/strings.c`.

use ffitrace_tests::case::Case;

/// Sizes that take each path of glibc's memory functions: by register, by overlapping vectors, by
/// loop, and by `rep movsb` above a few KiB.
const SIZES: &[u64] = &[
    1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 512, 1000,
    2048, 4095, 4096, 4097, 9000, 65536,
];

fn bind(name: &str, value: impl std::fmt::Display) -> String {
    format!("{name}={value}")
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for &n in SIZES {
        let case = |name: &str, prototype: &str, bindings: &[String]| {
            Case::new(
                &format!("{name}_{n}"),
                prototype,
                bindings.iter().map(String::as_str),
            )
            .any_order()
        };
        let zeros = format!("zero:{n}");
        let fresh = format!("uninit:{n}");
        cases.push(
            case(
                "memcpy",
                "void fx_memcpy(void *d, const void *s, size_t n)",
                &[bind("d", &fresh), bind("s", &zeros), bind("n", n)],
            )
            .reads("s", &[(0, n)])
            .writes("d", &[(0, n)])
            .initializes("d", &[(0, n)]),
        );
        cases.push(
            case(
                "memset",
                "void fx_memset(void *d, int c, size_t n)",
                &[bind("d", &fresh), bind("c", 7), bind("n", n)],
            )
            .writes("d", &[(0, n)])
            .initializes("d", &[(0, n)]),
        );
        cases.push(
            case(
                "memcmp",
                "int fx_memcmp(const void *a, const void *b, size_t n)",
                &[bind("a", &zeros), bind("b", &zeros), bind("n", n)],
            )
            .ret("0")
            .reads("a", &[(0, n)])
            .reads("b", &[(0, n)]),
        );
        if n >= 16 {
            let by = n / 4;
            let arguments = [bind("p", &zeros), bind("n", n), bind("by", by)];
            cases.push(
                case(
                    "shift_up",
                    "void shift_up(char *p, size_t n, size_t by)",
                    &arguments,
                )
                .reads("p", &[(0, n - by)])
                .writes("p", &[(by, n)]),
            );
            cases.push(
                case(
                    "shift_down",
                    "void shift_down(char *p, size_t n, size_t by)",
                    &arguments,
                )
                .reads("p", &[(by, n)])
                .writes("p", &[(0, n - by)]),
            );
        }
        let text = bind("s", format!("str:{}", "x".repeat(n as usize)));
        // A vector function may look past the NUL; inside its block that is no violation.
        cases.push(
            case("strlen", "size_t fx_strlen(const char *s)", &[text])
                .ret(&n.to_string())
                .reads("s", &[(0, n + 1)]),
        );
    }
    cases.extend([
        Case::new(
            "memcpy_0",
            "void fx_memcpy(void *d, const void *s, size_t n)",
            ["d=uninit:8", "s=zero:8", "n=0"],
        )
        .initializes("d", &[])
        .events(""),
        Case::new(
            "memcpy_part",
            "void fx_memcpy(void *d, const void *s, size_t n)",
            ["d=zero:8", "s=hex:0102030405", "n=3"],
        )
        .reads("s", &[(0, 3)])
        .writes("d", &[(0, 3)])
        .holds("d", "0102030000000000"),
        Case::new(
            "memmove_to_other",
            "void fx_memmove(void *d, const void *s, size_t n)",
            ["d=uninit:5", "s=bytes:hello", "n=5"],
        )
        .reads("s", &[(0, 5)])
        .writes("d", &[(0, 5)])
        .holds("d", "68656c6c6f"),
        Case::new(
            "strlen_empty",
            "size_t fx_strlen(const char *s)",
            ["s=str:"],
        )
        .ret("0")
        .reads("s", &[(0, 1)]),
        Case::new(
            "strchr",
            "long fx_strchr(const char *s, int c)",
            ["s=str:needle in a haystack", "c=110"],
        )
        .ret("0")
        .reads_within("s", &[(0, 21)]),
        Case::new(
            "strchr_none",
            "long fx_strchr(const char *s, int c)",
            ["s=str:abc", "c=122"],
        )
        .ret("-1")
        .reads("s", &[(0, 4)]),
        Case::new(
            "memchr",
            "long fx_memchr(const void *s, int c, size_t n)",
            ["s=bytes:abcdef", "c=102", "n=6"],
        )
        .ret("5")
        .reads("s", &[(0, 6)]),
        Case::new(
            "strcmp",
            "int fx_strcmp(const char *a, const char *b)",
            ["a=str:equal", "b=str:equal"],
        )
        .ret("0")
        .reads("a", &[(0, 6)])
        .reads("b", &[(0, 6)]),
        Case::new(
            "strcpy",
            "void fx_strcpy(char *d, const char *s)",
            ["d=uninit:12", "s=str:hello"],
        )
        .reads("s", &[(0, 6)])
        .writes("d", &[(0, 6)])
        .initializes("d", &[(0, 6)]),
        Case::new("atoi", "int fx_atoi(const char *s)", ["s=str:-1234"])
            .ret("-1234")
            .reads("s", &[(0, 6)]),
        Case::new(
            "snprintf",
            "int fx_snprintf(char *d, size_t n, int v)",
            ["d=uninit:16", "n=16", "v=42"],
        )
        .ret("4")
        .reads_within("d", &[(0, 16)])
        .writes("d", &[(0, 5)])
        .initializes("d", &[(0, 5)]),
        Case::new(
            "qsort",
            "void sort_ints(int *p, size_t n)",
            ["p=i32:5,3,9,-1,0,7", "n=6"],
        )
        .reads("p", &[(0, 24)])
        .writes_within("p", &[(0, 24)])
        .holds("p", "ffffffff0000000003000000050000000700000009000000")
        .on_every_build(),
    ]);
    cases
}
