//! The spelling of names, sizes, numbers and characters.

/// A C identifier.
pub(super) fn is_name(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.chars().all(word) && text.starts_with(|c: char| word(c) && !c.is_ascii_digit())
}

/// A size: decimal or `0x…`, with `k`, `M` or `G` for powers of 1024.
pub(super) fn size(text: &str) -> Option<u64> {
    let (digits, unit) = match text.chars().last()? {
        'k' | 'K' => (&text[..text.len() - 1], 10),
        'm' | 'M' => (&text[..text.len() - 1], 20),
        'g' | 'G' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number = unsigned(digits)?;
    u64::try_from(number.checked_mul(1 << unit)?).ok()
}

/// Digits without a sign, `0x…`, `0b…` and `0o…` included.
pub(super) fn unsigned(text: &str) -> Option<u128> {
    let lower = text.to_ascii_lowercase();
    let (digits, radix) = match lower.get(..2) {
        Some("0x") => (&lower[2..], 16),
        Some("0b") => (&lower[2..], 2),
        Some("0o") => (&lower[2..], 8),
        _ => (lower.as_str(), 10),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    // Only an overflow is left to fail, and what overflows is too large for every type.
    Some(u128::from_str_radix(digits, radix).unwrap_or(u128::MAX))
}

/// The value of a character literal's inside: `a`, `\n`, `\0`, `\x7f`.
pub(crate) fn char_value(inner: &str) -> Option<i8> {
    let mut chars = inner.chars();
    let value = match (chars.next()?, chars.as_str()) {
        ('\\', "n") => b'\n',
        ('\\', "t") => b'\t',
        ('\\', "r") => b'\r',
        ('\\', "a") => 7,
        ('\\', "b") => 8,
        ('\\', "f") => 12,
        ('\\', "v") => 11,
        ('\\', "e") => 27,
        ('\\', rest @ ("\\" | "'" | "\"" | "?")) => rest.as_bytes()[0],
        ('\\', rest) => match rest.strip_prefix('x') {
            Some(hex) if hex.chars().all(|c| c.is_ascii_hexdigit()) => {
                u8::from_str_radix(hex, 16).ok()?
            }
            None if rest.chars().all(|c| c.is_digit(8)) => u8::from_str_radix(rest, 8).ok()?,
            _ => return None,
        },
        (c, "") if c.is_ascii() && c != '\'' => c as u8,
        _ => return None,
    };
    Some(value as i8)
}

/// A value for a message: one line, not too long.
pub(super) fn shorten(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut short: String = clean.take(41).collect();
    if short.chars().count() > 40 {
        short.pop();
        short.push('…');
    }
    short
}
