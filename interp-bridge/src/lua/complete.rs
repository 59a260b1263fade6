//! What may follow in a line of the repl.
//!
//! ```text
//!  ffi.C.str│  ─► the value of `ffi.C` ─► names that were declared ─► strlen, strchr, …
//!  point.x│    ─► a cdata             ─► its members, its methods
//!  pri│        ─► globals and words of Lua
//! ```
//! Nothing is called for it: names are looked up in tables, not asked for.

use mlua::{Table, Value};

use super::{
    scalar::{Given, Scalar},
    session::Session,
    start::LuaSession,
    types::Shape,
};

/// Words of Lua 5.1.
const WORDS: [&str; 21] = [
    "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "if", "in", "local",
    "nil", "not", "or", "repeat", "return", "then", "true", "until", "while",
];

impl LuaSession {
    /// Where in a line the word begins that is being written, and what it may become, sorted.
    pub fn complete(&self, line: &str) -> (usize, Vec<String>) {
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        let in_path = |c: char| is_part(c) || c == '.' || c == ':';
        let path_at = line.rfind(|c| !in_path(c)).map_or(0, |at| {
            at + line[at..].chars().next().map_or(1, char::len_utf8)
        });
        let path = &line[path_at..];
        let word_at = path.rfind(['.', ':']).map_or(0, |at| at + 1);
        let word = &path[word_at..];
        let globals = self.lua().globals();
        let mut names = match word_at {
            0 => {
                let mut names = keys(&globals);
                names.extend(WORDS.map(str::to_owned));
                names
            }
            _ => {
                let mut value = Some(Value::Table(globals));
                for part in path[..word_at - 1].split(['.', ':']) {
                    value = value.and_then(|value| self.session().part(&value, part));
                }
                value.map_or_else(Vec::new, |value| self.session().parts(&value))
            }
        };
        names.retain(|name| name.starts_with(word));
        names.sort();
        names.dedup();
        (path_at + word_at, names)
    }
}

impl Session {
    /// What a name leads to, without a call of anything.
    fn part(&self, value: &Value, name: &str) -> Option<Value> {
        let found: Value = match value {
            Value::Table(table) => table.raw_get(name).ok()?,
            Value::Other(_) => match self.index(value, &self.text_value(name)?).ok()? {
                super::index::Answer::Value(value) => value,
                super::index::Answer::Meta(Value::Table(methods)) => methods.raw_get(name).ok()?,
                super::index::Answer::Meta(_) => return None,
            },
            Value::String(_) => return None,
            _ => return None,
        };
        (!found.is_nil()).then_some(found)
    }

    fn text_value(&self, name: &str) -> Option<Value> {
        Some(Value::String(self.lua().ok()?.create_string(name).ok()?))
    }

    /// The names that a value has parts by.
    fn parts(&self, value: &Value) -> Vec<String> {
        match value {
            Value::Table(table) => keys(table),
            Value::UserData(_) if self.is_namespace(value) => self.types().declared_names(""),
            Value::Other(_) => self.members(value).unwrap_or_default(),
            _ => Vec::new(),
        }
    }

    fn members(&self, value: &Value) -> Option<Vec<String>> {
        let given = self.given(value).ok()?;
        let ty = match &given {
            Given::Aggregate(ty, _) => ty.clone(),
            Given::Scalar(ty, Scalar::Pointer(_)) => match ty.shape {
                Shape::Pointer { to } => self.types().get(to).ok()?,
                _ => return None,
            },
            Given::Type => self.types().get(self.type_of(value).ok()?).ok()?,
            _ => return None,
        };
        let mut names = match given {
            Given::Type => Vec::new(),
            _ => self.types().member_names(&ty),
        };
        if let Shape::Function(_) = ty.shape {
            names.extend(["free".to_owned(), "set".to_owned()]);
        }
        if let Some(Value::Table(methods)) = self.metamethod(&ty, "__index") {
            names.extend(keys(&methods));
        }
        Some(names)
    }
}

fn keys(table: &Table) -> Vec<String> {
    let pairs = table.pairs::<Value, Value>();
    let names = pairs.filter_map(|pair| match pair {
        Ok((Value::String(name), _)) => Some(name.to_string_lossy()),
        _ => None,
    });
    names.collect()
}
