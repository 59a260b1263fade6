//! Operands that are not a plain `[base]`. See `native/operands.c`.

use ffitrace_tests::case::Case;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        // Bit 200 is in the fourth quadword, far outside the operand that the instruction names.
        Case::new(
            "bt_reg",
            "int bt_reg(const void *p, int64_t bit)",
            ["p=u64:0,0,0,256", "bit=200"],
        )
        .ret("1")
        .reads("p", &[(24, 32)])
        .events("r p 24 8"),
        Case::new(
            "bts_reg",
            "int bts_reg4(void *p, int32_t bit)",
            ["p=zero:16", "bit=100"],
        )
        .ret("0")
        .reads("p", &[(12, 16)])
        .writes("p", &[(12, 16)])
        .holds("p", "00000000000000000000000010000000")
        .events("r p 12 4; w p 12 4"),
        Case::new(
            "btr_negative",
            "int btr_negative(char *p, int64_t bit)",
            [
                "p=i8:-1,-1,-1,-1,-1,-1,-1,-1,-1,-1,-1,-1,-1,-1,-1,-1,-1,-1,-1,-1,-1,-1,-1,-1",
                "bit=-1",
            ],
        )
        .ret("1")
        .reads("p", &[(8, 16)])
        .writes("p", &[(8, 16)])
        .holds("p", "ffffffffffffffffffffffffffffff7fffffffffffffffff")
        .events("r p 8 8; w p 8 8"),
        Case::new("bt_imm", "int bt_imm(const void *p)", ["p=u32:8,0"])
            .ret("1")
            .reads("p", &[(0, 4)])
            .events("r p 0 4"),
        Case::new(
            "push_mem",
            "uint64_t push_mem(const void *p)",
            ["p=u64:77,1"],
        )
        .ret("77")
        .reads("p", &[(0, 8)])
        .events("r p 0 8"),
        Case::new(
            "pop_mem",
            "void pop_mem(void *p, uint64_t v)",
            ["p=uninit:16", "v=77"],
        )
        .writes("p", &[(0, 8)])
        .initializes("p", &[(0, 8)])
        .events("w p 0 8"),
        Case::new("call_table", "int call_table(void *p)", ["p=uninit:16"])
            .ret("42")
            .reads("p", &[(8, 16)])
            .writes("p", &[(0, 16)])
            .events("w p 0 8; w p 8 8; r p 8 8"),
        Case::new("jmp_mem", "int jmp_mem(void *p)", ["p=uninit:8"])
            .ret("7")
            .reads("p", &[(0, 8)])
            .writes("p", &[(0, 8)])
            .events("w p 0 8; r p 0 8"),
        Case::new(
            "stack_in_buffer",
            "uint64_t stack_in_buffer(void *p, uint64_t size)",
            ["p=uninit:256", "size=256"],
        )
        .ret("11")
        .reads("p", &[(240, 256)])
        .writes("p", &[(240, 256)])
        .events("w p 248 8; w p 240 8; r p 240 8; r p 248 8"),
        Case::new(
            "xlat",
            "uint8_t xlat(const void *table, uint8_t i)",
            ["table=bytes:abcdef", "i=3"],
        )
        .ret("100")
        .reads("table", &[(3, 4)])
        .events("r table 3 1"),
        Case::new(
            "x87_sum",
            "double x87_sum(const void *p)",
            ["p=f64:1.5,2.25"],
        )
        .ret("3.75")
        .reads("p", &[(0, 16)])
        .events("r p 0 8; r p 8 8"),
        Case::new("x87_store10", "void x87_store10(void *p)", ["p=uninit:16"])
            .writes("p", &[(0, 10)])
            .initializes("p", &[(0, 10)])
            .events("w p 0 10"),
        // 2.0 in the 80-bit format.
        Case::new(
            "x87_load10",
            "int x87_load10(const void *p)",
            ["p=hex:00000000000000800040ffff"],
        )
        .ret("2")
        .reads("p", &[(0, 10)])
        .events("r p 0 10"),
        Case::new("x87_mixed", "void x87_mixed(void *p)", ["p=i32:3,0,0,0"])
            .reads("p", &[(0, 4)])
            .writes("p", &[(4, 16)])
            .holds("p", "03000000000040400300000000000000")
            .events("r p 0 4; w p 4 4; w p 8 8"),
        Case::new("x87_control", "void x87_control(void *p)", ["p=uninit:4"])
            .writes("p", &[(0, 2)])
            .initializes("p", &[(0, 2)])
            .events("w p 0 2"),
        Case::new(
            "movnti",
            "void movnti8(void *p, uint64_t v)",
            ["p=uninit:16", "v=5"],
        )
        .writes("p", &[(0, 8)])
        .initializes("p", &[(0, 8)])
        .events("w p 0 8"),
        Case::new("stmxcsr", "void stmxcsr(void *p)", ["p=uninit:8"])
            .writes("p", &[(0, 4)])
            .initializes("p", &[(0, 4)])
            .events("w p 0 4"),
        // The last 96 of its 512 bytes are left to software: the processor may write them or not
        // (Intel SDM volume 1, 10.5.1).
        Case::new("fxsave", "void fxsave(void *p)", ["p=zero:1024"])
            .writes_within("p", &[(0, 528)])
            .maybe_writes_within("p", &[(416, 528)]),
    ]
}
