//! From bindings and a prototype to a [`Plan`].

use std::collections::HashMap;
use std::ffi::OsString;

use super::content::read_file;
use super::error::BindingError;
use super::example::example;
use super::number::shorten;
use super::scalar::Target;
use super::value::{Content, Expr, Value};
use super::{ArgValue, BUFFER_ALIGN, BufferSpec, Plan, syntax};
use crate::ctype::{CType, StructType};
use crate::prototype::{Param, Prototype};

/// Binds `bindings` (each `NAME=VALUE`) to the parameters of `prototype`. Reads `@FILE`s.
///
/// # Errors
/// [`BindingError`] for anything that is not exactly one good value for each parameter.
pub fn plan(prototype: &Prototype, bindings: &[OsString]) -> Result<Plan, BindingError> {
    let mut entries: Vec<Entry<'_>> = Vec::new();
    for binding in bindings {
        let (name, text) = syntax::split(binding)?;
        if entries.iter().any(|e| e.name == name) {
            return Err(BindingError::Twice { name });
        }
        let param = prototype.params.iter().position(|p| p.name == name);
        let value = syntax::parse(&name, text)?;
        let param = param.map(|index| &prototype.params[index]);
        entries.push(Entry { name, param, value });
    }
    let order = |e: &Entry<'_>| {
        let position = prototype.params.iter().position(|p| p.name == e.name);
        position.unwrap_or(usize::MAX)
    };
    entries.sort_by_key(order);
    let resolver = Resolver::new(prototype, entries)?;
    resolver.plan()
}

/// A binding with its parsed value.
pub(super) struct Entry<'p> {
    pub(super) name: String,
    /// The parameter it is for; `None` for a further buffer.
    pub(super) param: Option<&'p Param>,
    pub(super) value: Value,
}

impl Entry<'_> {
    /// The struct that braces describe: the parameter's type, or what it points to.
    pub(super) fn braces_struct(&self) -> Option<&StructType> {
        match &self.param?.ty.ty {
            CType::Struct(s) => Some(s),
            CType::Pointer(pointee) => match &pointee.ty {
                CType::Struct(s) => Some(s),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether the value is memory of its own.
    pub(super) fn is_buffer(&self) -> bool {
        match &self.value {
            Value::Buffer { .. } => true,
            Value::Braces { .. } => self
                .param
                .is_some_and(|p| matches!(p.ty.ty, CType::Pointer(_))),
            _ => false,
        }
    }
}

pub(super) struct Resolver<'p> {
    pub(super) prototype: &'p Prototype,
    pub(super) entries: Vec<Entry<'p>>,
    /// Content of files by name, read once.
    pub(super) files: HashMap<String, Vec<u8>>,
    /// Buffer index of each entry that is one.
    pub(super) buffers: Vec<Option<usize>>,
}

impl<'p> Resolver<'p> {
    pub(super) fn new(
        prototype: &'p Prototype,
        entries: Vec<Entry<'p>>,
    ) -> Result<Resolver<'p>, BindingError> {
        let mut resolver = Resolver {
            prototype,
            entries,
            files: HashMap::new(),
            buffers: Vec::new(),
        };
        resolver.check_names()?;
        let mut next = 0;
        for entry in &resolver.entries {
            let index = entry.is_buffer().then_some(next);
            next += usize::from(index.is_some());
            resolver.buffers.push(index);
        }
        for entry in &resolver.entries {
            if let Value::Buffer {
                content: Content::File(path),
                ..
            } = &entry.value
            {
                let bytes = read_file(&entry.name, path)?;
                resolver.files.insert(entry.name.clone(), bytes);
            }
        }
        Ok(resolver)
    }

    pub(super) fn plan(self) -> Result<Plan, BindingError> {
        let mut uses = Uses {
            mutable: vec![false; self.entries.len()],
        };
        let mut args = Vec::with_capacity(self.prototype.params.len());
        for param in &self.prototype.params {
            // `check_names` has seen to it that every parameter has an entry.
            let Some(index) = self.entry(&param.name) else {
                continue;
            };
            args.push(self.argument(index, param, &mut uses)?);
        }
        let mut specs = Vec::new();
        for (index, entry) in self.entries.iter().enumerate() {
            if self.buffers[index].is_some() {
                let (init, pointers) = self.content(index, &mut uses)?;
                specs.push((index, entry.name.clone(), init, pointers));
            }
        }
        // Only now is every use of every buffer known.
        let buffers = specs
            .into_iter()
            .map(|(index, name, init, pointers)| BufferSpec {
                name,
                init,
                mutable: uses.mutable[index],
                freed: matches!(
                    &self.entries[index].value,
                    Value::Buffer { mode, .. } | Value::Braces { mode, .. } if mode.freed
                ),
                align: BUFFER_ALIGN,
                pointers,
            });
        Ok(Plan {
            buffers: buffers.collect(),
            args,
        })
    }

    pub(super) fn argument(
        &self,
        index: usize,
        param: &Param,
        uses: &mut Uses,
    ) -> Result<ArgValue, BindingError> {
        let entry = &self.entries[index];
        let is_pointer = matches!(param.ty.ty, CType::Pointer(_));
        match &entry.value {
            Value::Buffer { .. } | Value::Braces { .. } if is_pointer => {
                if let (Value::Braces { .. }, None) = (&entry.value, entry.braces_struct()) {
                    let help = "give a buffer: 'zero:64', 'u32:1,2,3'";
                    return Err(self.wrong(entry, "the pointee is no declared struct", help));
                }
                uses.note(index, param.pointee_const());
                Ok(ArgValue::PointerTo {
                    buffer: self.buffers[index].unwrap_or(0),
                    offset: 0,
                })
            }
            Value::Buffer { .. } => {
                let (why, help) = match param.ty.ty {
                    CType::FunctionPointer(_) => (
                        "callbacks are not in this version, and a buffer is no code".to_owned(),
                        "give null or an address (0x…)".to_owned(),
                    ),
                    _ => (
                        format!(
                            "a buffer, but the parameter is `{}`, no pointer",
                            param.ty.spelling
                        ),
                        format!("give for example '{}'", example(self.prototype, param)),
                    ),
                };
                Err(self.wrong(entry, &why, &help))
            }
            Value::Braces { items, .. } => {
                let CType::Struct(s) = &param.ty.ty else {
                    let why = format!("braces, but the parameter is `{}`", param.ty.spelling);
                    let help = format!("give for example '{}'", example(self.prototype, param));
                    return Err(self.wrong(entry, &why, &help));
                };
                let (bytes, pointers) = self.structure(entry, s, items, uses)?;
                Ok(ArgValue::Struct { bytes, pointers })
            }
            Value::Reference { name, offset } => {
                if !is_pointer {
                    let why = format!(
                        "`&{name}` is a pointer, the parameter `{}`",
                        param.ty.spelling
                    );
                    let help = format!("give for example '{}'", example(self.prototype, param));
                    return Err(self.wrong(entry, &why, &help));
                }
                let (target, offset) = self.target(&entry.name, name, *offset)?;
                uses.note(target, param.pointee_const());
                Ok(ArgValue::PointerTo {
                    buffer: self.buffers[target].unwrap_or(0),
                    offset,
                })
            }
            Value::Scalar(expr) => {
                let Some(target) = Target::of(&param.ty.ty) else {
                    let why = format!("one number, but the parameter is `{}`", param.ty.spelling);
                    let help = format!("give for example '{}'", example(self.prototype, param));
                    return Err(self.wrong(entry, &why, &help));
                };
                Ok(ArgValue::Scalar(self.scalar(
                    &entry.name,
                    expr,
                    &param.ty.spelling,
                    target,
                )?))
            }
        }
    }

    pub(super) fn wrong(&self, entry: &Entry<'_>, why: &str, help: &str) -> BindingError {
        let value = match &entry.value {
            Value::Buffer { .. } => "<buffer>".to_owned(),
            Value::Braces { .. } => "{…}".to_owned(),
            Value::Reference { name, .. } => format!("&{name}"),
            Value::Scalar(Expr::Text(text)) => shorten(text.as_bytes()),
            Value::Scalar(Expr::Len { name, .. }) => format!("len({name})"),
        };
        let (name, why, help) = (entry.name.clone(), why.to_owned(), help.to_owned());
        BindingError::Value {
            name,
            value,
            why,
            help,
        }
    }
}

/// How buffers are used, by entry.
pub(super) struct Uses {
    pub(super) mutable: Vec<bool>,
}

impl Uses {
    pub(super) fn note(&mut self, entry: usize, pointee_const: bool) {
        self.mutable[entry] |= !pointee_const;
    }
}
