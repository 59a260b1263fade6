//! What is wrong with a value, and with a call.

use crate::ctype::LayoutError;

/// What is wrong with one value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// A value of another kind.
    #[error("{}{given} is given, but `{expected}` is expected", field(path))]
    Mismatch {
        /// Where in the value: `.part.high[2]`; empty for the value itself.
        path: String,
        /// What was given.
        given: String,
        /// The type's name.
        expected: String,
    },
    /// A number that the type does not hold.
    #[error("{}{value} does not fit `{ty}` ({range})", field(path))]
    Range {
        /// Where in the value.
        path: String,
        /// The number.
        value: String,
        /// The type's name.
        ty: String,
        /// What it holds.
        range: String,
    },
    /// Bytes that are no value of the type.
    #[error("{}encountered {encountered}, but expected {expected}", field(path))]
    Invalid {
        /// Where in the value.
        path: String,
        /// What was there: `0x02`.
        encountered: String,
        /// What the type allows: `a boolean`.
        expected: String,
    },
    /// A field without a value.
    #[error("{} is uninitialised, but expected {expected}", place(path))]
    Uninitialised {
        /// Where in the value.
        path: String,
        /// What the type wants there: `an integer`.
        expected: String,
    },
    /// Bytes for another size.
    #[error("{given} bytes are given for `{ty}`, which has {expected}")]
    Size {
        /// The type's name.
        ty: String,
        /// How many were given.
        given: u64,
        /// How many it has.
        expected: u64,
    },
    /// Another number of fields.
    #[error("{given} values are given for `{ty}`, which has {expected} fields")]
    Fields {
        /// The type's name.
        ty: String,
        /// How many were given.
        given: usize,
        /// How many it has.
        expected: usize,
    },
    /// A type without values.
    #[error("unsupported type: {0}")]
    Unsupported(#[from] LayoutError),
}

impl ValueError {
    /// The error as one of the field `name` (`.x`, `[3]`) of a larger value.
    pub(super) fn inside(mut self, name: &str) -> ValueError {
        match &mut self {
            ValueError::Mismatch { path, .. }
            | ValueError::Range { path, .. }
            | ValueError::Invalid { path, .. }
            | ValueError::Uninitialised { path, .. } => path.insert_str(0, name),
            ValueError::Size { .. } | ValueError::Fields { .. } | ValueError::Unsupported(_) => {}
        }
        self
    }

    /// Whether the value breaks a rule of its type, which is undefined behaviour of the program
    /// that the interpreter runs; otherwise the interpreter gave something unsuitable.
    pub fn is_undefined_behaviour(&self) -> bool {
        matches!(
            self,
            ValueError::Invalid { .. } | ValueError::Uninitialised { .. }
        )
    }
}

fn field(path: &str) -> String {
    match path {
        "" => String::new(),
        path => format!("field `{path}`: "),
    }
}

fn place(path: &str) -> String {
    match path {
        "" => "it".to_owned(),
        path => format!("field `{path}`"),
    }
}

/// A call that cannot be prepared, or not be made with these arguments.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// A struct too large to pass by value.
    #[error("`{name}` has {size} bytes, the limit for a struct by value is {limit}")]
    TooLarge {
        /// The struct.
        name: String,
        /// Its size in bytes.
        size: u64,
        /// The most in bytes.
        limit: u64,
    },
    /// Arguments too large taken together.
    #[error("the arguments have {size} bytes together, the limit is {limit}")]
    TooMuch {
        /// Their size in bytes.
        size: u64,
        /// The most in bytes.
        limit: u64,
    },
    /// A parameter's type that cannot be passed by value.
    #[error("unsupported argument type: {}: {error}", argument(*index, name))]
    ArgumentType {
        /// Counted from 0.
        index: usize,
        /// The parameter's name, where known.
        name: Option<String>,
        /// What hinders.
        error: LayoutError,
    },
    /// A return type that cannot be passed by value.
    #[error("unsupported return type: {0}")]
    ReturnType(LayoutError),
    /// libffi refuses the signature.
    #[error("libffi refuses the signature `{signature}`: {reason}")]
    Ffi {
        /// The signature.
        signature: String,
        /// libffi's reason.
        reason: String,
    },
    /// Too many or too few arguments.
    #[error("{given} arguments are given for `{signature}`, which takes {expected}")]
    Count {
        /// The signature.
        signature: String,
        /// How many were given.
        given: usize,
        /// How many it takes.
        expected: usize,
    },
    /// An argument that its parameter does not take.
    #[error("{}: {error}", argument(*index, name))]
    Argument {
        /// Counted from 0.
        index: usize,
        /// The parameter's name, where known.
        name: Option<String>,
        /// What is wrong with it.
        error: Box<ValueError>,
    },
    /// A function of a library that was unloaded.
    #[error("`{function}` belongs to a library that was unloaded")]
    Closed {
        /// The function.
        function: String,
    },
    /// A result that is no value of the return type.
    #[error("return value: {0}")]
    Return(Box<ValueError>),
}

/// `argument 2 (`len`)`, counted from 1.
fn argument(index: usize, name: &Option<String>) -> String {
    match name {
        Some(name) => format!("argument {} (`{name}`)", index + 1),
        None => format!("argument {}", index + 1),
    }
}

impl CallError {
    /// What mends it.
    pub fn help(&self) -> String {
        match self {
            CallError::TooLarge { .. }
            | CallError::TooMuch { .. }
            | CallError::ArgumentType { .. }
            | CallError::ReturnType(_)
            | CallError::Ffi { .. } => "pass a pointer instead, or wrap the function in C".into(),
            CallError::Count { .. } => "give each parameter one value".into(),
            CallError::Argument { error, .. } => match **error {
                ValueError::Uninitialised { .. } => {
                    "give every field a value before it is passed".into()
                }
                _ => "give a value of the parameter's type".into(),
            },
            CallError::Closed { .. } => "load the library again".into(),
            CallError::Return(_) => {
                "declare the return type as the function has it, or mend the function".into()
            }
        }
    }
}
