//! SSE, AVX and AVX-512. See `native/simd.c`.

use ffitrace_tests::case::Case;
use ffitrace_tests::fixture::Lib;
use ffitrace_tests::host::Need;

/// The first 16 bytes on a 16-byte boundary in a buffer at `base`.
fn aligned16(base: u64) -> Vec<(u64, u64)> {
    let start = base.next_multiple_of(16) - base;
    vec![(start, start + 16)]
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = sse();
    cases.extend(avx());
    cases.extend(avx512());
    cases.into_iter().map(|case| case.on(Lib::Simd)).collect()
}

fn sse() -> Vec<Case> {
    vec![
        Case::new(
            "sse_copy16",
            "void sse_copy16(void *d, const void *s)",
            ["d=uninit:20", "s=bytes:sixteen_letters!"],
        )
        .reads("s", &[(0, 16)])
        .writes("d", &[(0, 16)])
        .initializes("d", &[(0, 16)])
        .events("r s 0 16; w d 0 16"),
        Case::new(
            "sse_copy16_aligned",
            "void sse_copy16_aligned(void *d, const void *s)",
            ["d=uninit:32", "s=zero:32"],
        )
        .reads_at("s", aligned16)
        .writes_at("d", aligned16),
        Case::new(
            "sse_movq_movd",
            "void sse_movq_movd(void *p)",
            ["p=zero:32"],
        )
        .reads("p", &[(0, 12)])
        .writes("p", &[(16, 28)])
        .events("r p 0 8; r p 8 4; w p 16 8; w p 24 4"),
        Case::new("sse_halves", "void sse_halves(void *p)", ["p=zero:32"])
            .reads("p", &[(0, 16)])
            .writes("p", &[(16, 28)])
            .events("r p 0 8; r p 8 8; w p 16 8; w p 24 4"),
        Case::new(
            "sse_arith",
            "double sse_arith(const void *p)",
            ["p=f64:1.5,2.25"],
        )
        .ret("3.75")
        .reads("p", &[(0, 16)])
        .events("r p 0 8; r p 8 8"),
        Case::new(
            "sse_insert",
            "int sse_insert_extract(const void *p)",
            ["p=u16:777,1"],
        )
        .ret("777")
        .reads("p", &[(0, 2)])
        .events("r p 0 2"),
        Case::new("sse_movntdq", "void sse_movntdq(void *p)", ["p=uninit:32"])
            .writes_at("p", aligned16),
        Case::new(
            "sse_maskmovdqu",
            "void sse_maskmovdqu(void *p)",
            ["p=zero:16"],
        )
        .writes("p", &[(0, 1), (5, 6)]),
    ]
}

fn avx() -> Vec<Case> {
    vec![
        Case::new(
            "avx_copy32",
            "void avx_copy32(void *d, const void *s)",
            ["d=uninit:40", "s=zero:32"],
        )
        .needs(Need::Avx)
        .reads("s", &[(0, 32)])
        .writes("d", &[(0, 32)])
        .initializes("d", &[(0, 32)])
        .events("r s 0 32; w d 0 32"),
        Case::new(
            "avx_broadcast",
            "float avx_broadcast(const void *p)",
            ["p=f32:0.25,9"],
        )
        .needs(Need::Avx)
        .ret("0.25")
        .reads("p", &[(0, 4)])
        .events("r p 0 4"),
        Case::new(
            "avx_maskstore",
            "void avx_maskstore(void *p)",
            ["p=uninit:12"],
        )
        .needs(Need::Avx)
        .writes("p", &[(0, 4), (8, 12)])
        .initializes("p", &[(0, 4), (8, 12)]),
        Case::new(
            "avx2_gather",
            "int avx2_gather(const void *p)",
            ["p=i32:10,20,30,40"],
        )
        .needs(Need::Avx2)
        .ret("100")
        .reads("p", &[(0, 16)]),
    ]
}

fn avx512() -> Vec<Case> {
    const MASKED: &str = "void avx512_masked_copy(void *d, const void *s, uint32_t mask)";
    const BYTES: &str = "void avx512_masked_store_bytes(void *d, uint64_t mask)";
    vec![
        Case::new(
            "avx512_copy64",
            "void avx512_copy64(void *d, const void *s)",
            ["d=uninit:64", "s=zero:64"],
        )
        .reads("s", &[(0, 64)])
        .writes("d", &[(0, 64)])
        .initializes("d", &[(0, 64)])
        .events("r s 0 64; w d 0 64"),
        Case::new(
            "avx512_masked_ends",
            MASKED,
            ["d=uninit:64", "s=zero:64", "mask=0x8001"],
        )
        .reads("s", &[(0, 4), (60, 64)])
        .writes("d", &[(0, 4), (60, 64)])
        .initializes("d", &[(0, 4), (60, 64)]),
        // The inactive lanes lie past the end: no access, no violation.
        Case::new(
            "avx512_masked_short",
            MASKED,
            ["d=uninit:8", "s=zero:8", "mask=3"],
        )
        .reads("s", &[(0, 8)])
        .writes("d", &[(0, 8)])
        .initializes("d", &[(0, 8)]),
        Case::new(
            "avx512_masked_none",
            MASKED,
            ["d=uninit:64", "s=zero:64", "mask=0"],
        )
        .initializes("d", &[])
        .events(""),
        Case::new(
            "avx512_masked_bytes",
            BYTES,
            ["d=uninit:24", "mask=0xff00ff"],
        )
        .writes("d", &[(0, 8), (16, 24)])
        .initializes("d", &[(0, 8), (16, 24)]),
        Case::new(
            "avx512_broadcast",
            "int avx512_broadcast(const void *p)",
            ["p=i32:31,1"],
        )
        .ret("31")
        .reads("p", &[(0, 4)])
        .events("r p 0 4; r p 0 4"),
        Case::new(
            "avx512_scatter",
            "void avx512_scatter(void *p)",
            ["p=uninit:28"],
        )
        .writes("p", &[(0, 4), (8, 12), (16, 20), (24, 28)])
        .events("w p 0 4; w p 8 4; w p 16 4; w p 24 4"),
        Case::new(
            "avx512_compress",
            "void avx512_compress_store(void *p)",
            ["p=uninit:12"],
        )
        .writes("p", &[(0, 12)]),
    ]
    .into_iter()
    .map(|case| case.needs(Need::Avx512))
    .collect()
}
