//! Types in words, for messages.

use super::{CType, IntType};

impl CType {
    /// The type in C's words: `int`, `const char *`, `struct point`.
    pub fn name(&self) -> String {
        match self {
            CType::Void => "void".to_owned(),
            CType::Bool => "_Bool".to_owned(),
            CType::Char => "char".to_owned(),
            CType::Int(int) => int.name().to_owned(),
            CType::Enum(e) => e.name.clone(),
            CType::Float => "float".to_owned(),
            CType::Double => "double".to_owned(),
            CType::LongDouble => "long double".to_owned(),
            CType::ComplexFloat => "float _Complex".to_owned(),
            CType::ComplexDouble => "double _Complex".to_owned(),
            CType::Pointer(pointee) if pointee.spelling.ends_with('*') => {
                format!("{}*", pointee.spelling)
            }
            CType::Pointer(pointee) => format!("{} *", pointee.spelling),
            CType::FunctionPointer(function) => match &function.signature {
                None => "void (*)()".to_owned(),
                Some(signature) => signature.spelling("(*)"),
            },
            CType::Struct(s) => s.name.clone(),
            CType::Array(element, len) => {
                let element = element.name();
                let at = element.find('[').unwrap_or(element.len());
                format!("{}[{len}]{}", &element[..at], &element[at..])
            }
            CType::Incomplete(name) | CType::Opaque { name, .. } => name.clone(),
        }
    }
}

impl CType {
    /// What its values are, with an article: `an integer`.
    pub fn kind(&self) -> &'static str {
        match self {
            CType::Void => "nothing",
            CType::Bool => "a boolean",
            CType::Char => "a character",
            CType::Int(_) => "an integer",
            CType::Enum(_) => "an enumeration's constant",
            CType::Float | CType::Double | CType::LongDouble => "a floating-point number",
            CType::ComplexFloat | CType::ComplexDouble => "a complex number",
            CType::Pointer(_) => "a pointer",
            CType::FunctionPointer(_) => "a function pointer",
            CType::Struct(s) if s.is_union => "a union",
            CType::Struct(_) => "a struct",
            CType::Array(..) => "an array",
            CType::Incomplete(_) | CType::Opaque { .. } => "a value",
        }
    }
}

impl IntType {
    /// The type in C's words.
    pub fn name(self) -> &'static str {
        match (self.bytes, self.signed) {
            (1, true) => "signed char",
            (1, false) => "unsigned char",
            (2, true) => "short",
            (2, false) => "unsigned short",
            (4, true) => "int",
            (4, false) => "unsigned int",
            (16, true) => "__int128",
            (16, false) => "unsigned __int128",
            (_, true) => "long",
            (_, false) => "unsigned long",
        }
    }
}
