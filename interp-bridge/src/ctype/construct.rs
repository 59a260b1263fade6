//! Types made in Rust, for interpreters that have types but no C text.

use std::sync::Arc;

use super::{
    CType, EnumType, Field, FunctionType, IntType, LayoutError, Pointee, PointerPromise, Spelled,
    StructLayout, StructType,
};
use crate::ffi::Signature;

macro_rules! integers {
    ($($name:ident $bytes:literal $signed:literal $c:literal;)*) => {$(
        #[doc = concat!("`", $c, "`.")]
        pub const fn $name() -> CType {
            CType::int($bytes, $signed)
        }
    )*};
}

impl CType {
    integers! {
        i8 1 true "int8_t";
        u8 1 false "uint8_t";
        i16 2 true "int16_t";
        u16 2 false "uint16_t";
        i32 4 true "int32_t";
        u32 4 false "uint32_t";
        i64 8 true "int64_t";
        u64 8 false "uint64_t";
        i128 16 true "__int128";
        u128 16 false "unsigned __int128";
        isize 8 true "ptrdiff_t";
        usize 8 false "size_t";
    }

    /// `void`.
    pub const fn void() -> CType {
        CType::Void
    }

    /// `_Bool`.
    pub const fn bool() -> CType {
        CType::Bool
    }

    /// `float`.
    pub const fn f32() -> CType {
        CType::Float
    }

    /// `double`.
    pub const fn f64() -> CType {
        CType::Double
    }

    /// A signed or unsigned integer of `bytes` bytes: 1, 2, 4, 8 or 16.
    pub const fn int(bytes: u8, signed: bool) -> CType {
        CType::Int(IntType { bytes, signed })
    }

    /// `void *`.
    pub fn ptr() -> CType {
        CType::pointer_to(CType::Void)
    }

    /// A pointer to `ty`, through which may be written.
    pub fn pointer_to(ty: CType) -> CType {
        pointer(ty, false, PointerPromise::default())
    }

    /// A pointer to const `ty`.
    pub fn const_pointer_to(ty: CType) -> CType {
        pointer(ty, true, PointerPromise::default())
    }

    /// A pointer to `ty` that is never null and always aligned for it, as a reference is. What
    /// native code returns as one is checked.
    pub fn reference_to(ty: CType, is_const: bool) -> CType {
        let align = ty.by_value().map_or(1, |l| l.align);
        let non_null = true;
        pointer(ty, is_const, PointerPromise { non_null, align })
    }

    /// A pointer to some function, possibly null.
    pub fn function_pointer() -> CType {
        CType::FunctionPointer(FunctionType::default())
    }

    /// A pointer to a function with this signature.
    pub fn function_pointer_to(signature: Signature, non_null: bool) -> CType {
        let signature = Some(Arc::new(signature));
        CType::FunctionPointer(FunctionType {
            signature,
            non_null,
        })
    }

    /// `ty[len]`, as a field.
    pub fn array_of(ty: CType, len: u64) -> CType {
        CType::Array(Arc::new(ty), len)
    }

    /// A type that cannot be used by value, with its name and why: "it is not `repr(C)`".
    pub fn opaque(name: impl Into<String>, reason: impl Into<String>) -> CType {
        let (name, reason) = (name.into(), reason.into());
        CType::Opaque { name, reason }
    }
}

fn pointer(ty: CType, is_const: bool, promise: PointerPromise) -> CType {
    let spelling = match is_const {
        true => format!("const {}", ty.name()),
        false => ty.name(),
    };
    CType::Pointer(Arc::new(Pointee {
        ty,
        is_const,
        spelling,
        promise,
    }))
}

impl StructType {
    /// A struct with these fields, laid out as C does it.
    pub fn new<N: Into<String>>(
        name: impl Into<String>,
        fields: impl IntoIterator<Item = (N, CType)>,
    ) -> StructType {
        StructType::build(name.into(), false, fields)
    }

    /// A union with these fields.
    pub fn union<N: Into<String>>(
        name: impl Into<String>,
        fields: impl IntoIterator<Item = (N, CType)>,
    ) -> StructType {
        StructType::build(name.into(), true, fields)
    }

    /// A struct whose size, alignment and field offsets the interpreter knows. Where they are
    /// what C would make of the fields the type can be passed by value. Where they are not (a
    /// packed or over-aligned struct, fields in another order) it still is a good pointee, and a
    /// use by value is refused with the first difference.
    pub fn with_layout<N: Into<String>>(
        name: impl Into<String>,
        fields: impl IntoIterator<Item = (N, CType)>,
        layout: &StructLayout,
    ) -> StructType {
        let mut ty = StructType::build(name.into(), false, fields);
        let differs = ty.layout.as_ref().ok().and_then(|ours| {
            let fields = ty.fields.iter().zip(&ours.offsets).zip(&layout.offsets);
            let moved = fields.clone().find(|((_, c), given)| c != given);
            if ours.offsets.len() != layout.offsets.len() {
                Some("it has another number of fields".to_owned())
            } else if let Some(((field, c), given)) = moved {
                let name = &field.name;
                Some(format!(
                    "`{name}` lies at offset {given}, C places it at {c}"
                ))
            } else if ours.whole.align != layout.whole.align {
                let (given, c) = (layout.whole.align, ours.whole.align);
                Some(format!("it is aligned to {given}, in C to {c}"))
            } else if ours.whole.size != layout.whole.size {
                let (given, c) = (layout.whole.size, ours.whole.size);
                Some(format!("it has {given} bytes, in C {c}"))
            } else {
                None
            }
        });
        if let Some(what) = differs {
            let name = ty.name.clone();
            ty.layout = Err(LayoutError::NotC { name, what });
        }
        ty
    }

    fn build<N: Into<String>>(
        name: String,
        is_union: bool,
        fields: impl IntoIterator<Item = (N, CType)>,
    ) -> StructType {
        let field = |(name, ty): (N, CType)| Field {
            name: name.into(),
            ty: Spelled {
                spelling: ty.name(),
                ty,
            },
        };
        StructType::of_fields(name, is_union, fields.into_iter().map(field).collect())
    }

    /// A struct or union of fields with their spelling.
    pub(crate) fn of_fields(name: String, is_union: bool, fields: Vec<Field>) -> StructType {
        let layout = match is_union {
            true => StructLayout::of_union(&fields),
            false => StructLayout::of(&fields),
        };
        StructType {
            name,
            is_union,
            fields,
            layout,
        }
    }
}

impl From<StructType> for CType {
    fn from(ty: StructType) -> CType {
        CType::Struct(Arc::new(ty))
    }
}

impl EnumType {
    /// An enumeration over an integer type of `bytes` bytes. A closed one has no values but its
    /// constants, as in Rust.
    pub fn new<N: Into<String>>(
        name: impl Into<String>,
        int: IntType,
        constants: impl IntoIterator<Item = (N, i128)>,
        closed: bool,
    ) -> EnumType {
        EnumType {
            name: name.into(),
            int,
            constants: constants.into_iter().map(|(n, v)| (n.into(), v)).collect(),
            closed,
        }
    }
}

impl From<EnumType> for CType {
    fn from(ty: EnumType) -> CType {
        CType::Enum(Arc::new(ty))
    }
}
