//! Type specifiers: arithmetic words, typedefs, structs and enumerations.

use std::sync::Arc;

use lang_c::ast::{
    SpecifierQualifier, StructDeclaration, StructKind, TypeQualifier, TypeSpecifier,
};
use lang_c::span::Node;

use super::constant;
use super::error::PrototypeError;
use super::lower::{Lowering, Qualified, Specifier};
use super::prelude::WIDE;
use super::words::Words;
use crate::ctype::{CType, EnumType, Field, IntType, Spelled, StructType};

impl Lowering<'_> {
    /// The type that the specifiers name, before any declarator.
    pub(super) fn base(
        &mut self,
        specifiers: &[Specifier<'_>],
    ) -> Result<Qualified, PrototypeError> {
        let mut words = Words::default();
        let (mut is_const, mut named, mut spelling) = (false, None, Vec::new());
        for specifier in specifiers {
            match specifier {
                Specifier::Qualifier(q) => {
                    is_const |= q.node == TypeQualifier::Const;
                    if q.node == TypeQualifier::Atomic {
                        return Err(self.unsupported("_Atomic", "leave `_Atomic` out"));
                    }
                    spelling.push(self.slice(q.span).to_owned());
                }
                Specifier::Type(t) => {
                    let (found, text) = self.specifier(t, &mut words)?;
                    spelling.push(text);
                    named = found.or(named);
                }
            }
        }
        let spelling = spelling.join(" ");
        match named {
            Some(mut found) => {
                if words != Words::default() {
                    return Err(PrototypeError::Invalid {
                        what: format!("`{spelling}` names two types at once"),
                    });
                }
                found.is_const |= is_const;
                Ok(Qualified { spelling, ..found })
            }
            None => {
                let ty = words.resolve(&spelling)?;
                Ok(Qualified {
                    ty,
                    is_const,
                    spelling,
                    function: None,
                })
            }
        }
    }

    /// One type specifier: a word of an arithmetic type, or a type by itself.
    pub(super) fn specifier(
        &mut self,
        specifier: &Node<TypeSpecifier>,
        words: &mut Words,
    ) -> Result<(Option<Qualified>, String), PrototypeError> {
        let text = self.slice(specifier.span).to_owned();
        let found = |ty, spelling: String| {
            let function = None;
            Ok((
                Some(Qualified {
                    ty,
                    is_const: false,
                    spelling: spelling.clone(),
                    function,
                }),
                spelling,
            ))
        };
        match &specifier.node {
            TypeSpecifier::Void => return found(CType::Void, text),
            TypeSpecifier::Bool => return found(CType::Bool, text),
            TypeSpecifier::Char => words.char += 1,
            TypeSpecifier::Short => words.short += 1,
            TypeSpecifier::Int => words.int += 1,
            TypeSpecifier::Long => words.long += 1,
            TypeSpecifier::Float => words.float += 1,
            TypeSpecifier::Double => words.double += 1,
            TypeSpecifier::Signed => words.signed += 1,
            TypeSpecifier::Unsigned => words.unsigned += 1,
            TypeSpecifier::Complex => words.complex += 1,
            TypeSpecifier::Struct(s) => {
                let (ty, name) = self.structure(&s.node)?;
                return found(ty, name);
            }
            TypeSpecifier::Enum(e) => {
                let (ty, name) = self.enumeration(&e.node)?;
                return found(ty, name);
            }
            TypeSpecifier::TypedefName(name) => {
                let name = &name.node.name;
                if let Some((_, signed)) = WIDE.iter().find(|(wide, _)| wide == name) {
                    let spelling = match signed {
                        true => "__int128",
                        false => "unsigned __int128",
                    };
                    return found(CType::int(16, *signed), spelling.to_owned());
                }
                if let Some(mut ty) = self.typedefs.get(name).cloned() {
                    ty.ty = self.complete(ty.ty);
                    return Ok((Some(ty), name.clone()));
                }
                let reason = "it has no declaration here".to_owned();
                return found(
                    CType::Opaque {
                        name: name.clone(),
                        reason,
                    },
                    name.clone(),
                );
            }
            TypeSpecifier::Atomic(_) => {
                return Err(self.unsupported("_Atomic", "leave `_Atomic` out"));
            }
            TypeSpecifier::TypeOf(_) => {
                return Err(self.unsupported("typeof", "write the type itself"));
            }
            TypeSpecifier::TS18661Float(_) => {
                let reason = "its width is not supported".to_owned();
                return found(
                    CType::Opaque {
                        name: text.clone(),
                        reason,
                    },
                    text,
                );
            }
        }
        Ok((None, text))
    }

    pub(super) fn structure(
        &mut self,
        s: &lang_c::ast::StructType,
    ) -> Result<(CType, String), PrototypeError> {
        let is_union = s.kind.node == StructKind::Union;
        let keyword = if is_union { "union" } else { "struct" };
        let name = match &s.identifier {
            Some(tag) => format!("{keyword} {}", tag.node.name),
            None => keyword.to_owned(),
        };
        let Some(declarations) = &s.declarations else {
            let ty = CType::Incomplete(name.clone());
            return Ok((self.complete(ty), name));
        };
        let (mut fields, mut hindrance) = (Vec::new(), None);
        for declaration in declarations {
            let StructDeclaration::Field(field) = &declaration.node else {
                continue;
            };
            let mut specifiers = Vec::new();
            for specifier in &field.node.specifiers {
                match &specifier.node {
                    SpecifierQualifier::TypeSpecifier(t) => specifiers.push(Specifier::Type(t)),
                    SpecifierQualifier::TypeQualifier(q) => {
                        specifiers.push(Specifier::Qualifier(q));
                    }
                    SpecifierQualifier::Extension(_) => {}
                }
            }
            let base = self.base(&specifiers)?;
            if field.node.declarators.is_empty() {
                let ty = Spelled {
                    ty: base.ty.clone(),
                    spelling: base.spelling.clone(),
                };
                fields.push(Field {
                    name: String::new(),
                    ty,
                });
            }
            for declarator in &field.node.declarators {
                let is_bits = declarator.node.bit_width.is_some();
                let Some(declarator) = &declarator.node.declarator else {
                    hindrance = Some("it has bit-fields".to_owned());
                    continue;
                };
                let (field_name, ty) = self.declarator(base.clone(), &declarator.node)?;
                if is_bits {
                    let field = field_name.as_deref().unwrap_or_default();
                    hindrance = Some(format!("it has bit-fields (`{field}`)"));
                }
                if matches!(&ty.ty, CType::Array(_, 0)) {
                    hindrance = Some("it has an array without elements".to_owned());
                }
                if ty.function.is_some() {
                    let what = format!("a field of `{name}` is a function");
                    return Err(PrototypeError::Invalid { what });
                }
                let ty = Spelled {
                    ty: self.complete(ty.ty),
                    spelling: ty.spelling,
                };
                fields.push(Field {
                    name: field_name.unwrap_or_default(),
                    ty,
                });
            }
        }
        let ty = match hindrance {
            Some(reason) => CType::Opaque {
                name: name.clone(),
                reason,
            },
            None => StructType::of_fields(name.clone(), is_union, fields).into(),
        };
        if s.identifier.is_some() {
            self.tags.insert(name.clone(), ty.clone());
        }
        Ok((ty, name))
    }

    pub(super) fn enumeration(
        &mut self,
        e: &lang_c::ast::EnumType,
    ) -> Result<(CType, String), PrototypeError> {
        let name = match &e.identifier {
            Some(tag) => format!("enum {}", tag.node.name),
            None => "enum".to_owned(),
        };
        if e.enumerators.is_empty() {
            let ty = CType::Incomplete(name.clone());
            return Ok((self.complete(ty), name));
        }
        let (mut constants, mut next) = (Vec::new(), 0i128);
        for enumerator in &e.enumerators {
            if let Some(expression) = &enumerator.node.expression {
                next = constant::evaluate(expression, self)?;
            }
            let constant = (enumerator.node.identifier.node.name.clone(), next);
            self.constants.push(constant.clone());
            constants.push(constant);
            next += 1;
        }
        // GCC's choice: the smallest of unsigned int, int, unsigned long, long that holds all.
        let low = constants.iter().map(|c| c.1).min().unwrap_or(0);
        let high = constants.iter().map(|c| c.1).max().unwrap_or(0);
        let fits = |int: &IntType| int.range().0 <= low && high <= int.range().1;
        let candidates = [(4, false), (4, true), (8, false), (8, true)];
        let int = candidates
            .map(|(bytes, signed)| IntType { bytes, signed })
            .into_iter()
            .find(fits);
        let int = int.ok_or_else(|| PrototypeError::Invalid {
            what: format!("a constant of `{name}` fits no integer type"),
        })?;
        let ty = CType::Enum(Arc::new(EnumType {
            name: name.clone(),
            int,
            constants,
            closed: false,
        }));
        if e.identifier.is_some() {
            self.tags.insert(name.clone(), ty.clone());
        }
        Ok((ty, name))
    }
}
