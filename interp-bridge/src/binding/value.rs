//! Values as they are written. Nothing here knows the parameter's type.

use std::path::PathBuf;

/// A parsed value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// A number or what stands for one.
    Scalar(Expr),
    /// Memory of its own.
    Buffer { content: Content, mode: Mode },
    /// A place in another name's memory.
    Reference { name: String, offset: i64 },
    /// A struct in braces.
    Braces { items: Vec<Item>, mode: Mode },
}

/// What the prefixes of a buffer say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mode {
    /// `mut:`, native code may write it whatever the prototype says.
    pub(super) mutable: bool,
    /// `freed:`, it is freed before the call.
    pub(super) freed: bool,
}

/// What a buffer holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    Bytes(Vec<u8>),
    File(PathBuf),
    Zeroed(Expr),
    Uninit(Expr),
    Numbers(Element, Vec<Expr>),
    Pointers(Vec<Value>),
}

/// An element type of a list of numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Element {
    Int { bytes: u8, signed: bool },
    Float { bytes: u8 },
}

/// A scalar that may depend on a buffer's size.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expr {
    /// Text of a number, character, truth value or constant.
    Text(String),
    /// `len(NAME)` with one operation after it.
    Len {
        name: String,
        operation: Option<(char, i128)>,
    },
}

/// One element of a struct in braces.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Item {
    pub(super) field: Option<String>,
    pub(super) value: Value,
}

/// Element types by the word before a list of them.
pub(super) const ELEMENTS: &[(&str, Element)] = &[
    (
        "i8",
        Element::Int {
            bytes: 1,
            signed: true,
        },
    ),
    (
        "u8",
        Element::Int {
            bytes: 1,
            signed: false,
        },
    ),
    (
        "i16",
        Element::Int {
            bytes: 2,
            signed: true,
        },
    ),
    (
        "u16",
        Element::Int {
            bytes: 2,
            signed: false,
        },
    ),
    (
        "i32",
        Element::Int {
            bytes: 4,
            signed: true,
        },
    ),
    (
        "u32",
        Element::Int {
            bytes: 4,
            signed: false,
        },
    ),
    (
        "i64",
        Element::Int {
            bytes: 8,
            signed: true,
        },
    ),
    (
        "u64",
        Element::Int {
            bytes: 8,
            signed: false,
        },
    ),
    ("f32", Element::Float { bytes: 4 }),
    ("f64", Element::Float { bytes: 8 }),
];

impl Element {
    /// The word before a list of these.
    pub(super) fn name(self) -> &'static str {
        ELEMENTS
            .iter()
            .find(|(_, e)| *e == self)
            .map_or("?", |(name, _)| name)
    }
}
