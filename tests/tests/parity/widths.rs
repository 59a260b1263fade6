//! Every width, plain, unaligned and across a page boundary. See `native/widths.c`.

use ffitrace_tests::case::Case;

/// First page boundary at least 8 bytes into a buffer at `base`, as an offset.
fn boundary(base: u64) -> u64 {
    (base + 8).next_multiple_of(4096) - base
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("load1", "uint8_t load1(const void *p)", ["p=hex:f1a2"])
            .ret("241")
            .reads("p", &[(0, 1)])
            .events("r p 0 1"),
        Case::new(
            "load2",
            "uint16_t load2(const void *p)",
            ["p=hex:0102030405"],
        )
        .ret("513")
        .reads("p", &[(0, 2)])
        .events("r p 0 2"),
        Case::new(
            "load4",
            "uint32_t load4(const void *p)",
            ["p=u32:4000000000,7"],
        )
        .ret("4000000000")
        .reads("p", &[(0, 4)])
        .events("r p 0 4"),
        Case::new(
            "load8",
            "uint64_t load8(const void *p)",
            ["p=u64:18446744073709551615"],
        )
        .ret("18446744073709551615")
        .reads("p", &[(0, 8)])
        .events("r p 0 8"),
        Case::new(
            "store1",
            "void store1(void *p, uint8_t v)",
            ["p=uninit:3", "v=200"],
        )
        .writes("p", &[(0, 1)])
        .initializes("p", &[(0, 1)])
        .events("w p 0 1"),
        Case::new(
            "store2",
            "void store2(void *p, uint16_t v)",
            ["p=zero:4", "v=0x1234"],
        )
        .writes("p", &[(0, 2)])
        .holds("p", "34120000")
        .events("w p 0 2"),
        Case::new(
            "store4",
            "void store4(void *p, uint32_t v)",
            ["p=uninit:8", "v=0xdeadbeef"],
        )
        .writes("p", &[(0, 4)])
        .initializes("p", &[(0, 4)])
        .events("w p 0 4"),
        Case::new(
            "store8",
            "void store8(void *p, uint64_t v)",
            ["p=uninit:8", "v=0x0102030405060708"],
        )
        .writes("p", &[(0, 8)])
        .initializes("p", &[(0, 8)])
        .holds("p", "0807060504030201")
        .events("w p 0 8"),
        Case::new("load1_sx", "int load1_sx(const void *p)", ["p=i8:-5,1"])
            .ret("-5")
            .reads("p", &[(0, 1)])
            .events("r p 0 1"),
        Case::new(
            "load2_zx",
            "uint64_t load2_zx(const void *p)",
            ["p=u16:65535,1"],
        )
        .ret("65535")
        .reads("p", &[(0, 2)])
        .events("r p 0 2"),
        Case::new(
            "load4_sx",
            "int64_t load4_sx(const void *p)",
            ["p=i32:-2147483648,1"],
        )
        .ret("-2147483648")
        .reads("p", &[(0, 4)])
        .events("r p 0 4"),
        Case::new("store_imm", "void store_imm(void *p)", ["p=uninit:8"])
            .writes("p", &[(0, 1), (2, 6)])
            .initializes("p", &[(0, 1), (2, 6)])
            .events("w p 2 4; w p 0 1"),
        Case::new(
            "load_indexed",
            "uint32_t load_indexed(const void *p, uint64_t i)",
            ["p=u32:0,1,2,3,4,5,6,7", "i=2"],
        )
        .ret("5")
        .reads("p", &[(20, 24)])
        .events("r p 20 4"),
        Case::new(
            "rmw_add4",
            "void rmw_add4(void *p, uint32_t v)",
            ["p=u32:40,9", "v=2"],
        )
        .reads("p", &[(0, 4)])
        .writes("p", &[(0, 4)])
        .holds("p", "2a00000009000000")
        .events("r p 0 4; w p 0 4"),
        Case::new("rmw_inc8", "void rmw_inc8(void *p)", ["p=u64:255"])
            .reads("p", &[(0, 8)])
            .writes("p", &[(0, 8)])
            .holds("p", "0001000000000000")
            .events("r p 0 8; w p 0 8"),
        Case::new("rmw_not2", "void rmw_not2(void *p)", ["p=hex:0ff0aa"])
            .reads("p", &[(0, 2)])
            .writes("p", &[(0, 2)])
            .holds("p", "f00faa")
            .events("r p 0 2; w p 0 2"),
        Case::new("rmw_shl1", "void rmw_shl1(void *p)", ["p=hex:21aa"])
            .reads("p", &[(0, 1)])
            .writes("p", &[(0, 1)])
            .holds("p", "42aa")
            .events("r p 0 1; w p 0 1"),
        Case::new(
            "cmp_mem4",
            "int cmp_mem4(const void *p, uint32_t v)",
            ["p=u32:77", "v=77"],
        )
        .ret("1")
        .reads("p", &[(0, 4)])
        .events("r p 0 4"),
        Case::new(
            "test_mem1",
            "int test_mem1(const void *p, uint8_t v)",
            ["p=hex:80ff", "v=0x80"],
        )
        .ret("1")
        .reads("p", &[(0, 1)])
        .events("r p 0 1"),
        Case::new(
            "alu_mem8",
            "uint64_t alu_mem8(const void *p, uint64_t v)",
            ["p=u64:40", "v=2"],
        )
        .ret("42")
        .reads("p", &[(0, 8)])
        .events("r p 0 8"),
        Case::new(
            "mul_mem4",
            "uint64_t mul_mem4(const void *p, uint32_t v)",
            ["p=u32:3000000000", "v=4"],
        )
        .ret("12000000000")
        .reads("p", &[(0, 4)])
        .events("r p 0 4"),
        Case::new(
            "setcc_mem",
            "void setcc_mem(void *p, int a, int b)",
            ["p=uninit:2", "a=-1", "b=1"],
        )
        .writes("p", &[(0, 1)])
        .initializes("p", &[(0, 1)])
        .events("w p 0 1"),
        Case::new(
            "cmov_taken",
            "int cmov_mem(const void *p, int take)",
            ["p=i32:9", "take=1"],
        )
        .ret("9")
        .reads("p", &[(0, 4)])
        .events("r p 0 4"),
        Case::new(
            "cmov_not_taken",
            "int cmov_mem(const void *p, int take)",
            ["p=i32:9", "take=0"],
        )
        .ret("-1")
        .reads("p", &[(0, 4)])
        .events("r p 0 4"),
        Case::new(
            "movbe_load",
            "uint32_t movbe_load(const void *p)",
            ["p=hex:01020304"],
        )
        .ret("16909060")
        .reads("p", &[(0, 4)])
        .events("r p 0 4"),
        Case::new(
            "load_clobbers_base",
            "uint64_t load_clobbers_base(const void *p)",
            ["p=u64:123456789012"],
        )
        .ret("123456789012")
        .reads("p", &[(0, 8)])
        .events("r p 0 8"),
        Case::new(
            "no_access",
            "uint64_t no_access(const void *p)",
            ["p=zero:64"],
        )
        .ret("3")
        .events(""),
        Case::new("untouched", "int untouched(const void *p)", ["p=uninit:64"])
            .ret("1")
            .initializes("p", &[])
            .events("")
            .on_every_build(),
        Case::new("nothing", "void nothing(void)", []).events(""),
        // `mut:` makes a const parameter's buffer writable; reading it stays a read.
        Case::new(
            "mut_prefix",
            "uint8_t load1(const void *p)",
            ["p=mut:hex:07"],
        )
        .ret("7")
        .reads("p", &[(0, 1)]),
        // A reference into the middle of another buffer: an odd address, the owner's offsets.
        Case::new(
            "load8_of_12",
            "uint64_t load8(const void *p)",
            ["p=hex:000102030405060708090a0b"],
        )
        .ret("506097522914230528")
        .reads("p", &[(0, 8)]),
        Case::new(
            "reference",
            "int offset_reads(const uint8_t *p, const uint8_t *q)",
            ["p=bytes:abcdef", "q=&p+3"],
        )
        .ret("24932")
        .reads("p", &[(0, 1), (3, 4)])
        .events("r p 0 1; r p 3 1"),
        Case::new(
            "repeat",
            "void rmw_add4(void *p, uint32_t v)",
            ["p=u32:40", "v=2"],
        )
        .option(["--repeat", "5"])
        .reads("p", &[(0, 4)])
        .writes("p", &[(0, 4)])
        .any_order(),
    ];
    for before in 0..=8 {
        let split = move |size: u64| {
            move |base: u64| {
                let start = boundary(base) - before;
                vec![(start, start + size)]
            }
        };
        let before = before.to_string();
        let bind = format!("before={before}");
        cases.push(
            Case::new(
                &format!("cross_load8_{before}"),
                "uint64_t cross_load8(const void *p, unsigned before)",
                ["p=zero:8192", &bind],
            )
            .ret("0")
            .reads_at("p", split(8)),
        );
        cases.push(
            Case::new(
                &format!("cross_store8_{before}"),
                "void cross_store8(void *p, unsigned before, uint64_t v)",
                ["p=uninit:8192", &bind, "v=1"],
            )
            .writes_at("p", split(8)),
        );
        if before == "2" {
            cases.push(
                Case::new(
                    "cross_add4",
                    "void cross_add4(void *p, unsigned before, uint32_t v)",
                    ["p=zero:8192", &bind, "v=258"],
                )
                .reads_at("p", split(4))
                .writes_at("p", split(4)),
            );
        }
    }
    cases
}
