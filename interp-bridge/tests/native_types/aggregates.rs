//! Hundreds of random structs and unions, passed, returned and called back with.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::fmt::Write;
use std::sync::Arc;

use interp_bridge::ctype::{CType, StructType};
use interp_bridge::ffi::{Aggregate, CallInterface, Library, Signature, Value, marshal};
use libffi::low;

use super::fixture::{address, build, call};
use super::random::{self, Bytes};

/// One generated type.
struct Case {
    ty: CType,
    aggregate: Arc<StructType>,
    index: usize,
    /// How many integers and doubles go before it, to use registers up.
    before: (usize, usize),
}

impl Case {
    fn size(&self) -> usize {
        self.ty.by_value().expect("a layout").size as usize
    }

    fn mask(&self) -> Vec<bool> {
        let mut mask = vec![false; self.size()];
        random::mark(&self.ty, 0, &mut mask);
        mask
    }

    fn value(&self, random: &mut Bytes) -> Aggregate {
        let mut bytes = vec![0; self.size()];
        random.fill(&mut bytes);
        random::make_valid(&self.ty, &mut bytes);
        Aggregate::from_memory(&self.aggregate, &bytes, |_| true, []).expect("a value")
    }

    fn check(&self, what: &str, expected: &[u8], found: &[u8]) {
        for (at, is_value) in self.mask().into_iter().enumerate() {
            let (e, f) = (expected[at], found[at]);
            assert!(
                !is_value || e == f,
                "{what} of {:?}, byte {at}: {e:#x} became {f:#x}\n{expected:x?}\n{found:x?}",
                self.aggregate
            );
        }
    }
}

fn source(cases: &mut Vec<Case>) -> String {
    let mut out = random::PRELUDE.to_owned();
    let mut next = 0;
    for (index, ty) in random::aggregates(400).iter().enumerate() {
        let (ty, name, _) = ty.declare(&mut out, &mut next);
        let CType::Struct(aggregate) = &ty else {
            panic!("{name} is no struct")
        };
        let before = (index % 7, index / 7 % 9);
        let scalars = (0..before.0).map(|i| format!("long i{i}, "));
        let scalars = scalars.chain((0..before.1).map(|i| format!("double d{i}, ")));
        let scalars: String = scalars.collect();
        let sum = (0..before.0).map(|i| format!(" + i{i}"));
        let sum = sum.chain((0..before.1).map(|i| format!(" + (long)d{i}")));
        let sum: String = sum.collect();
        let _ = writeln!(
            out,
            "unsigned long size_{index}(void) {{ return sizeof({name}) << 8 | _Alignof({name}); }}
             void pass_{index}({name} v, {name} *out) {{ *out = v; }}
             {name} ret_{index}(const {name} *v) {{ return *v; }}
             long mix_{index}({scalars}{name} v, {name} w, int z, {name} *out) {{
               out[0] = w; out[1] = v; return z{sum}; }}
             {name} back_{index}({name} (*f)({scalars}{name}, char, {name}), const {name} *v) {{
               return f({arguments} v[0], -5, v[1]); }}",
            arguments = (0..before.0 + before.1)
                .map(|i| format!("{i}, "))
                .collect::<String>(),
        );
        let mut offsets = String::new();
        for (i, _) in aggregate.fields.iter().enumerate() {
            let _ = write!(offsets, "case {i}: return offsetof({name}, f{i}); ");
        }
        let _ = writeln!(
            out,
            "unsigned long offset_{index}(int i) {{ switch (i) {{ {offsets} }} return -1; }}"
        );
        cases.push(Case {
            aggregate: aggregate.clone(),
            ty,
            index,
            before,
        });
    }
    out
}

#[test]
fn random_structs_and_unions_travel_as_cc_has_it() {
    let mut cases = Vec::new();
    let library = build(&source(&mut cases));
    let mut ways = std::collections::HashMap::new();
    for case in &cases {
        *ways.entry(case.ty.passing().expect("a way")).or_insert(0) += 1;
        layout(&library, case);
        by_value(&library, case);
        called_back(&library, case);
    }
    // All ways of passing have come up: one or two registers of either class, x87, memory.
    assert!(ways.len() >= 8, "{ways:?}");
    eprintln!("{} types: {ways:?}", cases.len());
}

fn layout(library: &Library, case: &Case) {
    let index = case.index;
    let size = call(
        library,
        &format!("size_{index}"),
        Signature::new([], CType::u64()),
        &[],
    );
    let layout = case.ty.by_value().expect("a layout");
    let expected = layout.size << 8 | layout.align;
    assert_eq!(size, Ok(Value::from(expected)), "{:?}", case.aggregate);
    let offsets = &case.aggregate.layout.as_ref().expect("a layout").offsets;
    for (i, offset) in offsets.iter().enumerate() {
        let signature = Signature::new([CType::i32()], CType::u64());
        let name = format!("offset_{index}");
        let found = call(library, &name, signature, &[Value::from(i)]);
        assert_eq!(found, Ok(Value::from(*offset)), "{:?}", case.aggregate);
    }
}

/// Sixteen-aligned room for two values.
fn room(size: usize) -> Vec<u128> {
    vec![0; size.div_ceil(8) + 2]
}

fn bytes(room: &[u128], start: usize, len: usize) -> Vec<u8> {
    let all: Vec<u8> = room.iter().flat_map(|w| w.to_le_bytes()).collect();
    all[start..start + len].to_vec()
}

fn by_value(library: &Library, case: &Case) {
    let (index, size) = (case.index, case.size());
    let mut random = Bytes(index as u64);
    let (v, w) = (case.value(&mut random), case.value(&mut random));
    let mut out = room(size);
    let place = Value::from(out.as_mut_ptr());

    let signature = Signature::new([case.ty.clone(), CType::ptr()], CType::void());
    let values = [Value::from(v.clone()), place.clone()];
    let done = call(library, &format!("pass_{index}"), signature, &values);
    assert_eq!(done, Ok(Value::Void));
    case.check("argument", v.bytes(), &bytes(&out, 0, size));

    // What was stored is what is read back.
    let signature = Signature::new([CType::ptr()], case.ty.clone());
    let returned = call(
        library,
        &format!("ret_{index}"),
        signature,
        std::slice::from_ref(&place),
    );
    match returned {
        Ok(Value::Struct(returned)) => case.check("result", v.bytes(), returned.bytes()),
        other => panic!("{other:?}"),
    }

    let (ints, doubles) = case.before;
    let mut params = vec![CType::i64(); ints];
    params.extend(vec![CType::f64(); doubles]);
    params.extend([case.ty.clone(), case.ty.clone(), CType::i32(), CType::ptr()]);
    let mut values: Vec<Value> = (0..ints).map(|i| Value::from(i as i64 * -3)).collect();
    values.extend((0..doubles).map(|i| Value::from(i as f64 * 100.0)));
    values.extend([v.clone().into(), w.clone().into(), Value::from(-9), place]);
    let sum = (0..ints as i64).sum::<i64>() * -3 + (0..doubles as i64).sum::<i64>() * 100 - 9;
    out.fill(0);
    let name = format!("mix_{index}");
    let found = call(
        library,
        &name,
        Signature::new(params, CType::i64()),
        &values,
    );
    assert_eq!(found, Ok(Value::from(sum)), "{:?}", case.aggregate);
    case.check("later argument", w.bytes(), &bytes(&out, 0, size));
    case.check("argument among others", v.bytes(), &bytes(&out, size, size));
}

/// What the closure needs.
struct Back<'a> {
    case: &'a Case,
    signature: Signature,
    v: Aggregate,
    w: Aggregate,
}

unsafe extern "C" fn answer(
    _: &low::ffi_cif,
    into: &mut c_void,
    raw: *const *const c_void,
    back: &Back<'_>,
) {
    // SAFETY: the closure was prepared for this signature, and this is a call of it.
    let values = unsafe { marshal::arguments(&back.signature, raw) }.expect("good arguments");
    let (ints, doubles) = back.case.before;
    let scalars = (0..ints as i64).map(Value::from);
    let scalars = scalars.chain((ints..ints + doubles).map(|i| Value::from(i as f64)));
    for (value, expected) in values.iter().zip(scalars) {
        assert_eq!(*value, expected);
    }
    match &values[ints + doubles..] {
        [Value::Struct(v), Value::Int(-5), Value::Struct(w)] => {
            back.case
                .check("callback's argument", back.v.bytes(), v.bytes());
            back.case
                .check("callback's later argument", back.w.bytes(), w.bytes());
        }
        other => panic!("{other:?}"),
    }
    let result = values.last().expect("an argument");
    // SAFETY: as before; this is the place for the result.
    unsafe { marshal::store_return(&back.case.ty, result, into) }.expect("a good result");
}

fn called_back(library: &Library, case: &Case) {
    let index = case.index;
    let mut random = Bytes(!(index as u64));
    let (v, w) = (case.value(&mut random), case.value(&mut random));
    let (ints, doubles) = case.before;
    let mut params = vec![CType::i64(); ints];
    params.extend(vec![CType::f64(); doubles]);
    params.extend([case.ty.clone(), CType::Char, case.ty.clone()]);
    let signature = Signature::new(params, case.ty.clone());
    let interface = CallInterface::new(&signature).expect("an interface");
    let back = Back {
        case,
        signature,
        v,
        w,
    };
    let (closure, code) = low::closure_alloc();
    // SAFETY: interface and data outlive the closure, which is freed below and not called then.
    unsafe {
        low::prep_closure(
            closure,
            interface.as_raw_ptr(),
            answer,
            &raw const back,
            code,
        )
    }
    .expect("a closure");
    let both = [back.v.bytes(), back.w.bytes()].concat();
    let mut memory = room(case.size());
    for (i, byte) in both.iter().enumerate() {
        memory[i / 16] |= u128::from(*byte) << (i % 16 * 8);
    }
    let call_back = Signature::new([CType::function_pointer(), CType::ptr()], case.ty.clone());
    let values = [
        Value::pointer(code.as_ptr().addr() as u64),
        Value::from(memory.as_ptr()),
    ];
    let found = call(library, &format!("back_{index}"), call_back, &values);
    // SAFETY: nothing calls it any more.
    unsafe { low::closure_free(closure) };
    match found {
        Ok(Value::Struct(found)) => {
            case.check("callback's result", back.w.bytes(), found.bytes());
        }
        other => panic!("{other:?}"),
    }
    let _ = address(library, &format!("back_{index}"));
}
