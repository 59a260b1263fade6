//! What can be wrong with a prototype, and what mends it.

use std::fmt;

/// A complaint about a place in what the user wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// Which argument it is about: `the prototype` or `--cdef`.
    pub place: &'static str,
    /// The line that holds the place.
    pub line: String,
    /// Column in characters, from 0.
    pub column: usize,
    /// How many characters to underline, at least 1.
    pub width: usize,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A caret far to the right helps nobody; show a window around the place.
        let chars: Vec<char> = self.line.chars().collect();
        let start = self.column.saturating_sub(48);
        let end = chars.len().min(start + 72);
        let text: String = chars[start.min(end)..end].iter().map(printable).collect();
        let width = self.width.clamp(1, 72 - (self.column - start).min(71));
        write!(
            f,
            "  {text}\n  {}{}",
            " ".repeat(self.column - start),
            "^".repeat(width)
        )
    }
}

fn printable(c: &char) -> char {
    if c.is_control() { ' ' } else { *c }
}

/// A prototype or `--cdef` that cannot be used. All are wrong usage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrototypeError {
    /// Not C.
    #[error("syntax error in {}{}\n{at}", at.place, alternatives(expected))]
    Syntax {
        /// Where.
        at: Complaint,
        /// What could stand there instead, in words.
        expected: Vec<String>,
        /// A remedy, where the mistake is recognised.
        hint: Option<String>,
    },
    /// A name in the place of a type that is none.
    #[error("unknown type name `{name}` in {}\n{at}", at.place)]
    UnknownType {
        /// The name.
        name: String,
        /// Where.
        at: Complaint,
        /// A known type with nearly this name.
        near: Option<String>,
    },
    /// Preprocessor lines.
    #[error("{place} has a preprocessor line (`{line}`), and there is no preprocessor")]
    Preprocessor {
        /// Which argument.
        place: &'static str,
        /// The line.
        line: String,
    },
    /// Something that is C, but no prototype of one function.
    #[error("{what}")]
    NotAFunction {
        /// What it is instead.
        what: String,
    },
    /// A parameter without a name.
    #[error("parameter {index} (`{ty}`) of `{function}` has no name")]
    Unnamed {
        /// The function.
        function: String,
        /// Counted from 1.
        index: usize,
        /// The type, as written.
        ty: String,
    },
    /// Two parameters of one name.
    #[error("`{function}` has two parameters named `{name}`")]
    Duplicate {
        /// The function.
        function: String,
        /// The name.
        name: String,
    },
    /// Good C that this version cannot call exactly.
    #[error("{what}")]
    Unsupported {
        /// What is not supported.
        what: String,
        /// What to do instead.
        help: String,
    },
    /// A struct used by value whose members are not declared.
    #[error("{what}: `{name}` is named, but its members are not declared")]
    Incomplete {
        /// Which parameter, field or return value.
        what: String,
        /// The type's full name.
        name: String,
    },
    /// A declaration that contradicts C's rules.
    #[error("{what}")]
    Invalid {
        /// What is wrong.
        what: String,
    },
}

impl PrototypeError {
    /// What mends it.
    pub fn help(&self) -> String {
        match self {
            PrototypeError::Syntax {
                hint: Some(hint), ..
            } => hint.clone(),
            PrototypeError::Syntax { .. } => {
                "write it as in a header: 'int f(const char *text, size_t len)'".into()
            }
            PrototypeError::UnknownType { name, near, .. } => {
                let declare = format!("declare it first: --cdef 'typedef unsigned long {name};'");
                match near {
                    Some(near) => format!("did you mean `{near}`? Otherwise {declare}"),
                    None => declare,
                }
            }
            PrototypeError::Preprocessor { .. } => {
                "leave #include and #define out; write types and numbers in full".into()
            }
            PrototypeError::NotAFunction { .. } => {
                "give the prototype of one function: 'int f(const char *text, size_t len)'".into()
            }
            PrototypeError::Unnamed { ty, .. } => {
                format!("name it, so that it can be bound: '{}'", named(ty))
            }
            PrototypeError::Duplicate { .. } => "give each parameter its own name".into(),
            PrototypeError::Unsupported { help, .. } => help.clone(),
            PrototypeError::Incomplete { name, .. } => {
                format!("declare its members: --cdef '{name} {{ int x; int y; }};'")
            }
            PrototypeError::Invalid { .. } => "correct the declaration".into(),
        }
    }
}

fn named(ty: &str) -> String {
    if ty.ends_with('*') {
        format!("{ty}name")
    } else {
        format!("{ty} name")
    }
}

fn alternatives(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => format!(": expected {one}"),
        [first @ .., last] => format!(": expected {} or {last}", first.join(", ")),
    }
}
