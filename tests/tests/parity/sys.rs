//! System calls on buffer memory: exactly what the kernel read and wrote. See `native/sys.c`.
//!
//! What each call does by itself is the business of the suite `syscalls`; here the recorders have
//! to agree on it.

use ffitrace_tests::case::Case;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "read",
            "long sys_read(void *p, size_t n)",
            ["p=uninit:80", "n=64"],
        )
        .ret("64")
        .writes("p", &[(0, 64)])
        .initializes("p", &[(0, 64)])
        .events("w p 0 64")
        .on_every_build(),
        // Five bytes come of the sixty-four asked for: five were written.
        Case::new(
            "read_short",
            "long sys_read_short(void *p, size_t n)",
            ["p=uninit:64", "n=64"],
        )
        .ret("5")
        .writes("p", &[(0, 5)])
        .initializes("p", &[(0, 5)])
        .events("w p 0 5"),
        Case::new(
            "write",
            "long sys_write(const void *p, size_t n)",
            ["p=bytes:hello", "n=4"],
        )
        .ret("4")
        .reads("p", &[(0, 4)])
        .events("r p 0 4"),
        Case::new(
            "getrandom",
            "long sys_getrandom(void *p, size_t n)",
            ["p=uninit:32", "n=16"],
        )
        .ret("16")
        .writes("p", &[(0, 16)])
        .initializes("p", &[(0, 16)])
        .events("w p 0 16"),
        Case::new("unrelated", "long sys_unrelated(int *p)", ["p=uninit:4"])
            .ret("8")
            .writes("p", &[(0, 4)])
            .initializes("p", &[(0, 4)])
            .events("w p 0 4"),
    ]
}
