//! From lang-c's syntax tree to [`CType`]s and the [`Prototype`].

use std::collections::HashMap;
use std::sync::Arc;

use lang_c::ast::*;
use lang_c::span::{Node, Span};

use super::constant::Scope;
use super::error::PrototypeError;
use super::source::Source;
use super::{Param, Prototype};
use crate::ctype::{CType, Pointee, Spelled};
use crate::ffi::promoted;

/// A type with its top-level `const`, which only matters once something points to it.
#[derive(Clone, Debug)]
pub(super) struct Qualified {
    pub(super) ty: CType,
    pub(super) is_const: bool,
    pub(super) spelling: String,
    /// Set for function types: their parameters, for the one function that is called.
    pub(super) function: Option<FunctionDeclarator>,
}

pub(super) enum Specifier<'a> {
    Type(&'a Node<TypeSpecifier>),
    Qualifier(&'a Node<TypeQualifier>),
}

pub(super) fn lower(source: &Source, unit: &TranslationUnit) -> Result<Prototype, PrototypeError> {
    super::attributes::refuse_attributes(source)?;
    let mut lowering = Lowering {
        source,
        tags: HashMap::new(),
        typedefs: HashMap::new(),
        constants: Vec::new(),
        in_parameters: false,
    };
    let mut functions = Vec::new();
    for external in &unit.0 {
        let in_prototype = source.is_prototype(external.span.start);
        match &external.node {
            ExternalDeclaration::Declaration(declaration) => {
                let found = lowering.declaration(&declaration.node, in_prototype)?;
                functions.extend(found);
            }
            ExternalDeclaration::StaticAssert(_) => {}
            ExternalDeclaration::FunctionDefinition(_) => {
                let place = source.place(external.span.start);
                return Err(PrototypeError::NotAFunction {
                    what: format!("{place} has a function with a body; only its head is wanted"),
                });
            }
        }
    }
    let not_one = |what: String| Err(PrototypeError::NotAFunction { what });
    let (name, ty) = match functions.len() {
        0 => return not_one("the prototype declares no function".into()),
        1 => functions.remove(0),
        n => {
            return not_one(format!(
                "the prototype declares {n} things, not one function"
            ));
        }
    };
    let Some(function) = &ty.function else {
        return not_one(format!(
            "`{name}` is declared as `{}`, not as a function",
            ty.spelling
        ));
    };
    lowering.prototype(name, ty.clone(), function)
}

pub(super) struct Lowering<'s> {
    pub(super) source: &'s Source,
    /// Structs, unions and enums by full name (`struct point`).
    pub(super) tags: HashMap<String, CType>,
    pub(super) typedefs: HashMap<String, Qualified>,
    pub(super) constants: Vec<(String, i128)>,
    /// Whether a parameter of the function is being looked at, where lengths need no value.
    pub(super) in_parameters: bool,
}

impl Lowering<'_> {
    pub(super) fn slice(&self, span: Span) -> &str {
        self.source
            .text
            .get(span.start..span.end)
            .unwrap_or("")
            .trim()
    }

    /// Takes in typedefs and tags; answers the names declared, where `wanted`.
    pub(super) fn declaration(
        &mut self,
        declaration: &Declaration,
        wanted: bool,
    ) -> Result<Vec<(String, Qualified)>, PrototypeError> {
        let mut is_typedef = false;
        let mut specifiers = Vec::new();
        for specifier in &declaration.specifiers {
            match &specifier.node {
                DeclarationSpecifier::StorageClass(s) => {
                    is_typedef |= s.node == StorageClassSpecifier::Typedef;
                }
                DeclarationSpecifier::TypeSpecifier(t) => specifiers.push(Specifier::Type(t)),
                DeclarationSpecifier::TypeQualifier(q) => specifiers.push(Specifier::Qualifier(q)),
                DeclarationSpecifier::Alignment(a) => return Err(self.alignas(a.span)),
                DeclarationSpecifier::Function(_) | DeclarationSpecifier::Extension(_) => {}
            }
        }
        let base = self.base(&specifiers)?;
        let mut found = Vec::new();
        for declarator in &declaration.declarators {
            let (name, ty) = self.declarator(base.clone(), &declarator.node.declarator.node)?;
            let Some(name) = name else { continue };
            if is_typedef {
                let spelling = name.clone();
                self.typedefs.insert(name, Qualified { spelling, ..ty });
            } else if wanted {
                found.push((name, ty));
            }
        }
        Ok(found)
    }

    pub(super) fn prototype(
        &mut self,
        name: String,
        ret: Qualified,
        function: &FunctionDeclarator,
    ) -> Result<Prototype, PrototypeError> {
        let mut fixed = None;
        // `ty` is the function's type with the return type's kind in it, see `declarator`.
        let ret = Spelled {
            ty: self.complete(ret.ty),
            spelling: ret.spelling,
        };
        if ret.ty != CType::Void {
            self.check_value(&ret, &format!("the return value of `{name}`"))?;
        }
        let mut params: Vec<Param> = Vec::new();
        self.in_parameters = true;
        for (index, parameter) in function.parameters.iter().enumerate() {
            if self
                .source
                .ellipsis
                .is_some_and(|at| parameter.span.start > at)
            {
                fixed.get_or_insert(index);
            }
            let (param_name, ty) = self.parameter(&parameter.node)?;
            let is_void = ty.ty == CType::Void;
            if is_void && param_name.is_none() && function.parameters.len() == 1 {
                break;
            }
            let Some(param_name) = param_name else {
                let (function, ty) = (name.clone(), ty.spelling);
                return Err(PrototypeError::Unnamed {
                    function,
                    index: index + 1,
                    ty,
                });
            };
            let mut ty = Spelled {
                ty: self.complete(ty.ty),
                spelling: ty.spelling,
            };
            if fixed.is_some() {
                // What is bound to it is what travels.
                let promoted = promoted(ty.ty.clone());
                if promoted != ty.ty {
                    ty.spelling = promoted.name();
                    ty.ty = promoted;
                }
            }
            self.check_value(&ty, &format!("parameter `{param_name}` of `{name}`"))?;
            if params.iter().any(|p| p.name == param_name) {
                return Err(PrototypeError::Duplicate {
                    function: name,
                    name: param_name,
                });
            }
            params.push(Param {
                name: param_name,
                ty,
            });
        }
        if function.ellipsis == Ellipsis::Some {
            fixed.get_or_insert(params.len());
        }
        Ok(Prototype {
            name,
            ret,
            params,
            fixed,
            constants: std::mem::take(&mut self.constants),
        })
    }

    pub(super) fn check_value(&self, ty: &Spelled, what: &str) -> Result<(), PrototypeError> {
        use crate::ctype::LayoutError;
        let help = "pass a pointer to it, or wrap the function in C".to_owned();
        match ty.ty.by_value() {
            Ok(layout) if layout.size == 0 => Err(PrototypeError::Unsupported {
                what: format!("{what}: `{}` has no bytes", ty.spelling),
                help,
            }),
            Ok(_) => Ok(()),
            Err(LayoutError::Incomplete(name)) => Err(PrototypeError::Incomplete {
                what: what.to_owned(),
                name,
            }),
            Err(LayoutError::Void) => Err(PrototypeError::Invalid {
                what: format!("{what} is declared `void`, which is no value"),
            }),
            Err(error) => Err(PrototypeError::Unsupported {
                what: format!("{what}: {error}"),
                help,
            }),
        }
    }

    /// Looks again for the members of a type that was incomplete when it was named.
    pub(super) fn complete(&self, ty: CType) -> CType {
        match ty {
            CType::Incomplete(name) => self
                .tags
                .get(&name)
                .cloned()
                .unwrap_or(CType::Incomplete(name)),
            CType::Pointer(pointee) if matches!(pointee.ty, CType::Incomplete(_)) => {
                let ty = self.complete(pointee.ty.clone());
                CType::Pointer(Arc::new(Pointee {
                    ty,
                    ..(*pointee).clone()
                }))
            }
            other => other,
        }
    }

    pub(super) fn unsupported(&self, what: &str, help: &str) -> PrototypeError {
        let what = format!("`{what}` is not supported in this version");
        PrototypeError::Unsupported {
            what,
            help: help.to_owned(),
        }
    }

    pub(super) fn alignas(&self, span: Span) -> PrototypeError {
        self.unsupported(
            self.slice(span),
            "leave the alignment out where it changes no layout",
        )
    }
}

impl Scope for Lowering<'_> {
    fn constant(&self, name: &str) -> Option<i128> {
        self.constants
            .iter()
            .rev()
            .find(|c| c.0 == name)
            .map(|c| c.1)
    }

    fn size_of(&mut self, name: &Node<TypeName>) -> Result<i128, PrototypeError> {
        let mut specifiers = Vec::new();
        for specifier in &name.node.specifiers {
            match &specifier.node {
                SpecifierQualifier::TypeSpecifier(t) => specifiers.push(Specifier::Type(t)),
                SpecifierQualifier::TypeQualifier(q) => specifiers.push(Specifier::Qualifier(q)),
                SpecifierQualifier::Extension(_) => {}
            }
        }
        let mut ty = self.base(&specifiers)?;
        if let Some(declarator) = &name.node.declarator {
            ty = self.declarator(ty, &declarator.node)?.1;
        }
        let layout = self.complete(ty.ty).by_value();
        let layout = layout.map_err(|e| PrototypeError::Invalid {
            what: e.to_string(),
        })?;
        Ok(i128::from(layout.size))
    }

    fn text(&self, start: usize, end: usize) -> String {
        self.slice(Span { start, end }).to_owned()
    }
}
