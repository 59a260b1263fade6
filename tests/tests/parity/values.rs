//! Arguments and results of every type, and structs. See `native/values.c`.

use ffitrace_tests::case::Case;
use ffitrace_tests::fixture::Lib;

const POINT: &str = "struct point { int x, y; };";
const PAIR: &str = "struct pair_d { double a, b; };";
const MIXED: &str = "struct mixed { int64_t count; double ratio; };";
const MANY_ARGS: &str = "double many_args(int a, double b, long c, float d, unsigned char e, \
     short f, int64_t g, uint64_t h, double i, double j, float k, double l, double m, double n, \
     double o, int p)";
const TEN_INTS: &str = "int64_t ten_ints(int64_t a, int64_t b, int64_t c, int64_t d, int64_t e, \
     int64_t f, int64_t g, int64_t h, int64_t i, int64_t j)";
const NESTED: &str = "struct point { int x, y; }; \
     struct nested { struct point p; float f; uint8_t tail; };";
const BIG: &str = "struct big { int64_t a, b, c, d; };";

fn scalar(name: &str, prototype: &str, v: &str, expected: &[&str]) -> Case {
    let binding = format!("v={v}");
    Case::new(name, prototype, [binding.as_str()]).ret_one_of(expected.iter().copied())
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        scalar("i8", "int8_t id_i8(int8_t v)", "-128", &["-128"]),
        scalar("u8", "uint8_t id_u8(uint8_t v)", "255", &["255"]),
        scalar("i16", "int16_t id_i16(int16_t v)", "-32768", &["-32768"]),
        scalar("u16", "uint16_t id_u16(uint16_t v)", "0xffff", &["65535"]),
        scalar(
            "i32",
            "int32_t id_i32(int32_t v)",
            "-2147483648",
            &["-2147483648"],
        ),
        scalar(
            "u32",
            "uint32_t id_u32(uint32_t v)",
            "4294967295",
            &["4294967295"],
        ),
        scalar(
            "i64_min",
            "int64_t id_i64(int64_t v)",
            "-9223372036854775808",
            &["-9223372036854775808"],
        ),
        scalar(
            "i64_max",
            "int64_t id_i64(int64_t v)",
            "9223372036854775807",
            &["9223372036854775807"],
        ),
        scalar(
            "u64",
            "uint64_t id_u64(uint64_t v)",
            "18446744073709551615",
            &["18446744073709551615"],
        ),
        scalar(
            "size",
            "size_t id_size(size_t v)",
            "0xffffffffffffffff",
            &["18446744073709551615"],
        ),
        scalar("long", "long id_long(long v)", "-5", &["-5"]),
        scalar(
            "longlong",
            "long long id_longlong(long long int v)",
            "-5",
            &["-5"],
        ),
        scalar(
            "ushort",
            "unsigned short id_ushort(unsigned short v)",
            "65535",
            &["65535"],
        ),
        scalar("float", "float half_f(float v)", "1.5", &["0.75"]),
        scalar("double", "double half_d(double v)", "-5", &["-2.5"]),
        scalar("bool", "bool not_bool(bool v)", "0", &["1", "true"]),
        Case::new("char", "char next_char(char c)", ["c=65"])
            .ret_one_of(["66", "B", "'B'", "66 'B'"]),
        // The other spellings of a prototype.
        Case::new(
            "keyword_order",
            "unsigned long int id_u64(long unsigned int v)",
            ["v=7"],
        )
        .ret("7"),
        Case::new("semicolon", "extern int32_t id_i32(int32_t v);", ["v=7"]).ret("7"),
        Case::new("void_list", "void nothing(void)", []).on_every_build(),
        Case::new(
            "many_args",
            MANY_ARGS,
            [
                "a=1", "b=2", "c=3", "d=4", "e=5", "f=6", "g=7", "h=8", "i=9", "j=10", "k=11",
                "l=12", "m=13", "n=14", "o=15", "p=16",
            ],
        )
        .ret_numbers(&[4447.0]),
        Case::new(
            "ten_ints",
            TEN_INTS,
            // Order on the command line does not matter.
            [
                "j=10", "b=2", "c=3", "d=4", "e=5", "f=6", "g=7", "h=8", "i=9", "a=1",
            ],
        )
        .ret("385"),
        Case::new("null_pointer", "void *null_pointer(void)", []).ret_one_of(["0x0", "null", "0"]),
        Case::new(
            "pointer_result",
            "void *advance(void *p, size_t n)",
            ["p=zero:16", "n=4"],
        ),
        Case::new("null_argument", "int untouched(const void *p)", ["p=null"]).ret("0"),
        Case::new(
            "struct_two_ints",
            "struct point make_point(int x, int y)",
            ["x=3", "y=-4"],
        )
        .option(["--cdef", POINT])
        .ret_numbers(&[3.0, -4.0]),
        Case::new(
            "struct_two_doubles",
            "struct pair_d make_pair_d(double a, double b)",
            ["a=1.5", "b=-2.5"],
        )
        .option(["--cdef", PAIR])
        .ret_numbers(&[1.5, -2.5]),
        Case::new(
            "struct_mixed",
            "struct mixed make_mixed(int64_t i, double d)",
            ["i=9", "d=0.5"],
        )
        .option(["--cdef", MIXED])
        .ret_numbers(&[9.0, 0.5]),
        Case::new(
            "struct_in_memory",
            "struct big make_big(int64_t a)",
            ["a=10"],
        )
        .option(["--cdef", BIG])
        .ret_numbers(&[10.0, 11.0, 12.0, 13.0]),
        Case::new(
            "struct_argument",
            "int sum_point(struct point p)",
            ["p={3,-4}"],
        )
        .option(["--cdef", POINT])
        .ret("-1"),
        Case::new(
            "struct_argument_mixed",
            "double sum_mixed(struct mixed m)",
            ["m={.count=9,.ratio=0.5}"],
        )
        .option(["--cdef", MIXED])
        .ret("9.5"),
        Case::new(
            "struct_argument_in_memory",
            "int64_t sum_big(struct big b)",
            ["b={1,2,3,4}"],
        )
        .option(["--cdef", BIG])
        .ret("10"),
        Case::new(
            "struct_argument_nested",
            "int sum_nested(struct nested n)",
            ["n={{1,2},4,8}"],
        )
        .option(["--cdef", NESTED])
        .ret("15"),
        // A pointer in a buffer, to another buffer: both are read.
        Case::new(
            "through_pointer",
            "int through_pointer(int *const *slot)",
            ["slot=ptr:&target+4", "target=i32:1,2"],
        )
        .ret("2")
        .reads("slot", &[(0, 8)])
        .reads("target", &[(4, 8)])
        .events("r slot 0 8; r target 4 4")
        .on_every_build(),
        Case::new(
            "copy_struct",
            "void copy_struct(void *dst, const void *src)",
            ["dst=uninit:40", "src=u64:1,2,3,4,5"],
        )
        .reads("src", &[(0, 40)])
        .writes("dst", &[(0, 40)])
        .initializes("dst", &[(0, 40)])
        .holds(
            "dst",
            "01000000000000000200000000000000030000000000000004000000000000000500000000000000",
        )
        .on_every_build(),
        Case::new(
            "fill_point",
            "void fill_point(struct point *p, int x, int y)",
            ["p=uninit:12", "x=1", "y=2"],
        )
        .option(["--cdef", POINT])
        .writes("p", &[(0, 8)])
        .initializes("p", &[(0, 8)])
        .on_every_build(),
        Case::new("fill_gap", "void fill_gap(void *g)", ["g=uninit:12"])
            .writes("g", &[(0, 4), (8, 12)])
            .initializes("g", &[(0, 4), (8, 12)])
            .on_every_build(),
        // The named library's own export works; its dependency's is refused (see usage.rs).
        Case::new("through_dependency", "int uses_dep(int v)", ["v=4"])
            .on(Lib::UsesDep)
            .ret("10"),
        Case::new("calls_private", "int calls_private(int v)", ["v=4"])
            .on(Lib::UsesDep)
            .ret("8"),
    ]
}
