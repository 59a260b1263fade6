//! Locked instructions. See `native/atomics.c`.

use ffitrace_tests::case::Case;

const CMPXCHG: &str = "int lock_cmpxchg4(void *p, uint32_t expect, uint32_t value)";
const CMPXCHG8B: &str = "int lock_cmpxchg8b(void *p, uint64_t expect, uint64_t value)";
const CMPXCHG16B: &str = "int lock_cmpxchg16b(void *p, uint64_t expect_lo, \
     uint64_t expect_hi, uint64_t lo, uint64_t hi)";

/// The first 16 bytes on a 16-byte boundary in a buffer at `base`.
fn aligned16(base: u64) -> Vec<(u64, u64)> {
    let start = base.next_multiple_of(16) - base;
    vec![(start, start + 16)]
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "add",
            "void lock_add(void *p, uint32_t v)",
            ["p=u32:40,1", "v=2"],
        )
        .reads("p", &[(0, 4)])
        .writes("p", &[(0, 4)])
        .holds("p", "2a00000001000000")
        .events("r p 0 4; w p 0 4"),
        Case::new(
            "xchg",
            "uint64_t xchg8(void *p, uint64_t v)",
            ["p=u64:7", "v=9"],
        )
        .ret("7")
        .reads("p", &[(0, 8)])
        .writes("p", &[(0, 8)])
        .holds("p", "0900000000000000")
        .events("r p 0 8; w p 0 8"),
        Case::new(
            "xadd",
            "uint32_t lock_xadd(void *p, uint32_t v)",
            ["p=u32:5", "v=3"],
        )
        .ret("5")
        .reads("p", &[(0, 4)])
        .writes("p", &[(0, 4)])
        .holds("p", "08000000")
        .events("r p 0 4; w p 0 4"),
        Case::new(
            "cmpxchg_success",
            CMPXCHG,
            ["p=u32:5", "expect=5", "value=6"],
        )
        .ret("1")
        .reads("p", &[(0, 4)])
        .maybe_writes("p", &[(0, 4)])
        .holds("p", "06000000")
        .events("r p 0 4; m p 0 4"),
        Case::new(
            "cmpxchg_failure",
            CMPXCHG,
            ["p=u32:5", "expect=4", "value=6"],
        )
        .ret("0")
        .reads("p", &[(0, 4)])
        .maybe_writes("p", &[(0, 4)])
        .holds("p", "05000000")
        .events("r p 0 4; m p 0 4"),
        Case::new(
            "cmpxchg8b",
            CMPXCHG8B,
            [
                "p=u64:0x100000002",
                "expect=0x100000002",
                "value=0x300000004",
            ],
        )
        .ret("1")
        .reads("p", &[(0, 8)])
        .maybe_writes("p", &[(0, 8)])
        .holds("p", "0400000003000000"),
        Case::new(
            "cmpxchg16b_success",
            CMPXCHG16B,
            ["p=zero:32", "expect_lo=0", "expect_hi=0", "lo=1", "hi=2"],
        )
        .ret("1")
        .reads_at("p", aligned16)
        .maybe_writes_at("p", aligned16),
        Case::new(
            "cmpxchg16b_failure",
            CMPXCHG16B,
            ["p=zero:32", "expect_lo=0", "expect_hi=1", "lo=1", "hi=2"],
        )
        .ret("0")
        .reads_at("p", aligned16)
        .maybe_writes_at("p", aligned16),
        // Bit 37 lies in the second dword.
        Case::new(
            "bts",
            "int lock_bts(void *p, uint32_t bit)",
            ["p=zero:8", "bit=37"],
        )
        .ret("0")
        .reads("p", &[(4, 8)])
        .writes("p", &[(4, 8)])
        .holds("p", "0000000020000000")
        .events("r p 4 4; w p 4 4"),
    ]
}
