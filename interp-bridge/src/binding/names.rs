//! Names in bindings: which there must be, what they refer to, and where a chain of them ends.

use super::error::BindingError;
use super::example::examples;
use super::resolve::Resolver;
use super::value::{Content, Expr, Value};
use crate::prototype::Param;

impl Resolver<'_> {
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
                    is_variadic: self.prototype.fixed == Some(params.len()),
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
}

/// Whether `value` mentions `name` in a reference or `len()`.
fn refers(value: &Value, name: &str) -> bool {
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
