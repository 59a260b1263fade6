//! Declarators: the `*`, `[]` and `()` around a name, and what parameters make of them.

use std::sync::Arc;

use lang_c::ast::{
    ArrayDeclarator, ArraySize, DeclarationSpecifier, Declarator, DeclaratorKind,
    DerivedDeclarator, Ellipsis, FunctionDeclarator, ParameterDeclaration, PointerQualifier,
    TypeQualifier,
};
use lang_c::span::Node;

use super::constant;
use super::error::PrototypeError;
use super::lower::{Lowering, Qualified, Specifier};
use crate::ctype::{CType, FunctionType, Pointee, PointerPromise};
use crate::ffi::Signature;

impl Lowering<'_> {
    /// A parameter's type after arrays and functions have become pointers (C11 6.7.6.3).
    pub(super) fn parameter(
        &mut self,
        parameter: &ParameterDeclaration,
    ) -> Result<(Option<String>, Qualified), PrototypeError> {
        let mut specifiers = Vec::new();
        for specifier in &parameter.specifiers {
            match &specifier.node {
                DeclarationSpecifier::TypeSpecifier(t) => specifiers.push(Specifier::Type(t)),
                DeclarationSpecifier::TypeQualifier(q) => specifiers.push(Specifier::Qualifier(q)),
                DeclarationSpecifier::Alignment(a) => return Err(self.alignas(a.span)),
                _ => {}
            }
        }
        let base = self.base(&specifiers)?;
        let Some(declarator) = &parameter.declarator else {
            return Ok((None, base));
        };
        let (name, ty) = self.declarator(base, &declarator.node)?;
        let ty = match ty {
            ty @ Qualified {
                function: Some(_), ..
            } => self.pointer_to(ty),
            Qualified {
                ty: CType::Array(element, _),
                is_const,
                spelling,
                ..
            } => {
                let pointee = element_spelling(&spelling);
                let ty = Pointee {
                    ty: (*element).clone(),
                    is_const,
                    spelling: pointee.clone(),
                    promise: PointerPromise::default(),
                };
                let spelling = starred(&pointee);
                Qualified {
                    ty: CType::Pointer(Arc::new(ty)),
                    is_const: false,
                    spelling,
                    function: None,
                }
            }
            other => other,
        };
        Ok((name, ty))
    }

    /// Applies a declarator's `*`, `[]` and `()` to `ty` (C11 6.7.6): pointers as they come,
    /// then suffixes from the last to the first, then what the parentheses hold.
    pub(super) fn declarator(
        &mut self,
        mut ty: Qualified,
        declarator: &Declarator,
    ) -> Result<(Option<String>, Qualified), PrototypeError> {
        let is_pointer = |d: &&Node<DerivedDeclarator>| {
            matches!(
                d.node,
                DerivedDeclarator::Pointer(_) | DerivedDeclarator::Block(_)
            )
        };
        for derived in declarator.derived.iter().filter(is_pointer) {
            let qualifiers = match &derived.node {
                DerivedDeclarator::Pointer(q) | DerivedDeclarator::Block(q) => q,
                _ => continue,
            };
            ty = self.pointer_to(ty);
            for qualifier in qualifiers {
                if let PointerQualifier::TypeQualifier(q) = &qualifier.node {
                    ty.is_const |= q.node == TypeQualifier::Const;
                }
            }
        }
        for derived in declarator.derived.iter().rev() {
            match &derived.node {
                DerivedDeclarator::Array(array) => {
                    let len = self.array_len(&array.node)?;
                    let shown = len.map_or(String::new(), |n| n.to_string());
                    let suffix = ty.spelling.find('[').unwrap_or(ty.spelling.len());
                    let mut spelling = ty.spelling.clone();
                    spelling.insert_str(suffix, &format!("[{shown}]"));
                    let element = Arc::new(self.complete(ty.ty));
                    let array = match len {
                        Some(n) => CType::Array(element, n),
                        // Good in a parameter, where it becomes a pointer; of no size elsewhere.
                        None => CType::Array(element, 0),
                    };
                    ty = Qualified {
                        ty: array,
                        spelling,
                        ..ty
                    };
                }
                DerivedDeclarator::Function(function) => {
                    ty.function = Some(function.node.clone());
                }
                DerivedDeclarator::KRFunction(names) if names.is_empty() => {
                    ty.function = Some(FunctionDeclarator {
                        parameters: Vec::new(),
                        ellipsis: Ellipsis::None,
                    });
                }
                DerivedDeclarator::KRFunction(names) => {
                    let at = names[0].span;
                    let name = names[0].node.name.clone();
                    return Err(PrototypeError::UnknownType {
                        at: self.source.complaint(at.start, name.len()),
                        near: None,
                        name,
                    });
                }
                DerivedDeclarator::Pointer(_) | DerivedDeclarator::Block(_) => {}
            }
        }
        match &declarator.kind.node {
            DeclaratorKind::Abstract => Ok((None, ty)),
            DeclaratorKind::Identifier(name) => Ok((Some(name.node.name.clone()), ty)),
            DeclaratorKind::Declarator(inner) => self.declarator(ty, &inner.node),
        }
    }

    pub(super) fn array_len(
        &mut self,
        array: &ArrayDeclarator,
    ) -> Result<Option<u64>, PrototypeError> {
        let expression = match &array.size {
            ArraySize::Unknown | ArraySize::VariableUnknown => return Ok(None),
            ArraySize::VariableExpression(e) | ArraySize::StaticExpression(e) => e,
        };
        let len = match constant::evaluate(expression, self) {
            // `char buf[len]` in a parameter list decays like `char buf[]`.
            Err(PrototypeError::Unsupported { .. }) if self.in_parameters => return Ok(None),
            len => len?,
        };
        let len = u64::try_from(len).map_err(|_| PrototypeError::Invalid {
            what: format!("an array of {len} elements cannot be"),
        })?;
        Ok(Some(len))
    }

    fn pointer_to(&mut self, ty: Qualified) -> Qualified {
        if let Some(function) = &ty.function {
            let signature = self.signature(ty.ty.clone(), function).map(Arc::new);
            let spelling = format!("{} (*)()", ty.spelling);
            let ty = CType::FunctionPointer(FunctionType {
                signature,
                non_null: false,
            });
            return Qualified {
                ty,
                is_const: false,
                spelling,
                function: None,
            };
        }
        let spelling = starred(&ty.spelling);
        let pointee = Pointee {
            ty: ty.ty,
            is_const: ty.is_const,
            spelling: ty.spelling,
            promise: PointerPromise::default(),
        };
        let ty = CType::Pointer(Arc::new(pointee));
        Qualified {
            ty,
            is_const: false,
            spelling,
            function: None,
        }
    }

    /// The signature of a function that is pointed to; `None` where it cannot be worked out, which
    /// is no error: nobody need call through the pointer.
    fn signature(&mut self, ret: CType, function: &FunctionDeclarator) -> Option<Signature> {
        let outer = std::mem::replace(&mut self.in_parameters, true);
        let mut params = Vec::new();
        let mut names = Vec::new();
        for parameter in &function.parameters {
            let lowered = self.parameter(&parameter.node);
            let Ok((name, ty)) = lowered else {
                self.in_parameters = outer;
                return None;
            };
            params.push(self.complete(ty.ty));
            names.push(name.unwrap_or_default());
        }
        self.in_parameters = outer;
        if params == [CType::Void] {
            params.clear();
        }
        let ret = self.complete(ret);
        let signature = match function.ellipsis {
            Ellipsis::Some => Signature::variadic(params, [], ret),
            Ellipsis::None => Signature::new(params, ret),
        };
        Some(signature.with_names(names))
    }
}

/// `char` → `char *`, `char *` → `char **`.
pub(super) fn starred(spelling: &str) -> String {
    if spelling.ends_with('*') {
        format!("{spelling}*")
    } else {
        format!("{spelling} *")
    }
}

/// `int[3][4]` → `int[4]`; a typedef of an array keeps its name.
pub(super) fn element_spelling(spelling: &str) -> String {
    match (spelling.find('['), spelling.find(']')) {
        (Some(open), Some(close)) if open < close => {
            format!("{}{}", &spelling[..open], &spelling[close + 1..])
        }
        _ => spelling.to_owned(),
    }
}
