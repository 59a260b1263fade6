//! Numbers that may depend on the size of a buffer: `len(NAME)` and what is made of it.

use super::MAX_BUFFER;
use super::content::element_bytes;
use super::error::BindingError;
use super::number::{shorten, size};
use super::resolve::Resolver;
use super::scalar::{Place, Target};
use super::value::{Content, Expr, Value};

impl Resolver<'_> {
    pub(super) fn scalar(
        &self,
        name: &str,
        expr: &Expr,
        ty: &str,
        target: Target,
    ) -> Result<u128, BindingError> {
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
