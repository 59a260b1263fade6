//! Random C types, each as C text and as a [`CType`].

use std::fmt::Write;

use interp_bridge::ctype::{CType, EnumType, IntType, StructType};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

/// A type.
#[derive(Clone, Debug)]
pub(crate) enum Ty {
    /// Name in C, and the type.
    Scalar(&'static str, CType),
    Array(Box<Ty>, u64),
    Aggregate {
        is_union: bool,
        fields: Vec<Ty>,
    },
}

/// Every scalar, as C writes it.
pub(crate) fn scalars() -> Vec<(&'static str, CType)> {
    let int = IntType {
        bytes: 4,
        signed: false,
    };
    let color = EnumType::new("enum color", int, [("RED", 0), ("GREEN", 16)], false);
    vec![
        ("_Bool", CType::bool()),
        ("char", CType::Char),
        ("signed char", CType::i8()),
        ("unsigned char", CType::u8()),
        ("short", CType::i16()),
        ("unsigned short", CType::u16()),
        ("int", CType::i32()),
        ("unsigned int", CType::u32()),
        ("long", CType::i64()),
        ("unsigned long", CType::u64()),
        ("__int128", CType::i128()),
        ("unsigned __int128", CType::u128()),
        ("float", CType::f32()),
        ("double", CType::f64()),
        ("long double", CType::LongDouble),
        ("float _Complex", CType::ComplexFloat),
        ("double _Complex", CType::ComplexDouble),
        ("pointer", CType::ptr()),
        ("function", CType::function_pointer()),
        ("enum color", color.into()),
    ]
}

/// What the names in [`scalars`] need.
pub(crate) const PRELUDE: &str = "#include <stddef.h>\n#include <stdint.h>\n#include <string.h>\n\
    typedef void *pointer; typedef void (*function)(void);\n\
    enum color { RED, GREEN = 16 };\n";

fn ty() -> impl Strategy<Value = Ty> {
    let scalar = prop::sample::select(scalars()).prop_map(|(c, ty)| Ty::Scalar(c, ty));
    // Small types are the ones with different ways of passing.
    let small = prop::sample::select(vec![0usize, 1, 4, 6, 8, 12, 12, 12, 13, 13, 17]);
    let small = small.prop_map(|i| {
        let (c, ty) = scalars().swap_remove(i);
        Ty::Scalar(c, ty)
    });
    let leaf = prop_oneof![scalar, small];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            3 => inner.clone(),
            1 => (inner.clone(), 1u64..5).prop_map(|(ty, len)| Ty::Array(Box::new(ty), len)),
            2 => aggregate(inner),
        ]
    })
}

fn aggregate(inner: impl Strategy<Value = Ty> + 'static) -> impl Strategy<Value = Ty> {
    (
        prop::bool::weighted(0.3),
        prop::collection::vec(inner, 1..5),
    )
        .prop_map(|(is_union, fields)| Ty::Aggregate { is_union, fields })
}

/// So many structs and unions, the same ones in each run.
pub(crate) fn aggregates(count: usize) -> Vec<Ty> {
    let mut runner = TestRunner::deterministic();
    let strategy = aggregate(ty());
    let mut next = || strategy.new_tree(&mut runner).expect("a type").current();
    (0..count).map(|_| next()).collect()
}

impl Ty {
    /// The type, and its C declarations appended to `out`. Answers its name in C, with what comes
    /// after the declared name. `next` numbers the tags.
    pub(crate) fn declare(&self, out: &mut String, next: &mut usize) -> (CType, String, String) {
        match self {
            Ty::Scalar(name, ty) => (ty.clone(), (*name).to_owned(), String::new()),
            Ty::Array(element, len) => {
                let (ty, name, after) = element.declare(out, next);
                (CType::array_of(ty, *len), name, format!("[{len}]{after}"))
            }
            Ty::Aggregate { is_union, fields } => {
                let keyword = if *is_union { "union" } else { "struct" };
                let mut body = String::new();
                let mut types = Vec::new();
                for (i, field) in fields.iter().enumerate() {
                    let (ty, name, after) = field.declare(out, next);
                    let _ = write!(body, "{name} f{i}{after}; ");
                    types.push((format!("f{i}"), ty));
                }
                let name = format!("{keyword} t{next}");
                *next += 1;
                let _ = writeln!(out, "{name} {{ {body}}};");
                let ty = match is_union {
                    true => StructType::union(name.clone(), types),
                    false => StructType::new(name.clone(), types),
                };
                (ty.into(), name, String::new())
            }
        }
    }
}

/// Which bytes of a value of `ty` belong to a scalar, and are kept by a copy; appended to `mask`
/// from `offset` on.
pub(crate) fn mark(ty: &CType, offset: usize, mask: &mut [bool]) {
    let size = |ty: &CType| ty.by_value().expect("a layout").size as usize;
    match ty {
        CType::Struct(s) => {
            let layout = s.layout.as_ref().expect("a layout");
            for (field, at) in s.fields.iter().zip(&layout.offsets) {
                mark(&field.ty.ty, offset + *at as usize, mask);
            }
        }
        CType::Array(element, len) => {
            for i in 0..*len as usize {
                mark(element, offset + i * size(element), mask);
            }
        }
        CType::LongDouble => mask[offset..offset + 10].fill(true),
        scalar => mask[offset..offset + size(scalar)].fill(true),
    }
}

/// Has every `_Bool` outside of unions hold 0 or 1.
pub(crate) fn make_valid(ty: &CType, bytes: &mut [u8]) {
    match ty {
        CType::Bool => bytes[0] &= 1,
        CType::Struct(s) => {
            let layout = s.layout.as_ref().expect("a layout");
            for (field, at) in s.fields.iter().zip(&layout.offsets) {
                make_valid(&field.ty.ty, &mut bytes[*at as usize..]);
            }
        }
        CType::Array(element, len) => {
            let size = element.by_value().expect("a layout").size as usize;
            for i in 0..*len as usize {
                make_valid(element, &mut bytes[i * size..]);
            }
        }
        _ => {}
    }
}

/// A cheap generator of bytes.
pub(crate) struct Bytes(pub(crate) u64);

impl Bytes {
    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1);
            *byte = (self.0 >> 56) as u8;
        }
    }
}
