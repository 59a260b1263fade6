//! The text that is parsed, put together from prelude, `--cdef`s and prototype, and the way back
//! from a place in it to what the user wrote.

use lang_c::ast::TranslationUnit;
use lang_c::driver::{Config, Flavor, SyntaxError, parse_preprocessed};

use super::error::{Complaint, PrototypeError};
use super::prelude::PRELUDE;

/// Longest text of one argument. Headers belong elsewhere, and the parser is recursive.
const MAX_LEN: usize = 64 << 10;
/// Deepest nesting of brackets, for the same reason.
const MAX_DEPTH: usize = 24;

pub(super) const PROTOTYPE: &str = "the prototype";
pub(super) const CDEF: &str = "--cdef";

/// One argument's part of the text.
#[derive(Debug)]
struct Segment {
    place: &'static str,
    start: usize,
    end: usize,
}

/// Prelude, declarations and prototype as one translation unit.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) text: String,
    segments: Vec<Segment>,
    /// Offset of the `...` in the prototype after which come the types of variadic arguments.
    /// The text has blanks there, since C has no such thing.
    pub(super) ellipsis: Option<usize>,
}

impl Source {
    pub(super) fn new(prototype: &str, cdefs: &[String]) -> Result<Source, PrototypeError> {
        let mut source = Source {
            text: PRELUDE.to_owned(),
            segments: Vec::new(),
            ellipsis: None,
        };
        for cdef in cdefs {
            source.push(CDEF, cdef)?;
        }
        source.push(PROTOTYPE, prototype)?;
        Ok(source)
    }

    /// Appends one argument. Offsets in it stay those of the user's text, so only characters are
    /// replaced, never removed.
    fn push(&mut self, place: &'static str, text: &str) -> Result<(), PrototypeError> {
        if text.len() > MAX_LEN {
            return Err(PrototypeError::Unsupported {
                what: format!(
                    "{place} is {} bytes long, the limit is {MAX_LEN}",
                    text.len()
                ),
                help: "declare only the types that the function uses".into(),
            });
        }
        if let Some(line) = text.lines().find(|l| l.trim_start().starts_with('#')) {
            return Err(PrototypeError::Preprocessor {
                place,
                line: line.trim().to_owned(),
            });
        }
        let start = self.text.len();
        let mut blanked = one_word_int128(blank_comments(text));
        if place == PROTOTYPE {
            self.ellipsis = blank_ellipsis(&mut blanked).map(|at| start + at);
        }
        self.text.push_str(&blanked);
        let end = self.text.trim_end().len().max(start);
        self.segments.push(Segment { place, start, end });
        if let Some((at, c)) = text.char_indices().find(|(_, c)| !c.is_ascii()) {
            return Err(PrototypeError::Syntax {
                at: self.complaint(start + at, c.len_utf8()),
                expected: Vec::new(),
                hint: Some(format!(
                    "`{c}` (U+{:04X}) is no part of C; type it in ASCII",
                    c as u32
                )),
            });
        }
        if let Some(at) = too_deep(&self.text[start..]) {
            return Err(PrototypeError::Syntax {
                at: self.complaint(start + at, 1),
                expected: Vec::new(),
                hint: Some(format!("brackets nest deeper than {MAX_DEPTH} here")),
            });
        }
        // Either is complete with or without its last semicolon.
        let body = if place == PROTOTYPE {
            &[';', '}'][..]
        } else {
            &[';'][..]
        };
        if end > start && !self.text[start..end].ends_with(body) {
            self.text.insert(end, ';');
        }
        self.text.push('\n');
        Ok(())
    }

    pub(super) fn parse(&self) -> Result<TranslationUnit, PrototypeError> {
        let error = match parse(&self.text) {
            Ok(unit) => return Ok(unit),
            Err(error) => error,
        };
        if let Some(unknown) = self.unknown_type(error.offset) {
            return Err(unknown);
        }
        let (offset, width) = self.token_at(error.offset);
        Err(PrototypeError::Syntax {
            at: self.complaint(offset, width),
            expected: in_words(&error),
            hint: self.hint(offset),
        })
    }

    /// Finds a name that would make the parser get further if it were a type. The parser itself
    /// cannot say so: to C, an unknown type name is just an identifier in the wrong place.
    fn unknown_type(&self, failed_at: usize) -> Option<PrototypeError> {
        let first = self.segments.first()?.start;
        let names = identifiers(&self.text, first);
        // The culprit stands at the failure or shortly before it.
        let near = names
            .iter()
            .rev()
            .filter(|(at, _)| *at <= failed_at)
            .take(3);
        let mut seen: Vec<&str> = Vec::new();
        for (at, name) in near {
            if seen.contains(name) || is_keyword(name) {
                continue;
            }
            seen.push(name);
            let segment = self
                .segments
                .iter()
                .find(|s| s.start <= *at && *at <= s.end)?;
            let mut text = self.text.clone();
            text.insert_str(segment.start, &format!("typedef int {name};\n"));
            let inserted = text.len() - self.text.len();
            let further = match parse(&text) {
                Ok(_) => true,
                Err(e) => e.offset > failed_at + inserted + 1,
            };
            if further {
                let at_end = self.text[at + name.len()..].trim_start();
                if *at == segment.start && at_end.starts_with(['(', ';']) {
                    let hint = match at_end.starts_with('(') {
                        true => format!("the return type is missing: 'int {name}(…)'"),
                        false => format!("give the whole prototype: 'int {name}(int x)'"),
                    };
                    let (at, expected) = (self.complaint(*at, name.len()), vec!["a type".into()]);
                    return Some(PrototypeError::Syntax {
                        at,
                        expected,
                        hint: Some(hint),
                    });
                }
                return Some(PrototypeError::UnknownType {
                    name: (*name).to_owned(),
                    at: self.complaint(*at, name.len()),
                    near: near_type(name),
                });
            }
        }
        None
    }

    /// Recognises common slips by the text around the failure.
    fn hint(&self, offset: usize) -> Option<String> {
        let segment = self.segment(offset);
        let before = self.text[segment.start..offset.min(self.text.len())].trim_end();
        if before.contains("operator") || before.contains("::") || before.ends_with('&') {
            return Some(
                "this is C++; give the C declaration of an `extern \"C\"` function".into(),
            );
        }
        if before.ends_with('}') {
            return Some("after `}` comes a `;`".into());
        }
        let open = before.matches('(').count();
        if segment.place == PROTOTYPE && open > before.matches(')').count() && offset >= segment.end
        {
            return Some("a `(` is not closed".into());
        }
        None
    }

    fn segment(&self, offset: usize) -> &Segment {
        let found = self.segments.iter().rev().find(|s| s.start <= offset);
        found.unwrap_or(&self.segments[0])
    }

    /// The token that begins at or after `offset`, or the end of the user's text.
    fn token_at(&self, offset: usize) -> (usize, usize) {
        let end = self.segment(offset).end;
        let rest = &self.text[offset.min(end)..end];
        let start = offset.min(end) + (rest.len() - rest.trim_start().len());
        let word = self.text[start..end]
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_');
        (start, word.count().max(1))
    }

    /// The argument's name for messages at `offset`.
    pub(super) fn place(&self, offset: usize) -> &'static str {
        self.segment(offset).place
    }

    /// Whether `offset` lies in what the user wrote, not in the prelude.
    pub(super) fn is_prototype(&self, offset: usize) -> bool {
        self.segments.last().is_some_and(|s| s.start <= offset)
    }

    pub(super) fn complaint(&self, offset: usize, width: usize) -> Complaint {
        let segment = self.segment(offset);
        let offset = offset.clamp(segment.start, segment.end);
        let from = self.text[segment.start..offset]
            .rfind('\n')
            .map_or(0, |n| n + 1);
        let from = segment.start + from;
        let line = self.text[from..].lines().next().unwrap_or("");
        let line = line.get(..segment.end.saturating_sub(from)).unwrap_or(line);
        Complaint {
            place: segment.place,
            line: line.to_owned(),
            column: self.text[from..offset].chars().count(),
            width,
        }
    }
}

fn parse(text: &str) -> Result<TranslationUnit, SyntaxError> {
    let config = Config {
        flavor: Flavor::GnuC11,
        ..Config::with_gcc()
    };
    parse_preprocessed(&config, text.to_owned()).map(|parse| parse.unit)
}

/// Replaces comments by blanks, since that is the preprocessor's work.
fn blank_comments(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let mut i = 0;
    while i + 1 < bytes.len() {
        let end = match &bytes[i..i + 2] {
            b"//" => bytes[i..].iter().position(|b| *b == b'\n').map(|n| i + n),
            b"/*" => text[i + 2..].find("*/").map(|n| i + 2 + n + 2),
            _ => {
                i += 1;
                continue;
            }
        };
        let end = end.unwrap_or(bytes.len());
        for byte in &mut bytes[i..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        i = end;
    }
    // Whole comments were replaced, so no character was cut in two.
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

/// The parser has no 128-bit integers, and takes `unsigned` before a name for a type of its own:
/// `unsigned __int128` becomes the one word `__uint128_t`, and blanks.
fn one_word_int128(text: String) -> String {
    let words = identifiers(&text, 0);
    let mut out = text.clone();
    for pair in words.windows(2) {
        let ((first, a), (second, b)) = (pair[0], pair[1]);
        let end = second + b.len();
        let between = text[first + a.len()..second].trim().is_empty();
        let word = match (a, b) {
            ("unsigned", "__int128") | ("__int128", "unsigned") => "__uint128_t",
            ("signed", "__int128") | ("__int128", "signed") => "__int128",
            _ => continue,
        };
        if between {
            out.replace_range(first..end, &format!("{word:<width$}", width = end - first));
        }
    }
    out
}

/// Blanks `...,`, which C does not have: after it come the types of this call's variadic
/// arguments. Answers where it was. A final `...` stays, for it is C.
fn blank_ellipsis(text: &mut String) -> Option<usize> {
    let at = text.find("...")?;
    let rest = &text[at + 3..];
    let comma = at + 3 + (rest.len() - rest.trim_start().len());
    if text.as_bytes().get(comma) != Some(&b',') {
        return None;
    }
    text.replace_range(at..=comma, &" ".repeat(comma + 1 - at));
    Some(at)
}

/// Offset of the bracket that goes too deep, if any.
fn too_deep(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Some(at);
        }
    }
    None
}

/// All words from `start` on that could be names, with their offsets.
pub(super) fn identifiers(text: &str, start: usize) -> Vec<(usize, &str)> {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let bytes = text.as_bytes();
    let (mut found, mut i) = (Vec::new(), start);
    while i < bytes.len() {
        let begin = i;
        while i < bytes.len() && is_word(bytes[i]) {
            i += 1;
        }
        if i == begin {
            i += 1;
        } else if !bytes[begin].is_ascii_digit() {
            found.push((begin, &text[begin..i]));
        }
    }
    found
}

const KEYWORDS: &[&str] = &[
    "char", "const", "double", "enum", "extern", "float", "int", "long", "restrict", "short",
    "signed", "static", "struct", "typedef", "union", "unsigned", "void", "volatile",
];

fn is_keyword(name: &str) -> bool {
    KEYWORDS.contains(&name)
}

/// A known type name within two typing errors of `name`.
fn near_type(name: &str) -> Option<String> {
    let known = identifiers(PRELUDE, 0).into_iter().map(|(_, word)| word);
    crate::ffi::near_names(name, known.chain(KEYWORDS.iter().copied()))
        .into_iter()
        .next()
}

/// The parser's token names as a reader of C would say them, at most four.
fn in_words(error: &SyntaxError) -> Vec<String> {
    let has = |token: &str| error.expected.contains(token);
    let mut words: Vec<String> = Vec::new();
    if has("int") || has("struct") || has("<typedef_name>") {
        words.push("a type".into());
    }
    if has("<identifier>") || has("[_a-zA-Z]") {
        words.push("a name".into());
    }
    for token in ["*", "(", ")", ",", ";", "]", "}"] {
        if has(token) {
            words.push(format!("`{token}`"));
        }
    }
    words.truncate(4);
    words
}
