//! Prototypes good and bad, as tables.

use super::*;
use crate::ctype::CType;

fn parse(prototype: &str, cdef: &str) -> Result<Prototype, PrototypeError> {
    let cdefs: Vec<String> = [cdef]
        .iter()
        .filter(|c| !c.is_empty())
        .map(|c| c.to_string())
        .collect();
    Prototype::parse(prototype, &cdefs)
}

/// Return type, then parameters, as spelled; `=N` is the size.
fn shape(p: &Prototype) -> String {
    let size = |ty: &CType| ty.by_value().map_or(0, |l| l.size);
    let params = p.params.iter().map(|q| {
        let promise = if q.pointee_const() { " ro" } else { "" };
        format!("{}:{}={}{promise}", q.name, q.ty.spelling, size(&q.ty.ty))
    });
    let params: Vec<String> = params.collect();
    format!("{} {}({})", p.ret.spelling, p.name, params.join(", "))
}

#[test]
fn good_prototypes() {
    let cases = [
        (
            "unsigned long crc32(unsigned long crc, const unsigned char *buf, unsigned int len)",
            "",
            "unsigned long crc32(crc:unsigned long=8, buf:const unsigned char *=8 ro, len:unsigned int=4)",
        ),
        ("void f(void);", "", "void f()"),
        ("int f()", "", "int f()"),
        (
            "const char *zlibVersion(void)",
            "",
            "const char * zlibVersion()",
        ),
        (
            "extern int f(const char *restrict s, size_t n) __attribute__((nonnull(1)));",
            "",
            "int f(s:const char *=8 ro, n:size_t=8)",
        ),
        (
            "int f(int a[static 3], char *argv[], double (*cb)(int, int), int g(int))",
            "",
            "int f(a:int *=8, argv:char **=8, cb:double (*)()=8, g:int (*)()=8)",
        ),
        (
            "short f(signed char a, unsigned short int b, long long c, bool d, char e, float g, uint8_t h)",
            "",
            "short f(a:signed char=1, b:unsigned short int=2, c:long long=8, d:bool=1, e:char=1, \
             g:float=4, h:uint8_t=1)",
        ),
        (
            "struct point mv(struct point p, const struct point *q)",
            "struct point { int x, y; }",
            "struct point mv(p:struct point=8, q:const struct point *=8 ro)",
        ),
        (
            "int f(Node n)",
            "typedef struct node { struct node *next; int v; } Node;",
            "int f(n:Node=16)",
        ),
        (
            "int f(s_t s)",
            "typedef struct s s_t; struct s { char c; double d; short h; };",
            "int f(s:s_t=24)",
        ),
        (
            "int f(struct s q)",
            "enum { N = 3 }; struct s { char c[4*N+1]; enum { A = 3, B = -1 } a; long l[sizeof(int)]; };",
            "int f(q:struct s=56)",
        ),
        (
            "int f(vec3 v, cstr s)",
            "typedef float vec3[3]; typedef const char *cstr;",
            "int f(v:vec3 *=8, s:cstr=8 ro)",
        ),
        (
            "int f(union u *q, FILE *f, struct unknown *s)",
            "union u { int a; float b; };",
            "int f(q:union u *=8, f:FILE *=8, s:struct unknown *=8)",
        ),
        ("int f(int a /* one */) // two", "", "int f(a:int=4)"),
        (
            "int\nf(\n  int a[2*len],\n  size_t len\n)",
            "",
            "int f(a:int *=8, len:size_t=8)",
        ),
        ("int (*f(int a))(int)", "", "int (*)() f(a:int=4)"),
        (
            "char **f(const char *const *a)",
            "",
            "char ** f(a:const char **=8 ro)",
        ),
    ];
    for (prototype, cdef, expected) in cases {
        match parse(prototype, cdef) {
            Ok(p) => assert_eq!(shape(&p), expected, "{prototype}"),
            Err(e) => panic!("{prototype}: {e}"),
        }
    }
}

#[test]
fn bad_prototypes_say_what_and_how_to_mend_it() {
    // prototype, --cdef, part of the message, part of the help
    let cases = [
        (
            "int f(int)",
            "",
            "parameter 1 (`int`) of `f` has no name",
            "'int name'",
        ),
        (
            "int f(int a, char *)",
            "",
            "parameter 2 (`char *`)",
            "'char *name'",
        ),
        (
            "int f(foo_t x)",
            "",
            "unknown type name `foo_t`",
            "--cdef 'typedef",
        ),
        (
            "int f(int x, foo_t *y)",
            "",
            "  int f(int x, foo_t *y)\n               ^^^^^",
            "--cdef",
        ),
        ("foo_t f(int x)", "", "unknown type name `foo_t`", "--cdef"),
        ("int f(foo_t)", "", "unknown type name `foo_t`", "--cdef"),
        (
            "int f(unit32_t x)",
            "",
            "unknown type name `unit32_t`",
            "`uint32_t`",
        ),
        (
            "int f(struct s x)",
            "struct s { Bytef *p; };",
            "unknown type name `Bytef` in --cdef",
            "--cdef",
        ),
        (
            "f(int x)",
            "",
            "syntax error in the prototype",
            "return type is missing",
        ),
        ("strlen", "", "syntax error", "whole prototype"),
        (
            "int f(int x",
            "",
            "  int f(int x\n             ^",
            "`(` is not closed",
        ),
        ("int f(int x))", "", "              ^", "as in a header"),
        ("int f(int a,)", "", "expected a type", "as in a header"),
        ("int f(int “x)", "", "syntax error", "U+201C"),
        ("int f(int &x)", "", "syntax error", "as in a header"),
        ("int operator+(int a)", "", "syntax error", "C++"),
        (
            "int f(int x)",
            "struct s { int x }",
            "syntax error in --cdef",
            "header",
        ),
        ("", "", "no function", "prototype of one function"),
        (
            "int x",
            "",
            "`x` is declared as `int`, not as a function",
            "one function",
        ),
        (
            "int f(int x); int g(int y);",
            "",
            "2 things",
            "one function",
        ),
        ("int f(int x) { return x; }", "", "body", "one function"),
        ("#include <zlib.h>", "", "preprocessor", "#include"),
        (
            "int f(struct p q)",
            "",
            "`struct p` is named, but its members are not",
            "--cdef 'struct p {",
        ),
        ("struct p f(int x)", "", "return value of `f`", "--cdef"),
        ("int f(FILE f)", "", "struct _IO_FILE", "--cdef"),
        ("int f(long double _Complex z)", "", "complex", "pointer"),
        (
            "int f(struct s q)",
            "struct s { int a : 3; };",
            "bit-fields",
            "pointer",
        ),
        (
            "int f(struct s q)",
            "struct s { int n; char c[]; };",
            "array without elements",
            "pointer",
        ),
        (
            "int f(struct s q)",
            "struct s { };",
            "has no bytes",
            "pointer",
        ),
        (
            "int f(struct s q)",
            "struct __attribute__((packed)) s { char c; int a; };",
            "`packed`",
            "wrap",
        ),
        (
            "int f(int x)",
            "struct s { int a; } __attribute__((unused, aligned(64)));",
            "`aligned`",
            "wrap",
        ),
        ("int f(_Atomic int x)", "", "_Atomic", "leave"),
        (
            "int f(int x)",
            "struct s { char c[n]; };",
            "`n` is no integer constant",
            "number",
        ),
        (
            "int f(int x)",
            "struct s { char c[-1]; };",
            "-1 elements",
            "declaration",
        ),
        ("int f(void x)", "", "declared `void`", "declaration"),
        (
            "unsigned float f(int x)",
            "",
            "`unsigned float` is no type",
            "declaration",
        ),
        (
            "int f(int a, int a)",
            "",
            "two parameters named `a`",
            "own name",
        ),
    ];
    for (prototype, cdef, what, help) in cases {
        match parse(prototype, cdef) {
            Err(error) => {
                let (text, mends) = (error.to_string(), error.help());
                assert!(text.contains(what), "{prototype}: {text}");
                assert!(mends.contains(help), "{prototype}: {mends}");
                assert!(text.lines().all(|l| l.chars().count() <= 120), "{text}");
            }
            Ok(p) => panic!("{prototype} {cdef} was taken as {}", shape(&p)),
        }
    }
}

#[test]
fn constants_of_enumerations() {
    let p = parse(
        "int f(enum e x)",
        "enum e { A, B = 0x10, C, D = 1 << 5, E = -'a', F = 010 };",
    );
    let p = p.unwrap_or_else(|e| panic!("{e}"));
    let expected = [
        ("A", 0),
        ("B", 16),
        ("C", 17),
        ("D", 32),
        ("E", -97),
        ("F", 8),
    ];
    assert_eq!(p.constants, expected.map(|(n, v)| (n.to_owned(), v)));
    assert_eq!(
        p.params[0].ty.ty.as_int(),
        Some(crate::ctype::IntType {
            bytes: 4,
            signed: true
        })
    );
}

#[test]
fn hostile_text_is_refused_quickly() {
    let started = std::time::Instant::now();
    let deep = format!("int f(int {}a{})", "(".repeat(5000), ")".repeat(5000));
    assert!(parse(&deep, "").is_err());
    assert!(parse(&"int ".repeat(40_000), "").is_err());
    for open in [
        "(",
        "[",
        "{",
        "*",
        "int (",
        "struct {",
        "struct s { struct s {",
    ] {
        let _ = parse(&format!("int f(int {}", open.repeat(20)), "");
        let _ = parse("int f(int x)", &open.repeat(20));
    }
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(300))]

    /// Whatever is written, the answer is an answer.
    #[test]
    fn any_text_is_answered(
        words in proptest::collection::vec(
            proptest::sample::select(vec![
                "int", "char", "*", "(", ")", ",", "struct", "s", "{", "}", ";", "const", "x",
                "[", "]", "3", "...", "unsigned", "enum", "=", "typedef", "é", "\"", "'", "/*", ":",
            ]),
            0..24,
        )
    ) {
        let text = words.join(" ");
        if let Err(error) = parse(&text, "") {
            let _ = (error.to_string(), error.help());
        }
        if let Err(error) = parse("int f(struct s *x)", &text) {
            let _ = (error.to_string(), error.help());
        }
    }
}

#[test]
fn wide_and_variadic() {
    let signature = |text: &str, cdef: &str| {
        let cdefs: Vec<String> = [cdef.to_owned()]
            .into_iter()
            .filter(|c| !c.is_empty())
            .collect();
        let parsed = Prototype::parse(text, &cdefs).unwrap_or_else(|e| panic!("{text}: {e}"));
        (crate::ffi::Signature::from(&parsed).to_string(), parsed)
    };
    let cases = [
        (
            "unsigned __int128 f(__int128 a, __int128 unsigned b, const __uint128_t *c)",
            "unsigned __int128 (__int128, unsigned __int128, const unsigned __int128 *)",
        ),
        (
            "long double f(float _Complex z, double _Complex w)",
            "long double (float _Complex, double _Complex)",
        ),
        (
            "int printf(const char *fmt, ...)",
            "int (const char *, ...)",
        ),
        (
            "int printf(const char *fmt, ..., char c, float x, long l)",
            "int (const char *, ..., int, double, long)",
        ),
        (
            "void qsort(void *base, size_t n, size_t size, int (*compare)(const void *, const void *))",
            "void (void *, unsigned long, unsigned long, int (*)(const void *, const void *))",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(signature(text, "").0, expected, "{text}");
    }
    let (shown, parsed) = signature(
        "union u f(union u q)",
        "union u { int a; double b; char c[9]; };",
    );
    assert_eq!(shown, "union u (union u)");
    assert_eq!(parsed.params[0].ty.ty.by_value().map(|l| l.size), Ok(16));
    // Where the types of the tail begin, messages still point to the right column.
    let error = Prototype::parse("int f(int a, ..., int “x)", &[]).map(|_| ());
    let error = error.map_err(|e| e.to_string());
    assert!(error.is_err_and(|e| e.contains("                      ^")));
}
