//! What a client says, and how it is refused.

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// The greeting.
pub fn hello() -> Value {
    json!({"hello": {"protocol": 1, "layout": 4}})
}

/// From here on lie arenas that an agent takes on.
pub const APART: u64 = 0x2000_0000_0000;

/// The request for a session.
pub fn open(base: u64, length: u64) -> Value {
    json!({"open": {"arena_base": base, "arena_len": length, "marker": 0, "ring_bytes": 2 << 20}})
}

/// The request to mark a function of the library that goes with it, and with it the `/proc/PID/maps` of
/// who asks.
pub fn probe(offset: u64, name: &str) -> Value {
    json!({"probe": {"file_offset": offset, "name": name, "cookie": 1, "returns": false}})
}

/// Kind and text of a refusal.
///
/// # Errors
/// Fails if it is none.
pub fn refusal(reply: &Value) -> Result<(String, String)> {
    let refused = reply
        .get("refused")
        .with_context(|| format!("not refused: {reply}"))?;
    let text = |name: &str| refused.get(name).and_then(Value::as_str).map(String::from);
    text("why")
        .zip(text("message"))
        .with_context(|| format!("an incomplete refusal: {reply}"))
}
