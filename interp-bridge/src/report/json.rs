//! Reports as JSON: one object, one line.

use std::io::{self, Write};

use serde::Serialize;

/// Writes `value` as one line of JSON.
///
/// # Errors
/// Those of `out`.
pub fn write(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec(value).map_err(io::Error::other)?;
    text.push(b'\n');
    out.write_all(&text)?;
    out.flush()
}
