//! From text alone: unions, 128-bit integers, `long double`, complex numbers, variadic calls.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use super::call;
use crate::binding;
use crate::prototype::Prototype;

const FIXTURE: &str = r#"
#include <stdarg.h>
union number { int i; double d; unsigned char bytes[9]; };
union small { float f; int i; };
struct tagged { int tag; union small value; };
union number number(union number n) { n.bytes[8]++; return n; }
struct tagged tagged(struct tagged t) { t.tag++; t.value.f *= 2; return t; }
unsigned __int128 twice(unsigned __int128 v) { return v * 2; }
__int128 minus(__int128 v) { return -v; }
long double third(long double v) { return v / 3; }
float _Complex conjugate(float _Complex z) { return ~z; }
double _Complex square(double _Complex z) { return z * z; }
struct wide { char c; __int128 w; long double d; };
struct wide wide(struct wide w) { w.c++; w.w = -w.w; w.d *= 2; return w; }
long total(int n, ...) { va_list l; va_start(l, n); long t = 0; while (n--) t += va_arg(l, int); return t; }
"#;

fn library() -> &'static OsStr {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap_or_else(|e| panic!("{e}")).keep();
        let (source, library) = (dir.join("wide.c"), dir.join("libwide.so"));
        std::fs::write(&source, FIXTURE).unwrap_or_else(|e| panic!("{e}"));
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([&library, &source])
            .status();
        assert!(built.unwrap_or_else(|e| panic!("cc: {e}")).success());
        library
    });
    built.as_os_str()
}

#[test]
fn values_as_text() {
    let number = "union number { int i; double d; unsigned char bytes[9]; };";
    let tagged = "union small { float f; int i; }; struct tagged { int tag; union small value; };";
    let wide = "struct wide { char c; __int128 w; long double d; };";
    let cases: &[(&str, &str, &[&str], &str)] = &[
        (
            "unsigned __int128 twice(unsigned __int128 v)",
            "",
            &["v=0x7fffffffffffffffffffffffffffffff"],
            "340282366920938463463374607431768211454",
        ),
        ("__int128 minus(__int128 v)", "", &["v=-5"], "5"),
        (
            "__int128 minus(__int128 v)",
            "",
            &["v=-0x80000000000000000000000000000000"],
            "-170141183460469231731687303715884105728",
        ),
        (
            "__int128_t minus(__int128_t v)",
            "",
            &["v=170141183460469231731687303715884105727"],
            "-170141183460469231731687303715884105727",
        ),
        ("long double third(long double v)", "", &["v=0.3"], "0.1"),
        ("long double third(long double v)", "", &["v=3"], "1"),
        (
            "float _Complex conjugate(float _Complex z)",
            "",
            &["z=1.5-2i"],
            "1.5+2i",
        ),
        (
            "double _Complex square(double _Complex z)",
            "",
            &["z=1e1+1i"],
            "99+20i",
        ),
        (
            "double _Complex square(double _Complex z)",
            "",
            &["z=3"],
            "9+0i",
        ),
        (
            "double _Complex square(double _Complex z)",
            "",
            &["z=2i"],
            "-4+0i",
        ),
        (
            "union number number(union number n)",
            number,
            &["n={.d=1.5}"],
            "{.i=0,.d=1.5,.bytes={0,0,0,0,0,0,248,63,1}}",
        ),
        (
            "struct tagged tagged(struct tagged t)",
            tagged,
            &["t={1,{.f=0.5}}"],
            "{.tag=2,.value={.f=1,.i=1065353216}}",
        ),
        (
            "struct wide wide(struct wide w)",
            wide,
            &["w={'a',-1,0.1}"],
            "{.c=98,.w=1,.d=0.2}",
        ),
        ("long total(int n, ...)", "", &["n=0"], "0"),
        (
            "long total(int n, ..., int a, short b, char c, int d, int e, int f, int g)",
            "",
            &[
                "n=7", "a=1", "b=-2", "c=3", "d=40", "e=500", "f=6000", "g=70000",
            ],
            "76542",
        ),
    ];
    for (prototype, cdef, bindings, expected) in cases {
        let (found, _) = call(library(), prototype, cdef, bindings);
        assert_eq!(found.text(), *expected, "{prototype} {bindings:?}");
    }
}

#[test]
fn printf_into_a_buffer() {
    let prototype = "int snprintf(char *out, size_t n, const char *fmt, ..., float x, char *s)";
    let bindings = [
        "out=zero:32",
        "n=len(out)",
        "fmt=str:%g %s",
        "x=2.5",
        "s=str:text",
    ];
    let (ret, memory) = call("libc.so.6".as_ref(), prototype, "", &bindings);
    assert_eq!(ret.text(), "8");
    assert_eq!(&memory[0][..9], b"2.5 text\0");
}

#[test]
fn values_that_do_not_suit() {
    let union = "union u { int i; double d; };";
    let cases = [
        (
            "void f(union u v)",
            union,
            "v={1,2.5}",
            "more than one member of `union u`",
        ),
        ("void f(union u v)", union, "v={.x=1}", "has no field `x`"),
        ("void f(union u v)", union, "v=1", "one number"),
        (
            "void f(__int128 v)",
            "",
            "v=170141183460469231731687303715884105728",
            "-170141183460469231731687303715884105728 to 170141183460469231731687303715884105727",
        ),
        (
            "void f(unsigned __int128 v)",
            "",
            "v=-1",
            "0 to 340282366920938463463374607431768211455",
        ),
        (
            "void f(long double v)",
            "",
            "v=ten",
            "no number for `long double`",
        ),
        ("void f(double _Complex v)", "", "v=1+xi", "no number for"),
        ("void f(int n, ..., float x)", "", "n=1", "x"),
    ];
    for (prototype, cdef, binding, expected) in cases {
        let cdefs: Vec<String> = [cdef.to_owned()]
            .into_iter()
            .filter(|c| !c.is_empty())
            .collect();
        let parsed = Prototype::parse(prototype, &cdefs).unwrap_or_else(|e| panic!("{e}"));
        match binding::plan(&parsed, &[OsString::from(binding)]) {
            Ok(plan) => panic!("{prototype} {binding}: {plan:?}"),
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains(expected), "{binding}: {text}");
            }
        }
    }
}

#[test]
fn what_is_missing_for_a_variadic_call_is_told() {
    let prototype = Prototype::parse("int printf(const char *fmt, ...)", &[]);
    let prototype = prototype.unwrap_or_else(|e| panic!("{e}"));
    let bindings = ["fmt=str:%d", "n=5"].map(OsString::from);
    match binding::plan(&prototype, &bindings) {
        Ok(plan) => panic!("{plan:?}"),
        Err(error) => assert!(
            error.help().ends_with("after `...,`: '..., int n'"),
            "{}",
            error.help()
        ),
    }
}
