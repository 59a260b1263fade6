//! The wrong command lines, and what the answer must name.

use ffitrace_tests::fixture::Lib;

/// A command line that must be refused.
pub(crate) struct Wrong {
    pub(crate) name: &'static str,
    pub(crate) arguments: Vec<String>,
    /// Exit statuses of which it must be one.
    pub(crate) codes: &'static [i32],
    /// The message must contain one word of each group (in lower case).
    pub(crate) says: Vec<Vec<&'static str>>,
}

const USAGE: &[i32] = &[2];
const ENVIRONMENT: &[i32] = &[3];
/// Where the contract leaves open whose fault it is.
const EITHER: &[i32] = &[2, 3];

fn wrong(
    name: &'static str,
    arguments: impl IntoIterator<Item = impl Into<String>>,
    codes: &'static [i32],
    says: &[&[&'static str]],
) -> Wrong {
    Wrong {
        name,
        arguments: arguments.into_iter().map(Into::into).collect(),
        codes,
        says: says.iter().map(|group| group.to_vec()).collect(),
    }
}

/// A wrong `call` of the `-O2` fixtures.
fn call(
    name: &'static str,
    prototype: &str,
    rest: &[&str],
    codes: &'static [i32],
    says: &[&[&'static str]],
) -> Wrong {
    call_in(Lib::O2, name, prototype, rest, codes, says)
}

fn call_in(
    lib: Lib,
    name: &'static str,
    prototype: &str,
    rest: &[&str],
    codes: &'static [i32],
    says: &[&[&'static str]],
) -> Wrong {
    let library = lib.path().display().to_string();
    let head = ["call".to_string(), library, prototype.to_string()];
    wrong(
        name,
        head.into_iter().chain(rest.iter().map(ToString::to_string)),
        codes,
        says,
    )
}

const LOAD: &str = "uint32_t load4(const void *p)";
const ID: &str = "int32_t id_i32(int32_t v)";
const MEMSET: &str = "void fx_memset(void *d, int c, size_t n)";

pub(crate) fn prototypes() -> Vec<Wrong> {
    vec![
        call("prototype_empty", "", &[], USAGE, &[&["prototype"]]),
        call(
            "prototype_garbage",
            "this is not C (",
            &[],
            USAGE,
            &[&["prototype", "parse", "syntax"]],
        ),
        call(
            "prototype_name_only",
            "load4",
            &[],
            USAGE,
            &[&["prototype", "load4"]],
        ),
        call(
            "prototype_unclosed",
            "int id_i32(int v",
            &["v=1"],
            USAGE,
            &[&["prototype", ")"]],
        ),
        call(
            "prototype_unnamed",
            "int id_i32(int)",
            &["v=1"],
            USAGE,
            &[&["name"]],
        ),
        call(
            "prototype_same_name_twice",
            "int cmp_mem4(const void *p, int p)",
            &["p=zero:4"],
            USAGE,
            &[&["p"]],
        ),
        call(
            "prototype_unknown_type",
            "int id_i32(wombat_t v)",
            &["v=1"],
            USAGE,
            &[&["wombat_t"], &["--cdef", "unknown", "declare"]],
        ),
        call(
            "prototype_unknown_struct",
            "int sum_point(struct wombat v)",
            &["v=1"],
            USAGE,
            &[&["wombat"]],
        ),
        call(
            "prototype_variadic",
            "int id_i32(int v, ..., int)",
            &["v=1"],
            USAGE,
            &[&["name"], &["id_i32"]],
        ),
        call(
            "prototype_two",
            "int a(int x); int b(int y);",
            &["x=1"],
            USAGE,
            &[&["one", "prototype"]],
        ),
        call(
            "cdef_garbage",
            ID,
            &["v=1", "--cdef", "struct {"],
            USAGE,
            &[&["cdef"]],
        ),
    ]
}

pub(crate) fn bindings() -> Vec<Wrong> {
    vec![
        call(
            "binding_missing",
            LOAD,
            &[],
            USAGE,
            &[&["p"], &["bind", "missing", "value", "p="]],
        ),
        call(
            "binding_missing_one",
            MEMSET,
            &["d=zero:4", "n=4"],
            USAGE,
            &[&["\"c\"", "`c`", "'c'", " c ", "c="]],
        ),
        call(
            "binding_unknown",
            LOAD,
            &["p=zero:4", "wombat=1"],
            USAGE,
            &[&["wombat"]],
        ),
        call(
            "binding_twice",
            ID,
            &["v=1", "v=2"],
            USAGE,
            &[
                &["v"],
                &["twice", "already", "more than once", "again", "duplicate"],
            ],
        ),
        call(
            "binding_without_value",
            ID,
            &["v"],
            USAGE,
            &[&["v"], &["="]],
        ),
        call(
            "binding_without_name",
            ID,
            &["=1"],
            USAGE,
            &[&["name", "=1"]],
        ),
        call("scalar_empty", ID, &["v="], USAGE, &[&["v"]]),
        call(
            "scalar_not_a_number",
            ID,
            &["v=wombat"],
            USAGE,
            &[&["wombat"]],
        ),
        call(
            "scalar_too_large",
            ID,
            &["v=2147483648"],
            USAGE,
            &[&["2147483648"]],
        ),
        call(
            "scalar_too_small",
            "uint8_t id_u8(uint8_t v)",
            &["v=-1"],
            USAGE,
            &[&["-1"]],
        ),
        call(
            "scalar_huge",
            "uint64_t id_u64(uint64_t v)",
            &["v=18446744073709551616"],
            USAGE,
            &[&["18446744073709551616"]],
        ),
        call(
            "scalar_fraction_for_integer",
            ID,
            &["v=1.5"],
            USAGE,
            &[&["1.5"]],
        ),
        call("scalar_bad_hex", ID, &["v=0xzz"], USAGE, &[&["0xzz"]]),
        call("null_for_integer", ID, &["v=null"], USAGE, &[&["null"]]),
        call(
            "buffer_for_integer",
            ID,
            &["v=zero:8"],
            USAGE,
            &[&["zero:8", "buffer", "pointer"]],
        ),
        call("fraction_for_pointer", LOAD, &["p=1.5"], USAGE, &[&["1.5"]]),
        call(
            "buffer_unknown_form",
            LOAD,
            &["p=wombat:8"],
            USAGE,
            &[&["wombat"]],
        ),
        call("hex_odd", LOAD, &["p=hex:012"], USAGE, &[&["hex"]]),
        call("hex_not_digits", LOAD, &["p=hex:zz"], USAGE, &[&["zz"]]),
        call(
            "size_not_a_number",
            LOAD,
            &["p=zero:wombat"],
            USAGE,
            &[&["wombat"]],
        ),
        call("size_negative", LOAD, &["p=zero:-1"], USAGE, &[&["-1"]]),
        call(
            "size_beyond_limit",
            LOAD,
            &["p=zero:1000000000000"],
            EITHER,
            &[&["1000000000000", "512", "large", "memory"]],
        ),
        call(
            "element_out_of_range",
            LOAD,
            &["p=u8:1,256"],
            USAGE,
            &[&["256"]],
        ),
        call(
            "element_not_a_number",
            LOAD,
            &["p=f32:1.5,wombat"],
            USAGE,
            &[&["wombat"]],
        ),
        call(
            "file_missing",
            LOAD,
            &["p=@/nonexistent/wombat"],
            EITHER,
            &[
                &["/nonexistent/wombat"],
                &["no such file", "not found", "does not exist"],
            ],
        ),
        call(
            "file_is_a_directory",
            LOAD,
            &["p=@/"],
            EITHER,
            &[&["directory"]],
        ),
        call(
            "reference_unknown",
            LOAD,
            &["p=&wombat"],
            USAGE,
            &[&["wombat"]],
        ),
        call(
            "reference_to_scalar",
            MEMSET,
            &["d=&c", "c=1", "n=1"],
            USAGE,
            &[&["c"]],
        ),
        call(
            "reference_to_itself",
            LOAD,
            &["p=&p"],
            USAGE,
            &[&["p"], &["itself", "cycle", "circular", "own", "buffer"]],
        ),
        call(
            "reference_cycle",
            "void fx_memcpy(void *d, const void *s, size_t n)",
            &["d=&s", "s=&d", "n=1"],
            USAGE,
            &[&["d", "s"]],
        ),
        call(
            "reference_bad_offset",
            "void fx_memcpy(void *d, const void *s, size_t n)",
            &["d=zero:8", "s=&d+wombat", "n=1"],
            USAGE,
            &[&["wombat"]],
        ),
        call(
            "len_of_unknown",
            MEMSET,
            &["d=zero:8", "c=1", "n=len(wombat)"],
            USAGE,
            &[&["wombat"]],
        ),
        call(
            "len_of_scalar",
            MEMSET,
            &["d=zero:8", "c=1", "n=len(c)"],
            USAGE,
            &[&["c"]],
        ),
        call(
            "len_unclosed",
            MEMSET,
            &["d=zero:8", "c=1", "n=len(d"],
            USAGE,
            &[&["len(d"]],
        ),
    ]
}

pub(crate) fn functions() -> Vec<Wrong> {
    let not_there = |name, library: &str, codes, says: &[&[&'static str]]| {
        wrong(name, ["call", library, ID, "v=1"], codes, says)
    };
    vec![
        call(
            "function_unknown",
            "int wombat(int v)",
            &["v=1"],
            USAGE,
            &[&["wombat"], &["libfx_o2.so"], &["export"]],
        ),
        call(
            "function_misspelt",
            "int id_i33(int v)",
            &["v=1"],
            USAGE,
            &[&["id_i33"]],
        ),
        call_in(
            Lib::UsesDep,
            "function_hidden",
            "int hidden_function(int v)",
            &["v=1"],
            USAGE,
            &[&["hidden_function"], &["export"]],
        ),
        call_in(
            Lib::UsesDep,
            "function_static",
            "int static_function(int v)",
            &["v=1"],
            USAGE,
            &[&["static_function"], &["export"]],
        ),
        // The dynamic loader would find it in the dependency; it is not this library's.
        call_in(
            Lib::UsesDep,
            "function_of_dependency",
            "int dep_only(int v)",
            &["v=1"],
            USAGE,
            &[&["dep_only"], &["libfx_uses_dep.so"]],
        ),
        call_in(
            Lib::UsesDep,
            "function_of_libc",
            "int atoi(const char *s)",
            &["s=str:1"],
            USAGE,
            &[&["atoi"]],
        ),
        call_in(
            Lib::UsesDep,
            "function_is_data",
            "int exported_data(int v)",
            &["v=1"],
            USAGE,
            &[
                &["exported_data"],
                &["function", "data", "object", "variable"],
            ],
        ),
        not_there(
            "library_missing",
            "/nonexistent/libwombat.so",
            ENVIRONMENT,
            &[&["libwombat.so"]],
        ),
        not_there(
            "library_name_unknown",
            "libwombat.so.1",
            ENVIRONMENT,
            &[&["libwombat.so.1"]],
        ),
        not_there(
            "library_is_text",
            concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
            ENVIRONMENT,
            &[&["cargo.toml"]],
        ),
        not_there("library_is_a_directory", "/", ENVIRONMENT, &[&["/"]]),
    ]
}

pub(crate) fn options() -> Vec<Wrong> {
    let option = |name, arguments: &[&str], codes, says: &[&[&'static str]]| {
        let rest: Vec<&str> = ["v=1"]
            .into_iter()
            .chain(arguments.iter().copied())
            .collect();
        call(name, ID, &rest, codes, says)
    };
    vec![
        wrong("no_command", Vec::<String>::new(), USAGE, &[&["usage"]]),
        wrong("unknown_command", ["wombat"], USAGE, &[&["wombat"]]),
        wrong("call_without_library", ["call"], USAGE, &[&["library"]]),
        wrong(
            "call_without_prototype",
            ["call", "libz.so.1"],
            USAGE,
            &[&["prototype"]],
        ),
        option("unknown_option", &["--wombat"], USAGE, &[&["--wombat"]]),
        option(
            "backend_unknown",
            &["--backend", "wombat"],
            USAGE,
            &[&["wombat"], &["inproc"]],
        ),
        option(
            "backend_without_value",
            &["--backend"],
            USAGE,
            &[&["--backend"]],
        ),
        option(
            "hot_not_a_number",
            &["--hot", "wombat"],
            USAGE,
            &[&["wombat"]],
        ),
        option("repeat_zero", &["--repeat", "0"], USAGE, &[&["0"]]),
        option(
            "repeat_not_a_number",
            &["--repeat", "often"],
            USAGE,
            &[&["often"]],
        ),
        option(
            "timeout_not_a_number",
            &["--timeout", "soon"],
            USAGE,
            &[&["soon"]],
        ),
        option("timeout_negative", &["--timeout=-1"], USAGE, &[&["-1"]]),
        option(
            "format_unknown",
            &["--format", "xml"],
            USAGE,
            &[&["xml"], &["json"]],
        ),
        option(
            "events_unknown_kind",
            &["--events", "/tmp/trace.wombat"],
            USAGE,
            &[&["wombat"], &["jsonl"]],
        ),
        option(
            "events_no_directory",
            &["--events", "/nonexistent/trace.jsonl"],
            EITHER,
            &[&["/nonexistent/trace.jsonl"]],
        ),
    ]
}
