//! System calls on buffer memory under `ebpf`: exact, or refused by name; never an access that
//! nobody saw. The other recorders do not see the kernel's accesses, a limit that the README
//! names. See `native/sys.c`.

use ffitrace_tests::call::Backend;
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
        .or_refused()
        .only(Backend::Ebpf),
        // Five bytes come of the sixty-four asked for: five were written.
        Case::new(
            "read_short",
            "long sys_read_short(void *p, size_t n)",
            ["p=uninit:64", "n=64"],
        )
        .ret("5")
        .writes("p", &[(0, 5)])
        .initializes("p", &[(0, 5)])
        .or_refused()
        .only(Backend::Ebpf),
        Case::new(
            "write",
            "long sys_write(const void *p, size_t n)",
            ["p=bytes:hello", "n=4"],
        )
        .ret("4")
        .reads("p", &[(0, 4)])
        .or_refused()
        .only(Backend::Ebpf),
        Case::new(
            "getrandom",
            "long sys_getrandom(void *p, size_t n)",
            ["p=uninit:32", "n=16"],
        )
        .ret("16")
        .writes("p", &[(0, 16)])
        .initializes("p", &[(0, 16)])
        .or_refused()
        .only(Backend::Ebpf),
        Case::new("unrelated", "long sys_unrelated(int *p)", ["p=uninit:4"])
            .ret("8")
            .writes("p", &[(0, 4)])
            .initializes("p", &[(0, 4)]),
    ]
}
