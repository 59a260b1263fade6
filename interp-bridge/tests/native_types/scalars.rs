//! Every scalar by value and back, at its limits.

use std::fmt::Write;

use interp_bridge::ctype::CType;
use interp_bridge::ffi::{LongDouble, Signature, Value};

use super::fixture::{build, call};
use super::random;

fn limits(ty: &CType) -> Vec<Value> {
    let floats = [
        0.0,
        -0.0,
        1.5,
        -3.25,
        f64::MAX,
        f64::MIN_POSITIVE,
        f64::INFINITY,
    ];
    match ty {
        CType::Bool => vec![true.into(), false.into()],
        CType::Float => vec![f32::MAX.into(), f32::MIN_POSITIVE.into(), (-1.5f32).into()],
        CType::Double => floats.map(Value::from).to_vec(),
        CType::LongDouble => {
            let max = [255, 255, 255, 255, 255, 255, 255, 255, 0xfe, 0x7f];
            let mut all: Vec<Value> = floats.map(|v| LongDouble::from(v).into()).to_vec();
            all.push(LongDouble(max).into());
            all
        }
        CType::ComplexFloat => vec![Value::ComplexF32(1.5, -2.5)],
        CType::ComplexDouble => vec![Value::ComplexF64(f64::MAX, -0.0)],
        CType::Pointer(_) | CType::FunctionPointer(_) => {
            vec![
                Value::null(),
                Value::pointer(u64::MAX),
                Value::pointer(0x1234),
            ]
        }
        other => {
            let int = other.as_int().expect("an integer");
            let (low, high) = int.range();
            match int.signed {
                true => vec![Value::Int(low), Value::Int(high), Value::Int(-1)],
                false if int.bytes == 16 => vec![Value::Uint(0), Value::Uint(u128::MAX)],
                false => vec![Value::Uint(0), Value::Uint(high as u128), Value::Uint(1)],
            }
        }
    }
}

#[test]
fn every_scalar_goes_and_comes_back() {
    let all = random::scalars();
    let mut source = random::PRELUDE.to_owned();
    for (i, (name, _)) in all.iter().enumerate() {
        let _ = writeln!(source, "{name} id_{i}({name} v) {{ return v; }}");
        let _ = writeln!(
            source,
            "{name} late_{i}(int a, long b, double c, {name} v, int z) {{ return v; }}"
        );
    }
    // A caller may leave anything above a narrow value.
    let _ = writeln!(
        source,
        "long widths(signed char a, unsigned char b, short c, unsigned short d, _Bool e) {{
           return a + b * 1000L + c * 1000000L + d * 100000000000L + e; }}"
    );
    let library = build(&source);
    for (i, (name, ty)) in all.iter().enumerate() {
        for value in limits(ty) {
            let signature = Signature::new([ty.clone()], ty.clone());
            let found = call(
                &library,
                &format!("id_{i}"),
                signature,
                std::slice::from_ref(&value),
            );
            assert_eq!(found, Ok(value.clone()), "{name}");
            let params = [
                CType::i32(),
                CType::i64(),
                CType::f64(),
                ty.clone(),
                CType::i32(),
            ];
            let signature = Signature::new(params, ty.clone());
            let values = [1.into(), 2i64.into(), 3.5.into(), value.clone(), 5.into()];
            let found = call(&library, &format!("late_{i}"), signature, &values);
            assert_eq!(found, Ok(value), "{name}");
        }
    }
    let params = [
        CType::i8(),
        CType::u8(),
        CType::i16(),
        CType::u16(),
        CType::bool(),
    ];
    let signature = Signature::new(params, CType::i64());
    let values = [
        (-1).into(),
        255.into(),
        (-2).into(),
        65535.into(),
        true.into(),
    ];
    let found = call(&library, "widths", signature, &values);
    let expected = -1 + 255_000 - 2_000_000 + 6_553_500_000_000_000i64 + 1;
    assert_eq!(found, Ok(Value::from(expected)));
}
