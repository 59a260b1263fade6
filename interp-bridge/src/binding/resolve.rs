//! From bindings and a prototype to a [`Plan`].

use std::collections::HashMap;
use std::ffi::OsString;

use super::content::{element_bytes, read_file};
use super::error::BindingError;
use super::example::{example, examples};
use super::number::{shorten, size};
use super::scalar::{Place, Target};
use super::value::{self, Content, Expr, Value};
use super::{ArgValue, BUFFER_ALIGN, BufferSpec, MAX_BUFFER, Plan};
use crate::ctype::{CType, StructType};
use crate::prototype::{Param, Prototype};

/// Binds `bindings` (each `NAME=VALUE`) to the parameters of `prototype`. Reads `@FILE`s.
///
/// # Errors
/// [`BindingError`] for anything that is not exactly one good value for each parameter.
pub fn plan(prototype: &Prototype, bindings: &[OsString]) -> Result<Plan, BindingError> {
    let mut entries: Vec<Entry<'_>> = Vec::new();
    for binding in bindings {
        let (name, text) = value::split(binding)?;
        if entries.iter().any(|e| e.name == name) {
            return Err(BindingError::Twice { name });
        }
        let param = prototype.params.iter().position(|p| p.name == name);
        let value = value::parse(&name, text)?;
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

    /// Every parameter bound; every other name a buffer that something refers to.
    pub(super) fn check_names(&self) -> Result<(), BindingError> {
        let params = &self.prototype.params;
        for (index, entry) in self.entries.iter().enumerate() {
            let is_used = || {
                let others = self
                    .entries
                    .iter()
                    .enumerate()
                    .filter(|(other, _)| *other != index);
                others
                    .into_iter()
                    .any(|(_, other)| refers(&other.value, &entry.name))
            };
            if entry.param.is_none() && !(entry.is_buffer() && is_used()) {
                let unbound = params.iter().filter(|p| self.entry(&p.name).is_none());
                let near = super::nearest(&entry.name, unbound.map(|p| p.name.as_str()));
                return Err(BindingError::NoParameter {
                    function: self.prototype.name.clone(),
                    name: entry.name.clone(),
                    known: params.iter().map(|p| p.name.clone()).collect(),
                    near,
                    is_buffer: entry.is_buffer(),
                });
            }
        }
        let missing: Vec<&Param> = params
            .iter()
            .filter(|p| self.entry(&p.name).is_none())
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(BindingError::Missing {
            names: missing.iter().map(|p| p.name.clone()).collect(),
            examples: examples(self.prototype, |name| self.entry(name).is_none()),
        })
    }

    pub(super) fn entry(&self, name: &str) -> Option<usize> {
        self.entries.iter().position(|e| e.name == name)
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
                    CType::FunctionPointer => (
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

    /// The entry that is the buffer behind `name`, and the whole distance into it. Aliases
    /// (`q=&p`, `p=&buf+4`) are followed.
    pub(super) fn target(
        &self,
        from: &str,
        name: &str,
        offset: i64,
    ) -> Result<(usize, i64), BindingError> {
        let (mut chain, mut name, mut offset) = (vec![from.to_owned()], name, offset);
        loop {
            let at = self.named(&chain[chain.len() - 1], name)?;
            match &self.entries[at].value {
                _ if self.buffers[at].is_some() => return Ok((at, offset)),
                Value::Reference {
                    name: next,
                    offset: more,
                } => {
                    if chain.iter().any(|seen| seen == name) {
                        chain.push(name.to_owned());
                        return Err(BindingError::Cycle { chain });
                    }
                    chain.push(name.to_owned());
                    offset = offset.wrapping_add(*more);
                    name = next;
                }
                _ => {
                    return Err(BindingError::NotABuffer {
                        name: from.to_owned(),
                        target: name.to_owned(),
                        help: format!(
                            "only buffers have an address; for a number in memory, bind \
                             '{name}' to a buffer like 'u32:5'"
                        ),
                    });
                }
            }
        }
    }

    pub(super) fn named(&self, from: &str, name: &str) -> Result<usize, BindingError> {
        self.entry(name).ok_or_else(|| {
            let known = self
                .entries
                .iter()
                .map(|e| e.name.as_str())
                .filter(|n| *n != from);
            let near = super::nearest(name, known);
            BindingError::NoTarget {
                name: from.to_owned(),
                target: name.to_owned(),
                near,
            }
        })
    }

    pub(super) fn scalar(
        &self,
        name: &str,
        expr: &Expr,
        ty: &str,
        target: Target,
    ) -> Result<u64, BindingError> {
        let place = Place {
            name,
            ty,
            constants: &self.prototype.constants,
        };
        match expr {
            Expr::Text(text) => place.bits(text, target),
            Expr::Len { .. } => {
                let value = self.evaluate(name, expr, &mut vec![name.to_owned()])?;
                place.int_bits(value, &value.to_string(), target)
            }
        }
    }

    /// The value of `len(NAME)` with its operation.
    pub(super) fn evaluate(
        &self,
        name: &str,
        expr: &Expr,
        chain: &mut Vec<String>,
    ) -> Result<i128, BindingError> {
        let (target, operation) = match expr {
            Expr::Len { name, operation } => (name, operation),
            Expr::Text(text) => {
                return size(text)
                    .map(i128::from)
                    .ok_or_else(|| BindingError::Value {
                        name: name.to_owned(),
                        value: shorten(text.as_bytes()),
                        why: "no size".into(),
                        help: "write a number of bytes: 64, 0x40, 64k, 1M, or len(NAME)".into(),
                    });
            }
        };
        let at = self.named(name, target)?;
        if self.buffers[at].is_none() {
            let help = match &self.entries[at].value {
                Value::Reference { name, .. } => {
                    format!("it points into a buffer; write 'len({name})'")
                }
                _ => format!("`{target}` is a scalar and has no length; write the number"),
            };
            let (name, target) = (name.to_owned(), target.clone());
            return Err(BindingError::NotABuffer { name, target, help });
        }
        if chain.contains(target) {
            chain.push(target.clone());
            return Err(BindingError::Cycle {
                chain: chain.clone(),
            });
        }
        chain.push(target.clone());
        let len = i128::from(self.buffer_len(at, chain)?);
        chain.pop();
        Ok(match operation {
            None => len,
            Some(('+', n)) => len.saturating_add(*n),
            Some(('-', n)) => len.saturating_sub(*n),
            Some(('*', n)) => len.saturating_mul(*n),
            Some((_, n)) => len / n,
        })
    }

    pub(super) fn buffer_len(
        &self,
        index: usize,
        chain: &mut Vec<String>,
    ) -> Result<u64, BindingError> {
        let entry = &self.entries[index];
        let content = match &entry.value {
            Value::Buffer { content, .. } => content,
            _ => {
                let layout = entry.braces_struct().and_then(|s| s.layout.clone().ok());
                return Ok(layout.map_or(0, |l| l.whole.size));
            }
        };
        Ok(match content {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::File(_) => self.files.get(&entry.name).map_or(0, |f| f.len() as u64),
            Content::Numbers(element, items) => items.len() as u64 * element_bytes(*element),
            Content::Pointers(items) => items.len() as u64 * 8,
            Content::Zeroed(expr) | Content::Uninit(expr) => {
                let size = self.evaluate(&entry.name, expr, chain)?;
                match u64::try_from(size) {
                    Ok(size) if size <= MAX_BUFFER => size,
                    Ok(size) => {
                        let what = format!("a buffer of {size} bytes");
                        return Err(BindingError::TooLarge {
                            name: entry.name.clone(),
                            what,
                        });
                    }
                    Err(_) => {
                        let why = format!("a buffer of {size} bytes cannot be");
                        return Err(self.wrong(entry, &why, "write a size of 0 or more"));
                    }
                }
            }
        })
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

/// Whether `value` mentions `name` in a reference or `len()`.
pub(super) fn refers(value: &Value, name: &str) -> bool {
    let expr = |e: &Expr| matches!(e, Expr::Len { name: n, .. } if n == name);
    match value {
        Value::Scalar(e) => expr(e),
        Value::Reference { name: n, .. } => n == name,
        Value::Braces { items, .. } => items.iter().any(|item| refers(&item.value, name)),
        Value::Buffer { content, .. } => match content {
            Content::Zeroed(e) | Content::Uninit(e) => expr(e),
            Content::Numbers(_, items) => items.iter().any(expr),
            Content::Pointers(items) => items.iter().any(|item| refers(item, name)),
            Content::Bytes(_) | Content::File(_) => false,
        },
    }
}
