//! From the text of a binding to its [`Value`].
//!
//! ```text
//!  NAME=VALUE ── split ──► NAME, VALUE ── parse ──► prefixes ─► buffer, reference, braces, scalar
//! ```

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::error::BindingError;
use super::number::{is_name, shorten, size};
use super::value::{Content, ELEMENTS, Expr, Item, Mode, Value};

/// Splits `NAME=VALUE`.
pub(super) fn split(argument: &OsStr) -> Result<(String, &[u8]), BindingError> {
    let bytes = argument.as_bytes();
    let form = || BindingError::Form {
        text: shorten(bytes),
    };
    let at = bytes.iter().position(|b| *b == b'=').ok_or_else(form)?;
    let name = std::str::from_utf8(&bytes[..at])
        .ok()
        .filter(|n| is_name(n))
        .ok_or_else(form)?;
    Ok((name.to_owned(), &bytes[at + 1..]))
}

/// Parses the text after `NAME=`.
pub(super) fn parse(name: &str, text: &[u8]) -> Result<Value, BindingError> {
    Parser { name, whole: text }.value(text)
}

struct Parser<'a> {
    name: &'a str,
    whole: &'a [u8],
}

type SetMode = fn(&mut Mode);

/// Words before a buffer, and what they say of it.
const PREFIXES: [(&str, SetMode); 2] = [
    ("mut:", |mode| mode.mutable = true),
    ("freed:", |mode| mode.freed = true),
];

impl Parser<'_> {
    fn wrong(&self, why: impl Into<String>, help: impl Into<String>) -> BindingError {
        let (name, value) = (self.name.to_owned(), shorten(self.whole));
        BindingError::Value {
            name,
            value,
            why: why.into(),
            help: help.into(),
        }
    }

    fn value(&self, text: &[u8]) -> Result<Value, BindingError> {
        for (prefix, set) in PREFIXES {
            if let Some(rest) = text.strip_prefix(prefix.as_bytes()) {
                let mut value = self.value(rest)?;
                return match &mut value {
                    Value::Buffer { mode, .. } | Value::Braces { mode, .. } => {
                        set(mode);
                        Ok(value)
                    }
                    Value::Scalar(_) | Value::Reference { .. } => Err(self.wrong(
                        format!("`{prefix}` goes before a buffer"),
                        format!("write for example '{}={prefix}str:hello'", self.name),
                    )),
                };
            }
        }
        let buffer = |content| {
            Ok(Value::Buffer {
                content,
                mode: Mode::default(),
            })
        };
        if let Some(path) = text.strip_prefix(b"@") {
            if path.is_empty() {
                return Err(self.wrong("no file after `@`", "write '@FILE'"));
            }
            return buffer(Content::File(PathBuf::from(OsStr::from_bytes(path))));
        }
        if let Some(rest) = text.strip_prefix(b"bytes:") {
            return buffer(Content::Bytes(rest.to_vec()));
        }
        if let Some(rest) = text.strip_prefix(b"str:") {
            return buffer(Content::Bytes([rest, b"\0"].concat()));
        }
        // From here on the text is ours to understand, so it has to be text.
        let text = std::str::from_utf8(text)
            .map_err(|_| self.wrong("not UTF-8", "give raw bytes as 'hex:…' or '@FILE'"))?;
        let text = text.trim();
        if let Some(rest) = text.strip_prefix("hex:") {
            return buffer(Content::Bytes(self.hex(rest)?));
        }
        if let Some(rest) = text.strip_prefix("zero:") {
            return buffer(Content::Zeroed(self.expr(rest)?));
        }
        if let Some(rest) = text.strip_prefix("uninit:") {
            return buffer(Content::Uninit(self.expr(rest)?));
        }
        if let Some(rest) = text.strip_prefix("ptr:") {
            let items = self.items(rest)?.into_iter().map(|item| self.pointer(item));
            return buffer(Content::Pointers(items.collect::<Result<_, _>>()?));
        }
        if let Some(rest) = text.strip_prefix('&') {
            return self.reference(rest);
        }
        if let Some(rest) = text.strip_prefix('{') {
            let Some(inner) = rest.strip_suffix('}') else {
                return Err(self.wrong("the `{` is not closed", "write for example '{1,2}'"));
            };
            let items = self.items(inner)?.into_iter().map(|item| self.item(item));
            return Ok(Value::Braces {
                items: items.collect::<Result<_, _>>()?,
                mode: Mode::default(),
            });
        }
        if let Some((kind, rest)) = text.split_once(':')
            && !text.starts_with('\'')
        {
            let Some((_, element)) = ELEMENTS.iter().find(|(name, _)| *name == kind) else {
                return Err(self.unknown_kind(kind));
            };
            let items = self.items(rest)?.into_iter().map(|item| self.expr(item));
            return buffer(Content::Numbers(*element, items.collect::<Result<_, _>>()?));
        }
        Ok(Value::Scalar(self.expr(text)?))
    }

    fn unknown_kind(&self, kind: &str) -> BindingError {
        let kinds = ["str", "bytes", "hex", "zero", "uninit", "ptr", "mut"];
        let kinds = kinds
            .into_iter()
            .chain(ELEMENTS.iter().map(|(name, _)| *name));
        let near = crate::ffi::near_names(kind, kinds);
        let help = match near.first() {
            Some(near) => format!("did you mean '{near}:'?"),
            None => "buffers are str: bytes: hex: zero: uninit: ptr: i8: to u64: f32: f64: \
                     or @FILE"
                .to_owned(),
        };
        self.wrong(format!("`{kind}:` is no kind of buffer"), help)
    }

    fn hex(&self, text: &str) -> Result<Vec<u8>, BindingError> {
        let digits: Vec<char> = text.chars().filter(|c| !matches!(c, ' ' | '_')).collect();
        if let Some(bad) = digits.iter().find(|c| !c.is_ascii_hexdigit()) {
            return Err(self.wrong(
                format!("`{bad}` is no hexadecimal digit"),
                "write two digits a byte: 'hex:00ff'",
            ));
        }
        if !digits.len().is_multiple_of(2) {
            return Err(self.wrong(
                format!("{} hexadecimal digits are not whole bytes", digits.len()),
                "write two digits a byte: 'hex:00ff'",
            ));
        }
        let nibble = |c: char| c.to_digit(16).unwrap_or(0) as u8;
        Ok(digits
            .chunks(2)
            .map(|pair| nibble(pair[0]) << 4 | nibble(pair[1]))
            .collect())
    }

    fn reference(&self, text: &str) -> Result<Value, BindingError> {
        let end = text.find(['+', '-']).unwrap_or(text.len());
        let (name, offset) = text.split_at(end);
        let name = name.trim();
        let help = "write '&NAME', '&NAME+8' or '&NAME-1'";
        if !is_name(name) {
            return Err(self.wrong(format!("`{name}` is no name"), help));
        }
        let offset = match offset.chars().next() {
            None => Some(0),
            Some(sign) => {
                let size = size(offset[1..].trim()).and_then(|n| i64::try_from(n).ok());
                size.map(|n| if sign == '-' { -n } else { n })
            }
        };
        let offset = offset.ok_or_else(|| self.wrong("the offset is no number", help))?;
        Ok(Value::Reference {
            name: name.to_owned(),
            offset,
        })
    }

    fn pointer(&self, text: &str) -> Result<Value, BindingError> {
        match self.value(text.as_bytes())? {
            value @ (Value::Reference { .. } | Value::Scalar(_)) => Ok(value),
            _ => Err(self.wrong(
                format!("`{text}` is no pointer"),
                "list references, null or addresses: 'ptr:&a,&b+4,null'",
            )),
        }
    }

    fn item(&self, text: &str) -> Result<Item, BindingError> {
        let (field, text) = match text.strip_prefix('.').and_then(|rest| rest.split_once('=')) {
            Some((field, value)) => (Some(field.trim().to_owned()), value.trim()),
            None => (None, text),
        };
        match self.value(text.as_bytes())? {
            Value::Buffer { .. } => Err(self.wrong(
                format!("`{text}` is a buffer, and a struct holds no buffers"),
                "bind the buffer to a name of its own and put '&NAME' into the braces",
            )),
            value => Ok(Item { field, value }),
        }
    }

    /// Splits at commas outside braces and character literals.
    fn items<'t>(&self, text: &'t str) -> Result<Vec<&'t str>, BindingError> {
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        let (mut parts, mut depth, mut start) = (Vec::new(), 0i32, 0);
        let bytes = text.as_bytes();
        let mut i = 0;
        while i < bytes.len() {
            match bytes[i] {
                b'\'' => {
                    let close = bytes[i + 1..].iter().skip(1).position(|b| *b == b'\'');
                    i += close.map_or(0, |n| n + 2);
                }
                b'{' | b'(' => depth += 1,
                b'}' | b')' => depth -= 1,
                b',' if depth == 0 => {
                    parts.push(text[start..i].trim());
                    start = i + 1;
                }
                _ => {}
            }
            if !(0..=32).contains(&depth) {
                return Err(self.wrong("the brackets do not match", "write for example '{1,2}'"));
            }
            i += 1;
        }
        parts.push(text[start..].trim());
        if depth != 0 {
            return Err(self.wrong("the brackets do not match", "write for example '{1,2}'"));
        }
        if parts.iter().any(|part| part.is_empty()) {
            return Err(self.wrong("an element is empty", "separate elements by single commas"));
        }
        Ok(parts)
    }

    fn expr(&self, text: &str) -> Result<Expr, BindingError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(self.wrong("the value is empty", "give a number or a buffer"));
        }
        let Some(rest) = text.strip_prefix("len(") else {
            return Ok(Expr::Text(text.to_owned()));
        };
        let help = "write 'len(NAME)', or with one operation 'len(NAME)+1' or 'len(NAME)/4'";
        let (name, rest) = rest
            .split_once(')')
            .ok_or_else(|| self.wrong("`len(` is not closed", help))?;
        let name = name.trim();
        if !is_name(name) {
            return Err(self.wrong(format!("`{name}` is no name"), help));
        }
        let rest = rest.trim();
        let operation = match rest.chars().next() {
            None => None,
            Some(operator @ ('+' | '-' | '*' | '/')) => {
                let operand = size(rest[1..].trim()).filter(|n| operator != '/' || *n != 0);
                let operand =
                    operand.ok_or_else(|| self.wrong("the operand is no number", help))?;
                Some((operator, i128::from(operand)))
            }
            Some(_) => return Err(self.wrong(format!("`{rest}` after `len()`"), help)),
        };
        Ok(Expr::Len {
            name: name.to_owned(),
            operation,
        })
    }
}
