//! Attributes: the harmless ones pass, all others are refused by name.

use super::error::PrototypeError;
use super::source::{CDEF, Source, identifiers};

/// Attributes that change neither layout nor calling convention.
const HARMLESS: &[&str] = &[
    "access",
    "alloc_size",
    "always_inline",
    "cold",
    "const",
    "deprecated",
    "format",
    "hot",
    "leaf",
    "malloc",
    "noinline",
    "nonnull",
    "noreturn",
    "nothrow",
    "pure",
    "returns_nonnull",
    "unused",
    "used",
    "visibility",
    "warn_unused_result",
];

/// Refuses attributes that could change a layout or a calling convention: `packed`, `aligned`,
/// `ms_abi` and whatever else is not known to be harmless.
pub(super) fn refuse_attributes(source: &Source) -> Result<(), PrototypeError> {
    let words = identifiers(&source.text, 0);
    for (i, (at, word)) in words.iter().enumerate() {
        if *word == "_Alignas" || *word == "alignas" {
            return Err(PrototypeError::Unsupported {
                what: format!("`{word}` in {} is not supported in this version", CDEF),
                help: "leave it out where it changes no layout".into(),
            });
        }
        if *word != "__attribute__" && *word != "__attribute" {
            continue;
        }
        let bad = words[i + 1..]
            .iter()
            .take(1)
            .find(|(_, name)| !HARMLESS.contains(&name.trim_matches('_')));
        let listed = source.text[*at..].split("))").next().unwrap_or("");
        if let Some((_, name)) = bad {
            return Err(attribute(name));
        }
        // A list of several: `((packed, aligned(8)))`.
        for (_, name) in identifiers(listed, 0).iter().skip(1) {
            if [
                "packed",
                "aligned",
                "ms_abi",
                "sysv_abi",
                "mode",
                "vector_size",
            ]
            .contains(&name.trim_matches('_'))
            {
                return Err(attribute(name));
            }
        }
    }
    Ok(())
}

pub(super) fn attribute(name: &str) -> PrototypeError {
    PrototypeError::Unsupported {
        what: format!("the attribute `{name}` may change a layout or a calling convention"),
        help: "leave it out, or wrap the function in C without it".into(),
    }
}
