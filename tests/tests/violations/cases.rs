//! The bad calls, and where each goes wrong.

use ffitrace_tests::fixture::Lib;

/// Where the bad access goes.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    /// At an offset from a buffer's base.
    Buffer(&'static str, i64),
    /// At this address, whatever buffers there are.
    Address(u64),
    /// At an address that the processor refuses before it looks: the recorder may not see it, but
    /// it must not make one up.
    NotCanonical(u64),
}

/// One bad call.
#[derive(Clone, Copy)]
pub(crate) struct Bad {
    pub(crate) name: &'static str,
    pub(crate) lib: Lib,
    pub(crate) prototype: &'static str,
    pub(crate) bindings: &'static [&'static str],
    pub(crate) kind: &'static str,
    pub(crate) access: &'static str,
    pub(crate) size: u64,
    pub(crate) place: Place,
    /// Function of the culprit, and the mark on its line where the build keeps lines.
    pub(crate) function: &'static str,
    pub(crate) mark: Option<&'static str>,
}

pub(crate) const OOB: &str = "out_of_bounds";
pub(crate) const WILD: &str = "wild_access";
pub(crate) const READ_ONLY: &str = "write_to_read_only";
pub(crate) const FREED: &str = "use_after_free";

/// A bad call into the `-O2` library whose culprit is the called function itself, on the line that
/// bears its name.
const fn bad(
    function: &'static str,
    prototype: &'static str,
    bindings: &'static [&'static str],
    (kind, access, size): (&'static str, &'static str, u64),
    place: Place,
) -> Bad {
    let mark = Some(function);
    Bad {
        name: function,
        lib: Lib::O2,
        prototype,
        bindings,
        kind,
        access,
        size,
        place,
        function,
        mark,
    }
}

pub(crate) fn cases() -> Vec<Bad> {
    use Place::{Address, Buffer, NotCanonical};
    const READ_AT: &str = "int read_at(uint64_t addr)";
    const WRITE_AT: &str = "void write_at(uint64_t addr)";
    let mut cases = vec![
        bad(
            "oob_read_after",
            "int oob_read_after(const int *p, size_t n)",
            &["p=i32:1,2,3", "n=3"],
            (OOB, "read", 4),
            Buffer("p", 12),
        ),
        bad(
            "oob_write_after",
            "void oob_write_after(char *p, size_t n)",
            &["p=uninit:10", "n=10"],
            (OOB, "write", 1),
            Buffer("p", 10),
        ),
        bad(
            "oob_read_before",
            "char oob_read_before(const char *p)",
            &["p=bytes:abc"],
            (OOB, "read", 1),
            Buffer("p", -1),
        ),
        bad(
            "oob_write_before",
            "void oob_write_before(int *p)",
            &["p=zero:8"],
            (OOB, "write", 4),
            Buffer("p", -4),
        ),
        bad(
            "oob_straddle",
            "uint64_t oob_straddle(const char *p, size_t n)",
            &["p=zero:12", "n=12"],
            (OOB, "read", 8),
            Buffer("p", 8),
        ),
        bad(
            "oob_loop",
            "unsigned oob_loop(const uint8_t *p, size_t n)",
            &["p=bytes:abc", "n=3"],
            (OOB, "read", 1),
            Buffer("p", 3),
        ),
        bad(
            "oob_vector",
            "int oob_vector(const char *p, size_t n)",
            &["p=zero:32", "n=32"],
            (OOB, "read", 16),
            Buffer("p", 20),
        ),
        bad(
            "good_bad_good",
            "void good_bad_good(char *p, size_t n)",
            &["p=uninit:6", "n=6"],
            (OOB, "write", 1),
            Buffer("p", 6),
        ),
        bad(
            "write_const",
            "void write_const(const char *p)",
            &["p=str:const"],
            (READ_ONLY, "write", 1),
            Buffer("p", 0),
        ),
        bad(
            "add_const",
            "void add_const(const int *p)",
            &["p=i32:1"],
            (READ_ONLY, "write", 4),
            Buffer("p", 0),
        ),
        Bad {
            name: "read_freed",
            function: "read_null",
            mark: Some("read_null"),
            ..bad(
                "read_null",
                "int read_null(const int *p)",
                &["p=freed:i32:1,2"],
                (FREED, "read", 4),
                Buffer("p", 0),
            )
        },
        Bad {
            name: "write_freed",
            function: "write_null",
            mark: Some("write_null"),
            ..bad(
                "write_null",
                "void write_null(int *p)",
                &["p=freed:zero:64"],
                (FREED, "write", 4),
                Buffer("p", 0),
            )
        },
        bad(
            "read_null",
            "int read_null(const int *p)",
            &["p=null"],
            (WILD, "read", 4),
            Address(0),
        ),
        bad(
            "write_null",
            "void write_null(int *p)",
            &["p=null"],
            (WILD, "write", 4),
            Address(0),
        ),
        bad(
            "read_null_member",
            "short read_null_member(const char *p)",
            &["p=null"],
            (WILD, "read", 2),
            Address(0x28),
        ),
        bad(
            "read_at",
            READ_AT,
            &["addr=0x10000"],
            (WILD, "read", 4),
            Address(0x10000),
        ),
        bad(
            "write_at",
            WRITE_AT,
            &["addr=4096"],
            (WILD, "write", 1),
            Address(4096),
        ),
        Bad {
            name: "read_kernel",
            ..bad(
                "read_at",
                READ_AT,
                &["addr=0xffffffff81000000"],
                (WILD, "read", 4),
                Address(0xffff_ffff_8100_0000),
            )
        },
        Bad {
            name: "read_not_canonical",
            ..bad(
                "read_at",
                READ_AT,
                &["addr=0x8000000000000000"],
                (WILD, "read", 4),
                NotCanonical(0x8000_0000_0000_0000),
            )
        },
        Bad {
            name: "write_not_canonical",
            ..bad(
                "write_at",
                WRITE_AT,
                &["addr=0x4141414141414141"],
                (WILD, "write", 1),
                NotCanonical(0x4141_4141_4141_4141),
            )
        },
        // The culprit is not the called function but a local one that it calls.
        Bad {
            name: "oob_in_helper",
            function: "helper_writes",
            mark: Some("helper_writes"),
            ..bad(
                "oob_in_helper",
                "int oob_in_helper(char *p, size_t n)",
                &["p=uninit:5", "n=5"],
                (OOB, "write", 1),
                Buffer("p", 5),
            )
        },
        Bad {
            name: "thread_out_of_bounds",
            function: "oob_there",
            mark: Some("oob_there"),
            ..bad(
                "thread_out_of_bounds",
                "int thread_out_of_bounds(char *p)",
                &["p=uninit:5"],
                (OOB, "write", 1),
                Buffer("p", -1),
            )
        },
        // A reference to the middle: reported against the owner.
        Bad {
            name: "through_reference",
            ..bad(
                "oob_write_after",
                "void oob_write_after(char *p, size_t n)",
                &["p=uninit:10", "n=7"],
                (OOB, "write", 1),
                Buffer("p", 10),
            )
        },
    ];
    // A second parameter takes the reference; the first one owns the buffer.
    if let Some(last) = cases.last_mut() {
        last.prototype = "void oob_write_after(char *q, size_t n, char *p)";
        last.bindings = &["p=uninit:10", "q=&p+3", "n=7"];
    }
    let unoptimised = cases.clone().into_iter().map(|case| Bad {
        lib: Lib::O0,
        ..case
    });
    // Without debug information there is no line, but the exported name stays.
    let stripped = cases
        .clone()
        .into_iter()
        .filter(|case| !["helper_writes", "oob_there"].contains(&case.function))
        .map(|case| Bad {
            lib: Lib::Stripped,
            mark: None,
            ..case
        });
    let extra: Vec<Bad> = unoptimised.chain(stripped).collect();
    cases.extend(extra);
    cases
}
