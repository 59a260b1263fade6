//! Bindings good and bad, as tables.

mod refused;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::*;
use crate::prototype::Prototype;

fn bind(prototype: &str, cdef: &str, bindings: &str) -> Result<Plan, BindingError> {
    let cdefs: Vec<String> = [cdef]
        .iter()
        .filter(|c| !c.is_empty())
        .map(|c| c.to_string())
        .collect();
    let prototype = Prototype::parse(prototype, &cdefs).unwrap_or_else(|e| panic!("{e}"));
    let bindings: Vec<OsString> = bindings.split_whitespace().map(OsString::from).collect();
    plan(&prototype, &bindings)
}

fn good(prototype: &str, cdef: &str, bindings: &str) -> Plan {
    bind(prototype, cdef, bindings).unwrap_or_else(|e| panic!("{bindings}: {e}\n{}", e.help()))
}

const GEO: &str = "struct point { int x, y; }; enum color { RED, GREEN = 16 };
    struct shape { struct point at; char name[4]; const char *label; char *out; double w; };";

#[test]
fn scalars() {
    // type, value, bits
    let cases: &[(&str, &str, u64)] = &[
        ("int", "42", 42),
        ("int", "-1", 0xffff_ffff),
        ("int", "0x10", 16),
        ("int", "-0x10", 0xffff_fff0),
        ("int", "+7", 7),
        ("int", "0b101", 5),
        ("int", "'a'", 97),
        ("int", "'\\n'", 10),
        ("int", "'\\x7f'", 127),
        ("int", "','", 44),
        ("int", "GREEN", 16),
        ("enum color", "GREEN", 16),
        ("signed char", "-128", 0x80),
        ("unsigned char", "255", 255),
        ("long", "-9223372036854775808", 1 << 63),
        ("uint64_t", "18446744073709551615", u64::MAX),
        ("bool", "true", 1),
        ("_Bool", "0", 0),
        ("double", "1.5", 0x3ff8_0000_0000_0000),
        ("double", "-2", 0xc000_0000_0000_0000),
        ("double", ".5", 0x3fe0_0000_0000_0000),
        ("double", "inf", 0x7ff0_0000_0000_0000),
        ("float", "0x10", 0x4180_0000),
        ("float", "0.1", 0x3dcc_cccd),
        ("float", "1e-10", 0x2edb_e6ff),
        ("char *", "null", 0),
        ("void *", "0xdeadbeef", 0xdead_beef),
        ("void", "", 0),
    ];
    for (ty, value, bits) in cases.iter().filter(|c| c.0 != "void") {
        let found = good(&format!("void f({ty} x)"), GEO, &format!("x={value}"));
        assert_eq!(
            found.args,
            [ArgValue::Scalar(u128::from(*bits))],
            "{ty} {value}"
        );
        assert!(found.buffers.is_empty());
    }
}

#[test]
fn buffers() {
    let bytes = |b: &[u8]| BufferInit::Bytes(b.to_vec());
    let cases = [
        ("str:hello", bytes(b"hello\0")),
        ("str:", bytes(b"\0")),
        ("bytes:a=b:c", bytes(b"a=b:c")),
        ("bytes:", bytes(b"")),
        ("hex:00fF", bytes(&[0, 255])),
        ("hex:00_11", bytes(&[0, 17])),
        ("zero:64", BufferInit::Zeroed(64)),
        ("zero:0", BufferInit::Zeroed(0)),
        ("uninit:0x40", BufferInit::Uninit(64)),
        ("uninit:64k", BufferInit::Uninit(65536)),
        ("uninit:512M", BufferInit::Uninit(512 << 20)),
        ("u8:1,2,0xff", bytes(&[1, 2, 255])),
        ("i16:-1,2", bytes(&[255, 255, 2, 0])),
        ("u32:", bytes(&[])),
        ("u64:1", bytes(&[1, 0, 0, 0, 0, 0, 0, 0])),
        ("f32:1.5", bytes(&[0, 0, 0xc0, 0x3f])),
        ("f64:-2", bytes(&[0, 0, 0, 0, 0, 0, 0, 0xc0])),
        ("i8:'a',RED", bytes(b"a\0")),
    ];
    for (value, init) in cases {
        let found = good("void f(const void *p)", GEO, &format!("p={value}"));
        assert_eq!(found.buffers[0].init, init, "{value}");
        assert_eq!(
            found.args,
            [ArgValue::PointerTo {
                buffer: 0,
                offset: 0
            }]
        );
        assert_eq!(
            (found.buffers[0].mutable, found.buffers[0].align),
            (false, BUFFER_ALIGN)
        );
    }
    let raw = OsString::from_vec(b"p=bytes:\xff\x00\xfe".to_vec());
    let prototype = Prototype::parse("void f(char *p)", &[]).unwrap_or_else(|e| panic!("{e}"));
    let found = plan(&prototype, &[raw]).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(found.buffers[0].init, bytes(&[255, 0, 254]));
}

#[test]
fn lengths_and_references_in_any_order() {
    let f = "void f(int n, const char *a, char *b, unsigned long *c, const char *d)";
    let found = good(
        f,
        "",
        "n=len(c)+1 a=str:hello b=uninit:len(a)*2 c=u64:len(b),len(a)/4 d=&b-1",
    );
    assert_eq!(found.args[0], ArgValue::Scalar(17));
    assert_eq!(
        found.args[4],
        ArgValue::PointerTo {
            buffer: 1,
            offset: -1
        }
    );
    assert_eq!(found.buffers[1].init, BufferInit::Uninit(12));
    let BufferInit::Bytes(c) = &found.buffers[2].init else {
        panic!("{found:?}")
    };
    assert_eq!(c[..], [12, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    // Aliases add up.
    let f = "void f(char *p, char *q, char *r)";
    let found = good(f, "", "p=&q+8 q=&r-2 r=zero:4");
    assert_eq!(
        found.args[0],
        ArgValue::PointerTo {
            buffer: 0,
            offset: 6
        }
    );
}

#[test]
fn who_may_write() {
    let mutable = |prototype: &str, bindings: &str| -> Vec<bool> {
        good(prototype, GEO, bindings)
            .buffers
            .iter()
            .map(|b| b.mutable)
            .collect()
    };
    assert_eq!(mutable("void f(const char *p)", "p=str:x"), [false]);
    assert_eq!(mutable("void f(const char *p)", "p=mut:str:x"), [true]);
    assert_eq!(mutable("void f(char *p)", "p=str:x"), [true]);
    assert_eq!(
        mutable("void f(const char *p, char *q)", "p=str:x q=&p"),
        [true]
    );
    assert_eq!(
        mutable("void f(const char *p, const char *q)", "p=str:x q=&p+1"),
        [false]
    );
    assert_eq!(
        mutable("void f(const char *const *v)", "v=ptr:&a a=str:x"),
        [false, false]
    );
    assert_eq!(
        mutable("void f(char *const *v)", "v=ptr:&a a=str:x"),
        [false, true]
    );
    assert_eq!(
        mutable("void f(struct shape s)", "s={.label=&a} a=str:x"),
        [false]
    );
    assert_eq!(
        mutable("void f(struct shape s)", "s={.out=&a} a=str:x"),
        [true]
    );
    assert_eq!(mutable("void f(const struct point *p)", "p={1,2}"), [false]);
    assert_eq!(
        mutable("void f(const struct point *p)", "p=mut:{1,2}"),
        [true]
    );
    assert_eq!(mutable("void f(struct point *p)", "p={1,2}"), [true]);
}

#[test]
fn structs() {
    let value = "s={{1,-1},{'a','b'},&label+2,null,.w=1.5}";
    let found = good(
        "void f(struct shape s)",
        GEO,
        &format!("{value} label=str:text"),
    );
    let ArgValue::Struct { bytes, pointers } = &found.args[0] else {
        panic!("{found:?}")
    };
    assert_eq!(bytes.len(), 40);
    assert_eq!(
        bytes[..12],
        [1, 0, 0, 0, 255, 255, 255, 255, b'a', b'b', 0, 0]
    );
    assert_eq!(bytes[32..40], 1.5f64.to_le_bytes());
    assert_eq!(
        pointers[..],
        [PointerAt {
            at: 16,
            buffer: 0,
            offset: 2
        }]
    );
    let found = good("void f(struct point *p)", GEO, "p={.y=7}");
    assert_eq!(
        found.buffers[0].init,
        BufferInit::Bytes(vec![0, 0, 0, 0, 7, 0, 0, 0])
    );
    // A list node may point to itself.
    let node = "struct n { struct n *next; int v; };";
    let found = good("void f(struct n *n)", node, "n={&n,1}");
    assert_eq!(
        found.buffers[0].pointers[..],
        [PointerAt {
            at: 0,
            buffer: 0,
            offset: 0
        }]
    );
}

#[test]
fn files() {
    let dir = tempfile::tempdir().unwrap_or_else(|e| panic!("{e}"));
    let path = dir.path().join("f");
    std::fs::write(&path, b"abc").unwrap_or_else(|e| panic!("{e}"));
    let found = good(
        "void f(const void *p, int n)",
        "",
        &format!("p=@{} n=len(p)", path.display()),
    );
    assert_eq!(found.buffers[0].init, BufferInit::Bytes(b"abc".to_vec()));
    assert_eq!(found.args[1], ArgValue::Scalar(3));
    let error = |file: &str| match bind("void f(const void *p)", "", &format!("p=@{file}")) {
        Ok(_) => panic!("{file}"),
        Err(error) => error,
    };
    let missing = error("/no/such/file");
    assert!(
        missing.to_string().contains("/no/such/file: No such file"),
        "{missing}"
    );
    assert!(error("/etc").to_string().contains("directory"));
    assert!(matches!(error("/dev/zero"), BindingError::TooLarge { .. }));
}

#[test]
fn every_example_is_accepted() {
    let prototypes = [
        "void f(const unsigned char *buf, unsigned int len, char *out, size_t n, double d, float g)",
        "void f(struct shape s, struct point *p, const char *const *v, void (*cb)(int), bool b)",
        "void f(enum color c, const int *a, const double *d, const float *e, const void *v, char x)",
        "void f(struct opaque *o, const short *s, FILE *f, int64_t *i, const uint64_t *u)",
    ];
    for text in prototypes {
        let prototype = Prototype::parse(text, &[GEO.to_owned()]).unwrap_or_else(|e| panic!("{e}"));
        let all: Vec<OsString> = examples(&prototype, |_| true)
            .iter()
            .map(OsString::from)
            .collect();
        if let Err(e) = plan(&prototype, &all) {
            panic!("{text}: {all:?}: {e}");
        }
    }
}

proptest::proptest! {
    /// Whatever is written, the answer is an answer.
    #[test]
    fn any_value_is_answered(value in "[ -~]{0,24}", other in "(&|len\\()[a-c]\\)?[+-]?[0-9]{0,3}") {
        let prototype = Prototype::parse("void f(char *a, int b, struct shape c)", &[GEO.to_owned()]);
        let prototype = prototype.unwrap_or_else(|e| panic!("{e}"));
        for bindings in [[&value, &other, "{}"], [&other, &value, "{{1}}"], ["&b", "len(c)", &value]] {
            // Files are read for real; keep them out.
            let bindings = ["a", "b", "c"].iter().zip(bindings).map(|(n, v)| format!("{n}={v}"));
            let bindings: Vec<OsString> = bindings.filter(|b| !b.contains('@')).map(OsString::from).collect();
            if let Err(error) = plan(&prototype, &bindings) {
                let _ = (error.to_string(), error.help());
            }
        }
    }
}
