//! What buffers and structs by value hold, byte for byte.

use std::io::Read;
use std::path::Path;

use super::error::BindingError;
use super::resolve::{Entry, Resolver, Uses};
use super::scalar::Target;
use super::value::{Content, Element, Item, Value};
use super::{BufferInit, MAX_BUFFER, PointerAt};
use crate::ctype::{CType, IntType, StructType};
use crate::prototype::Param;

impl Resolver<'_> {
    pub(super) fn content(
        &self,
        index: usize,
        uses: &mut Uses,
    ) -> Result<(BufferInit, Vec<PointerAt>), BindingError> {
        let entry = &self.entries[index];
        let (content, mutable) = match &entry.value {
            Value::Buffer { content, mode } => (content, mode.mutable),
            Value::Braces { items, mode } => {
                uses.mutable[index] |= mode.mutable;
                let Some(s) = entry.braces_struct() else {
                    return Err(self.wrong(entry, "no struct", "give a buffer"));
                };
                let (bytes, pointers) = self.structure(entry, s, items, uses)?;
                return Ok((BufferInit::Bytes(bytes), pointers));
            }
            _ => return Ok((BufferInit::Zeroed(0), Vec::new())),
        };
        uses.mutable[index] |= mutable;
        let len = self.buffer_len(index, &mut vec![entry.name.clone()])?;
        let bytes = match content {
            Content::Zeroed(_) => return Ok((BufferInit::Zeroed(len), Vec::new())),
            Content::Uninit(_) => return Ok((BufferInit::Uninit(len), Vec::new())),
            Content::Bytes(bytes) => bytes.clone(),
            Content::File(_) => self.files.get(&entry.name).cloned().unwrap_or_default(),
            Content::Numbers(element, items) => {
                let (ty, target) = (element.name(), element_target(*element));
                let size = element_bytes(*element) as usize;
                let mut bytes = Vec::with_capacity(len as usize);
                for item in items {
                    let bits = self.scalar(&entry.name, item, ty, target)?;
                    bytes.extend_from_slice(&bits.to_le_bytes()[..size]);
                }
                bytes
            }
            Content::Pointers(items) => {
                let is_const = points_to_const_pointers(entry.param);
                let mut memory = Memory {
                    bytes: vec![0; len as usize],
                    pointers: Vec::new(),
                };
                for (i, item) in items.iter().enumerate() {
                    self.pointer(entry, item, "pointer", is_const, i * 8, &mut memory, uses)?;
                }
                return Ok((BufferInit::Bytes(memory.bytes), memory.pointers));
            }
        };
        Ok((BufferInit::Bytes(bytes), Vec::new()))
    }

    #[expect(clippy::too_many_arguments, reason = "one call from two loops")]
    pub(super) fn pointer(
        &self,
        entry: &Entry<'_>,
        value: &Value,
        ty: &str,
        pointee_const: bool,
        at: usize,
        memory: &mut Memory,
        uses: &mut Uses,
    ) -> Result<(), BindingError> {
        match value {
            Value::Reference { name, offset } => {
                let (target, offset) = self.target(&entry.name, name, *offset)?;
                uses.note(target, pointee_const);
                let buffer = self.buffers[target].unwrap_or(0);
                memory.pointers.push(PointerAt {
                    at: at as u64,
                    buffer,
                    offset,
                });
            }
            Value::Scalar(expr) => {
                let bits = self.scalar(&entry.name, expr, ty, Target::Pointer)?;
                memory.bytes[at..at + 8].copy_from_slice(&bits.to_le_bytes()[..8]);
            }
            _ => return Err(self.wrong(entry, "no pointer", "write '&NAME' or null")),
        }
        Ok(())
    }

    pub(super) fn structure(
        &self,
        entry: &Entry<'_>,
        s: &StructType,
        items: &[Item],
        uses: &mut Uses,
    ) -> Result<(Vec<u8>, Vec<PointerAt>), BindingError> {
        let layout = s.layout.as_ref();
        let layout = layout.map_err(|e| self.wrong(entry, &e.to_string(), "bind a buffer"))?;
        if layout.whole.size > MAX_BUFFER {
            let (name, what) = (entry.name.clone(), format!("`{}`", s.name));
            return Err(BindingError::TooLarge { name, what });
        }
        let mut memory = Memory {
            bytes: vec![0; layout.whole.size as usize],
            pointers: Vec::new(),
        };
        self.fill_struct(entry, s, items, 0, &mut memory, uses)?;
        memory.pointers.sort_by_key(|p| p.at);
        Ok((memory.bytes, memory.pointers))
    }

    /// Fills `memory` from offset `base` with the fields; those not given stay zero.
    pub(super) fn fill_struct(
        &self,
        entry: &Entry<'_>,
        s: &StructType,
        items: &[Item],
        base: usize,
        memory: &mut Memory,
        uses: &mut Uses,
    ) -> Result<(), BindingError> {
        let layout = s.layout.as_ref();
        let layout = layout.map_err(|e| self.wrong(entry, &e.to_string(), "bind a buffer"))?;
        let known = || s.fields.iter().map(|f| f.name.as_str());
        let (mut next, mut given) = (0, vec![false; s.fields.len()]);
        for item in items {
            if let Some(name) = &item.field {
                next = known().position(|f| f == name).ok_or_else(|| {
                    let list = known().collect::<Vec<_>>().join(", ");
                    let why = format!("`{}` has no field `{name}`", s.name);
                    self.wrong(entry, &why, &format!("its fields are {list}"))
                })?;
            }
            if s.is_union && given.contains(&true) {
                let why = format!("more than one member of `{}`", s.name);
                let help = "give the one that is meant: '{.NAME=VALUE}'";
                return Err(self.wrong(entry, &why, help));
            }
            let Some(field) = s.fields.get(next) else {
                let why = format!(
                    "more values than the {} fields of `{}`",
                    s.fields.len(),
                    s.name
                );
                let list = known().collect::<Vec<_>>().join(", ");
                return Err(self.wrong(entry, &why, &format!("its fields are {list}")));
            };
            if std::mem::replace(&mut given[next], true) {
                let why = format!("the field `{}` is given twice", field.name);
                return Err(self.wrong(entry, &why, "give each field one value"));
            }
            let at = base + layout.offsets[next] as usize;
            self.fill(
                entry,
                &field.ty.ty,
                &field.ty.spelling,
                &item.value,
                at,
                memory,
                uses,
            )?;
            next += 1;
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "a recursion over type and value")]
    pub(super) fn fill(
        &self,
        entry: &Entry<'_>,
        ty: &CType,
        spelling: &str,
        value: &Value,
        at: usize,
        memory: &mut Memory,
        uses: &mut Uses,
    ) -> Result<(), BindingError> {
        let size = ty.by_value().map(|l| l.size as usize);
        let size = size.map_err(|e| self.wrong(entry, &e.to_string(), "bind a buffer"))?;
        match (ty, value) {
            (CType::Struct(s), Value::Braces { items, .. }) => {
                self.fill_struct(entry, s, items, at, memory, uses)
            }
            (CType::Array(element, len), Value::Braces { items, .. }) => {
                let element_size = if *len == 0 { 0 } else { size / *len as usize };
                if items.len() as u64 > *len {
                    let why = format!("{} values for `{spelling}`", items.len());
                    return Err(self.wrong(entry, &why, &format!("give at most {len}")));
                }
                for (i, item) in items.iter().enumerate() {
                    if item.field.is_some() {
                        let why = format!("`{spelling}` has no named fields");
                        return Err(self.wrong(entry, &why, "list its values: '{1,2,3}'"));
                    }
                    let at = at + i * element_size;
                    self.fill(entry, element, spelling, &item.value, at, memory, uses)?;
                }
                Ok(())
            }
            (CType::Pointer(p), Value::Reference { .. }) => {
                self.pointer(entry, value, spelling, p.is_const, at, memory, uses)
            }
            (_, Value::Scalar(expr)) if let Some(target) = Target::of(ty) => {
                let bits = self.scalar(&entry.name, expr, spelling, target)?;
                memory.bytes[at..at + size].copy_from_slice(&bits.to_le_bytes()[..size]);
                Ok(())
            }
            _ => {
                let why = format!("a value in the braces does not suit `{spelling}`");
                let help = "numbers for numbers, '{…}' for structs and arrays, '&NAME' or null \
                            for pointers";
                Err(self.wrong(entry, &why, help))
            }
        }
    }
}

/// Bytes under construction.
pub(super) struct Memory {
    pub(super) bytes: Vec<u8>,
    pub(super) pointers: Vec<PointerAt>,
}

/// Whether a buffer of pointers is given where its elements point to const.
pub(super) fn points_to_const_pointers(param: Option<&Param>) -> bool {
    let Some(CType::Pointer(outer)) = param.map(|p| &p.ty.ty) else {
        return false;
    };
    matches!(&outer.ty, CType::Pointer(inner) if inner.is_const)
}

pub(super) fn element_bytes(element: Element) -> u64 {
    match element {
        Element::Int { bytes, .. } | Element::Float { bytes } => u64::from(bytes),
    }
}

pub(super) fn element_target(element: Element) -> Target {
    match element {
        Element::Int { bytes, signed } => Target::Int(IntType { bytes, signed }),
        Element::Float { bytes: 4 } => Target::Float,
        Element::Float { .. } => Target::Double,
    }
}

/// Reads a file, but never more than a buffer may hold: `@/dev/zero` must not take all memory.
pub(super) fn read_file(name: &str, path: &Path) -> Result<Vec<u8>, BindingError> {
    let error = |source| BindingError::File {
        name: name.to_owned(),
        path: path.into(),
        source,
    };
    let file = std::fs::File::open(path).map_err(error)?;
    let known = file.metadata().map_err(error)?;
    let too_large = || BindingError::TooLarge {
        name: name.to_owned(),
        what: path.display().to_string(),
    };
    if known.len() > MAX_BUFFER {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(known.len() as usize);
    file.take(MAX_BUFFER + 1)
        .read_to_end(&mut bytes)
        .map_err(error)?;
    if bytes.len() as u64 > MAX_BUFFER {
        return Err(too_large());
    }
    Ok(bytes)
}
