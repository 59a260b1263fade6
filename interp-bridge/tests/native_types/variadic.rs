//! Variadic functions: one of our own that reads its `va_list`, and the C library's `snprintf`.
#![allow(unsafe_code)]

use std::ffi::CStr;

use interp_bridge::ctype::{CType, StructType};
use interp_bridge::ffi::{Aggregate, LongDouble, NativeCall, Signature, Value};

use super::fixture::{build, call};

const SOURCE: &str = r#"
#include <stdarg.h>
struct pair { long a; double b; };
/* Sums what the format names: i int, l long, d double, D long double, p pointer, s struct pair,
   w __int128. */
double sum(const char *format, ...) {
  va_list all; va_start(all, format); double total = 0;
  for (; *format; format++) switch (*format) {
    case 'i': total += va_arg(all, int); break;
    case 'l': total += va_arg(all, long); break;
    case 'd': total += va_arg(all, double); break;
    case 'D': total += va_arg(all, long double); break;
    case 'p': total += *va_arg(all, int *); break;
    case 's': { struct pair p = va_arg(all, struct pair); total += p.a + p.b; break; }
    case 'w': total += va_arg(all, __int128); break;
  }
  va_end(all); return total; }
"#;

#[test]
fn va_arg_reads_what_was_passed() {
    let library = build(SOURCE);
    let pair = StructType::new("struct pair", [("a", CType::i64()), ("b", CType::f64())]);
    let pair_ty = CType::from(pair);
    let CType::Struct(pair) = &pair_ty else {
        panic!("no struct")
    };
    let one = Aggregate::from_fields(pair, &[7i64.into(), 0.25.into()]).expect("a pair");
    let cell = 1000i32;
    // Enough of each kind to leave the registers.
    let mut format = String::new();
    let (mut types, mut values) = (Vec::new(), Vec::new());
    let mut expected = 0.0;
    for round in 0..6 {
        let round_values: [(char, CType, Value, f64); 9] = [
            ('i', CType::i8(), (-3).into(), -3.0),
            ('d', CType::f32(), 0.5f32.into(), 0.5),
            ('i', CType::bool(), true.into(), 1.0),
            ('l', CType::i64(), (1i64 << 40).into(), (1u64 << 40) as f64),
            ('D', CType::LongDouble, LongDouble::from(2.5).into(), 2.5),
            ('w', CType::i128(), (-12345i128).into(), -12345.0),
            ('s', pair_ty.clone(), one.clone().into(), 7.25),
            ('p', CType::ptr(), Value::from(&raw const cell), 1000.0),
            (
                'i',
                CType::u16(),
                (60000 + round).into(),
                f64::from(60000 + round),
            ),
        ];
        for (c, ty, value, number) in round_values {
            format.push(c);
            types.push(ty);
            values.push(value);
            expected += number;
        }
    }
    format.push('\0');
    let signature = Signature::variadic([CType::ptr()], types, CType::f64());
    values.insert(0, Value::from(format.as_ptr()));
    let found = call(&library, "sum", signature, &values);
    assert_eq!(found, Ok(Value::from(expected)));
}

#[test]
fn snprintf() {
    let base = Signature::parse(
        "int snprintf(char *out, size_t size, const char *format, ...)",
        &[],
    );
    let base = base.expect("a signature");
    let print = |format: &CStr, tail: &[(CType, Value)]| {
        let signature = base
            .with_tail(tail.iter().map(|t| t.0.clone()))
            .expect("variadic");
        let mut call =
            NativeCall::new(signature, libc::snprintf as *const () as u64).expect("a call");
        let mut out = vec![0u8; 200];
        let mut values = vec![
            Value::from(out.as_mut_ptr()),
            Value::from(out.len()),
            Value::from(format.as_ptr()),
        ];
        values.extend(tail.iter().map(|t| t.1.clone()));
        call.set_values(&values).expect("arguments");
        // SAFETY: each format below goes with its values.
        let len = unsafe { call.run() }
            .expect("a length")
            .as_int()
            .expect("an integer");
        String::from_utf8(out[..len as usize].to_vec()).expect("text")
    };
    assert_eq!(print(c"plain", &[]), "plain");
    let tail = [
        (CType::i32(), Value::from(-7)),
        (CType::ptr(), Value::from(c"text".as_ptr())),
        (CType::f64(), Value::from(1.5)),
        (CType::f32(), Value::from(2.25f32)),
        (CType::Char, Value::from(b'x')),
        (CType::u64(), Value::from(u64::MAX)),
        (CType::LongDouble, Value::from(LongDouble::from(1e300))),
    ];
    assert_eq!(
        print(c"%d %s %g %g %c %lu %Lg", &tail),
        "-7 text 1.5 2.25 x 18446744073709551615 1e+300"
    );
    // Twelve doubles are more than there are registers for them.
    let tail: Vec<_> = (0..12)
        .map(|i| (CType::f64(), Value::from(f64::from(i))))
        .collect();
    assert_eq!(
        print(c"%g %g %g %g %g %g %g %g %g %g %g %g", &tail),
        "0 1 2 3 4 5 6 7 8 9 10 11"
    );
}
