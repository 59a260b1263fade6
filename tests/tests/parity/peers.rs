//! Shapes that other tracers get wrong. See `native/peers.c`, `native/overread.c`, `native/sort.c`
//! and the suite `peers`.

use ffitrace_tests::case::Case;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = stores();
    cases.extend(strings());
    cases.extend(running());
    cases
}

fn stores() -> Vec<Case> {
    vec![
        Case::new(
            "test_register",
            "int test_register(const void *p, uint32_t v)",
            ["p=u32:5", "v=2"],
        )
        .ret("1")
        .reads("p", &[(0, 4)])
        .events("r p 0 4")
        .on_every_build(),
        Case::new("store_movq", "void store_movq(void *p)", ["p=uninit:9"])
            .writes("p", &[(0, 8)])
            .initializes("p", &[(0, 8)])
            .events("w p 0 8"),
        Case::new(
            "store_movups",
            "void store_movups(void *p)",
            ["p=uninit:17"],
        )
        .writes("p", &[(0, 16)])
        .initializes("p", &[(0, 16)])
        .events("w p 0 16"),
        Case::new("store_fstp", "void store_fstp(void *p)", ["p=uninit:9"])
            .writes("p", &[(0, 8)])
            .initializes("p", &[(0, 8)])
            .holds("p", "000000000000f03f00")
            .events("w p 0 8"),
        Case::new(
            "untouched",
            "void touch_nothing(const void *p)",
            ["p=zero:9"],
        )
        .events(""),
        Case::new("own_static", "int *own_static(int *p)", ["p=uninit:4"])
            .writes("p", &[(0, 4)])
            .events("w p 0 4")
            .on_every_build(),
        Case::new(
            "own_pointer",
            "void store_own_pointer(const char **slot)",
            ["slot=uninit:8"],
        )
        .writes("slot", &[(0, 8)])
        .events("w slot 0 8")
        .on_every_build(),
        Case::new(
            "sort_bytes",
            "void sort_bytes(void *p, size_t n, size_t size)",
            ["p=mut:bytes:hgfedcba", "n=8", "size=1"],
        )
        .reads("p", &[(0, 8)])
        .writes("p", &[(0, 8)])
        .holds("p", "6162636465666768"),
    ]
}

/// libc's functions and its callers: all recorders see the same over-reads.
fn strings() -> Vec<Case> {
    vec![
        Case::new(
            "print_string",
            "int print_string(char *d, size_t n, const char *s)",
            ["d=uninit:20", "n=20", "s=str:hello"],
        )
        .ret("7")
        .reads("s", &[(0, 6)])
        .writes("d", &[(0, 8)])
        .initializes("d", &[(0, 8)]),
        Case::new(
            "print_part",
            "int print_part(char *d, size_t n, const char *s, int most)",
            ["d=uninit:20", "n=20", "s=bytes:hello", "most=3"],
        )
        .ret("5")
        .reads_within("s", &[(0, 5)])
        .writes("d", &[(0, 6)]),
        Case::new(
            "scan_string",
            "int scan_string(const char *s)",
            ["s=str:37 words"],
        )
        .ret("2042")
        .reads("s", &[(0, 9)]),
        Case::new(
            "parse_long",
            "long parse_long(const char *s)",
            ["s=str:-12345"],
        )
        .ret("-12345")
        .reads("s", &[(0, 7)]),
        Case::new(
            "count_words",
            "int count_words(char *s)",
            ["s=str:one  two"],
        )
        .ret("2")
        .reads("s", &[(0, 9)])
        .writes("s", &[(3, 5)]),
        Case::new(
            "duplicate",
            "size_t duplicate(const char *s)",
            ["s=str:hello"],
        )
        .ret("5")
        .reads("s", &[(0, 6)]),
        Case::new(
            "compare",
            "int compare(const char *a, const char *b)",
            ["a=str:same", "b=str:same"],
        )
        .ret("0")
        .reads("a", &[(0, 5)])
        .reads("b", &[(0, 5)]),
    ]
}

/// Threads, locks and signals.
fn running() -> Vec<Case> {
    vec![
        Case::new(
            "lock_alone",
            "int lock_alone(void *lock, int *p)",
            ["lock=uninit:40", "p=uninit:4"],
        )
        // EBUSY.
        .ret("16")
        .reads_within("lock", &[(0, 40)])
        .writes_within("lock", &[(0, 40)])
        .maybe_writes("lock", &[(0, 4)])
        .writes("p", &[(0, 4)])
        .on_every_build(),
        Case::new(
            "lock_contended",
            "uint64_t lock_contended(void *lock, uint64_t *sum, unsigned threads, unsigned per)",
            ["lock=uninit:40", "sum=uninit:8", "threads=3", "per=40"],
        )
        .ret("120")
        .reads_within("lock", &[(0, 40)])
        .writes_within("lock", &[(0, 40)])
        .maybe_writes("lock", &[(0, 4)])
        .reads("sum", &[(0, 8)])
        .writes("sum", &[(0, 8)])
        .any_order(),
        Case::new(
            "threads_add_and_fill",
            "uint64_t add_and_fill(uint64_t *sum, uint32_t *words, unsigned threads, uint64_t per)",
            ["sum=u64:0", "words=uninit:1600", "threads=8", "per=100"],
        )
        .ret("400")
        .reads("sum", &[(0, 8)])
        .writes("sum", &[(0, 8)])
        .writes("words", &[(0, 1600)])
        .initializes("words", &[(0, 1600)])
        .any_order(),
        Case::new("signals", "int three_signals(int *p)", ["p=uninit:12"])
            .ret("111")
            .writes("p", &[(0, 12)])
            .initializes("p", &[(0, 12)])
            .events("w p 0 4; w p 4 4; w p 8 4"),
    ]
}
