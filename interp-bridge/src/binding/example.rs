//! Bindings as examples, for messages.

use crate::ctype::{CType, StructType};
use crate::prototype::{Param, Prototype};

/// A binding for each parameter for which `wanted` holds, as an example that would be accepted.
pub fn examples(prototype: &Prototype, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let params = prototype.params.iter().filter(|p| wanted(&p.name));
    params.map(|p| example(prototype, p)).collect()
}

pub(super) fn example(prototype: &Prototype, param: &Param) -> String {
    format!("{}={}", param.name, example_value(prototype, param))
}

pub(super) fn example_value(prototype: &Prototype, param: &Param) -> String {
    match &param.ty.ty {
        CType::Pointer(p) if p.is_const && matches!(p.ty, CType::Char) => "str:hello".into(),
        CType::Pointer(p) => match (&p.ty, p.is_const) {
            (CType::Struct(s), _) => struct_example(s),
            (CType::Pointer(_), _) => "ptr:null".into(),
            (CType::Float, true) => "f32:1,2,3".into(),
            (CType::Double, true) => "f64:1,2,3".into(),
            (CType::Void, true) => "bytes:hello".into(),
            (ty, is_const) => match (ty.as_int(), is_const) {
                (Some(int), true) if int.bytes == 1 => "bytes:hello".into(),
                (Some(int), true) => {
                    let sign = if int.signed { 'i' } else { 'u' };
                    format!("{sign}{}:1,2,3", u32::from(int.bytes) * 8)
                }
                _ => "uninit:64".into(),
            },
        },
        CType::FunctionPointer(_) => "null".into(),
        CType::Float
        | CType::Double
        | CType::LongDouble
        | CType::ComplexFloat
        | CType::ComplexDouble => "1.5".into(),
        CType::Bool => "true".into(),
        CType::Struct(s) => struct_example(s),
        CType::Enum(e) => e
            .constants
            .first()
            .map_or("0".into(), |(name, _)| name.clone()),
        _ => {
            // A number right after a pointer is mostly its length.
            let before = prototype
                .params
                .iter()
                .take_while(|p| p.name != param.name)
                .last();
            let name = param.name.to_ascii_lowercase();
            let sounds = ["len", "size", "count", "bytes"]
                .iter()
                .any(|w| name.contains(w));
            match before {
                Some(p) if matches!(p.ty.ty, CType::Pointer(_)) && (sounds || name == "n") => {
                    format!("len({})", p.name)
                }
                _ => "0".into(),
            }
        }
    }
}

pub(super) fn struct_example(s: &StructType) -> String {
    let field = |ty: &CType| match ty {
        CType::Struct(inner) => struct_example(inner),
        CType::Array(..) => "{0}".into(),
        CType::Pointer(_) | CType::FunctionPointer(_) => "null".into(),
        CType::Float | CType::Double | CType::LongDouble => "1.5".into(),
        _ => "1".into(),
    };
    let shown = if s.is_union { 1 } else { s.fields.len() };
    let fields = s.fields.iter().take(shown).map(|f| field(&f.ty.ty));
    let fields: Vec<String> = fields.collect();
    format!("{{{}}}", fields.join(","))
}
