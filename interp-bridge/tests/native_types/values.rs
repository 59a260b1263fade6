//! What is refused, and in which words.
#![allow(unsafe_code)]

use std::sync::Arc;

use interp_bridge::ctype::{CType, EnumType, IntType, Layout, StructLayout, StructType};
use interp_bridge::ffi::{Aggregate, NativeCall, Signature, Value, ValueError};

use super::fixture::{address, build, call};

fn structure(ty: StructType) -> (CType, Arc<StructType>) {
    let ty = Arc::new(ty);
    (CType::Struct(ty.clone()), ty)
}

#[test]
fn wrong_arguments_are_named() {
    extern "C" fn nothing() {}
    let refused = |ty: CType, value: Value| {
        let signature = Signature::new([CType::i32(), ty], CType::void()).with_names(["a", "len"]);
        let call = NativeCall::new(signature, nothing as *const () as u64);
        let mut call = call.expect("a call");
        let error = call.set_values(&[1.into(), value]).expect_err("an error");
        let text = error.to_string();
        let rest = text
            .strip_prefix("argument 2 (`len`): ")
            .unwrap_or_else(|| panic!("{text}"));
        rest.to_owned()
    };
    let (point, _) = structure(StructType::new("struct point", [("x", CType::i32())]));
    let (_, other) = structure(StructType::new("struct other", [("x", CType::i32())]));
    let other = Aggregate::from_fields(&other, &[1.into()]).expect("a value");
    let closed = EnumType::new(
        "Color",
        IntType {
            bytes: 1,
            signed: false,
        },
        [("Red", 0), ("Blue", 2)],
        true,
    );
    let cases: Vec<(CType, Value, &str)> = vec![
        (
            CType::i32(),
            Value::null(),
            "a null pointer is given, but `int` is expected",
        ),
        (
            CType::i32(),
            1.5.into(),
            "the double 1.5 is given, but `int` is expected",
        ),
        (
            CType::i8(),
            128.into(),
            "128 does not fit `signed char` (-128 to 127)",
        ),
        (
            CType::u8(),
            (-1).into(),
            "-1 does not fit `unsigned char` (0 to 255)",
        ),
        (
            CType::u64(),
            u128::MAX.into(),
            "340282366920938463463374607431768211455 does not fit `unsigned long` \
             (0 to 18446744073709551615)",
        ),
        (CType::bool(), 2.into(), "2 does not fit `_Bool` (0 to 1)"),
        (
            CType::f32(),
            1.5.into(),
            "the double 1.5 is given, but `float` is expected",
        ),
        (
            CType::ptr(),
            0.into(),
            "the integer 0 is given, but `void *` is expected",
        ),
        (
            CType::f64(),
            Value::Void,
            "nothing is given, but `double` is expected",
        ),
        (
            point,
            other.into(),
            "a `struct other` is given, but `struct point` is expected",
        ),
        (
            closed.into(),
            1.into(),
            "encountered 0x01, but expected a constant of `Color`",
        ),
        (
            CType::reference_to(CType::i32(), true),
            Value::null(),
            "encountered a null pointer, but expected a non-null pointer",
        ),
        (
            CType::reference_to(CType::i32(), true),
            Value::pointer(0x1002),
            "encountered 0x1002, but expected a pointer aligned to 4 bytes",
        ),
    ];
    for (ty, value, expected) in cases {
        assert_eq!(refused(ty, value), expected);
    }
    let signature = Signature::new([CType::i32()], CType::void());
    let mut call = NativeCall::new(signature, nothing as *const () as u64).expect("a call");
    let error = call.set_values(&[]).expect_err("an error");
    assert_eq!(
        error.to_string(),
        "0 arguments are given for `void (int)`, which takes 1"
    );
}

#[test]
fn types_that_do_not_travel_are_named() {
    let refused =
        |params: Vec<CType>, ret: CType| match NativeCall::new(Signature::new(params, ret), 0) {
            Ok(_) => panic!("it was taken"),
            Err(error) => error.to_string(),
        };
    let rust = CType::opaque("PassMe", "it is not repr(C)");
    assert_eq!(
        refused(vec![CType::i32(), rust.clone()], CType::void()),
        "unsupported argument type: argument 2: `PassMe` cannot be used by value: \
         it is not repr(C)"
    );
    assert_eq!(
        refused(vec![], rust),
        "unsupported return type: `PassMe` cannot be used by value: it is not repr(C)"
    );
    let none: [(&str, CType); 0] = [];
    let empty = StructType::new("struct empty", none);
    assert!(refused(vec![empty.into()], CType::void()).contains("`struct empty` has no bytes"));
    let packed = |size, align, offsets: &[u64]| {
        let layout = StructLayout {
            whole: Layout { size, align },
            offsets: offsets.to_vec(),
        };
        let fields = [("a", CType::u8()), ("b", CType::i32())];
        let ty = StructType::with_layout("struct p", fields, &layout);
        // It still is a good pointee.
        let pointer = CType::pointer_to(ty.clone().into());
        assert!(NativeCall::new(Signature::new([pointer], CType::void()), 0).is_ok());
        match NativeCall::new(Signature::new([ty.into()], CType::void()), 0) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    };
    assert_eq!(packed(8, 4, &[0, 4]), "");
    assert!(packed(5, 1, &[0, 1]).contains("`b` lies at offset 1, C places it at 4"));
    assert!(packed(16, 16, &[0, 4]).contains("it is aligned to 16, in C to 4"));
    assert!(packed(8, 4, &[4, 0]).contains("`a` lies at offset 4, C places it at 0"));
    let big = StructType::new("struct big", [("a", CType::array_of(CType::u8(), 65537))]);
    assert!(refused(vec![big.into()], CType::void()).contains("65537 bytes, the limit"));
    let mib: Vec<CType> = (0..20)
        .map(|_| StructType::new("struct s", [("a", CType::array_of(CType::u8(), 65536))]).into())
        .collect();
    assert!(refused(mib, CType::void()).contains("bytes together"));
    let flexible = StructType::new(
        "struct flex",
        [
            ("n", CType::i32()),
            ("tail", CType::array_of(CType::i32(), 0)),
        ],
    );
    assert!(refused(vec![flexible.into()], CType::void()).contains("`int[0]` cannot be used"));
    let array = CType::array_of(CType::i32(), 2);
    assert!(refused(vec![array], CType::void()).contains("C has no arrays by value"));
}

#[test]
fn results_are_checked_against_their_type() {
    let library = build(
        "unsigned char u8_id(unsigned char v) { return v; }
         struct flag { int n; unsigned char b[3]; };
         struct flag flag(int n, int b) { return (struct flag){n, {0, b, 0}}; }
         void *pointer(void *p) { return p; }",
    );
    let closed = EnumType::new(
        "Color",
        IntType {
            bytes: 1,
            signed: true,
        },
        [("Red", -1), ("Blue", 2)],
        true,
    );
    let id = |ret: CType, value: u8| {
        let signature = Signature::new([CType::u8()], ret);
        call(&library, "u8_id", signature, &[value.into()]).map_err(|e| e.to_string())
    };
    assert_eq!(id(CType::bool(), 1), Ok(true.into()));
    assert_eq!(
        id(CType::bool(), 2),
        Err("return value: encountered 0x02, but expected a boolean".into())
    );
    let closed = CType::from(closed);
    assert_eq!(id(closed.clone(), 255), Ok(Value::from(-1)));
    assert_eq!(
        id(closed, 254),
        Err("return value: encountered 0xfe, but expected a constant of `Color`".into())
    );
    let fields = [
        ("n", CType::i32()),
        ("b", CType::array_of(CType::bool(), 3)),
    ];
    let (flag, _) = structure(StructType::new("struct flag", fields));
    let signature = Signature::new([CType::i32(), CType::i32()], flag);
    let found = call(&library, "flag", signature.clone(), &[7.into(), 1.into()]);
    match found {
        Ok(Value::Struct(found)) => {
            assert_eq!(found.field("n"), Some(7.into()));
            assert_eq!(found.field("b[1]"), Some(true.into()));
            assert_eq!(found.field("b[3]"), None);
            assert_eq!(found.field("c"), None);
        }
        other => panic!("{other:?}"),
    }
    let found = call(&library, "flag", signature, &[7.into(), 0x42.into()]);
    let text = found.map_err(|e| e.to_string());
    let expected = "return value: field `.b[1]`: encountered 0x42, but expected a boolean";
    assert_eq!(text, Err(expected.into()));
    let pointer = |ret: CType, value: u64| {
        let signature = Signature::new([CType::ptr()], ret);
        call(&library, "pointer", signature, &[Value::pointer(value)]).map_err(|e| e.to_string())
    };
    let reference = CType::reference_to(CType::i64(), false);
    assert_eq!(pointer(CType::ptr(), 0), Ok(Value::null()));
    assert!(pointer(reference.clone(), 0).is_err_and(|e| e.contains("non-null")));
    assert!(pointer(reference.clone(), 12).is_err_and(|e| e.contains("aligned to 8")));
    assert_eq!(pointer(reference, 16), Ok(Value::pointer(16)));
    let function = CType::function_pointer_to(Signature::new([], CType::void()), true);
    assert!(pointer(function, 0).is_err_and(|e| e.contains("non-null pointer")));
}

#[test]
fn structs_from_memory() {
    let library = build(
        "struct part { unsigned short high, low; };
         struct complex { struct part part_1; struct part part_2; unsigned char tail; };
         int sum(struct complex c) {
           return c.part_1.high + c.part_1.low + c.part_2.high + c.part_2.low + c.tail; }",
    );
    let (part, _) = structure(StructType::new(
        "struct part",
        [("high", CType::u16()), ("low", CType::u16())],
    ));
    let fields = [
        ("part_1", part.clone()),
        ("part_2", part),
        ("tail", CType::u8()),
    ];
    let (complex, ty) = structure(StructType::new("struct complex", fields));
    let bytes = [1, 0, 2, 0, 3, 0, 4, 0, 5, 0xee];
    let signature = Signature::new([complex], CType::i32());
    // The last byte is padding, and need have no value.
    let whole = Aggregate::from_memory(&ty, &bytes, |r| r.end <= 9, []).expect("a value");
    assert_eq!(whole.bytes()[9], 0);
    let found = call(&library, "sum", signature.clone(), &[whole.into()]);
    assert_eq!(found, Ok(15.into()));

    let error = Aggregate::from_memory(&ty, &bytes, |r| r.start >= 2 || r.end < 2, []);
    let error = error.expect_err("an error");
    assert_eq!(
        error,
        ValueError::Uninitialised {
            path: ".part_1.high".into(),
            expected: "an integer".into()
        }
    );
    assert!(error.is_undefined_behaviour());
    let error = interp_bridge::ffi::CallError::Argument {
        index: 0,
        name: None,
        error: error.into(),
    };
    assert_eq!(
        error.to_string(),
        "argument 1: field `.part_1.high` is uninitialised, but expected an integer"
    );
    let error = Aggregate::from_memory(&ty, &bytes[..9], |_| true, []).expect_err("an error");
    assert_eq!(
        error.to_string(),
        "9 bytes are given for `struct complex`, which has 10"
    );

    // A union may hold bytes without a value; they reach native code as zeros.
    let (_, either) = structure(StructType::union(
        "union either",
        [("wide", CType::u64()), ("narrow", CType::u8())],
    ));
    let some = Aggregate::from_memory(&either, &[9; 8], |r| r.end <= 1, []).expect("a value");
    assert_eq!(some.bytes(), [9, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(some.field("narrow"), Some(9u8.into()));
    let member = Aggregate::of_member(&either, "wide", &u64::MAX.into()).expect("a value");
    assert_eq!(member.bytes(), [255; 8]);
    assert!(Aggregate::of_member(&either, "none", &1.into()).is_err());
    assert!(Aggregate::from_fields(&either, &[1.into(), 2.into()]).is_err());
}

#[test]
fn a_struct_exposes_only_the_pointers_in_it() {
    use interp_bridge::ffi::Provenance;
    use interp_bridge::memory::{AllocRequest, Memory};
    let mut memory = Memory::new().expect("a memory");
    let request = AllocRequest {
        size: 8,
        align: 8,
        ..AllocRequest::default()
    };
    let mut id = || memory.allocate(&request).expect("an allocation");
    let (a, b, c) = (id(), id(), id());
    let fields = [
        ("p", CType::ptr()),
        ("n", CType::i32()),
        ("q", CType::ptr()),
    ];
    let (_, ty) = structure(StructType::new("struct two", fields));
    let provenance = |at, allocation| Provenance {
        range: at..at + 8,
        allocation,
    };
    let mut bytes = [0u8; 24];
    bytes[0] = 0x10;
    bytes[16] = 0x20;
    // What lies in the padding (12..16) is not passed, and so not exposed.
    let stray = Provenance {
        range: 12..16,
        allocation: c,
    };
    let pointers = [provenance(0, a), stray, provenance(16, b)];
    let made = Aggregate::from_memory(&ty, &bytes, |_| true, pointers).expect("a value");
    let value = Value::from(made.clone());
    assert_eq!(value.exposed().collect::<Vec<_>>(), [a, b]);
    assert_eq!(made.field("q"), Some(Value::pointer_to(0x20, b)));
    let fields = [
        Value::pointer_to(0x10, a),
        0.into(),
        Value::pointer_to(0x20, b),
    ];
    assert_eq!(Aggregate::from_fields(&ty, &fields), Ok(made));
    assert_eq!(Value::pointer_to(1, c).exposed().collect::<Vec<_>>(), [c]);
    assert_eq!(Value::pointer(1).exposed().count(), 0);
}

#[test]
fn a_prepared_call_can_go_elsewhere() {
    let library = build("int one(int x) { return x + 1; } int two(int x) { return x + 2; }");
    let signature = Signature::new([CType::i32()], CType::i32());
    let mut call = NativeCall::new(signature, address(&library, "one")).expect("a call");
    call.set_values(&[40.into()]).expect("an argument");
    // SAFETY: both functions have this signature.
    assert_eq!(unsafe { call.run() }, Ok(41.into()));
    call.set_address(address(&library, "two"));
    // SAFETY: as before.
    assert_eq!(unsafe { call.run() }, Ok(42.into()));
}
