//! What can be wrong with bindings, and what mends it.

use std::path::PathBuf;

/// Bindings that cannot be used. All are wrong usage.
#[derive(Debug, thiserror::Error)]
pub enum BindingError {
    /// No `=`, or no name before it.
    #[error("`{text}` is not of the form NAME=VALUE")]
    Form {
        /// The argument.
        text: String,
    },
    /// A name twice.
    #[error("`{name}` is bound twice")]
    Twice {
        /// The name.
        name: String,
    },
    /// A name that is no parameter, and no buffer that anything uses.
    #[error("`{function}` has no parameter named `{name}`")]
    NoParameter {
        /// The function.
        function: String,
        /// The name.
        name: String,
        /// The names that there are.
        known: Vec<String>,
        /// One that was perhaps meant.
        near: Option<String>,
        /// Whether the value would do as a further buffer.
        is_buffer: bool,
        /// Whether the function is variadic, and the prototype names no variadic arguments.
        is_variadic: bool,
    },
    /// Parameters without a value.
    #[error("no value for {}", list(names))]
    Missing {
        /// Their names.
        names: Vec<String>,
        /// A value for each, as an example.
        examples: Vec<String>,
    },
    /// A value that is not of any known form.
    #[error("`{name}={value}`: {why}")]
    Value {
        /// The name.
        name: String,
        /// The value as written, shortened.
        value: String,
        /// What is wrong.
        why: String,
        /// What mends it.
        help: String,
    },
    /// A number outside its type.
    #[error("`{name}`: {value} does not fit `{ty}`, which holds {range}")]
    Range {
        /// The name.
        name: String,
        /// The number.
        value: String,
        /// The type as written.
        ty: String,
        /// Smallest and largest value.
        range: String,
        /// The same bits as a value that fits, if there is one.
        instead: Option<String>,
    },
    /// A name in a reference or `len()` that is not bound.
    #[error("`{name}`: nothing named `{target}` is bound")]
    NoTarget {
        /// The name whose value refers.
        name: String,
        /// The name referred to.
        target: String,
        /// One that was perhaps meant.
        near: Option<String>,
    },
    /// A reference or `len()` of something that is no buffer.
    #[error("`{name}`: `{target}` is no buffer")]
    NotABuffer {
        /// The name whose value refers.
        name: String,
        /// The name referred to.
        target: String,
        /// What mends it.
        help: String,
    },
    /// Values that need each other.
    #[error("these values need each other: {}", chain.join(" -> "))]
    Cycle {
        /// The names, the first once more at the end.
        chain: Vec<String>,
    },
    /// A file that cannot be read.
    #[error("`{name}`: cannot read {}: {source}", path.display())]
    File {
        /// The name.
        name: String,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A buffer past [`MAX_BUFFER`](super::MAX_BUFFER).
    #[error("`{name}`: {what} is larger than the limit of 512M for one buffer")]
    TooLarge {
        /// The name.
        name: String,
        /// What has the size.
        what: String,
    },
}

impl BindingError {
    /// What mends it.
    pub fn help(&self) -> String {
        match self {
            BindingError::Form { .. } => {
                "bind a parameter as in 'buf=str:hello' 'len=len(buf)'".into()
            }
            BindingError::Twice { .. } => "give each name one value".into(),
            BindingError::NoParameter {
                name,
                known,
                near,
                is_buffer,
                is_variadic,
                ..
            } => {
                let known = match known.as_slice() {
                    [] => "it takes no arguments".to_owned(),
                    [one] => format!("its only parameter is {one}"),
                    all => format!("its parameters are {}", all.join(", ")),
                };
                match near {
                    Some(near) => format!("did you mean `{near}`? {known}"),
                    None if *is_variadic => {
                        format!(
                            "{known}; variadic arguments are declared after `...,`: '..., int {name}'"
                        )
                    }
                    None if *is_buffer => {
                        format!("{known}; a further buffer is used by '&{name}' or 'len({name})'")
                    }
                    None => known,
                }
            }
            BindingError::Missing { examples, .. } => {
                let quoted: Vec<_> = examples.iter().map(|e| format!("'{e}'")).collect();
                format!("add for example {}", quoted.join(" "))
            }
            BindingError::Value { help, .. } | BindingError::NotABuffer { help, .. } => {
                help.clone()
            }
            BindingError::Range {
                instead: Some(instead),
                name,
                ..
            } => {
                format!("for the same bits, write '{name}={instead}'")
            }
            BindingError::Range { .. } => "choose a value in that range".into(),
            BindingError::NoTarget {
                near: Some(near), ..
            } => format!("did you mean `{near}`?"),
            BindingError::NoTarget { target, .. } => {
                format!("bind it to a buffer: '{target}=zero:64'")
            }
            BindingError::Cycle { .. } => "give one of them a value of its own".into(),
            BindingError::File { source, .. } => match source.kind() {
                std::io::ErrorKind::NotFound => {
                    "check the path; `@FILE` is relative to here".into()
                }
                std::io::ErrorKind::PermissionDenied => {
                    "make it readable for the user that runs ffitrace".into()
                }
                std::io::ErrorKind::IsADirectory => "name a file in it".into(),
                _ => "name a file that can be read".into(),
            },
            BindingError::TooLarge { .. } => "use a smaller buffer, or a part of the file".into(),
        }
    }
}

fn list(names: &[String]) -> String {
    let quoted: Vec<_> = names.iter().map(|n| format!("`{n}`")).collect();
    match quoted.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}
