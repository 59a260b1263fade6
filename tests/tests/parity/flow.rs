//! Loops, recursion, threads and signals. See `native/flow.c`.

use ffitrace_tests::case::Case;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "read_loop",
            "uint64_t read_loop(const uint32_t *p, uint64_t len, uint64_t n)",
            ["p=u32:1,2,3", "len=3", "n=10"],
        )
        .ret("19")
        .reads("p", &[(0, 12)])
        .events(&("r p 0 4; r p 4 4; r p 8 4; ".repeat(3) + "r p 0 4"))
        .on_every_build(),
        Case::new(
            "write_loop",
            "void write_loop(uint32_t *p, uint64_t len, uint64_t n)",
            ["p=uninit:20", "len=4", "n=1000"],
        )
        .writes("p", &[(0, 16)])
        .initializes("p", &[(0, 16)]),
        Case::new(
            "stride",
            "unsigned stride_sum(const uint8_t *p, size_t n, size_t step)",
            ["p=u8:1,0,0,2,0,0,3,0,0,4", "n=10", "step=3"],
        )
        .ret("10")
        .reads("p", &[(0, 1), (3, 4), (6, 7), (9, 10)])
        .events("r p 0 1; r p 3 1; r p 6 1; r p 9 1")
        .on_every_build(),
        Case::new(
            "recursion",
            "uint64_t recurse(uint64_t *p, unsigned depth)",
            ["p=uninit:48", "depth=5"],
        )
        .ret("15")
        .writes("p", &[(0, 40)])
        .initializes("p", &[(0, 40)])
        .events("w p 32 8; w p 24 8; w p 16 8; w p 8 8; w p 0 8")
        .on_every_build(),
        Case::new("nested", "int nested_outer(const int *p)", ["p=i32:3,4,5"])
            .ret("7")
            .reads("p", &[(0, 8)])
            .on_every_build(),
        Case::new("longjmp", "int jump_out(int *p)", ["p=uninit:12"])
            .ret("3")
            .writes("p", &[(0, 8)])
            .events("w p 0 4; w p 4 4")
            .on_every_build(),
        Case::new("own_memory", "int own_memory(int *p)", ["p=uninit:4"])
            .ret("42")
            .reads("p", &[(0, 4)])
            .writes("p", &[(0, 4)])
            .events("w p 0 4; r p 0 4")
            .on_every_build(),
        Case::new(
            "threads_1",
            "int threads_fill(uint32_t *p, unsigned threads, unsigned per)",
            ["p=uninit:400", "threads=1", "per=100"],
        )
        .ret("1")
        .writes("p", &[(0, 400)])
        .initializes("p", &[(0, 400)])
        .any_order(),
        Case::new(
            "threads_8",
            "int threads_fill(uint32_t *p, unsigned threads, unsigned per)",
            ["p=uninit:6404", "threads=8", "per=200"],
        )
        .ret("8")
        .writes("p", &[(0, 6400)])
        .initializes("p", &[(0, 6400)])
        .any_order(),
        Case::new(
            "threads_counter",
            "uint32_t threads_counter(uint32_t *p)",
            ["p=zero:4"],
        )
        .ret("1000")
        .reads("p", &[(0, 4)])
        .writes("p", &[(0, 4)])
        .holds("p", "e8030000")
        .any_order(),
        Case::new("raise_usr1", "int raise_usr1(int *p)", ["p=uninit:8"])
            .ret("1")
            .writes("p", &[(0, 8)])
            .events("w p 0 4; w p 4 4"),
        Case::new(
            "handler_writes",
            "int handler_writes(int *p)",
            ["p=uninit:8"],
        )
        .ret("1")
        .writes("p", &[(0, 4)])
        // SIGUSR2 is 12.
        .initializes("p", &[(0, 4)])
        .events("w p 0 4"),
        Case::new(
            "own_segv_handler",
            "int own_segv_handler(int *p)",
            ["p=uninit:8"],
        )
        .ret("1")
        .writes("p", &[(0, 8)])
        .events("w p 0 4; w p 4 4"),
    ]
}
