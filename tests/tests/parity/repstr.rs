//! String instructions, forwards and backwards. See `native/repstr.c`.
//!
//! A recorder may report one event for the whole instruction or one for each element, so only
//! coverage and results are compared.

use ffitrace_tests::case::Case;

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new(
            "movsb_once",
            "void movsb_once(void *d, const void *s)",
            ["d=uninit:2", "s=hex:0102"],
        )
        .reads("s", &[(0, 1)])
        .writes("d", &[(0, 1)])
        .events("r s 0 1; w d 0 1"),
        Case::new(
            "movsq",
            "void rep_movsq(void *d, const void *s, uint64_t n)",
            ["d=uninit:32", "s=zero:32", "n=3"],
        )
        .reads("s", &[(0, 24)])
        .writes("d", &[(0, 24)]),
        Case::new(
            "movsb_back",
            "void rep_movsb_back(char *d, const char *s, uint64_t n)",
            ["d=uninit:8", "s=bytes:abcdefgh", "n=5"],
        )
        .reads("s", &[(0, 5)])
        .writes("d", &[(0, 5)])
        .initializes("d", &[(0, 5)]),
        Case::new(
            "movsl_back",
            "void rep_movsl_back(char *d, const char *s, uint64_t n)",
            ["d=zero:16", "s=u32:1,2,3,4", "n=3"],
        )
        .reads("s", &[(0, 12)])
        .writes("d", &[(0, 12)])
        .holds("d", "01000000020000000300000000000000"),
        Case::new(
            "movsb_overlap",
            "void rep_movsb_overlap(char *p, uint64_t n)",
            ["p=hex:aa0000000000", "n=5"],
        )
        .reads("p", &[(0, 5)])
        .writes("p", &[(1, 6)])
        .holds("p", "aaaaaaaaaaaa"),
        Case::new(
            "movsb_from_stack",
            "int rep_movsb_from_stack(void *d)",
            ["d=uninit:20"],
        )
        .ret("102")
        .writes("d", &[(0, 16)])
        .initializes("d", &[(0, 16)]),
        Case::new(
            "movsb_to_stack",
            "int rep_movsb_to_stack(const void *s)",
            ["s=bytes:sixteen_letters!"],
        )
        .ret("33")
        .reads("s", &[(0, 16)]),
        Case::new(
            "stosl",
            "void rep_stosl(void *d, uint32_t v, uint64_t n)",
            ["d=uninit:16", "v=258", "n=3"],
        )
        .writes("d", &[(0, 12)])
        .initializes("d", &[(0, 12)]),
        Case::new(
            "stosq_back",
            "void rep_stosq_back(char *d, uint64_t v, uint64_t n)",
            ["d=zero:24", "v=1", "n=2"],
        )
        .writes("d", &[(0, 16)])
        .holds("d", "010000000000000001000000000000000000000000000000"),
        Case::new("lodsl", "uint32_t lodsl(const void *s)", ["s=u32:99,1"])
            .ret("99")
            .reads("s", &[(0, 4)])
            .events("r s 0 4"),
        Case::new(
            "rep_lodsb",
            "uint8_t rep_lodsb(const void *s, uint64_t n)",
            ["s=bytes:hello", "n=5"],
        )
        .ret("111")
        .reads("s", &[(0, 5)]),
        // Stops at the first difference: what lies behind it was not looked at.
        Case::new(
            "cmpsb_differ",
            "uint64_t repe_cmpsb(const void *a, const void *b, uint64_t n)",
            ["a=bytes:abcdef", "b=bytes:abcxef", "n=6"],
        )
        .ret("4")
        .reads("a", &[(0, 4)])
        .reads("b", &[(0, 4)]),
        Case::new(
            "cmpsb_equal",
            "uint64_t repe_cmpsb(const void *a, const void *b, uint64_t n)",
            ["a=bytes:abcdef", "b=bytes:abcdef", "n=6"],
        )
        .ret("6")
        .reads("a", &[(0, 6)])
        .reads("b", &[(0, 6)]),
        Case::new(
            "cmpsw_back",
            "uint64_t repe_cmpsw_back(const char *a, const char *b, uint64_t n)",
            ["a=u16:1,2,3,4", "b=u16:1,9,3,4", "n=4"],
        )
        .ret("3")
        .reads("a", &[(2, 8)])
        .reads("b", &[(2, 8)]),
        Case::new(
            "scasb_found",
            "uint64_t repne_scasb(const void *p, uint8_t v, uint64_t n)",
            ["p=bytes:hello", "v=108", "n=5"],
        )
        .ret("3")
        .reads("p", &[(0, 3)]),
        Case::new(
            "scasb_none",
            "uint64_t repne_scasb(const void *p, uint8_t v, uint64_t n)",
            ["p=bytes:hello", "v=122", "n=5"],
        )
        .ret("5")
        .reads("p", &[(0, 5)]),
        Case::new(
            "scasl_back",
            "uint64_t repe_scasl_back(const char *p, uint32_t v, uint64_t n)",
            ["p=u32:7,1,7,7", "v=7", "n=4"],
        )
        .ret("3")
        .reads("p", &[(4, 16)]),
        Case::new(
            "zero_count",
            "void rep_zero_count(void *d, const void *s)",
            ["d=uninit:8", "s=zero:8"],
        )
        .initializes("d", &[])
        .events(""),
    ];
    for n in [1u64, 100, 4096, 4097, 10_000] {
        let (d, s, count) = (
            format!("d=uninit:{n}"),
            format!("s=zero:{n}"),
            format!("n={n}"),
        );
        cases.push(
            Case::new(
                &format!("movsb_{n}"),
                "void rep_movsb(void *d, const void *s, uint64_t n)",
                [d.as_str(), &s, &count],
            )
            .reads("s", &[(0, n)])
            .writes("d", &[(0, n)])
            .initializes("d", &[(0, n)]),
        );
        cases.push(
            Case::new(
                &format!("stosb_{n}"),
                "void rep_stosb(void *d, uint8_t v, uint64_t n)",
                [d.as_str(), "v=1", &count],
            )
            .writes("d", &[(0, n)])
            .initializes("d", &[(0, n)]),
        );
    }
    cases.into_iter().map(Case::any_order).collect()
}
