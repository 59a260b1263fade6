//! What an interpreter's native-library mode must do with types and libraries, traced: scalars,
//! the stack, enumerations, structs both ways, results that are no values, functions that are
//! private or missing, structs that are not C's, fields without a value.
//!
//! Signal handlers belong to the process, so these tests take turns.
#![allow(unsafe_code)]

mod common;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use interp_bridge::bridge::{Bridge, CallOptions};
use interp_bridge::ctype::{CType, EnumType, IntType, StructType};
use interp_bridge::ffi::{
    CallError, Library, LibraryError, NativeCall, PlaceError, Signature, Value, ValueError,
};
use interp_bridge::memory::{AllocId, Init};

use common::{IN_PROCESS, buffer, within};

/// A bridge with each recorder that can be had here.
fn each(mut body: impl FnMut(&Bridge)) {
    common::each(IN_PROCESS, |bridge| body(&bridge));
}

const SOURCE: &str = r#"
#include <stdint.h>
#include <stdio.h>
int calls;
int32_t next(int32_t x) { return x + 1; }
int16_t three_more(int16_t x) { return x + 3; }
int64_t wider(int16_t x, int64_t y) { return x + y; }
uint32_t minus_ten(void) { return -10; }
float more(float x) { return x + 1.5f; }
void say(void) { calls++; }
int how_often(void) { return calls; }
int twelve(int a, int b, int c, int d, int e, int f, int g, int h, int i, int j, int k, int l) {
  return a + 2*b + 3*c + 4*d + 5*e + 6*f + 7*g + 8*h + 9*i + 10*j + 11*k + 12*l; }
enum suit { CLUBS, HEARTS };
uint8_t suit_number(enum suit s) { return s; }
uint8_t byte(uint8_t b) { return b; }
struct pair { int32_t small; int64_t large; };
int64_t pair_sum(struct pair p) { return p.small + p.large; }
struct pair pair_of(int32_t small, int64_t large) { return (struct pair){small, large}; }
struct halves { uint16_t high, low; };
struct bits { uint32_t bits; };
struct nested { struct halves one; struct bits two; uint32_t three; };
int nested_differs(struct nested n, uint16_t high, uint16_t low, uint32_t bits) {
  return n.one.high != high || n.one.low != low || n.two.bits != bits || n.three != bits; }
struct holder { const uint8_t *at; };
uint8_t read_held(struct holder h) { return *h.at; }
struct holder give_back(struct holder h) { h.at++; return h; }
static int not_exported(void) { return 1; }
int uses_it(void) { return not_exported(); }
int crash(volatile int *at) { return *at; }
"#;

fn library() -> &'static Library {
    static BUILT: OnceLock<Library> = OnceLock::new();
    BUILT.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = |name: &str| -> PathBuf { dir.path().join(name) };
        std::fs::write(file("types.c"), SOURCE).expect("the source");
        common::compile("cc", &file("types.c"), &file("libtypes.so"), &["-O0"]);
        Library::load(file("libtypes.so").as_os_str()).expect("the library")
    })
}

fn prepare(name: &str, params: &[CType], ret: CType) -> NativeCall {
    let function = library().function(name).expect("a function");
    let signature = Signature::new(params.iter().cloned(), ret);
    NativeCall::of(signature, &function).expect("a call")
}

/// Calls a function; nothing may have been wrong.
fn call(
    bridge: &Bridge,
    name: &str,
    params: &[CType],
    ret: CType,
    values: &[Value],
) -> Result<Value, CallError> {
    let mut call = prepare(name, params, ret);
    // SAFETY: the tests declare each function as its C source has it, and give it good pointers.
    let invoked = unsafe { bridge.invoke(&mut call, values, within(20)) }.expect("a call");
    assert!(invoked.outcome.returned && invoked.outcome.stats.complete());
    assert!(bridge.memory().violations().is_empty());
    invoked.value.expect("a result")
}

fn allocate(bridge: &Bridge, size: u64) -> AllocId {
    buffer(bridge, size, Init::Uninit, true)
}

fn pair() -> (CType, Arc<StructType>) {
    let fields = [("small", CType::i32()), ("large", CType::i64())];
    shared(StructType::new("struct pair", fields))
}

fn nested() -> (CType, Arc<StructType>) {
    let halves = StructType::new(
        "struct halves",
        [("high", CType::u16()), ("low", CType::u16())],
    );
    let bits = StructType::new("struct bits", [("bits", CType::u32())]);
    let fields = [
        ("one", halves.into()),
        ("two", bits.into()),
        ("three", CType::u32()),
    ];
    shared(StructType::new("struct nested", fields))
}

fn shared(ty: StructType) -> (CType, Arc<StructType>) {
    let ty = Arc::new(ty);
    (CType::Struct(ty.clone()), ty)
}

#[test]
fn scalars_and_the_stack() {
    each(|bridge| {
        let plain = |name: &str, params: &[CType], ret: CType, values: &[Value]| {
            call(bridge, name, params, ret, values).expect("a value")
        };
        let (i16t, i32t, i64t) = (CType::i16(), CType::i32(), CType::i64());
        assert_eq!(
            plain(
                "next",
                std::slice::from_ref(&i32t),
                i32t.clone(),
                &[1.into()]
            ),
            2.into()
        );
        let twelve: Vec<Value> = (1..=12).map(Value::from).collect();
        let params = vec![i32t.clone(); 12];
        assert_eq!(plain("twelve", &params, i32t.clone(), &twelve), 650.into());
        let found = plain(
            "three_more",
            std::slice::from_ref(&i16t),
            i16t.clone(),
            &[(-1).into()],
        );
        assert_eq!(found, 2.into());
        let values = [(-1).into(), 123_456_789_123i64.into()];
        let found = plain("wider", &[i16t, i64t.clone()], i64t, &values);
        assert_eq!(found, 123_456_789_122i64.into());
        let found = plain("minus_ten", &[], CType::u32(), &[]);
        assert_eq!(found, (u32::MAX - 9).into());
        let found = plain("more", &[CType::f32()], CType::f32(), &[1f32.into()]);
        assert_eq!(found, 2.5f32.into());
        let before = plain("how_often", &[], i32t.clone(), &[]).as_int();
        assert_eq!(plain("say", &[], CType::void(), &[]), Value::Void);
        let after = plain("how_often", &[], i32t, &[]).as_int();
        assert_eq!(after, before.map(|n| n + 1));
        let int = IntType {
            bytes: 4,
            signed: false,
        };
        let suit = EnumType::new("enum suit", int, [("CLUBS", 0), ("HEARTS", 1)], false);
        let found = plain("suit_number", &[suit.into()], CType::u8(), &[1.into()]);
        assert_eq!(found, 1u8.into());
    });
}

#[test]
fn structs_go_and_come_back() {
    each(|bridge| {
        // As the interpreter holds it: four bytes of padding have no value.
        let (ty, _) = pair();
        let id = allocate(bridge, 16);
        {
            let mut memory = bridge.memory();
            memory
                .write_bytes(id, 0, &42i32.to_le_bytes())
                .expect("writable");
            memory
                .write_bytes(id, 8, &1337i64.to_le_bytes())
                .expect("writable");
        }
        let value = Value::load(&ty, &bridge.memory(), id, 0).expect("a value");
        let found = call(
            bridge,
            "pair_sum",
            std::slice::from_ref(&ty),
            CType::i64(),
            &[value],
        );
        assert_eq!(found, Ok((42i64 + 1337).into()));

        let params = [CType::i32(), CType::i64()];
        let found = call(
            bridge,
            "pair_of",
            &params,
            ty.clone(),
            &[1.into(), 2i64.into()],
        );
        let found = found.expect("a pair");
        found
            .store(&ty, &mut bridge.memory(), id, 0)
            .expect("a place");
        let bytes = bridge.memory().read_bytes(id, 0..16).expect("bytes");
        assert_eq!((bytes[0], bytes[8]), (1, 2));
        assert!(matches!(&found, Value::Struct(s) if s.field("large") == Some(2i64.into())));

        let (ty, _) = nested();
        let (high, low, bits) = (0xabcdu16, 0xef01u16, 0xabcd_ef01u32);
        let id = allocate(bridge, 12);
        let bytes = [
            &high.to_le_bytes()[..],
            &low.to_le_bytes(),
            &bits.to_le_bytes(),
            &bits.to_le_bytes(),
        ];
        bridge
            .memory()
            .write_bytes(id, 0, &bytes.concat())
            .expect("writable");
        let value = Value::load(&ty, &bridge.memory(), id, 0).expect("a value");
        let params = [ty, CType::u16(), CType::u16(), CType::u32()];
        let values = [value, high.into(), low.into(), bits.into()];
        let found = call(bridge, "nested_differs", &params, CType::i32(), &values);
        assert_eq!(found, Ok(0.into()));
    });
}

#[test]
fn a_field_without_a_value_is_named() {
    each(|bridge| {
        let (ty, _) = nested();
        let id = allocate(bridge, 12);
        // All but the first two bytes.
        bridge
            .memory()
            .write_bytes(id, 2, &[1; 10])
            .expect("writable");
        match Value::load(&ty, &bridge.memory(), id, 0) {
            Err(PlaceError::Value(error @ ValueError::Uninitialised { .. })) => {
                let text = error.to_string();
                assert_eq!(
                    text,
                    "field `.one.high` is uninitialised, but expected an integer"
                );
                assert!(error.is_undefined_behaviour());
            }
            other => panic!("{other:?}"),
        }
        let scalar = Value::load(&CType::u16(), &bridge.memory(), id, 0);
        assert!(matches!(scalar, Err(PlaceError::Value(_))), "{scalar:?}");
        let beyond = Value::load(&CType::u64(), &bridge.memory(), id, 8);
        assert!(matches!(beyond, Err(PlaceError::Memory(_))), "{beyond:?}");
    });
}

#[test]
fn a_result_that_is_no_value_is_named() {
    each(|bridge| {
        // Declared as returning a `bool`, though the function returns what it gets.
        let found = call(bridge, "byte", &[CType::u8()], CType::bool(), &[2u8.into()]);
        let error = found.expect_err("an error");
        assert_eq!(
            error.to_string(),
            "return value: encountered 0x02, but expected a boolean"
        );
        assert!(matches!(&error, CallError::Return(e) if e.is_undefined_behaviour()));
        let found = call(bridge, "byte", &[CType::u8()], CType::bool(), &[1u8.into()]);
        assert_eq!(found, Ok(true.into()));
    });
}

#[test]
fn a_library_left_midway_stays_loaded() {
    each(|bridge| {
        let before = library().uses().left;
        let mut call = prepare("crash", &[CType::ptr()], CType::i32());
        let options = CallOptions::default();
        // SAFETY: the bridge ends the call at the read through null, which is the point here.
        let invoked = unsafe { bridge.invoke(&mut call, &[Value::null()], options) };
        let invoked = invoked.expect("a call");
        assert!(!invoked.outcome.returned && invoked.value.is_none());
        drop(call);
        assert_eq!(library().uses().left, before + 1);
        let error = library().close().expect_err("an error");
        assert!(matches!(error, LibraryError::InUse { .. }), "{error}");
        // Other calls still work.
        let found = next(bridge);
        assert_eq!(found, Ok(8.into()));
    });
}

fn next(bridge: &Bridge) -> Result<Value, CallError> {
    let options = CallOptions::default();
    let mut call = prepare("next", &[CType::i32()], CType::i32());
    // SAFETY: the function is declared as its C source has it.
    let invoked = unsafe { bridge.invoke(&mut call, &[7.into()], options) };
    invoked.expect("a call").value.expect("a result")
}

#[test]
fn private_and_missing_functions() {
    let private = library().function("not_exported");
    assert!(
        matches!(private, Err(LibraryError::Private { .. })),
        "{private:?}"
    );
    let missing = library().function("nowhere_to_be_found");
    assert!(
        matches!(missing, Err(LibraryError::Missing { .. })),
        "{missing:?}"
    );
    // In the C library, which this one uses.
    let elsewhere = library().function("puts");
    assert!(elsewhere.is_err(), "{elsewhere:?}");
}

#[test]
fn a_struct_that_is_not_c_is_refused() {
    let rust = CType::opaque("PassMe", "it is not repr(C)");
    let function = library().function("pair_sum").expect("a function");
    match NativeCall::of(Signature::new([rust], CType::i64()), &function) {
        Err(error) => assert_eq!(
            error.to_string(),
            "unsupported argument type: argument 1: `PassMe` cannot be used by value: \
             it is not repr(C)"
        ),
        Ok(_) => panic!("it was taken"),
    }
}

#[test]
fn a_struct_exposes_what_is_in_it_and_no_more() {
    each(|bridge| {
        let (ty, _) = shared(StructType::new("struct holder", [("at", CType::ptr())]));
        let targets = [allocate(bridge, 8), allocate(bridge, 8)];
        let array = allocate(bridge, 16);
        for (i, target) in targets.iter().enumerate() {
            let mut memory = bridge.memory();
            memory
                .write_bytes(*target, 0, &[i as u8 + 1, 9])
                .expect("writable");
            let pointer = memory.pointer(*target, 0).expect("a pointer");
            memory
                .write_pointer(array, i as u64 * 8, pointer)
                .expect("writable");
        }
        let value = Value::load(&ty, &bridge.memory(), array, 8).expect("a value");
        assert_eq!(value.exposed().collect::<Vec<_>>(), [targets[1]]);
        let params = [ty.clone()];
        let found = call(
            bridge,
            "read_held",
            &params,
            CType::u8(),
            std::slice::from_ref(&value),
        );
        assert_eq!(found, Ok(2u8.into()));
        {
            let memory = bridge.memory();
            let exposed = |id| memory.get(id).expect("known").is_exposed();
            assert_eq!(targets.map(exposed), [false, true]);
            assert!(!exposed(array));
        }
        // What comes back may lead to what was exposed.
        let found = call(bridge, "give_back", &params, ty.clone(), &[value]).expect("a struct");
        let mut memory = bridge.memory();
        found.store(&ty, &mut memory, array, 0).expect("a place");
        let pointer = memory.read_pointer(array, 0).expect("a pointer");
        assert_eq!(
            memory.resolve(pointer, 1).expect("a place"),
            (targets[1], 1)
        );
    });
}
