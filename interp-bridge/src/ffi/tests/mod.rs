//! Real calls into real libraries, and into a small one built here by the C compiler.

#![allow(unsafe_code)]

mod libraries;
mod wide;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::*;
use crate::binding::{self, BufferInit, Plan};
use crate::prototype::Prototype;

/// Calls with the plan's buffers in ordinary memory; answers the result and the buffers.
fn call(
    library: &OsStr,
    prototype: &str,
    cdef: &str,
    bindings: &[&str],
) -> (RetValue, Vec<Vec<u8>>) {
    let cdefs: Vec<String> = [cdef]
        .iter()
        .filter(|c| !c.is_empty())
        .map(|c| c.to_string())
        .collect();
    let prototype = Prototype::parse(prototype, &cdefs).unwrap_or_else(|e| panic!("{e}"));
    let bindings: Vec<OsString> = bindings.iter().map(OsString::from).collect();
    let plan = binding::plan(&prototype, &bindings).unwrap_or_else(|e| panic!("{e}"));
    let library = Library::load(library).unwrap_or_else(|e| panic!("{e}"));
    let function = library
        .function(&prototype.name)
        .unwrap_or_else(|e| panic!("{e}"));
    let mut native = NativeCall::prepare(&prototype, &function).unwrap_or_else(|e| panic!("{e}"));
    let mut memory = allocate(&plan);
    let bases: Vec<u64> = memory.iter_mut().map(|m| m.as_mut_ptr() as u64).collect();
    for (index, spec) in plan.buffers.iter().enumerate() {
        for p in &spec.pointers {
            let address = bases[p.buffer].wrapping_add_signed(p.offset);
            memory[index][p.at as usize..][..8].copy_from_slice(&address.to_le_bytes());
        }
    }
    let mut results = Vec::new();
    // Twice, since a prepared call must stand repetition.
    for _ in 0..2 {
        native
            .set_args(&plan.args, &bases)
            .unwrap_or_else(|e| panic!("{e}"));
        // SAFETY: the pointer is fresh, and the tests call functions with arguments that suit.
        unsafe { NativeCall::trampoline()(native.as_ptr()) };
        results.push(native.result());
    }
    (results.remove(0), memory)
}

fn allocate(plan: &Plan) -> Vec<Vec<u8>> {
    let content = |spec: &binding::BufferSpec| match &spec.init {
        BufferInit::Uninit(len) => vec![0xaa; *len as usize],
        BufferInit::Zeroed(len) => vec![0; *len as usize],
        BufferInit::Bytes(bytes) => bytes.clone(),
    };
    plan.buffers.iter().map(content).collect()
}

const FIXTURE: &str = r#"
#include <stdint.h>
#include <stdbool.h>
struct point { int x, y; };
struct mixed { char c; double d; short s; };
struct big { long a[8]; };
struct floats { float x, y, z; };
struct nested { struct point p; struct floats f; uint8_t tail[3]; };
struct link { const struct link *next; int value; };
enum color { RED, GREEN = 16, BLUE = -1 };
struct point swap(struct point p) { return (struct point){p.y, p.x}; }
double mixed_sum(struct mixed m, struct mixed *p) { return m.c + m.d + m.s + p->c + p->d + p->s; }
struct mixed mixed_make(char c, double d, short s) { return (struct mixed){c, d, s}; }
struct big big_twice(struct big b, int k) { for (int i = 0; i < 8; i++) b.a[i] *= k; return b; }
struct floats floats_scale(struct floats f, float k) { return (struct floats){f.x*k, f.y*k, f.z*k}; }
struct nested nested_turn(struct nested n) {
  struct nested m = {{n.p.y, n.p.x}, {n.f.z, n.f.y, n.f.x}, {n.tail[2], n.tail[1], n.tail[0]}}; return m; }
int8_t neg8(int8_t v) { return -v; }
uint8_t inc8(uint8_t v) { return v + 1; }
uint16_t inc16(uint16_t v) { return v + 1; }
bool not_(bool b) { return !b; }
float halff(float f) { return f / 2; }
char upper(char c) { return c - 32; }
enum color blue(enum color c) { return c == GREEN ? BLUE : RED; }
long many(int a, double b, long c, float d, char e, short f, long g, long h, double i, unsigned char j) {
  return a + (long)b * 10 + c * 100 + (long)d * 1000 + e * 10000 + f * 100000L + g * 1000000L
       + h * 10000000L + (long)i * 100000000L + j * 1000000000L; }
int chain_sum(const struct link *l) { int s = 0; while (l) { s += l->value; l = l->next; } return s; }
int words(const char *const *argv) { int n = 0; while (argv[n]) n++; return n; }
void *same(void *p) { return p; }
void fill(unsigned char *p, int n) { for (int i = 0; i < n; i++) p[i] = i; }
int data = 7;
__attribute__((noinline, noclone)) static int hidden_one(int x) { return x + data; }
__attribute__((visibility("hidden"))) int hidden_two(int x) { return hidden_one(x) * 2; }
int uses_hidden(int x) { return hidden_two(x); }
extern double cos(double);
double uses_cos(double x) { return cos(x); }
static int real_impl(int x) { return x * 3; }
static int (*resolve(void))(int) { return real_impl; }
int ifunc_triple(int x) __attribute__((ifunc("resolve")));
"#;

/// The fixture's library, built once.
fn fixture() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap_or_else(|e| panic!("{e}")).keep();
        let (source, library) = (dir.join("fixture.c"), dir.join("libfixture.so"));
        std::fs::write(&source, FIXTURE).unwrap_or_else(|e| panic!("{e}"));
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([&library, &source])
            .arg("-lm")
            .status();
        assert!(built.unwrap_or_else(|e| panic!("cc: {e}")).success());
        library
    })
}

fn fixture_call(prototype: &str, cdef: &str, bindings: &[&str]) -> String {
    call(fixture().as_os_str(), prototype, cdef, bindings)
        .0
        .text()
}

const POINT: &str = "struct point { int x, y; };";
const MIXED: &str = "struct mixed { char c; double d; short s; };";
const FLOATS: &str = "struct floats { float x, y, z; };";

#[test]
fn zlib() {
    let crc = "unsigned long crc32(unsigned long crc, const unsigned char *buf, unsigned int len)";
    let (ret, _) = call(
        "libz.so.1".as_ref(),
        crc,
        "",
        &["crc=0", "buf=bytes:123456789", "len=len(buf)"],
    );
    assert_eq!(ret, RetValue::Int(0xcbf4_3926));
    let adler =
        "unsigned long adler32(unsigned long a, const unsigned char *buf, unsigned int len)";
    let (ret, _) = call(
        "libz.so.1".as_ref(),
        adler,
        "",
        &["a=1", "buf=bytes:Wikipedia", "len=9"],
    );
    assert_eq!(ret, RetValue::Int(0x11e6_0398));
    let (ret, _) = call(
        "libz.so.1".as_ref(),
        "const char *zlibVersion(void)",
        "",
        &[],
    );
    assert!(matches!(ret, RetValue::Pointer(p) if p != 0));
    let compress = "int compress(unsigned char *dest, unsigned long *destLen, \
                    const unsigned char *source, unsigned long sourceLen)";
    let bindings = [
        "dest=uninit:64",
        "destLen=u64:len(dest)",
        "source=str:aaaaaaaaaaaaaaaaaaaa",
        "sourceLen=len(source)",
    ];
    let (ret, memory) = call("libz.so.1".as_ref(), compress, "", &bindings);
    assert_eq!(ret, RetValue::Int(0));
    let len = u64::from_le_bytes(memory[1][..8].try_into().unwrap_or([0; 8]));
    assert!(len < 20 && memory[0][0] == 0x78, "{len} {:x?}", memory[0]);
}

#[test]
fn libc_and_libm() {
    let libc = OsStr::new("libc.so.6");
    // strlen is an IFUNC in glibc.
    let (ret, _) = call(libc, "size_t strlen(const char *s)", "", &["s=str:hello"]);
    assert_eq!(ret, RetValue::Int(5));
    let (ret, _) = call(libc, "div_t div(int n, int d)", "", &["n=17", "d=5"]);
    assert_eq!(ret.text(), "{.quot=3,.rem=2}");
    let (ret, _) = call(libc, "ldiv_t ldiv(long n, long d)", "", &["n=-17", "d=5"]);
    assert_eq!(ret.text(), "{.quot=-3,.rem=-2}");
    let (ret, _) = call(
        "libm.so.6".as_ref(),
        "double pow(double x, double y)",
        "",
        &["x=2", "y=0.5"],
    );
    assert_eq!(ret, RetValue::Double(2f64.powf(0.5)));
    let (ret, _) = call(
        "libm.so.6".as_ref(),
        "float sqrtf(float x)",
        "",
        &["x=2.25"],
    );
    assert_eq!(ret, RetValue::Float(1.5));
}

#[test]
fn structs_by_value() {
    assert_eq!(
        fixture_call("struct point swap(struct point p)", POINT, &["p={3,-4}"]),
        "{.x=-4,.y=3}"
    );
    let sum = "double mixed_sum(struct mixed m, struct mixed *p)";
    assert_eq!(
        fixture_call(sum, MIXED, &["m={'a',0.5,-7}", "p={.s=10,.d=2}"]),
        "102.5"
    );
    let make = "struct mixed mixed_make(char c, double d, short s)";
    assert_eq!(
        fixture_call(make, MIXED, &["c=1", "d=1e300", "s=-2"]),
        format!("{{.c=1,.d={},.s=-2}}", 1e300)
    );
    let scale = "struct floats floats_scale(struct floats f, float k)";
    assert_eq!(
        fixture_call(scale, FLOATS, &["f={1,2.5,-3}", "k=2"]),
        "{.x=2,.y=5,.z=-6}"
    );
    let big = "struct big big_twice(struct big b, int k)";
    let ret = fixture_call(
        big,
        "struct big { long a[8]; };",
        &["b={{1,2,3,4,5,6,7,8}}", "k=-1"],
    );
    assert_eq!(ret, "{.a={-1,-2,-3,-4,-5,-6,-7,-8}}");
    let nested = format!(
        "{POINT}{FLOATS}struct nested {{ struct point p; struct floats f; uint8_t tail[3]; }};"
    );
    let turn = "struct nested nested_turn(struct nested n)";
    let ret = fixture_call(turn, &nested, &["n={{1,2},{.z=3},{7,8,9}}"]);
    assert_eq!(ret, "{.p={.x=2,.y=1},.f={.x=3,.y=0,.z=0},.tail={9,8,7}}");
}

#[test]
fn narrow_and_mixed_scalars() {
    assert_eq!(
        fixture_call("int8_t neg8(int8_t v)", "", &["v=100"]),
        "-100"
    );
    assert_eq!(fixture_call("uint8_t inc8(uint8_t v)", "", &["v=255"]), "0");
    assert_eq!(
        fixture_call("uint16_t inc16(uint16_t v)", "", &["v=65535"]),
        "0"
    );
    assert_eq!(fixture_call("bool not_(bool b)", "", &["b=false"]), "true");
    assert_eq!(fixture_call("float halff(float f)", "", &["f=0.5"]), "0.25");
    assert_eq!(fixture_call("char upper(char c)", "", &["c='a'"]), "65");
    let color = "enum color { RED, GREEN = 16, BLUE = -1 };";
    let blue = call(
        fixture().as_os_str(),
        "enum color blue(enum color c)",
        color,
        &["c=GREEN"],
    )
    .0;
    assert_eq!(blue, RetValue::Enum(-1, Some("BLUE".into())));
    let many = "long many(int a, double b, long c, float d, char e, short f, long g, long h, double i, \
                unsigned char j)";
    let values = [
        "a=1", "b=2", "c=3", "d=4", "e=5", "f=6", "g=7", "h=8", "i=9", "j=1",
    ];
    assert_eq!(fixture_call(many, "", &values), "1987654321");
}

#[test]
fn pointers_inside_buffers() {
    let link = "struct link { const struct link *next; int value; };";
    let bindings = ["l={&second,5}", "second=u64:0,37"];
    assert_eq!(
        fixture_call("int chain_sum(const struct link *l)", link, &bindings),
        "42"
    );
    let bindings = ["argv=ptr:&a,&b+1,null", "a=str:x", "b=str:yz"];
    assert_eq!(
        fixture_call("int words(const char *const *argv)", "", &bindings),
        "2"
    );
    let (ret, memory) = call(
        fixture().as_os_str(),
        "void *same(void *p)",
        "",
        &["p=&q+3", "q=zero:8"].map(|b| b),
    );
    assert_eq!(ret, RetValue::Pointer(memory[0].as_ptr() as u64 + 3));
    let (ret, memory) = call(
        fixture().as_os_str(),
        "void fill(unsigned char *p, int n)",
        "",
        &["p=uninit:6", "n=4"],
    );
    assert_eq!(
        (ret, memory[0].as_slice()),
        (RetValue::Void, &[0, 1, 2, 3, 0xaa, 0xaa][..])
    );
}

#[test]
fn arguments_must_match() {
    let prototype =
        Prototype::parse("int f(int x, char *p)", &[]).unwrap_or_else(|e| panic!("{e}"));
    let library = fixture().to_owned();
    let function = Function {
        name: "f".into(),
        address: 0,
        library,
        file_offset: 0,
        owner: Default::default(),
    };
    let mut call = NativeCall::prepare(&prototype, &function).unwrap_or_else(|e| panic!("{e}"));
    use crate::binding::ArgValue::{PointerTo, Scalar, Struct};
    let pointer = PointerTo {
        buffer: 0,
        offset: 0,
    };
    assert_eq!(call.set_args(&[Scalar(1), pointer.clone()], &[64]), Ok(()));
    let mut refused =
        |args: &[crate::binding::ArgValue], bases: &[u64]| match call.set_args(args, bases) {
            Ok(()) => panic!("{args:?} was taken"),
            Err(error) => error.to_string(),
        };
    let unknown = refused(&[Scalar(1), pointer.clone()], &[]);
    assert!(unknown.starts_with("argument 2 (`p`): "), "{unknown}");
    let swapped = refused(&[pointer, Scalar(1)], &[64]);
    assert!(swapped.contains("argument 1 (`x`)"), "{swapped}");
    assert_eq!(
        refused(&[Scalar(1)], &[64]),
        "1 arguments are given for `int (int, char *)`, which takes 2"
    );
    let wrong = Struct {
        bytes: vec![0; 3],
        pointers: vec![],
    };
    assert!(refused(&[wrong, Scalar(0)], &[]).contains("argument 1"));
}
